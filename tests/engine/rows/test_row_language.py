"""The language of rows, held to the same done once more in plain Python loops."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlake.engine.corpora.corpus import Corpus, string_array
from layerlake.engine.rows.choose import choose_rows
from layerlake.engine.rows.row_language import canonical, parse_rows
from layerlake.engine.tokenization.tokenize import Tokenization, tokenize
from layerlake.store.errors import InvalidInput

MASK = (1 << 64) - 1

Row = dict[str, Any]


def splitmix_finaliser(value: int) -> int:
    """Return the splitmix64 finaliser in Python's own integers."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def hash_of(identity: int, seed: int) -> int:
    """Return the hash by which rows are drawn."""
    golden = 0x9E3779B97F4A7C15
    inner = splitmix_finaliser((identity + golden) & MASK)
    return splitmix_finaliser(inner ^ splitmix_finaliser((seed + golden) & MASK))


def candidates(corpus: Corpus, cut: Tokenization, unit: str) -> list[Row]:
    """Return every row that there could be, with all its values."""
    of_words = []
    for example in range(corpus.n_examples):
        low, high = corpus.word_offsets[example : example + 2].tolist()
        for word in range(low, high):
            values = {"word": corpus.word(word), "segment": int(corpus.word_segment[word])}
            for name, column in corpus.annotations.items():
                values[name] = (
                    column[word].item() if hasattr(column[word], "item") else column[word]
                )
            of_words.append((example, word - low, values))
    of_examples = [
        {name: column[e].item() if hasattr(column[e], "item") else column[e]
         for name, column in corpus.columns.items()} | {"example": e}
        for e in range(corpus.n_examples)
    ]  # fmt: skip
    rows: list[Row] = []
    if unit == "word":
        present = set(cut.piece_word.tolist())
        for word, (example, position, values) in enumerate(of_words):
            if word in present:
                rows.append(
                    {**of_examples[example], **values, "id": word, "position": position}
                    | {"special": False, "in_example": example}
                )
        return rows
    piece = 0
    for number, length in enumerate(cut.lengths.tolist()):
        example = int(cut.input_example[number])
        for position in range(length):
            word = int(cut.piece_word[piece])
            values = of_words[word][2] if word >= 0 else {}
            rows.append(
                {**of_examples[example], **values, "id": piece, "position": position}
                | {"special": bool(cut.special[piece]), "in_example": example}
            )
            piece += 1
    return rows


def compare(row: Row, name: str, operator: str, values: list[Any]) -> bool:
    """Say whether a row meets a condition."""
    if name not in row:
        return False
    mine = row[name]
    return {
        "=": mine in values,
        "!=": mine not in values,
        "<": operator == "<" and mine < values[0],
        "<=": operator == "<=" and mine <= values[0],
        ">": operator == ">" and mine > values[0],
        ">=": operator == ">=" and mine >= values[0],
    }[operator]


def cap(rows: list[Row], k: int, seed: int, by: str) -> list[Row]:
    """Keep the k rows of smallest hash of every value."""
    kept, seen = set(), Counter[Any]()
    for row in sorted(rows, key=lambda row: hash_of(row["id"], seed)):
        if by in row and seen[row[by]] < k:
            seen[row[by]] += 1
            kept.add(row["id"])
    return [row for row in rows if row["id"] in kept]


def sample(rows: list[Row], n: int, seed: int, by: str | None) -> list[Row]:
    """Draw n rows; with `by`, one of each value, then another of each, until there are n."""
    ranked = sorted(rows, key=lambda row: hash_of(row["id"], seed))
    if by is None:
        kept = {row["id"] for row in ranked[:n]}
        return [row for row in rows if row["id"] in kept]
    queue = [row for row in ranked if by in row]
    kept = set()
    while len(kept) < n:
        round_of: set[Any] = set()
        later = []
        for row in queue:
            if row[by] in round_of:
                later.append(row)
            elif len(kept) < n:
                round_of.add(row[by])
                kept.add(row["id"])
        queue = later
    return [row for row in rows if row["id"] in kept]


def ends(rows: list[Row], which: str) -> list[Row]:
    """Keep the first or last row of each example that is not special."""
    plain = [row for row in rows if not row["special"]]
    found: dict[int, Row] = {}
    for row in plain if which == "last" else reversed(plain):
        found[row["in_example"]] = row
    return sorted(found.values(), key=lambda row: int(row["id"]))


WORDS = ["the", "The", "cat", "didn't", "unbelievably", "7", "a|b", "a;b", "café", "and"]
TAGS = ["NOUN", "VERB", "PUNCT"]
OPERATORS = ["=", "!=", "<", "<=", ">", ">="]


