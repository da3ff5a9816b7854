"""Which sets of pieces serve words and examples, and what is said of those that do not."""

from __future__ import annotations

import gc
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.store.errors import InvalidInput, LakeCorrupt, LakeNotFound, NameNotFound
from layerlake.store.identity import short
from layerlake.store.row_sets import rows_fingerprint
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.stored_space import StoredSpace
from layerlake.store.views.piece_groups import piece_groups, table_bytes
from layerlake.store.views.pooled_rows import PooledSpace
from layerlake.store.writer import SetWriter

#            [CLS] a  b  b  , c  [SEP] [CLS] d  d  b  b  [SEP] [CLS] e  f  [SEP] [CLS] [SEP]
WORDS = [-1, 0, 1, 1, -1, 2, -1, -1, 3, 3, 1, 1, -1, -1, 5, 6, -1, -1, -1]
SPECIAL = [n in (0, 6, 7, 12, 13, 16, 17, 18) for n in range(19)]
REPEATED = [n in (7, 10, 11) for n in range(19)]
INPUTS, EXAMPLES = [7, 6, 4, 2], [0, 0, 1, 3]
SIZES = [5, 3, 4, 0]
"""Words: example 0 has word 4 without a piece, example 1 word 7; example 2 is in no input."""


@pytest.fixture
def made(make_lake: Callable[..., Any], make_cut: Callable[..., Any]) -> Any:
    """A lake of four examples and no activations."""
    return make_lake(SIZES, make_cut(WORDS, SPECIAL, REPEATED, INPUTS, EXAMPLES))


def words_of(made: Any, variant: str = "base", **options: Any) -> PooledSpace:
    """Return the words of a variant, pooled."""
    space = made.lake.space("c", variant, 0, unit="word", **options)
    assert isinstance(space, PooledSpace)
    return space


