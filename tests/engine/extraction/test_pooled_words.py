"""Words pooled from extracted pieces are the words that an extraction of words gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layerlake.analyses.questions.rows import RowDraw, draw_rows
from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts
from layerlake.engine.extraction.extract import extract
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import Lake, open_lake
from layerlake.store.stored_space import StoredSpace
from layerlake.store.views.pooled_rows import PooledSpace

pytest.importorskip("torch")

LONG = " ".join(
    f"The gull, 'twas said, didn't over-fly harbour-wall no. {n * n}; naïvely photographed."
    for n in range(6)
)
TEXTS = [
    LONG,
    "Gulls nest on unbelievably steep cliffs; they don't care for wind nor for photographers.",
    "\u4e00\u3400 and \U0001f600\U0001f601 stand for nothing here, e.g. #@!-words.",
    "Short.",
]
QUESTIONS = ["Where don't gulls nest?", "Who painted it?", "Why? \U0001f600", "And?"]
GIVEN = [
    [
        "don't",
        "e.g.",
        "\u3400\u3400",
        "Unbelievably",
        "—",
        "x" * 120,
        "\u200b",
        "mother-in-law's",
    ],
    ["naïve", "\U0001f600", "$12.50"],
    ["qx" * 9, "end", "."],
]
CASES: dict[str, dict[str, Any]] = {
    "split": {"long": "split"},
    "window": {"packing": "window(20,6)"},
    "given": {},
    "pair": {"packing": "pair", "long": "drop"},
    "pair-window": {"packing": "window(24,8,4)"},
    "trim": {"packing": "trim(14)"},
}
POOLINGS = ("mean", "first", "last", "max")
LAYER = 3


@pytest.fixture(scope="module")
def model(small_bert: Path) -> Any:
    """The small BERT, loaded once."""
    from layerlake.engine.models.loading import load_model

    return load_model(str(small_bert), device="cpu")


@pytest.fixture(scope="module")
def corpora(of_words: Callable[..., Corpus]) -> dict[str, Corpus]:
    """The corpus of every case."""
    single, pairs = corpus_from_texts(TEXTS * 3), corpus_from_texts(QUESTIONS * 3, TEXTS * 3)
    return {
        case: of_words(GIVEN * 4)
        if case == "given"
        else pairs
        if case in ("pair", "pair-window", "trim")
        else single
        for case in CASES
    }


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, model: Any, corpora: dict[str, Corpus]
) -> Callable[..., Lake]:
    """A function that extracts a case, once, into one of two lakes: of pieces and of words."""
    lakes = {
        unit: open_lake(tmp_path_factory.mktemp("lakes") / unit, "a") for unit in ("piece", "word")
    }
    done: set[Any] = set()

    def extracted(case: str, variant: str, unit: str = "piece", **options: Any) -> Lake:
        key = case, variant, unit, *options.values()
        if key not in done:
            extract(
                lakes[unit], model, corpora[case], variant=variant, corpus_name=case, unit=unit,
                layers=[LAYER], window_rows=1024, **CASES[case], **options,
            )  # fmt: skip
            done.add(key)
        return lakes[unit]

    return extracted


def bound(
    pieces: StoredSpace, pooled: PooledSpace, words: NDArray[Any], way: str, dtype: str
) -> NDArray[np.float64]:
    """Return how far pooled rows may be off words that were pooled before they were stored."""
    unit_in_last_place = float(np.finfo(dtype).eps)
    batches = 2e-6 * np.linalg.norm(words.astype(np.float64), axis=1, keepdims=True)
    if way != "mean":
        return unit_in_last_place * np.abs(words) + batches
    values = np.abs(pieces.rows(slice(None)).astype(np.float64))
    groups = pooled.groups
    assert groups.offsets is None
    spans = zip(groups.starts.tolist(), groups.counts.tolist(), strict=True)
    largest = np.array([values[start : start + count].max(axis=0) for start, count in spans])
    return unit_in_last_place / 2 * largest + batches


@pytest.mark.parametrize(
    ("case", "dtype"),
    [*((case, "float16") for case in CASES), ("window", "float32"), ("given", "float32")],
)
def test_pooled_words_are_those_of_an_extraction_of_words(
    run: Callable[..., Lake], corpora: dict[str, Corpus], case: str, dtype: str
) -> None:
    lake = run(case, dtype, store_dtype=dtype)
    pieces = lake.space(case, dtype, LAYER, unit="piece")
    assert isinstance(pieces, StoredSpace)
    for way in POOLINGS if dtype == "float16" else ("mean", "max"):
        pooled = lake.space(case, dtype, LAYER, unit="word", pooling=way)
        assert isinstance(pooled, PooledSpace)
        # Words that are means are stored in float32, or they would be rounded once more.
        stored = "float32" if way == "mean" else dtype
        words = run(case, f"{stored}-{way}", "word", pooling=way, store_dtype=stored)
        space = words.space(case, f"{stored}-{way}", LAYER, unit="word", pooling=way)
        assert isinstance(space, StoredSpace)
        known, found = space.load_rows(), pooled.load_rows()
        assert (known.fingerprint, pooled.shape) == (found.fingerprint, space.shape)
        for name, values in known.to_columns().items():
            np.testing.assert_array_equal(values, found.to_columns()[name])
            assert values.dtype == found.to_columns()[name].dtype
        assert known.settings == found.settings
        assert pooled.groups.n_missing == corpora[case].n_words - pooled.shape[0]
        expected, got = space.rows(slice(None)), pooled.rows(slice(None))
        off = np.abs(got.astype(np.float64) - expected)
        assert (off <= bound(pieces, pooled, expected, way, dtype)).all()
        for draw in (RowDraw(9, 5), RowDraw("all")):
            one, two = draw_rows([pooled], draw), draw_rows([space], draw)
            np.testing.assert_array_equal(one.of(pooled), two.of(space))
            np.testing.assert_array_equal(one.example, two.example)


def test_the_cases_are_what_they_are_meant_to_be(
    run: Callable[..., Lake], corpora: dict[str, Corpus], model: Any
) -> None:
    tables = {}
    for case in CASES:
        lake = run(case, "float16", store_dtype="float16")
        (name,) = lake.location.nodes(f"corpora/{case}/tokenizations")
        tables[case] = lake.table(f"corpora/{case}/tokenizations/{name}")[0]
    for case in ("split", "window", "pair-window"):
        assert (np.bincount(tables[case]["input_example"]) > 1).any()
    for case in ("window", "pair-window"):
        repeated = tables[case]["repeated"]
        assert (repeated & (tables[case]["piece_word"] >= 0)).any()
    n_pieces = np.bincount(tables["given"]["piece_word"][tables["given"]["piece_word"] >= 0])
    assert n_pieces.max() > 16
    assert (n_pieces == 1).any()
    unknown = model.tokenizer.unk_token_id
    for case in ("given", "window", "pair-window"):
        assert (tables[case]["piece_word"][tables[case]["piece_ids"] == unknown] >= 0).any()
    trimmed = run("trim", "float16", store_dtype="float16")
    words = trimmed.space("trim", "float16", LAYER, unit="word")
    assert isinstance(words, PooledSpace)
    assert words.groups.n_missing == corpora["trim"].n_words - words.shape[0] > 0


def test_words_over_two_shards(model: Any, tmp_path: Path) -> None:
    lake = open_lake(tmp_path / "lake", "a")
    corpus = corpus_from_texts(["x" + "qj" * 9 + f" {LONG[k : k + 60]}" for k in range(40)] * 2)
    options: dict[str, Any] = {
        "corpus_name": "c", "layers": [LAYER], "window_rows": 1024, "store_dtype": "float32",
        "long": "split",
    }  # fmt: skip
    extract(lake, model, corpus, variant="pieces", codec="lz4", **options)
    extract(lake, model, corpus, variant="words", unit="word", **options)
    pooled = lake.space("c", "pieces", LAYER, unit="word")
    assert isinstance(pooled, PooledSpace)
    groups = pooled.groups
    edges = pooled.stored.window_bounds[1:-1]
    assert len(edges)
    over = [
        row
        for row, (start, count) in enumerate(zip(groups.starts, groups.counts, strict=True))
        if any(start < edge < start + count for edge in edges)
    ]
    assert over
    expected = lake.space("c", "words", LAYER, unit="word").rows(slice(None))
    for got in (
        pooled.rows(slice(None)),
        np.concatenate([pooled.rows([row]) for row in range(pooled.shape[0])]),
    ):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(pooled.rows(over), expected[over], rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", ["split", "window", "pair-window"])
def test_examples_are_means_over_all_of_their_inputs(run: Callable[..., Lake], case: str) -> None:
    lake = run(case, "float32", store_dtype="float32")
    (name,) = lake.location.nodes(f"corpora/{case}/tokenizations")
    cut = lake.table(f"corpora/{case}/tokenizations/{name}")[0]
    repeated = cut.get("repeated", np.zeros_like(cut["special"]))
    example = np.repeat(cut["input_example"], np.diff(cut["input_offsets"]))
    pieces = lake.space(case, "float32", LAYER, unit="piece")
    values = np.zeros((len(example), pieces.shape[1]))
    values[~repeated] = pieces.rows(slice(None))
    for specials in (False, True):
        space = lake.space(case, "float32", LAYER, unit="example", specials=specials)
        ids = space.load_rows().row_id
        assert ids.tolist() == np.unique(cut["input_example"]).tolist()
        ours = ~repeated & (specials | ~cut["special"])
        expected = [values[ours & (example == one)].mean(axis=0) for one in ids]
        np.testing.assert_allclose(space.rows(slice(None)), expected, atol=1e-5)
    heads = lake.space(case, "float32", LAYER, unit="example", pooling="cls")
    first = [int(np.flatnonzero(example == one)[0]) for one in heads.load_rows().row_id]
    np.testing.assert_array_equal(heads.rows(slice(None)), values[first].astype(np.float32))


def test_rows_that_were_chosen_serve_where_they_are_whole_words(
    of_words: Callable[..., Corpus], model: Any, tmp_path: Path
) -> None:
    lake = open_lake(tmp_path / "lake", "a")
    corpus = of_words(GIVEN * 2)
    for rows in ("sample:20@1", "first"):
        extract(lake, model, corpus, variant="a", corpus_name="c", rows=rows, layers=[LAYER])
    with pytest.raises(InvalidInput, match=r"in part, word .* for one, so that its pieces cannot"):
        lake.space("c", "a", LAYER, unit="word")
    by_word = "where word=don't|naïve|end"
    extract(lake, model, corpus, variant="a", corpus_name="c", rows=by_word, layers=[LAYER])
    pooled = lake.space("c", "a", LAYER, unit="word")
    assert isinstance(pooled, PooledSpace)
    extract(
        lake, model, corpus, variant="a", corpus_name="c", rows=by_word, layers=[LAYER], unit="word"
    )
    stored = lake.space("c", "a", LAYER, unit="word")
    assert isinstance(stored, StoredSpace)
    assert stored.row_set == pooled.row_set
    np.testing.assert_allclose(pooled.rows(slice(None)), stored.rows(slice(None)), atol=4e-3)