def written(value: Any) -> str:
    """Return a value as the language takes it, always in quotes where it is text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


@st.composite
def corpora(draw: st.DrawFn, build: Callable[..., Corpus]) -> Corpus:
    """Draw a corpus of given words with annotations and columns of every kind."""
    sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=7)
    examples = draw(st.lists(sentences, min_size=1, max_size=6))
    pairs = draw(st.booleans())
    seconds = [draw(sentences) for _ in examples] if pairs else None
    corpus = build(examples, seconds)
    n, words = corpus.n_examples, corpus.n_words

    def many(values: st.SearchStrategy[Any], size: int) -> list[Any]:
        return draw(st.lists(values, min_size=size, max_size=size))

    return dataclasses.replace(
        corpus,
        annotations={
            "upos": string_array(many(st.sampled_from(TAGS), words)),
            "head": np.array(many(st.integers(0, 3), words), np.int32),
        },
        columns={
            **corpus.columns,
            "label": np.array(many(st.booleans(), n), np.bool_),
            "genre": string_array(many(st.sampled_from(["news", "chat", ""]), n)),
            "score": np.array(many(st.sampled_from([0.5, 1.0, -2.25]), n), np.float64),
        },
    )


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, str, list[Any]]:
    """Draw a condition: its name, operator and values."""
    values: dict[str, st.SearchStrategy[Any]] = {
        "upos": st.sampled_from([*TAGS, "X"]),
        "genre": st.sampled_from(["news", "chat", ""]),
        "word": st.sampled_from(WORDS),
        "label": st.booleans(),
        "special": st.booleans(),
        "head": st.integers(-1, 4),
        "position": st.integers(0, 8),
        "segment": st.integers(0, 1),
        "example": st.integers(0, 6),
        "score": st.sampled_from([0.5, 1.0, -2.25, 0.0]),
    }
    name = draw(st.sampled_from(sorted(values)))
    ordered = name not in ("upos", "genre", "word", "label", "special")
    operator = draw(st.sampled_from(OPERATORS if ordered else OPERATORS[:2]))
    most = 1 if operator in OPERATORS[2:] else 3
    return name, operator, draw(st.lists(values[name], min_size=1, max_size=most))


NAMES = st.sampled_from(["upos", "label", "head", "genre", "word", "score", "example"])


@st.composite
def programs(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Draw one to four steps."""
    kinds = st.sampled_from(["where", "where", "cap", "sample", "first", "last", "no-sink", "all"])
    steps: list[tuple[str, Any]] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(kinds)
        if kind == "all" and steps:
            continue
        argument: Any = None
        if kind == "where":
            argument = draw(st.lists(conditions(), min_size=1, max_size=2))
        elif kind == "cap":
            argument = draw(st.integers(1, 3)), draw(st.integers(0, 5)), draw(NAMES)
        elif kind == "sample":
            argument = draw(st.integers(1, 6)), draw(st.integers(0, 5)), draw(NAMES | st.none())
        steps.append((kind, argument))
    return steps


def text_of(program: list[tuple[str, Any]]) -> str:
    """Write a program in the language."""
    parts = []
    for kind, argument in program:
        if kind == "where":
            tests = [f"{n} {o} {' | '.join(map(written, v))}" for n, o, v in argument]
            parts.append("where " + " and ".join(tests))
        elif kind in ("cap", "sample"):
            n, seed, by = argument
            parts.append(f"{kind}:{n}@{seed}" + (f" by {by}" if by else ""))
        else:
            parts.append(kind)
    return "; ".join(parts)


def run(program: list[tuple[str, Any]], rows: list[Row]) -> list[Row] | None:
    """Return the rows that a program keeps, in loops; None where a step cannot be."""
    tested = {c[0] for kind, argument in program if kind == "where" for c in argument}
    if "special" not in tested and program[0][0] != "all":
        rows = [row for row in rows if not row["special"]]
    for kind, argument in program:
        if kind == "where":
            rows = [row for row in rows if all(compare(row, *c) for c in argument)]
        elif kind == "no-sink":
            rows = [row for row in rows if row["position"] > 0]
        elif kind == "cap":
            rows = cap(rows, *argument)
        elif kind == "sample":
            n, _, by = argument
            if n > sum(by is None or by in row for row in rows):
                return None
            rows = sample(rows, *argument)
        elif kind != "all":
            rows = ends(rows, kind)
        if not rows:
            return None
    return rows


