"""Dependency parsing: which trees are learned, how they are laid, decoded, scored and written."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.analyses.finetuning.recipes import ParsingRecipe
from layerlake.analyses.finetuning.tasks.parsing import UNKNOWN
from layerlake.analyses.finetuning.tasks.registry import task_named
from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts
from layerlake.engine.corpora.reading import read_corpus
from layerlake.store.errors import InvalidInput

torch = pytest.importorskip("torch")

from layerlake.analyses.finetuning.heads.biaffine import BiaffineHead, relation_scores

DEP = task_named("dep")
RECIPE = ParsingRecipe(arc_width=5, label_width=4)

TEXT = """\
# newdoc id = d1
# sent_id = one
# text = Don't they see?
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
1\tDo\tdo\tAUX\tVBP\tMood=Ind\t4\taux\t4:aux\tA=1
2\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t4:advmod\t_
3\tthey\tthey\tPRON\tPRP\tCase=Nom\t4\tnsubj\t4:nsubj\t_
4\tsee\tsee\tVERB\tVB\t_\t0\troot\t0:root\tSpaceAfter=No
4.1\tit\tit\tPRON\t_\t_\t_\t_\t4:obj\t_
5\t?\t?\tPUNCT\t.\t_\t4\tpunct\t4:punct\t_

# a comment on its own

# sent_id = two
1\tYes\tyes\tINTJ\tUH\t_\t0\troot\t0:root\t_

# sent_id = three
1\tDogs\tdog\tNOUN\tNNS\t_\t2\tnsubj\t2:nsubj\t_
2\tbark\tbark\tVERB\tVBP\t_\t0\troot\t0:root\t_