class TestWords:
    """Sets that hold words whole."""

    def test_words_of_all_pieces(self, made: Any):
        made.add("base")
        space = words_of(made)
        rows = space.load_rows()
        assert rows.row_id.tolist() == rows.row_word.tolist() == [0, 1, 2, 3, 5, 6]
        assert rows.row_example.tolist() == [0, 0, 0, 0, 1, 1]
        assert rows.row_position.tolist() == [0, 1, 2, 3, 0, 1]
        assert not rows.row_special.any()
        assert (rows.row_id.dtype, rows.row_position.dtype) == (np.int64, np.int32)
        assert rows.fingerprint == space.row_set == rows_fingerprint("word", None, rows.row_id)
        assert space.groups.counts.tolist() == [1, 2, 1, 2, 1, 1]

    @pytest.mark.parametrize(
        "rows", ["all", "where tag=NOUN", "where tag=VERB|ADJ", "where position>0 and position<6"]
    )
    def test_row_sets_are_those_of_an_extraction_of_words(self, made: Any, rows: str):
        made.add("base", rows)
        found = words_of(made).load_rows()
        if not rows.startswith("where position"):
            made.add("stored", rows, unit="word", pooling="mean")
            stored = made.lake.space("c", "stored", 0, unit="word")
            assert isinstance(stored, StoredSpace)
            known = stored.load_rows()
            assert known.fingerprint == found.fingerprint
            assert known.settings.get("rows") == found.settings["rows"]
            for name, values in known.to_columns().items():
                np.testing.assert_array_equal(values, found.to_columns()[name])
                assert values.dtype == found.to_columns()[name].dtype

    def test_words_that_are_no_rows_are_counted(self, made: Any):
        made.add("base")
        made.add("nouns", "where tag=NOUN")
        for variant in ("base", "nouns"):
            groups = words_of(made, variant).groups
            # Two of examples that were run, and those of examples that were not.
            assert groups.rows.settings["words_without_pieces"] == 2
            assert groups.n_missing == 6
        made.add("stored", unit="word", pooling="mean")
        known = made.lake.space("c", "stored", 0, unit="word").load_rows()
        assert known.settings["words_without_pieces"] == 2

    @pytest.mark.parametrize(
        ("rows", "said"),
        [
            ("sample:7@3", "words? in part"),
            ("where tag=VERB;cap:1", None),
            ("first", None),
            ("last", "a word in part, word 3 of example 0"),
            ("where position>0 and position<3", "a word in part, word 1 of example 0"),
            ("cls", "holds no word: extract the words with"),
            ("where special=true", "holds no word: extract the words with"),
        ],
    )
    def test_words_in_part_are_refused_by_name(self, made: Any, rows: str, said: str | None):
        made.add("base", rows)
        kept = set(made.ids["base"].tolist())
        pieces = {
            word: {n for n in range(19) if WORDS[n] == word and not REPEATED[n]}
            for word in range(7)
        }
        in_part = [w for w, own in pieces.items() if own & kept and own - kept]
        if said is None and not in_part:
            held = [w for w, own in pieces.items() if own & kept]
            assert words_of(made).load_rows().row_id.tolist() == held
            return
        with pytest.raises(InvalidInput, match=said) as refused:
            words_of(made)
        line = "layerlake extract MODEL c --as base --unit word"
        assert str(refused.value).endswith(line)
        plan = made.lake.space("c", "base", 0).state.plan
        assert f"{plan.path} (rows {plan.contents['rows']})" in str(refused.value)
        assert refused.type is not InvalidInput
        for pooling in ("mean", "first", "last", "max"):
            with pytest.raises(InvalidInput, match=said):
                words_of(made, pooling=pooling)

    @pytest.mark.parametrize("first", [0, 1])
    def test_a_set_without_sinks_serves_where_a_bos_is_the_sink(
        self, make_lake: Callable[..., Any], make_cut: Callable[..., Any], first: int
    ):
        words = [-1] * first + [0, 0, 1]
        special = [True] * first + [False] * 3
        found = make_lake([2], make_cut(words, special, [False] * len(words), [len(words)], [0]))
        found.add("base", "no-sink")
        if first:
            assert words_of(found).load_rows().row_id.tolist() == [0, 1]
        else:
            with pytest.raises(InvalidInput, match="a word in part, word 0 of example 0"):
                words_of(found)

    def test_a_cap_of_word_types_cuts_words(self, make_lake: Any, make_cut: Any):
        found = make_lake([2], make_cut([0, 0, 0, 1], [False] * 4, [False] * 4, [4], [0]))
        found.add("base", "cap:2")
        with pytest.raises(InvalidInput, match=r"\(rows cap:2@0\) holds a word in part"):
            words_of(found)

    def test_how_many_words_are_held_in_part_is_said(self, made: Any):
        made.add("base", "where position=2")
        with pytest.raises(InvalidInput, match="holds 2 words in part, word 1 of example 0 for"):
            words_of(made)

    def test_another_set_serves_where_one_is_passed_over(self, made: Any):
        made.add("base", "last")
        made.add("base", "where tag=NOUN")
        nouns = words_of(made)
        assert nouns.load_rows().row_id.tolist() == [0, 3, 6]
        made.add("base")
        assert words_of(made).shape[0] == 6
        # Unsealed sets come last.
        made.add("other", "where tag=NOUN")
        made.add("other", windows=0)
        assert words_of(made, "other").load_rows().row_id.tolist() == [0, 3, 6]

    def test_a_row_set_is_asked_for_by_its_fingerprint(self, made: Any):
        made.add("base")
        made.add("base", "where tag=NOUN")
        nouns = rows_fingerprint("word", None, np.array([0, 3, 6]))
        assert words_of(made, row_set=nouns).load_rows().row_id.tolist() == [0, 3, 6]
        every = words_of(made).row_set
        assert words_of(made, row_set=every).shape[0] == 6
        with pytest.raises(NameNotFound, match="it has nothing of that kind"):
            words_of(made, row_set="0" * 64)

    def test_words_that_were_extracted_come_first(self, made: Any):
        made.add("base", n_layers=2)
        made.add("base", "where tag=NOUN", unit="word", pooling="first")
        stored = made.lake.space("c", "base", 0, unit="word")
        assert isinstance(stored, StoredSpace)
        assert (stored.pooling, stored.shape[0]) == ("first", 3)
        assert isinstance(
            made.lake.space("c", "base", 0, unit="word", pooling="first"), StoredSpace
        )
        # Otherwise pooled, or a layer that it lacks.
        assert words_of(made, pooling="max").pooling == "max"
        assert made.lake.space("c", "base", 1, unit="word").shape[0] == 6
        assert made.lake.space("c", "base", 0).unit == "piece"

    def test_a_corpus_whose_words_have_no_piece(self, make_lake: Any, make_cut: Any):
        found = make_lake([1, 2], make_cut([-1] * 4, [False] * 4, [False] * 4, [2, 2], [0, 1]))
        found.add("base")
        with pytest.raises(
            InvalidInput, match="holds no word: no word of the corpus has a piece; "
        ):
            words_of(found)
        assert found.lake.space("c", "base", 0, unit="example").shape[0] == 2

    def test_the_line_to_type_names_the_model(self, made: Any):
        made.add("a", "last")
        about = {"source": "org/model", "revision": "abc", "config": {"x": 1}, "randomize": 3}
        made.lake.add_table("variants/a", {}, {"fingerprint": "v", "kind": "variant", **about})
        with pytest.raises(InvalidInput) as refused:
            words_of(made, "a")
        line = "layerlake extract org/model@abc c --as a --unit word --randomize 3"
        assert str(refused.value).endswith(line)