@pytest.fixture(scope="module")
def two(tokenizers_made_here: dict[str, Any]) -> list[Any]:
    """A tokenizer of the BERT kind, one of the GPT-2 kind without special pieces, a RoBERTa's."""
    return [tokenizers_made_here[kind] for kind in ("wordpiece", "gpt2", "roberta")]


@settings(max_examples=150)
@given(data=st.data(), program=programs(), unit=st.sampled_from(["piece", "word"]))
def test_steps_keep_what_loops_keep(
    of_words: Callable[..., Corpus],
    two: list[Any],
    data: st.DataObject,
    program: list[tuple[str, Any]],
    unit: str,
) -> None:
    corpus = data.draw(corpora(of_words))
    packing = "single" if corpus.pair_texts is None else "pair"
    text = text_of(program)
    kept = []
    # That of GPT-2 cannot lay out pairs.
    for tokenizer in two[:2] if packing == "single" else two[::2]:
        cut = tokenize(corpus, tokenizer, packing=packing)
        expected = run(program, candidates(corpus, cut, unit))
        if expected is None:
            with pytest.raises(InvalidInput):
                choose_rows(corpus, cut, text, unit)
            continue
        rows = choose_rows(corpus, cut, text, unit)
        assert rows.row_id.tolist() == [row["id"] for row in expected]
        assert rows.row_position.tolist() == [row["position"] for row in expected]
        assert rows.row_example.tolist() == [row["in_example"] for row in expected]
        assert rows.row_special.tolist() == [row["special"] for row in expected]
        again = choose_rows(corpus, cut, rows.settings["rows"], unit)
        assert again.fingerprint == rows.fingerprint
        assert again.settings == rows.settings
        kept.append(rows)
    if unit == "word" and kept:
        # These tokenizers leave no word without a piece: words are the same rows for both.
        assert len(kept) == 2
        assert kept[0].fingerprint == kept[1].fingerprint
        assert kept[0].settings["rows"] == kept[1].settings["rows"]


@settings(max_examples=100)
@given(program=programs())
def test_the_one_way_of_writing_is_read_as_it_was_meant(program: list[tuple[str, Any]]) -> None:
    steps = parse_rows(text_of(program))
    assert parse_rows(canonical(steps)) == steps


@settings(max_examples=200)
@given(text=st.text('allwhere sample:cap@by3=<>!|;,"\\xX=and\n', max_size=30))
def test_any_text_is_read_or_refused_in_one_sentence(text: str) -> None:
    try:
        steps = parse_rows(text)
    except InvalidInput:
        return
    assert parse_rows(canonical(steps)) == steps


@pytest.fixture(scope="module")
def corpus(of_words: Callable[..., Corpus]) -> Corpus:
    """Four sentences with annotations, columns, and columns that came as JSON."""
    bare = of_words(
        [["The", "cat", "sat"], ["the", "Cat", "didn't"], ["A", "dog"], ["the", "the", "end"]]
    )
    upos = ["DET", "NOUN", "VERB", "DET", "NOUN", "VERB", "DET", "NOUN", "DET", "DET", "NOUN"]
    return dataclasses.replace(
        bare,
        annotations={
            "upos": string_array(upos),
            "head": np.array([2, 3, 0, 2, 3, 0, 2, 0, 3, 3, 0], np.int32),
            "genre": string_array(["x"] * 11),
        },
        columns={
            **bare.columns,
            "label": np.array([True, False, True, True], np.bool_),
            "genre": string_array(["news", "chat", "news", "news"]),
            "two words": string_array(["a b", "c", 'say "x"', "c"]),
            "position": np.array([9, 9, 9, 7], np.int64),
            "age": string_array(["3", "", "null", "12"]),
            "mixed": string_array(['"3"', "4", "", "true"]),
            "score": np.array([0.5, np.nan, 2.0, -1.0], np.float64),
        },
        source={"format": "made here", "json_columns": ["age", "mixed"]},
    )


