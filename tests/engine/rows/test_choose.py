"""Row sets and the draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts
from layerlake.engine.rows.choose import choose_rows
from layerlake.engine.rows.seeded_draw import draw
from layerlake.engine.tokenization.tokenize import Tokenization, tokenize
from layerlake.store.errors import InvalidInput
from layerlake.store.row_sets import RowSet

MASK = (1 << 64) - 1


def splitmix_finaliser(value: int) -> int:
    """Return the splitmix64 finaliser in Python's own integers."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def hash_of(identity: int, seed: int) -> int:
    """Return the hash by which `draw` ranks."""
    golden = 0x9E3779B97F4A7C15
    inner = splitmix_finaliser((identity + golden) & MASK)
    return splitmix_finaliser(inner ^ splitmix_finaliser((seed + golden) & MASK))


IDS = st.lists(st.integers(0, 2**62), min_size=1, max_size=50, unique=True).map(
    lambda ids: np.array(sorted(ids), np.int64)
)
SEEDS = st.integers(0, MASK)


@settings(deadline=None)
@given(ids=IDS, seed=SEEDS, share=st.floats(0, 1))
def test_draw_takes_the_smallest_hashes(ids: np.ndarray, seed: int, share: float) -> None:
    n = round(share * len(ids))
    ranked = sorted(ids.tolist(), key=lambda identity: hash_of(identity, seed))
    places = draw(ids, n, seed)
    assert ids[places].tolist() == sorted(ranked[:n])
    assert places.dtype == np.int64


@settings(deadline=None)
@given(ids=IDS, seed=SEEDS, data=st.data())
def test_fewer_are_part_of_more_and_other_rows_do_not_matter(
    ids: np.ndarray, seed: int, data: st.DataObject
) -> None:
    more = data.draw(st.integers(0, len(ids)))
    fewer = data.draw(st.integers(0, more))
    drawn = set(ids[draw(ids, more, seed)].tolist())
    assert set(ids[draw(ids, fewer, seed)].tolist()) <= drawn
    # Without some rows that were not drawn, the same ones are drawn.
    left = np.array([i for i in ids.tolist() if i in drawn or i % 2], np.int64)
    assert set(left[draw(left, more, seed)].tolist()) == drawn


def test_draw_is_near_uniform() -> None:
    ids = np.arange(20_000, dtype=np.int64)
    places = draw(ids, 5000, 1)
    counts = np.histogram(places, bins=20, range=(0, 20_000))[0]
    # Hypergeometric: 250 a bin, sd = sqrt(250 * 0.75 * 0.95) = 13.3; six of them never happen.
    assert np.all(np.abs(counts - 250) < 80)
    assert np.all(np.abs(np.bincount(places % 10) - 500) < 110)
    # Two seeds agree by chance only: 1250 of 5000 are expected in both, sd 26.
    assert abs(len(np.intersect1d(places, draw(ids, 5000, 2))) - 1250) < 160


def test_draw_is_the_same_for_ever() -> None:
    ids = np.arange(1000, dtype=np.int64)
    expected = sorted(sorted(range(1000), key=lambda i: hash_of(i, 7))[:5])
    assert draw(ids, 5, 7).tolist() == expected == [7, 238, 645, 700, 904]


@pytest.mark.parametrize(("n", "seed"), [(4, 0), (-1, 0), (1, -1), (1, 2**64)])
def test_draws_that_cannot_be(n: int, seed: int) -> None:
    with pytest.raises(InvalidInput, match=r"3; ask for fewer|the seed is"):
        draw(np.arange(3, dtype=np.int64), n, seed)


@pytest.fixture(scope="module")
def corpus(of_words: Callable[..., Corpus]) -> Corpus:
    """Three sentences of given words."""
    return of_words([["I", "don't", "mind"], ["unbelievably", "good"], ["N.Y.", "it", "is"]])


@pytest.fixture(scope="module")
def tokenization(corpus: Corpus, minilm_tokenizer: Any) -> Tokenization:
    """The same, cut by MiniLM's tokenizer."""
    return tokenize(corpus, minilm_tokenizer)


def test_all_pieces(corpus: Corpus, tokenization: Tokenization) -> None:
    rows = choose_rows(corpus, tokenization)
    assert rows.row_id.tolist() == list(range(tokenization.n_pieces))
    assert np.array_equal(rows.row_word, tokenization.piece_word)
    assert np.array_equal(rows.row_special, tokenization.special)
    expected = [
        (int(example), place)
        for example, length in zip(
            tokenization.input_example, tokenization.lengths.tolist(), strict=True
        )
        for place in range(length)
    ]
    got = zip(rows.row_example.tolist(), rows.row_position.tolist(), strict=True)
    assert list(got) == expected
    assert rows.settings == {
        "rows": "all",
        "unit": "piece",
        "tokenization": tokenization.fingerprint,
    }


def test_all_words(corpus: Corpus, tokenization: Tokenization) -> None:
    rows = choose_rows(corpus, tokenization, unit="word")
    assert rows.row_id.tolist() == rows.row_word.tolist() == list(range(8))
    assert rows.row_example.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert rows.row_position.tolist() == [0, 1, 2, 0, 1, 0, 1, 2]
    assert not rows.row_special.any()
    assert rows.settings["words_without_pieces"] == 0
    assert rows.settings["tokenization"] is None