class TestExamples:
    """Sets that hold examples whole, as far as a pooling needs them."""

    @pytest.mark.parametrize(
        ("pooling", "specials", "pieces"),
        [
            ("mean", False, {0: [1, 2, 3, 4, 5, 8, 9], 1: [14, 15]}),
            ("mean", True, {0: [0, 1, 2, 3, 4, 5, 6, 8, 9, 12], 1: [13, 14, 15, 16], 3: [17, 18]}),
            ("first", False, {0: [1], 1: [14]}),
            ("first", True, {0: [0], 1: [13], 3: [17]}),
            ("last", False, {0: [9], 1: [15]}),
            ("last", True, {0: [12], 1: [16], 3: [18]}),
            ("cls", False, {0: [0], 1: [13], 3: [17]}),
        ],
    )
    def test_pieces_of_examples(
        self, made: Any, pooling: str, specials: bool, pieces: dict[int, list[int]]
    ):
        made.add("base", dtype="float32")
        space = made.lake.space("c", "base", 0, unit="example", pooling=pooling, specials=specials)
        rows = space.load_rows()
        assert rows.row_id.tolist() == rows.row_example.tolist() == [*pieces]
        assert set(rows.row_word.tolist()) == {-1}
        assert space.row_set == rows_fingerprint("example", None, rows.row_id)
        places = {piece: n for n, piece in enumerate(made.ids["base"].tolist())}
        values = made.values["base"][0]
        expected = [values[[places[n] for n in own]].mean(axis=0) for own in pieces.values()]
        np.testing.assert_allclose(space.rows(slice(None)), expected, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize(
        ("rows", "served"),
        [
            ("where tag=NOUN", {"last"}),
            ("cls", {"first with specials", "cls"}),
            ("first", {"first"}),
            ("last", {"last"}),
            ("where special=false", {"mean", "first", "last"}),
            ("where special=true", {"first with specials", "last with specials", "cls"}),
        ],
    )
    def test_a_set_serves_what_needs_only_its_pieces(self, made: Any, rows: str, served: set[str]):
        made.add("base", rows)
        found = set()
        for pooling in ("mean", "first", "last", "cls"):
            for specials in (False, True):
                options: dict[str, Any] = {"pooling": pooling, "specials": specials}
                reason = None
                try:
                    space = made.lake.space("c", "base", 0, unit="example", **options)
                except InvalidInput as error:
                    reason = str(error)
                if reason is None:
                    assert space.shape[0] > 0
                    found.add(pooling + " with specials" * (specials and pooling != "cls"))
                else:
                    assert "in part, example " in reason or "holds no " in reason
                    assert reason.endswith(("extract MODEL c --as base", "--pooling first"))
        assert found == served

    def test_examples_in_part_are_refused_by_number(self, made: Any):
        made.add("base", "where position<3")
        with pytest.raises(InvalidInput, match="holds an example in part, exam") as refused:
            made.lake.space("c", "base", 0, unit="example")
        assert "example 0 for one" in str(refused.value)
        assert str(refused.value).endswith("layerlake extract MODEL c --as base")

    def test_without_a_first_special_there_is_no_cls(self, make_lake: Any, make_cut: Any):
        found = make_lake([2], make_cut([0, 1, -1], [False, False, True], [False] * 3, [3], [0]))
        found.add("base")
        with pytest.raises(InvalidInput, match="no special piece that an example begins with"):
            found.lake.space("c", "base", 0, unit="example", pooling="cls")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"unit": "word", "pooling": "cls"},
            "no pooling 'cls' of word rows; choose one of mean, f",
        ),
        ({"unit": "example", "pooling": "max"}, "no pooling 'max' of example rows; choose one of"),
        (
            {"unit": "piece", "pooling": "mean"},
            "no pooling 'mean' of piece rows; leave the pooling",
        ),
        ({"unit": "word", "pooling": "median"}, "no pooling 'median' of word rows"),
        ({"pooling": "median"}, "no pooling 'median'"),
        ({"unit": "words"}, "there is no unit 'words'; choose one of piece, word, example"),
        ({"unit": ""}, "there is no unit"),
    ],
)
def test_what_there_is_not_is_refused(made: Any, options: dict[str, Any], said: str) -> None:
    made.add("base")
    with pytest.raises(InvalidInput, match=said):
        made.lake.space("c", "base", 0, **options)