@pytest.fixture(scope="module")
def cut(corpus: Corpus, two: list[Any]) -> Tokenization:
    """The same, cut by the tokenizer of the BERT kind."""
    return tokenize(corpus, two[0])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("last", ["sat", "didn't", "dog", "end"]),
        ("first", ["The", "the", "A", "the"]),
        ("where upos=NOUN", ["cat", "Cat", "dog", "end"]),
        ("where upos=NOUN|VERB and label=TRUE", ["cat", "sat", "dog", "end"]),
        ("where upos = NOUN , head < 3", ["dog", "end"]),
        ("where upos=NOUN; where position>=2", ["end"]),
        ("where upos!=DET; first", ["cat", "Cat", "dog", "end"]),
        ("where word=the", ["the", "the", "the"]),
        ("where word!=the and upos=DET", ["The", "A"]),
        ("where columns/genre=chat", ["the", "Cat", "didn't"]),
        ("where annotations/genre=x; last", ["sat", "didn't", "dog", "end"]),
        ("where position<1", ["The", "the", "A", "the"]),
        ("where columns/position=7", ["the", "the", "end"]),
        ('where "two words"="a b"', ["The", "cat", "sat"]),
        (r'where "two words"="say \"x\""', ["A", "dog"]),
        ("where score>=-1.0; last", ["sat", "dog", "end"]),
        ("where score!=2.0; last", ["sat", "end"]),
        ("where age>3", ["the", "the", "end"]),
        ("where age!=3", ["the", "the", "end"]),
        ("where mixed=4; last", ["didn't"]),
        ("where id=ex-2|ex-3; first", ["A", "the"]),
        ("where example>=2 and example<3", ["A", "dog"]),
        ("no-sink; where upos=DET", ["the"]),
        ("cap:1 by label; where position>=0", None),
    ],
)
def test_words_that_are_kept(
    corpus: Corpus, cut: Tokenization, rows: str, words: list[str] | None
) -> None:
    found = choose_rows(corpus, cut, rows, "word")
    if words is None:
        assert sorted(corpus.columns["label"][found.row_example].tolist()) == [False, True]
    else:
        assert [corpus.word(word) for word in found.row_word.tolist()] == words


def test_pieces_reach_annotations_through_their_word(corpus: Corpus, cut: Tokenization) -> None:
    rows = choose_rows(corpus, cut, "where word=didn't")
    assert rows.n_rows > 1
    assert set(rows.row_word.tolist()) == {5}
    assert not choose_rows(corpus, cut, "where upos!=NOUN").row_special.any()
    last = choose_rows(corpus, cut, "last")
    offsets = cut.input_offsets
    assert last.row_id.tolist() == (offsets[1:] - 2).tolist()  # before [SEP]
    assert choose_rows(corpus, cut, "first").row_id.tolist() == (offsets[:-1] + 1).tolist()
    cls = choose_rows(corpus, cut, "cls")
    assert cls.row_id.tolist() == offsets[:-1].tolist()
    assert cls.row_special.all()
    even = choose_rows(corpus, cut, "cls; sample:2 by label")
    assert sorted(corpus.columns["label"][even.row_example].tolist()) == [False, True]


def test_specials_come_only_where_they_are_asked_for(corpus: Corpus, cut: Tokenization) -> None:
    n, inner = cut.n_pieces, int((~cut.special).sum())
    for rows, count in [
        ("all", n),
        ("all; where position>=0", n),
        ("where position>=0", inner),
        ("where special=false", inner),
        ("where special=true", n - inner),
        ("all; no-sink", n - corpus.n_examples),
        (f"sample:{inner}", inner),
        (f"all; sample:{n}", n),
    ]:
        assert choose_rows(corpus, cut, rows).n_rows == count, rows


def test_pieces_are_named_as_the_vocabulary_spells_them(corpus: Corpus, two: list[Any]) -> None:
    for tokenizer in two:
        cut = tokenize(corpus, tokenizer)
        spelled = np.array(tokenizer.convert_ids_to_tokens(cut.piece_ids.tolist()))
        plain = spelled[~cut.special]
        wanted = str(plain[-1])
        rows = choose_rows(corpus, cut, f'where piece="{wanted}"', tokenizer=tokenizer)
        assert rows.row_id.tolist() == np.flatnonzero((spelled == wanted) & ~cut.special).tolist()
    with pytest.raises(InvalidInput, match="'piece' needs the tokenizer"):
        choose_rows(corpus, cut, "where piece=a")


def test_counts_of_steps_and_strata_are_kept(corpus: Corpus, cut: Tokenization) -> None:
    rows = choose_rows(corpus, cut, "where upos=VERB|NOUN|NOUN;sample:5 by upos", "word")
    assert rows.settings["rows"] == "where upos=NOUN|VERB; sample:5@0 by upos"
    assert rows.settings["steps"] == [
        {"step": "where upos=NOUN|VERB", "of": 11, "rows": 6},
        {
            "step": "sample:5@0 by upos",
            "of": 6,
            "rows": 5,
            "strata": {"NOUN": {"of": 4, "rows": 3}, "VERB": {"of": 2, "rows": 2}},
        },
    ]
    many = choose_rows(corpus, cut, "sample:11 by word", "word").settings["steps"][0]
    assert many["strata"]["the"] == {"of": 3, "rows": 3}
    assert "steps" not in choose_rows(corpus, cut, "sample:5@1", "word").settings


