"""Windows and targets of SQuAD against a literal form of the released procedure, and decoding."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.finetuning.recipes import AnswerRecipe
from layerlake.analyses.finetuning.tasks.registry import task_named
from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts, string_array
from layerlake.engine.corpora.objects import corpus_of_object
from layerlake.engine.corpora.reading import read_corpus
from layerlake.engine.corpora.subset import take_examples
from layerlake.engine.tokenization.tokenizer_backend import open_backend
from layerlake.store.errors import InvalidInput

torch = pytest.importorskip("torch")

SQUAD = task_named("squad")
RECIPE = AnswerRecipe(length=24, stride=5, question_length=6)


@dataclass
class Window:
    """One training feature of the released code."""

    pieces: list[str]
    start: int
    end: int
    passage: list[int]
    home: list[bool]


def official_windows(
    question: str, context: str, answer: str, answer_start: int, cut: Any, recipe: AnswerRecipe
) -> tuple[list[Window], bool]:
    """Return the windows of a question as `run_squad.py` (Devlin et al. 2019) makes them.

    Written after its steps, one by one: white-space tokens, pieces of each, the tightest span of
    pieces that spells the answer, windows by stride, and (0, 0) where a window lacks it. Also
    return whether that span was found (else the pieces of the white-space tokens stand).
    """
    doc_tokens: list[str] = []
    char_to_word = []
    after_space = True
    for character in context:
        if character in " \t\r\n" or ord(character) == 0x202F:
            after_space = True
        else:
            if after_space:
                doc_tokens.append(character)
            else:
                doc_tokens[-1] += character
            after_space = False
        char_to_word.append(len(doc_tokens) - 1)
    start_word = char_to_word[answer_start]
    end_word = char_to_word[answer_start + len(answer) - 1]

    query = cut(question)[: recipe.question_length]
    orig_to_tok = []
    doc: list[str] = []
    for token in doc_tokens:
        orig_to_tok.append(len(doc))
        doc.extend(cut(token))
    tok_start = orig_to_tok[start_word]
    tok_end = orig_to_tok[end_word + 1] - 1 if end_word < len(doc_tokens) - 1 else len(doc) - 1
    wanted = " ".join(cut(answer))
    found = False
    for new_start in range(tok_start, tok_end + 1):
        for new_end in range(tok_end, new_start - 1, -1):
            if not found and " ".join(doc[new_start : new_end + 1]) == wanted:
                tok_start, tok_end, found = new_start, new_end, True

    room = recipe.length - len(query) - 3
    spans = []
    offset = 0
    while offset < len(doc):
        length = min(len(doc) - offset, room)
        spans.append((offset, length))
        if offset + length == len(doc):
            break
        offset += min(length, recipe.stride)

    def most_context(span: int, position: int) -> bool:
        best, best_span = None, None
        for index, (begin, length) in enumerate(spans):
            end = begin + length - 1
            if begin <= position <= end:
                score = min(position - begin, end - position) + 0.01 * length
                if best is None or score > best:
                    best, best_span = score, index
        return best_span == span

    windows = []
    for index, (begin, length) in enumerate(spans):
        shift = len(query) + 2
        start = end = 0
        if begin <= tok_start and tok_end <= begin + length - 1:
            start, end = tok_start - begin + shift, tok_end - begin + shift
        held = list(range(begin, begin + length))
        windows.append(
            Window(
                ["[CLS]", *query, "[SEP]", *(doc[i] for i in held), "[SEP]"],
                start,
                end,
                [-1] * shift + held + [-1],
                [False] * shift + [most_context(index, i) for i in held] + [False],
            )
        )
    return windows, found


@pytest.fixture
def cut(small_loaded: Any) -> Callable[[str], list[str]]:
    encoder = open_backend(small_loaded.tokenizer).encoder
    return lambda text: list(encoder.encode(text, add_special_tokens=False).tokens)


@pytest.fixture
def encoded(small_loaded: Any) -> Callable[..., Any]:
    def encode(corpus: Corpus, recipe: AnswerRecipe = RECIPE) -> Any:
        return SQUAD.encode(corpus, small_loaded.tokenizer, None, recipe, {}, "made up")

    return encode


def question(context: str, answer: str, start: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"q{len(context)}-{start}",
        "question": "who sat on it ?",
        "context": context,
        "answers": {"text": [answer], "answer_start": [start]},
    } | more


def of_rows(rows: list[dict[str, Any]]) -> Corpus:
    return corpus_of_object(rows, "squad")[1]


def windows_of(examples: Any, small: Any) -> list[list[Window]]:
    """Return what the task made, in the same form, by question."""
    cut, targets = examples.tokenization, examples.targets
    encoder = open_backend(small.tokenizer).encoder
    found: list[list[Window]] = [[] for _ in range(examples.corpus.n_examples)]
    for index, example in enumerate(cut.input_example.tolist()):
        part = slice(*cut.input_offsets[index : index + 2].tolist())
        found[example].append(
            Window(
                [encoder.id_to_token(piece) for piece in cut.piece_ids[part].tolist()],
                int(targets["start"][index]),
                int(targets["end"][index]),
                targets["passage"][part].tolist(),
                targets["home"][part].tolist(),
            )
        )
    return found


CONTEXTS = [
    ("The cat sat on the mat.", "cat", 4),
    ("The cat sat on the mat.", "the mat.", 15),
    ("The cat sat on the mat.", "mat", 19),
    ("Leo (1895-1943) didn't sit.", "1895", 5),
    ("Leo (1895-1943) didn't sit.", "1895-1943", 5),
    ("Leo (1895-1943) didn't sit.", "didn't sit", 16),
    ("He paid $12.50, or 7 euros, for café naïveté.", "12.50", 9),
    ("He paid $12.50, or 7 euros, for café naïveté.", "café naïveté", 32),
    ("one two three four five six seven eight nine ten eleven twelve thirteen four", "ten", 45),
    ("one  two\tthree\nfour", "two\tthree", 5),
    ("Unbelievable unbelievable antidisestablishmentarianism.", "unbelievable", 13),
]  # fmt: skip


def test_windows_are_those_of_the_released_procedure(
    encoded: Callable[..., Any], small_loaded: Any, cut: Any
) -> None:
    rows = [question(*given, id=f"q{number}") for number, given in enumerate(CONTEXTS)]
    made = windows_of(encoded(of_rows(rows)), small_loaded)
    for (context, answer, start), windows in zip(CONTEXTS, made, strict=True):
        expected, found = official_windows("who sat on it ?", context, answer, start, cut, RECIPE)
        assert found
        assert windows == expected
        assert any(window.start for window in expected)


@pytest.mark.parametrize("stride", [1, 5, 9, 23])
def test_windows_of_random_passages_are_those_of_the_released_procedure(
    encoded: Callable[..., Any], small_loaded: Any, cut: Any, stride: int
) -> None:
    generator = np.random.default_rng(stride)
    words = ["the", "don't", "1990-1995,", "(unbelievable)", "mats", "$5.", "naïve", "a-b-c", "of"]
    rows = []
    for number in range(25):
        chosen = generator.choice(words, generator.integers(1, 45)).tolist()
        first = int(generator.integers(len(chosen)))
        last = min(len(chosen), first + int(generator.integers(1, 5)))
        asked = " ".join(generator.choice(words, generator.integers(1, 9)))
        rows.append(
            question(
                " ".join(chosen),
                " ".join(chosen[first:last]),
                len(" ".join([*chosen[:first], ""])),
                id=f"q{number}",
                question=asked,
            )
        )
    recipe = AnswerRecipe(length=24, stride=stride, question_length=6)
    made = windows_of(encoded(of_rows(rows), recipe), small_loaded)
    kinds = {"several": 0, "without": 0}
    for row, windows in zip(rows, made, strict=True):
        answers = row["answers"]
        expected, found = official_windows(
            row["question"],
            row["context"],
            answers["text"][0],
            answers["answer_start"][0],
            cut,
            recipe,
        )
        assert found
        assert windows == expected
        kinds["several"] += len(windows) > 1
        kinds["without"] += any(window.start == 0 for window in windows)
    assert min(kinds.values()) > 3


def test_an_answer_inside_a_piece_is_learned_as_that_piece(
    encoded: Callable[..., Any], small_loaded: Any, cut: Any
) -> None:
    """The released code takes the whole white-space token; here the pieces it lies in are taken."""
    context = "The unbelievable (Japanese) sat."
    start = context.index("Japan")
    examples = encoded(of_rows([question(context, "Japan", start)]))
    ((window,),) = windows_of(examples, small_loaded)
    (theirs,), found = official_windows("who sat on it ?", context, "Japan", start, cut, RECIPE)
    assert not found
    assert theirs.pieces[theirs.start : theirs.end + 1] == ["(", "japanese", ")"]
    assert window.pieces[window.start : window.end + 1] == ["japanese"]


def test_of_several_answers_the_first_is_learned(
    encoded: Callable[..., Any], small_loaded: Any
) -> None:
    row = question("The cat sat on a mat.", "mat", 17)
    row["answers"] = {"text": ["mat", "a mat", "cat"], "answer_start": [17, 15, 4]}
    ((window,),) = windows_of(encoded(of_rows([row])), small_loaded)
    assert window.pieces[window.start : window.end + 1] == ["mat"]


@pytest.mark.data
def test_windows_of_real_questions_are_those_of_the_released_procedure(
    small_bert: Path, data_folder: Path
) -> None:
    """Targets could differ where an answer does not end where pieces do; no one of these does so.

    With MiniLM's tokenizer, which is BERT's.
    """
    from layerlake.engine.models.loading import load_model

    loaded = load_model(str(small_bert), device="cpu", compute_dtype="float32")
    encoder = open_backend(loaded.tokenizer).encoder

    def cut(text: str) -> list[str]:
        return list(encoder.encode(text, add_special_tokens=False).tokens)

    corpus = read_corpus(data_folder / "squad_v1.1" / "train-v1.1.44articles.json.gz")
    corpus = take_examples(corpus, np.arange(0, corpus.n_examples, corpus.n_examples // 300))
    recipe = AnswerRecipe(length=160, stride=50, question_length=20)
    examples = SQUAD.encode(corpus, loaded.tokenizer, None, recipe, {}, "SQuAD")
    made = windows_of(examples, loaded)
    texts: Any = corpus.pair_texts
    inside = elsewhere = 0
    for example, windows in enumerate(made):
        answer = json.loads(corpus.columns["answers"][example])[0]
        expected, found = official_windows(
            corpus.texts[example],
            texts[example],
            answer["text"],
            answer["answer_start"],
            cut,
            recipe,
        )
        if windows == expected:
            continue
        for one, other in zip(windows, expected, strict=True):
            assert (one.pieces, one.passage, one.home) == (
                other.pieces,
                other.passage,
                other.home,
            )
            if found:  # the same word stands twice in one white-space token
                elsewhere += one.start != other.start
                same = slice(one.start, one.end + 1), slice(other.start, other.end + 1)
                assert one.pieces[same[0]] == other.pieces[same[1]]
            else:  # a part of what the released code takes, which is the whole token
                assert other.start == 0 or other.start <= one.start <= one.end <= other.end
                inside += one.start != other.start or one.end != other.end
    assert len(made) > 290
    assert (inside, elsewhere) == (0, 0)


def pointing_to_gold(examples: Any, batch: Any) -> dict[str, Any]:
    """Return logits that are high wherever the first or the last piece of the answer stands."""
    targets, cut = examples.targets, examples.tokenization
    wanted: dict[int, tuple[int, int]] = {}
    for index, example in enumerate(cut.input_example.tolist()):
        if targets["start"][index]:
            at = cut.input_offsets[index]
            wanted[example] = tuple(
                int(targets["passage"][at + targets[end][index]]) for end in ("start", "end")
            )  # type: ignore[assignment]
    shape = batch.inputs["input_ids"].shape
    logits = {name: torch.full(shape, torch.finfo(torch.float32).min) for name in ("start", "end")}
    for row, index in enumerate(batch.chosen.tolist()):
        part = slice(*cut.input_offsets[index : index + 2].tolist())
        for place, name in enumerate(("start", "end")):
            found = targets["passage"][part] == wanted[int(cut.input_example[index])][place]
            logits[name][row, : len(found)] = torch.from_numpy(10.0 * found)
    return logits


def test_logits_that_point_to_gold_give_exact_answers(made: Callable[..., Any]) -> None:
    kind = made("squad", 40, stride=9)
    n = kind.examples.n_inputs
    assert n > 60  # windows
    answers = kind.task.answers(kind.examples, {}, kind.recipe)
    order = np.random.default_rng(0).permutation(n)
    for start in range(0, n, 16):
        batch = kind.task.lay(kind.examples, order[start : start + 16], 0)
        answers.add(pointing_to_gold(kind.examples, batch), batch)
    # As in the official script, two answers without a word of their own share none: F1 is 0.
    given = [json.loads(a)[0]["text"].split() for a in kind.examples.corpus.columns["answers"]]
    wordless = sum(set(words) <= {"the", ","} for words in given)
    assert 0 < wordless < 8
    assert answers.scores() == {
        "f1": pytest.approx(1 - wordless / 40),
        "exact_match": 1.0,
        "unanswered": 0.0,
    }


def test_two_processes_answer_what_one_does(made: Callable[..., Any], tmp_path: Path) -> None:
    kind = made("squad", 12)
    cut = kind.examples.tokenization
    parts = [kind.task.answers(kind.examples, {}, kind.recipe) for _ in range(3)]
    generator = torch.Generator().manual_seed(0)
    for index in range(kind.examples.n_inputs):
        batch = kind.task.lay(kind.examples, np.array([index]), 0)
        shape = batch.inputs["input_ids"].shape
        logits = {name: torch.randn(shape, generator=generator) for name in ("start", "end")}
        for answers in (parts[0], parts[1 + int(cut.input_example[index]) % 2]):
            answers.add(logits, batch)
    parts[1].join(parts[2].state())
    assert parts[1].scores() == parts[0].scores()
    written = []
    for number in (0, 1):
        parts[number].write(tmp_path / "out.json", None)
        written.append(json.loads((tmp_path / "out.json").read_text(encoding="utf-8")))
    assert written[0] == written[1]
    assert sorted(written[0]) == sorted(f"q{number}" for number in range(12))


def test_a_question_that_no_span_answers_counts_as_unanswered(
    encoded: Callable[..., Any],
) -> None:
    recipe = AnswerRecipe(length=24, stride=5, question_length=6, n_starts=1)
    examples = encoded(of_rows([question("The cat sat on the mat.", "cat", 4)]), recipe)
    batch = SQUAD.lay(examples, np.array([0]), 0)
    answers = SQUAD.answers(examples, {}, recipe)
    logits = torch.zeros(batch.inputs["input_ids"].shape)
    logits[0, 0] = 1.0  # the first piece, which is no place in the passage
    answers.add({"start": logits, "end": logits}, batch)
    assert answers.scores() == {"f1": 0.0, "exact_match": 0.0, "unanswered": 1.0}


def test_the_text_of_an_answer_is_that_of_the_passage(
    encoded: Callable[..., Any], tmp_path: Path
) -> None:
    context = "Él pagó  $12.50 por un CAFÉ (frío)."
    examples = encoded(of_rows([question(context, "CAFÉ (frío)", 23, id="ä")]))
    answers = SQUAD.answers(examples, {}, RECIPE)
    batch = SQUAD.lay(examples, np.arange(examples.n_inputs), 0)
    answers.add(pointing_to_gold(examples, batch), batch)
    answers.write(tmp_path / "out.json", None)
    text = (tmp_path / "out.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"ä": "CAFÉ (frío)"}
    assert "ä" in text


def test_the_loss_is_the_mean_of_the_two_cross_entropies(made: Callable[..., Any]) -> None:
    kind = made("squad", 4)
    batch = kind.task.lay(kind.examples, np.arange(4), 0)
    generator = torch.Generator().manual_seed(0)
    shape = batch.inputs["input_ids"].shape
    outputs = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name in ("start", "end")
    }
    expected = 0.0
    for row in range(4):
        for name in ("start", "end"):
            gold = int(batch.targets[name][row])
            expected -= float(torch.log_softmax(outputs[name][row], 0)[gold]) / 2
    assert float(kind.task.loss(outputs, batch)) == pytest.approx(expected, rel=1e-12)


def test_questions_without_an_answer_are_refused_by_name(encoded: Callable[..., Any]) -> None:
    rows = [question("The cat sat.", "cat", 4, id="yes")]
    rows.append(question("The cat sat.", "", 0, id="no", answers={"text": [], "answer_start": []}))
    said = r"^question 'no' of made up has no answer, as in SQuAD 2\.0; leave such questions out"
    with pytest.raises(InvalidInput, match=said):
        encoded(of_rows(rows))


def test_two_questions_of_one_id_are_refused(encoded: Callable[..., Any]) -> None:
    rows = [question("The cat sat.", "cat", 4, id="q1") for _ in range(2)]
    with pytest.raises(InvalidInput, match=r"^made up has two questions of the id 'q1'"):
        encoded(of_rows(rows))
    assert encoded(of_rows([rows[0], rows[1] | {"id": "q2"}])).n_inputs == 2


def test_answers_that_are_not_where_they_say_are_refused_by_name(
    encoded: Callable[..., Any],
) -> None:
    with pytest.raises(
        InvalidInput, match=r"^the answer 'cat' to .* does not stand at character 5"
    ):
        of_rows([question("The cat sat.", "cat", 5)])
    with pytest.raises(
        InvalidInput, match=r"^the answer '' to .* is an empty text; give its words"
    ):
        of_rows([question("The cat sat.", "", 4)])
    # So it is with a corpus that was made in another way.
    corpus = of_rows([question("The cat sat.", "cat", 4, id="x")])
    given = string_array([json.dumps([{"text": "cat", "answer_start": 5}])])
    corpus.columns["answers"] = given
    said = r"^the answer 'cat' to question 'x' of made up does not stand at character 5"
    with pytest.raises(InvalidInput, match=said):
        encoded(corpus)


@pytest.mark.parametrize(
    "held",
    ["cat", '{"text": ["cat"], "answer_start": [4]}', '[{"text": "cat"}]', '["cat"]', "3", ""],
)
def test_answers_of_another_form_are_refused_by_name(
    encoded: Callable[..., Any], held: str
) -> None:
    corpus = of_rows([question("The cat sat.", "cat", 4, id="x")])
    corpus.columns["answers"] = string_array([held])
    said = r"^question 'x' of made up has answers that are no list of text and answer_start; give"
    with pytest.raises(InvalidInput, match=said):
        encoded(corpus)
    corpus.columns["answers"] = np.array([3])
    with pytest.raises(InvalidInput, match=said):
        encoded(corpus)


def test_texts_are_no_questions(encoded: Callable[..., Any]) -> None:
    said = r"^made up holds no questions with passages and answers; give a JSON file"
    for corpus in (corpus_from_texts(["a b"]), corpus_from_texts(["a b"], ["c d"])):
        with pytest.raises(InvalidInput, match=said):
            encoded(corpus)


def test_an_answer_that_yields_no_piece_is_refused_by_name(encoded: Callable[..., Any]) -> None:
    corpus = of_rows([question("The cat \u200b sat.", "\u200b", 8, id="x")])
    with pytest.raises(
        InvalidInput, match=r"^the answer '\\u200b' to question 'x' yields no piece"
    ):
        encoded(corpus)


def test_a_question_of_another_length_than_the_passage_needs_is_cut(
    encoded: Callable[..., Any], small_loaded: Any
) -> None:
    row = question("The cat sat.", "cat", 4, question="who " * 30)
    ((window,),) = windows_of(encoded(of_rows([row])), small_loaded)
    assert window.pieces[:8] == ["[CLS]", *["who"] * 6, "[SEP]"]


def test_the_two_texts_are_told_apart_by_any_tokenizer_with_a_piece_between_them() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: n for n, word in enumerate(["<u>", "<s>", "</s>", "a", "b", "c", "d", "e"])}
    for pair, before in (
        ("<s> $A </s> </s> $B </s>", 1),
        ("$A </s> $B </s>", 0),
        ("$A </s> $B", 0),
        ("<s> $A </s> $B </s>", 1),
    ):
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<u>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A", pair=pair, special_tokens=[("<s>", 1), ("</s>", 2)]
        )
        wrapped: Any = SimpleNamespace(
            backend_tokenizer=tokenizer, name_or_path="made", unk_token="<u>", bos_token_id=None
        )
        context = "a b c d e a b c d e </s> b"
        corpus = of_rows([question(context, "c d", 14, question="e e")])
        recipe = AnswerRecipe(length=10, stride=3, question_length=2)
        examples = SQUAD.encode(corpus, wrapped, None, recipe, {}, "made up")
        counts = examples.targets["passage_offsets"]
        passage = examples.targets["passage"]
        cut = examples.tokenization
        # The passage's own pieces, in order, of every window; those of the question are none.
        text = dict(enumerate(vocabulary))
        for index in range(cut.n_inputs):
            part = slice(*cut.input_offsets[index : index + 2].tolist())
            assert passage[part][: before + 3].tolist() == [-1] * (before + 3)
            held = passage[part][passage[part] >= 0]
            assert np.diff(held).tolist() == [1] * (len(held) - 1)
            ids = cut.piece_ids[part][passage[part] >= 0].tolist()
            spelled = [context.replace("</s>", "@").split()[p] if p < 10 else "?" for p in held]
            assert [text[i] for i in ids][: sum(held < 10)] == spelled[: sum(held < 10)]
            start, end = (int(examples.targets[name][index]) for name in ("start", "end"))
            if start:
                assert [text[i] for i in cut.piece_ids[part][start : end + 1].tolist()] == [
                    "c",
                    "d",
                ]
        assert sorted(set(passage[passage >= 0].tolist())) == list(range(int(counts[1])))
        assert (examples.targets["start"] > 0).any()


def test_a_question_without_a_piece_leaves_the_passage_where_it_is(
    encoded: Callable[..., Any], small_loaded: Any
) -> None:
    row = question("The cat sat.", "cat", 4, question="\u200b")
    ((window,),) = windows_of(encoded(of_rows([row])), small_loaded)
    assert window.passage[:2] == [-1, -1]
    assert [place for place in window.passage if place >= 0] == list(range(len(window.passage) - 3))
    assert window.pieces[window.start : window.end + 1] == ["cat"]