def test_layers_that_no_set_of_pieces_has_are_not_found(made: Any) -> None:
    made.add("base")
    with pytest.raises(NameNotFound, match="no resid layer 7 with word rows pooled by max"):
        made.lake.space("c", "base", 7, unit="word", pooling="max")


HOSTILE: dict[str, dict[str, list[int] | list[bool] | None]] = {
    "fine": {},
    "row ids beyond the end": {"row_id": [1, 2, 19]},
    "row ids beyond the end, before others": {"row_id": [1, 190, 3]},
    "row ids below nought": {"row_id": [-1, 2, 3]},
    "row ids that fall": {"row_id": [3, 2, 1]},
    "row ids twice": {"row_id": [1, 1, 2]},
    "fewer row ids than rows": {"row_id": [1, 2]},
    "words beyond the end": {"piece_word": [*WORDS[:-1], 12]},
    "words below nought": {"piece_word": [*WORDS[:-1], -2]},
    "fewer words than pieces": {"piece_word": WORDS[:10]},
    "more words than pieces": {"piece_word": [*WORDS, -1]},
    "fewer specials than pieces": {"special": SPECIAL[:4]},
    "fewer repeated than pieces": {"repeated": REPEATED[:4]},
    "examples beyond the end": {"input_example": [0, 0, 1, 4]},
    "examples below nought": {"input_example": [-1, 0, 1, 3]},
    "examples that fall": {"input_example": [1, 0, 1, 3]},
    "fewer examples than inputs": {"input_example": [0, 0, 1]},
    "inputs that end too late": {"input_offsets": [0, 7, 13, 17, 20]},
    "inputs that fall": {"input_offsets": [0, 13, 7, 17, 19]},
    "inputs that begin late": {"input_offsets": [1, 7, 13, 17, 19]},
    "no column of examples": {"input_example": None},
    "no column of rows": {"row_id": None},
    "no inputs": {"input_offsets": []},
}


class TestTables:
    """Tables that are missing, or that do not fit."""

    @pytest.fixture
    def kept(self, make_lake: Any, make_cut: Any, tmp_path: Path) -> Any:
        """The lake of four examples in a folder, with all of its pieces."""
        cut = make_cut(WORDS, SPECIAL, REPEATED, INPUTS, EXAMPLES)
        found = make_lake(SIZES, cut, where=tmp_path / "lake")
        found.add("base")
        return found

    @pytest.mark.parametrize("table", ["tokenizations", "rows"])
    def test_a_table_that_is_missing_is_named(self, kept: Any, table: str):
        (name,) = kept.lake.location.nodes(f"corpora/c/{table}")
        kept.lake.location.remove(f"corpora/c/{table}/{name}")
        with pytest.raises(NameNotFound, match=f"corpora/c/{table}/{name}, which tells what"):
            kept.lake.space("c", "base", 0, unit="word")
        assert kept.lake.space("c", "base", 0).shape[0] == 16

    @pytest.mark.parametrize("table", ["tokenizations", "rows"])
    @pytest.mark.parametrize("damage", ["missing", "damaged"])
    def test_words_that_were_extracted_need_no_tables_of_pieces(
        self, kept: Any, table: str, damage: str
    ):
        (name,) = kept.lake.location.nodes(f"corpora/c/{table}")
        path = f"corpora/c/{table}/{name}"
        if damage == "missing":
            kept.lake.location.remove(path)
        else:
            column = "row_id" if table == "rows" else "special"
            kept.lake.location.put(f"{path}/{column}/c/0", [b"no chunk"])
        kept.add("base", unit="word", pooling="mean")
        if damage == "missing" and table == "tokenizations":
            kept.lake.location.remove(path)
        space = kept.lake.space("c", "base", 0, unit="word")
        assert isinstance(space, StoredSpace)

    @pytest.mark.parametrize("column", ["special", "piece_word", "input_offsets"])
    def test_a_chunk_that_is_missing_is_no_row_of_zeros(self, kept: Any, column: str):
        (name,) = kept.lake.location.nodes("corpora/c/tokenizations")
        path = f"corpora/c/tokenizations/{name}"
        kept.lake.location.delete(f"{path}/{column}/c/0")
        with pytest.raises(LakeCorrupt, match=f"{path} is damaged: its column {column} cannot be"):
            kept.lake.space("c", "base", 0, unit="example")

    def test_a_damaged_table_is_said_to_be(self, kept: Any):
        (name,) = kept.lake.location.nodes("corpora/c/tokenizations")
        path = f"corpora/c/tokenizations/{name}"
        kept.lake.location.put(f"{path}/special/c/0", [b"no chunk"])
        with pytest.raises(LakeCorrupt, match=f"{path} is damaged: its column special"):
            kept.lake.space("c", "base", 0, unit="word")

    def test_a_pickled_space_says_where_there_is_no_lake(self, kept: Any, tmp_path: Path):
        space = words_of(kept)
        sent = pickle.dumps(space)
        (tmp_path / "lake").rename(tmp_path / "elsewhere")
        with pytest.raises(LakeNotFound, match=r"there is no lake at .*; put it where every"):
            pickle.loads(sent).rows([0])
        with pytest.raises(LakeNotFound, match=r"there is no lake at .*; put it where every"):
            pickle.loads(pickle.dumps(space.stored)).rows([0])

    @pytest.mark.parametrize("what", HOSTILE)
    def test_tables_that_do_not_fit_are_corrupt(self, make_lake: Any, what: str):
        found = make_lake(SIZES, object())
        write_pieces(found.lake, what, HOSTILE[what])
        ways = [("word", "mean"), *(("example", p) for p in ("mean", "first", "last", "cls"))]
        if what == "fine":
            space = found.lake.space("c", "base", 0, unit="word")
            assert space.rows(slice(None)).tolist() == [[0.0], [1.5]]
            return
        if what == "words below nought":  # belong to none
            assert found.lake.space("c", "base", 0, unit="word").shape[0] == 2
            return
        for unit, pooling in ways:
            with pytest.raises(LakeCorrupt, match="does not belong to it; `layerlake verify`"):
                found.lake.space("c", "base", 0, unit=unit, pooling=pooling)