def test_many_strata_are_counted_not_named(of_words: Callable[..., Corpus], two: list[Any]) -> None:
    corpus = of_words([[f"w{number}" for number in range(150)] + ["w1", "w1"]])
    cut = tokenize(corpus, two[1])
    (step,) = choose_rows(corpus, cut, "sample:151 by word", "word").settings["steps"]
    assert (step["n_strata"], step["fewest"], step["most"]) == (150, 1, 2)


def test_rows_that_are_whole_examples(corpus: Corpus) -> None:
    rows = choose_rows(corpus, None, "where label=true", "example")
    assert rows.row_id.tolist() == rows.row_example.tolist() == [0, 2, 3]
    assert rows.row_word.tolist() == [-1] * 3
    assert choose_rows(corpus, None, unit="example").n_rows == 4
    assert choose_rows(corpus, None, "where upos=NOUN", "word").row_id.tolist() == [1, 4, 7, 10]
    with pytest.raises(InvalidInput, match="whole examples have no 'upos'"):
        choose_rows(corpus, None, "where upos=NOUN", "example")
    with pytest.raises(InvalidInput, match="piece rows need a tokenizer"):
        choose_rows(corpus, None)


@pytest.mark.parametrize(
    ("rows", "unit", "said"),
    [
        ("", "word", "cannot be read at its end, where a step was expected"),
        ("where", "word", "at its end, where a name was expected"),
        ("where upos", "word", "where one of = != < <= > >= was expected"),
        ("where upos=", "word", "where a value was expected"),
        ("where upos==NOUN", "word", "at '=NOUN', where a value was expected"),
        ("where upos=NOUN or upos=VERB", "word", "at 'or upos=VERB', where the end, or ;"),
        ("where upos=NOUN and", "word", "at its end, where a name"),
        ('where upos="NOUN', "word", "where a value was expected"),
        ("last;", "word", "at its end, where a step"),
        ("last first", "word", "at 'first', where the end"),
        ("sample:5 by", "word", "the name after by"),
        ("cap:0", "word", "asks for 0 rows"),
        ("last; all", "word", "say all after another step"),
        ("where position<1|2", "word", "compare by < with 2 values"),
        ("where upso=NOUN", "word", "there is no 'upso' to choose rows by; did you mean upos"),
        ("where q=NOUN", "word", "columns of examples: age, genre, id, label"),
        ("sample:2 by lable", "word", "did you mean label"),
        ("where genre=x", "word", "write annotations/genre or columns/genre"),
        ("where position=x", "word", "'position' is whole numbers, and 'x' is not"),
        ("where position=1.5", "word", "'position' is whole numbers, and '1.5' is not"),
        ("where position=٣", "word", "'position' is whole numbers"),
        ("where score=high", "word", "'score' is numbers, and 'high' is not"),
        ("where score=nan", "word", "'score' is numbers"),
        ("where label=yes", "word", "'label' is true or false, and 'yes' is not"),
        ("where label<true", "word", "'label' is true or false, which < cannot compare"),
        ("where upos<NOUN", "word", "'upos' is text, which < cannot compare"),
        ("where upos=NOUM", "word", r"none of 11 words: upos=NOUM holds for 0 \(near it: NOUN"),
        ("where upos=NOUN and position>5", "word", "upos=NOUN holds for 4; position>5 holds for 0"),
        ("where head>99999999999", "word", "select none of 11 words"),
        ("where segment=-1", "word", "select none"),
        ("cls", "word", "rows 'cls' are pieces, and words are asked for"),
        ("where piece=a", "word", "word rows have no 'piece'"),
        ("where special=true; last", "piece", "all are special"),
        ("where special=true; sample:3 by upos", "piece", "no row has a value of 'upos'"),
        ("where upos=NOUN; sample:9", "word", "9 rows asked for, but there are 4 words"),
        ("sample:12 by upos", "word", "but there are 11 words with a value of 'upos'"),
    ],
)
def test_rows_that_are_refused(
    corpus: Corpus, cut: Tokenization, rows: str, unit: str, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        choose_rows(corpus, cut, rows, unit)


def test_no_cls_where_the_tokenizer_puts_none(corpus: Corpus, two: list[Any]) -> None:
    with pytest.raises(InvalidInput, match="use first or last"):
        choose_rows(corpus, tokenize(corpus, two[1]), "cls")