def test_samples_hold_no_specials_and_keep_the_order(
    corpus: Corpus, tokenization: Tokenization
) -> None:
    inner = np.flatnonzero(~tokenization.special)
    for n in (1, 4, len(inner)):
        rows = choose_rows(corpus, tokenization, f"sample:{n}@3")
        ranked = sorted(inner.tolist(), key=lambda piece: hash_of(piece, 3))
        assert rows.row_id.tolist() == sorted(ranked[:n])
        assert not rows.row_special.any()
        assert rows.settings["rows"] == f"sample:{n}@3"
    without_seed = choose_rows(corpus, tokenization, "sample:4")
    assert without_seed.settings["rows"] == "sample:4@0"
    words = choose_rows(corpus, tokenization, "sample:4@3", "word")
    assert words.row_id.tolist() == sorted(sorted(range(8), key=lambda i: hash_of(i, 3))[:4])


def test_word_rows_agree_across_tokenizers_and_piece_rows_do_not(
    corpus: Corpus, tokenization: Tokenization, tokenizers_made_here: dict[str, Any]
) -> None:
    other = tokenize(corpus, tokenizers_made_here["gpt2"])
    for rows in ("all", "sample:5@2"):
        first = choose_rows(corpus, tokenization, rows, "word")
        second = choose_rows(corpus, other, rows, "word")
        assert first.fingerprint == second.fingerprint
        assert np.array_equal(first.row_id, second.row_id)
        pieces = choose_rows(corpus, tokenization, rows), choose_rows(corpus, other, rows)
        assert pieces[0].fingerprint != pieces[1].fingerprint
    # A sample of everything that "all" holds is the same set of rows.
    everything = choose_rows(corpus, tokenization, "sample:8", "word")
    assert everything.fingerprint == choose_rows(corpus, tokenization, unit="word").fingerprint


def test_words_of_dropped_examples_and_words_without_pieces_are_absent(
    minilm_tokenizer: Any,
) -> None:
    corpus = corpus_from_texts(["a \x00\u200b b", "the cat sat on the mat and on", "c"])
    found = tokenize(corpus, minilm_tokenizer, long="drop", limit=6)
    rows = choose_rows(corpus, found, unit="word")
    assert [corpus.word(word) for word in rows.row_word.tolist()] == ["a", "b", "c"]
    assert rows.row_position.tolist() == [0, 2, 0]
    assert rows.row_example.tolist() == [0, 0, 2]
    assert rows.settings["words_without_pieces"] == 1


def test_positions_in_a_split_example_are_those_in_its_input(minilm_tokenizer: Any) -> None:
    corpus = corpus_from_texts(["the cat sat on the mat"])
    found = tokenize(corpus, minilm_tokenizer, long="split", limit=6)
    rows = choose_rows(corpus, found)
    assert rows.row_position.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert set(rows.row_example.tolist()) == {0}
    words = choose_rows(corpus, found, unit="word")
    assert words.row_position.tolist() == list(range(6))


@pytest.mark.parametrize(
    ("rows", "unit", "said"),
    [
        ("some", "piece", "rows 'some' cannot be read"),
        ("sample:", "piece", "cannot be read"),
        ("sample:1.5", "piece", "cannot be read"),
        ("sample:-3", "piece", "cannot be read"),
        ("sample:3@", "piece", "cannot be read"),
        ("sample:3@x", "piece", "cannot be read"),
        ("sample:٣", "piece", "cannot be read"),
        ("sample:0", "piece", "asks for 0 rows; ask for 1 or more"),
        ("sample:9", "word", "9 rows asked for, but there are 8 words"),
        ("sample:5000@1", "piece", "5000 rows asked for, but there are [0-9]+ pieces"),
        ("sample:3@99999999999999999999", "piece", "the seed is 99999999999999999999"),
        ("all", "sentence", "no unit 'sentence'; choose one of piece, word"),
    ],
)
def test_rows_that_cannot_be(
    corpus: Corpus, tokenization: Tokenization, rows: str, unit: str, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        choose_rows(corpus, tokenization, rows, unit)


def test_a_corpus_whose_words_all_lack_pieces_has_no_word_rows(minilm_tokenizer: Any) -> None:
    corpus = corpus_from_texts(["\x00 \u200b"])
    found = tokenize(corpus, minilm_tokenizer)
    with pytest.raises(InvalidInput, match="no word has a piece"):
        choose_rows(corpus, found, unit="word")


def test_columns_and_attributes_hold_the_whole_row_set(
    corpus: Corpus, tokenization: Tokenization
) -> None:
    for unit in ("piece", "word"):
        rows = choose_rows(corpus, tokenization, "sample:5@1", unit)
        again = RowSet.from_columns(rows.to_columns(), rows.to_attributes())
        assert again.to_attributes() == rows.to_attributes()
        for name, values in rows.to_columns().items():
            assert np.array_equal(values, again.to_columns()[name])
            assert values.dtype == again.to_columns()[name].dtype
    columns, attributes = rows.to_columns(), rows.to_attributes()
    with pytest.raises(InvalidInput, match="'row_word' is missing"):
        RowSet.from_columns({k: v for k, v in columns.items() if k != "row_word"}, attributes)
    with pytest.raises(InvalidInput, match="rising"):
        RowSet.from_columns({**columns, "row_id": columns["row_id"][::-1]}, attributes)
    with pytest.raises(InvalidInput, match="shape"):
        RowSet.from_columns({**columns, "row_word": columns["row_word"][1:]}, attributes)
    with pytest.raises(InvalidInput, match="no unit 'x'; choose one of piece, word, example"):
        RowSet.from_columns(columns, {**attributes, "unit": "x"})