@pytest.mark.parametrize(("n_words", "n_pieces"), [(1, 1), (2, 6), (60, 1)])
@pytest.mark.parametrize("unit", ["word", "example"])
def test_finding_pieces_takes_no_more_than_it_says(
    make_lake: Any, make_cut: Any, unit: str, n_words: int, n_pieces: int
) -> None:
    size = 4000
    word = [n_words * example for example in range(size) for _ in range(n_pieces)]
    none = [False] * len(word)
    cut = make_cut(word, none, none, [n_pieces] * size, range(size))
    found = make_lake([n_words] * size, cut)
    plan = found.add("base", hidden=1)
    piece_groups(found.lake.location, plan, unit, "mean")  # what is imported is no part of it
    gc.collect()
    tracemalloc.start()
    groups = piece_groups(found.lake.location, plan, unit, "mean")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert groups.n_bytes < peak <= table_bytes(found.lake.location, plan) + 50_000


def write_pieces(lake: Any, name: str, changes: dict[str, Any]) -> None:
    """Write a set of the pieces 1, 2 and 3, and its tables with some columns changed."""
    rows = {"row_id": np.array([1, 2, 3])}
    cut = {
        "piece_word": np.array(WORDS),
        "special": np.array(SPECIAL),
        "repeated": np.array(REPEATED),
        "input_offsets": np.concatenate([[0], np.cumsum(INPUTS)]),
        "input_example": np.array(EXAMPLES),
    }
    dtypes = {"special": np.bool_, "repeated": np.bool_}
    fingerprint = name.replace(" ", "-").replace(",", "").ljust(64, "0")[::-1]
    for table, columns in (("rows", rows), ("tokenizations", cut)):
        own = {
            column: np.array(changes.get(column, values), dtypes.get(column, np.int64))
            for column, values in columns.items()
            if changes.get(column, values) is not None
        }
        about = {"fingerprint": fingerprint, "unit": "piece", "settings": {"rows": "all"}}
        lake.add_table(f"corpora/c/{table}/{short(fingerprint)}", own, about)
    contents = {
        "row_set": fingerprint,
        "rows": "all",
        "unit": "piece",
        "pooling": None,
        "tokenization": fingerprint,
    }
    layout = ActivationLayout(3, 1, "float32", "none")
    plan = SetPlan("c", "base", contents, {}, {}, ("resid/0",), layout)
    with SetWriter(lake.location, plan) as writer:
        writer.write_window(0, {"resid/0": np.arange(3, dtype=np.float32)[:, None]})
        writer.seal()