"""
HEADS = [[4, 4, 4, 0, 4], [0], [2, 0]]
RELATIONS = ["advmod", "aux", "nsubj", "punct", "root"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "gold.conllu"
    file.write_text(TEXT, encoding="utf-8")
    return file


@pytest.fixture
def encoded(small_loaded: Any) -> Callable[..., Any]:
    def encode(corpus: Corpus, inventory: Any, recipe: Any = RECIPE, limit: int = 32) -> Any:
        return DEP.encode(corpus, small_loaded.tokenizer, limit, recipe, inventory, "made up")

    return encode


def tree(folder: Path, *heads: int, name: str = "s1") -> Corpus:
    lines = [
        f"{place}\tw{place}\t_\tX\t_\t_\t{head}\tdep\t_\t_"
        for place, head in enumerate(heads, start=1)
    ]
    good = "# sent_id = good\n1\ta\t_\tX\t_\t_\t0\troot\t_\t_\n\n"
    file = folder / "t.conllu"
    file.write_text(good + f"# sent_id = {name}\n" + "\n".join(lines) + "\n\n", encoding="utf-8")
    return read_corpus(file)


@pytest.mark.parametrize(
    ("heads", "problem"),
    [
        ((2, 3, 1), "no root"),
        ((0, 3, 2), "a cycle (words 2, 3)"),
        ((2, 1), "no root"),
        ((0, 0, 1), "two roots (words 1 and 2)"),
        ((0, 0, 0), "3 roots (words 1, 2 and 3)"),
        ((0, 2), "word 2 as its own head"),
    ],
)
def test_what_is_no_tree_is_refused_with_its_sentence(
    encoded: Callable[..., Any], tmp_path: Path, heads: tuple[int, ...], problem: str
) -> None:
    with pytest.raises(InvalidInput) as error:
        encoded(tree(tmp_path, *heads, name="weblog-7"), {"relations": ["dep", "root"]})
    assert str(error.value) == (
        f"sentence 'weblog-7' of made up is no tree: it has {problem}; mend it or leave it out"
    )


def test_texts_without_trees_are_refused(encoded: Callable[..., Any]) -> None:
    said = r"^{} has no dependency trees; give a CoNLL-U file"
    with pytest.raises(InvalidInput, match=said.format("made up")):
        encoded(corpus_from_texts(["a b"]), {"relations": ["dep"]})
    with pytest.raises(InvalidInput, match=said.format("the training data")):
        DEP.inventory(corpus_from_texts(["a b"]), RECIPE)


def test_relations_that_the_parser_does_not_know_are_counted_and_said(
    encoded: Callable[..., Any], source: Path
) -> None:
    corpus = read_corpus(source)
    assert DEP.inventory(corpus, RECIPE) == {"relations": RELATIONS}
    assert encoded(corpus, {"relations": RELATIONS}).notes == ()
    examples = encoded(corpus, {"relations": ["nsubj", "punct", "root"]})
    (note,) = examples.notes
    assert note == (
        "2 words of made up have relations that the training data lacks (advmod, aux), which count "
        "as errors"
    )
    assert examples.targets["relation"].tolist() == [UNKNOWN, UNKNOWN, 0, 2, 1, 2, 0, 2]
    # And they do: all heads right, and 6 of 8 relations.
    answers = DEP.answers(examples, {"relations": ["nsubj", "punct", "root"]}, RECIPE)
    gold = [(np.array(heads), np.zeros(len(heads), np.int64)) for heads in HEADS]
    relations = examples.targets["relation"]
    bounds = examples.corpus.word_offsets
    for sentence, (heads, _) in enumerate(gold):
        known = np.maximum(relations[bounds[sentence] : bounds[sentence + 1]], 0)
        answers._found[sentence] = heads, known
    scores = answers.scores()
    assert scores["uas_ud17"] == 1
    assert scores["las_ud17"] == 6 / 8
    assert scores["las_ptb"] == 5 / 7


def test_long_sentences_are_refused_or_left_out(
    encoded: Callable[..., Any], source: Path, tmp_path: Path
) -> None:
    corpus, inventory = read_corpus(source), {"relations": RELATIONS}
    with pytest.raises(InvalidInput, match=r"^1 of 3 examples have more than 6 pieces: one \("):
        encoded(corpus, inventory, limit=6)
    examples = encoded(corpus, inventory, replace(RECIPE, long="drop"), 6)
    assert examples.notes == ("1 sentences of made up are too long: left out",)
    assert examples.input_names(np.arange(2)) == ["two", "three"]
    assert DEP.weights(examples).tolist() == [1, 2]
    answers = DEP.answers(examples, inventory, RECIPE)
    batch = DEP.lay(examples, np.array([0, 1]), 0)
    answers.add(gold_outputs(batch, len(RELATIONS)), batch)
    assert set(answers.scores().values()) == {1.0}
    file = tmp_path / "out.conllu"
    answers.write(file, source)
    assert read_corpus(file).columns["id"].tolist() == ["two", "three"]


def gold_outputs(batch: Any, n_relations: int) -> dict[str, Any]:
    """Return outputs of a parser that is sure of the gold tree."""
    gold, relation = batch.targets["gold_head"], batch.targets["gold_relation"]
    arcs = torch.zeros(*gold.shape, gold.shape[1])
    known = gold >= 0
    arcs[known] = torch.nn.functional.one_hot(gold[known], gold.shape[1]).float()
    arcs.masked_fill_(~batch.targets["real"][:, None, :], -torch.inf)
    # The vectors of a dependent say its relation, and the table hands it through.
    dependents = torch.zeros(*gold.shape, n_relations + 1)
    dependents[..., :n_relations] = torch.nn.functional.one_hot(
        relation.clamp(min=0), n_relations
    ).float()
    heads = torch.ones(*gold.shape, n_relations + 1)
    table = torch.zeros(n_relations, n_relations + 1, n_relations + 1)
    for number in range(n_relations):
        table[number, number, -1] = 1.0
    return {"arcs": arcs, "dependents": dependents, "heads": heads, "relations": table}


def test_scores_that_point_to_gold_score_one(made: Callable[..., Any]) -> None:
    kind = made("dep", 12)
    answers = kind.task.answers(kind.examples, kind.inventory, kind.recipe)
    for chosen in ([3, 0, 7], [1, 2], [4, 5, 6, 8, 9, 10, 11]):
        batch = kind.task.lay(kind.examples, np.array(chosen), 0)
        answers.add(gold_outputs(batch, len(kind.inventory["relations"])), batch)
    assert answers.scores() == {"las_ud17": 1.0, "uas_ud17": 1.0, "las_ptb": 1.0, "uas_ptb": 1.0}


def test_sentences_are_laid_with_the_root_first(encoded: Callable[..., Any], source: Path) -> None:
    examples = encoded(read_corpus(source), {"relations": RELATIONS})
    assert DEP.weights(examples).tolist() == [5, 1, 2]
    batch = DEP.lay(examples, np.array([2, 0, 1]), 0)
    targets = {name: value.tolist() for name, value in batch.targets.items()}
    assert targets["n_words"] == [2, 5, 1]
    assert targets["places"] == [[8, 0, 1, 0, 0, 0], [9, 2, 3, 4, 5, 6], [10, 7, 0, 0, 0, 0]]
    assert [sum(row) for row in targets["real"]] == [3, 6, 2]
    assert targets["gold_head"] == [
        [-1, 2, 0, -1, -1, -1],
        [-1, 4, 4, 4, 0, 4],
        [-1, 0, -1, -1, -1, -1],
    ]
    assert targets["gold_relation"] == [
        [-1, 2, 4, -1, -1, -1],
        [-1, 1, 0, 2, 4, 3],
        [-1, 4, -1, -1, -1, -1],
    ]
    words = [number for row in targets["word_of_piece"] for number in row if number >= 0]
    assert sorted(set(words)) == list(range(8))
    assert words == sorted(words)


@pytest.mark.parametrize("root", ["learned", "first"])
def test_a_sentence_of_one_word_hangs_from_the_root(
    encoded: Callable[..., Any], source: Path, root: str
) -> None:
    recipe = replace(RECIPE, root=root)
    examples = encoded(read_corpus(source), {"relations": RELATIONS}, recipe)
    batch = DEP.lay(examples, np.array([1]), 0)
    head = BiaffineHead(
        6, len(RELATIONS), arc_width=5, label_width=4, dropout=0.0, learned_root=root == "learned"
    )
    with torch.no_grad():
        # The word likes itself best, which no tree allows.
        head.arc_prior.fill_(1.0)
    hidden = torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(0))
    outputs = {name: value.detach() for name, value in head(hidden, {}, batch.targets).items()}
    outputs["arcs"][0, 1] = torch.tensor([-5.0, 5.0])
    assert torch.isfinite(DEP.loss(outputs, batch))
    answers = DEP.answers(examples, {"relations": RELATIONS}, recipe)
    answers.add(outputs, batch)
    assert answers.scores()["uas_ud17"] == 1.0


def test_the_relation_is_that_of_the_head_that_was_found(
    encoded: Callable[..., Any], source: Path
) -> None:
    examples = encoded(read_corpus(source), {"relations": RELATIONS})
    batch = DEP.lay(examples, np.array([2]), 0)
    generator = torch.Generator().manual_seed(3)
    outputs = {
        "arcs": torch.tensor([[[0.0, 0, 0], [3, 0, 1], [1, 2, 0]]]),
        "dependents": torch.randn(1, 3, 5, generator=generator),
        "heads": torch.randn(1, 3, 5, generator=generator),
        "relations": torch.randn(len(RELATIONS), 5, 5, generator=generator),
    }
    answers = DEP.answers(examples, {"relations": RELATIONS}, RECIPE)
    answers.add(outputs, batch)
    heads, relations = answers._found[2]
    assert heads.tolist() == [0, 1]  # and gold has [2, 0]
    for word, head in ((1, 0), (2, 1)):
        at = (torch.tensor([place]) for place in (0, word, head))
        assert relations[word - 1] == int(relation_scores(outputs, *at)[0].argmax())


def parsed(encoded: Callable[..., Any], source: Path) -> Any:
    """Return answers with every word of a sentence on its first word, by "punct"."""
    examples = encoded(read_corpus(source), {"relations": RELATIONS})
    answers = DEP.answers(examples, {"relations": RELATIONS}, RECIPE)
    for sentence, heads in enumerate(HEADS):
        found = np.array([0, *[1] * (len(heads) - 1)])
        answers._found[sentence] = found, np.array([4, *[3] * (len(heads) - 1)])
    return answers


@pytest.mark.parametrize("form", ["plain", "gzip", "windows"])
def test_heads_and_relations_are_replaced_and_all_else_is_kept(
    encoded: Callable[..., Any], source: Path, tmp_path: Path, form: str
) -> None:
    answers = parsed(encoded, source)
    given = source
    if form == "gzip":
        given = tmp_path / "gold.conllu.gz"
        given.write_bytes(gzip.compress(TEXT.encode()))
    if form == "windows":
        given = tmp_path / "windows.conllu"
        given.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    file = tmp_path / "out.conllu"
    answers.write(file, given)
    before, after = TEXT.splitlines(), file.read_text(encoding="utf-8").splitlines()
    assert len(before) == len(after)
    changed = 0
    for old, new in zip(before, after, strict=True):
        fields, others = old.split("\t"), new.split("\t")
        if not fields[0].isdecimal():
            assert old == new
            continue
        assert others[:6] == fields[:6]
        assert others[6:9] == ["0", "root", "_"] if fields[0] == "1" else ["1", "punct", "_"]
        assert others[9] == fields[9]
        changed += 1
    assert changed == 8


def test_what_is_written_is_read_again(
    encoded: Callable[..., Any], source: Path, tmp_path: Path
) -> None:
    answers = parsed(encoded, source)
    for given in (source, None):
        file = tmp_path / "out.conllu"
        answers.write(file, given)
        again, gold = read_corpus(file), answers.examples.corpus
        assert again.texts == gold.texts
        assert again.columns["id"].tolist() == gold.columns["id"].tolist()
        assert again.annotations["head"].tolist() == [0, 1, 1, 1, 1, 0, 0, 1]
        assert again.annotations["deprel"].tolist() == [
            "root", "punct", "punct", "punct", "punct", "root", "root", "punct",
        ]  # fmt: skip
        for name in ("lemma", "upos", "xpos"):
            assert again.annotations[name].tolist() == gold.annotations[name].tolist()


def test_a_last_sentence_without_a_blank_line_is_written_too(
    encoded: Callable[..., Any], tmp_path: Path
) -> None:
    short = tmp_path / "short.conllu"
    short.write_text(TEXT.rstrip("\n"), encoding="utf-8")
    answers = parsed(encoded, short)
    file = tmp_path / "out.conllu"
    answers.write(file, short)
    assert read_corpus(file).n_examples == 3


@pytest.mark.data
def test_the_gold_trees_of_ewt_come_back_as_they_were(
    small_loaded: Any, data_folder: Path, tmp_path: Path
) -> None:
    source = data_folder / "ewt" / "en_ewt-ud-dev.conllu.gz"
    corpus = read_corpus(source)
    inventory = DEP.inventory(corpus, RECIPE)
    examples = DEP.encode(corpus, small_loaded.tokenizer, None, RECIPE, inventory, "ewt")
    assert examples.n_inputs == corpus.n_examples == 2001
    answers = DEP.answers(examples, inventory, RECIPE)
    chosen = np.arange(0, corpus.n_examples, 20)
    for start in range(0, len(chosen), 25):
        batch = DEP.lay(examples, chosen[start : start + 25], 0)
        answers.add(gold_outputs(batch, len(inventory["relations"])), batch)
    assert set(answers.scores().values()) == {1.0}
    answers.write(tmp_path / "out.conllu", source)
    again = read_corpus(tmp_path / "out.conllu")
    words = np.concatenate([np.arange(*corpus.word_offsets[e : e + 2]) for e in chosen])
    for name, values in corpus.annotations.items():
        assert again.annotations[name].tolist() == values[words].tolist()
    for name in ("id", "text", "has_empty_nodes"):
        assert again.columns[name].tolist() == corpus.columns[name][chosen].tolist()


def test_punctuation_alone_has_no_score_where_punctuation_does_not_count(
    encoded: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "dots.conllu"
    file.write_text("1\t.\t.\tPUNCT\t_\t_\t0\troot\t_\t_\n\n")
    examples = encoded(read_corpus(file), {"relations": ["root"]})
    answers = DEP.answers(examples, {"relations": ["root"]}, RECIPE)
    answers.join({0: (np.zeros(1, np.int64), np.zeros(1, np.int64))})
    # No NaN, which neither JSON nor lineage can say.
    assert answers.scores() == {"las_ud17": 1.0, "uas_ud17": 1.0}


def test_under_ud17_another_subtype_of_a_relation_that_is_unknown_counts(
    encoded: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "subtype.conllu"
    file.write_text("1\ta\ta\tX\t_\t_\t0\troot:odd\t_\t_\n\n")
    examples = encoded(read_corpus(file), {"relations": ["root"]})
    (note,) = examples.notes
    assert note == (
        "1 words of made up have relations that the training data lacks (root:odd), which count "
        "as errors, under ud17 only where what is before the colon differs"
    )
    answers = DEP.answers(examples, {"relations": ["root"]}, RECIPE)
    answers.join({0: (np.zeros(1, np.int64), np.zeros(1, np.int64))})
    scores = answers.scores()
    assert (scores["las_ud17"], scores["las_ptb"]) == (1, 0)
