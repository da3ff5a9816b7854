"""Evaluation: scores against the model run by hand, predictions in files, and what is refused."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from layerlake.analyses.finetuning.evaluate import EvaluationReport, evaluate
from layerlake.analyses.finetuning.tasks.sentence import SentenceAnswers
from layerlake.engine.corpora.reading import read_corpus
from layerlake.engine.progress import ProgressEvent, to_function
from layerlake.store.errors import InvalidInput, StorageFailed

Finetuned = Callable[[str], Path]
FILES = {
    "classify": "classes.jsonl",
    "mnli": "mnli.jsonl",
    "tag": "tags.jsonl",
    "dep": "trees.conllu",
    "squad": "squad.json",
}


def lines_of(file: Path) -> list[Any]:
    """Return the objects of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.fixture
def fresh(labelled_data: Path, tmp_path: Path) -> Path:
    """Texts that no model was trained on, with labels of both kinds."""
    records = lines_of(labelled_data / "classes.jsonl")[:9]
    for record in records:
        record["text"] = f"on the {record['text']}"
    file = tmp_path / "fresh.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def by_hand(folder: Path, texts: list[str]) -> list[list[float]]:
    """Return the probabilities of labels, text by text, from the saved weights alone."""
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    head = load_file(folder / "head/model.safetensors")
    found = []
    with torch.inference_mode():
        for text in texts:
            first = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0]
            pooled = torch.tanh(head["pooler.dense.weight"] @ first + head["pooler.dense.bias"])
            logits = head["labels.weight"] @ pooled + head["labels.bias"]
            found.append(logits.softmax(0).tolist())
    return found


def test_scores_and_probabilities_are_those_of_the_weights_in_the_folder(
    tiny_finetuned: Finetuned, fresh: Path, tmp_path: Path
) -> None:
    folder = tiny_finetuned("classify")
    out = tmp_path / "said.jsonl"
    report = evaluate(folder, fresh, out=out, device="cpu")
    records = lines_of(fresh)
    expected = by_hand(folder, [record["text"] for record in records])
    said = lines_of(out)
    for record, probabilities, line in zip(records, expected, said, strict=True):
        assert line["id"] == record["id"]
        assert line["label"] == record["label"]
        assert list(line["probabilities"].values()) == pytest.approx(probabilities, abs=1e-6)
    right = [
        record["label"] == f"class {probabilities.index(max(probabilities))}"
        for record, probabilities in zip(records, expected, strict=True)
    ]
    assert report.scores["fresh"]["accuracy"] == sum(right) / len(right)
    assert report.notes == ()
    assert report.predictions == {"fresh": str(out)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh.jsonl", "said.jsonl"]


def rescored(task: str, file: Path, gold: Path) -> tuple[str, float]:
    """Return the first score of a file of predictions, from the file alone."""
    if task == "squad":
        said = json.loads(file.read_text())
        (article,) = json.loads(gold.read_text())["data"]
        asked = [question for passage in article["paragraphs"] for question in passage["qas"]]
        assert set(said) == {question["id"] for question in asked}
        right = [said[q["id"]].removeprefix("the ") in q["answers"][0]["text"] for q in asked]
        return "exact_match", sum(right) / len(right)
    if task == "dep":
        found, truth = read_corpus(file).annotations, read_corpus(gold).annotations
        assert len(found["head"]) == len(truth["head"])
        return "uas_ud17", float((found["head"] == truth["head"]).mean())
    said = lines_of(file)
    if task == "tag":
        words = [
            pair for line in said for pair in zip(line["labels"], line["predicted"], strict=True)
        ]
        return "accuracy", sum(a == b for a, b in words) / len(words)
    return "accuracy", sum(line["label"] == line["predicted"] for line in said) / len(said)


@pytest.mark.parametrize("task", FILES)
def test_predictions_in_the_format_of_the_task_have_the_scores_that_are_reported(
    tiny_finetuned: Finetuned, labelled_data: Path, tmp_path: Path, task: str
) -> None:
    gold = labelled_data / FILES[task]
    out = tmp_path / f"said{gold.suffix}"
    report = evaluate(tiny_finetuned(task), gold, task=task, out=out, device="cpu")
    measure, value = rescored(task, out, gold)
    assert report.task == task
    assert report.scores[gold.stem][measure] == pytest.approx(value)
    (note,) = report.notes
    assert note.startswith(f"{gold.stem} is what the model was trained on")


def test_several_sources_are_scored_by_name_and_written_into_a_folder(
    tiny_finetuned: Finetuned, labelled_data: Path, fresh: Path, tmp_path: Path
) -> None:
    events: list[ProgressEvent] = []
    folder = tiny_finetuned("classify")
    sources = {"matched": labelled_data / "classes.jsonl", "other": fresh}
    report = evaluate(
        folder, sources, out=tmp_path / "said", device="cpu", progress=to_function(events.append)
    )
    assert sorted(path.name for path in (tmp_path / "said").iterdir()) == [
        "matched.jsonl",
        "other.jsonl",
    ]
    found = report.to_dict()
    assert found["settings"] == {"task": "classify", "model": str(folder)}
    assert found["identity"]["weights_digest"] == report.weights_digest
    assert found["identity"]["data"]["other"] == read_corpus(fresh).fingerprint
    assert [(r["data"], r["measure"], r["n"]) for r in found["records"]] == [
        ("matched", "accuracy", 24),
        ("matched", "majority", 24),
        ("other", "accuracy", 9),
        ("other", "majority", 9),
    ]
    assert json.loads(json.dumps(found)) == found
    ends = {event.label: event for event in events if event.state == "finished"}
    answered = ends["classify, other"]
    assert (answered.done, answered.total, answered.unit) == (9, 9, "inputs")


def test_neither_the_budget_nor_the_way_data_is_given_changes_a_score(
    tiny_finetuned: Finetuned, fresh: Path, tmp_path: Path
) -> None:
    folder = tiny_finetuned("classify")
    report = evaluate(str(folder), fresh, token_budget=1, device="cpu")
    tmp_path.joinpath("into").mkdir()
    corpus = read_corpus(fresh)
    again = evaluate(folder, {"fresh": corpus}, out=tmp_path / "into", device="cpu")
    assert again.scores == report.scores
    assert len(lines_of(tmp_path / "into/fresh.jsonl")) == 9


def refused(*given: Any, **options: Any) -> str:
    """Return the sentence that a call is refused with."""
    with pytest.raises(InvalidInput) as caught:
        evaluate(*given, device="cpu", **options)
    return str(caught.value)


def test_models_that_cannot_answer_are_refused(
    shore_bert: Path, tiny_finetuned: Finetuned, fresh: Path, tmp_path: Path
) -> None:
    assert refused(tmp_path / "none", fresh).startswith(f"no folder {tmp_path / 'none'}; give one")
    assert "has no head for any task; fine-tune it" in refused(shore_bert, fresh)
    (tmp_path / "begun/training").mkdir(parents=True)
    (tmp_path / "begun/training/run.json").write_text("{}")
    assert "begun is not finished; run the same line of" in refused(tmp_path / "begun", fresh)
    folder = tiny_finetuned("classify")
    assert "has a head for classify, and squad was asked for" in refused(
        folder, fresh, task="squad"
    )
    assert "there is no task 'spam'; choose one of mnli" in refused(folder, fresh, task="spam")
    assert "token budget is 0" in refused(folder, fresh, token_budget=0)
    assert "progress is 3" in refused(folder, fresh, progress=3)


def test_data_that_is_none_for_the_task_is_refused(
    tiny_finetuned: Finetuned, labelled_data: Path, fresh: Path, tmp_path: Path
) -> None:
    folder = tiny_finetuned("classify")
    with fresh.open("a") as more:
        more.write('{"id": "odd", "text": "a seal", "label": "class 2"}\n')
    assert refused(folder, fresh).startswith("the label of example 'odd' of fresh is 'class 2'")
    assert "format squad is not one that classify is trained on" in refused(
        folder, fresh, format="squad"
    )
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert "empty.jsonl" in refused(folder, empty)
    assert "no-file.jsonl" in refused(folder, tmp_path / "no-file.jsonl")
    assert "no data is named" in refused(folder, [])
    assert "two files to evaluate on are called classes" in refused(
        folder, [labelled_data / "classes.jsonl"] * 2
    )
    assert "has no field 'label'" in refused(
        folder, labelled_data / "tags.jsonl", words_field="words"
    )


def test_places_where_predictions_cannot_go_are_refused_before_anything_is_computed(
    tiny_finetuned: Finetuned,
    labelled_data: Path,
    fresh: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def computed(*_given: object) -> None:
        raise AssertionError

    monkeypatch.setattr("layerlake.analyses.finetuning.training.trainer.answer", computed)
    folder = tiny_finetuned("classify")
    before = fresh.read_bytes()
    assert "give a name that ends in .jsonl" in refused(folder, fresh, out=tmp_path / "said.json")
    assert "there is no folder" in refused(folder, fresh, out=tmp_path / "none/said.jsonl")
    assert "is what is evaluated on" in refused(folder, fresh, out=fresh)
    assert "is what is evaluated on" in refused(folder, fresh, out=tmp_path)
    (tmp_path / "link.jsonl").symlink_to(fresh)
    assert "is what is evaluated on" in refused(folder, fresh, out=tmp_path / "link.jsonl")
    assert "lies in the folder of the model" in refused(folder, fresh, out=folder / "said.jsonl")
    both = [fresh, labelled_data / "classes.jsonl"]
    assert "is a file, and 2 are written; name a folder" in refused(folder, both, out=fresh)
    assert "there is no folder" in refused(folder, both, out=tmp_path / "none/said")
    assert fresh.read_bytes() == before


def test_a_read_only_file_system_is_said_in_a_sentence(
    tiny_finetuned: Finetuned, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(file: Path, *given: object, **named: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(file))

    monkeypatch.setattr(SentenceAnswers, "write", lambda _, file, source: refused(file))
    monkeypatch.setattr(Path, "unlink", refused)
    out = tmp_path / "said.jsonl"
    said = r"^the predictions cannot be written to .*said\.jsonl: Read-only file system; choose"
    with pytest.raises(StorageFailed, match=said):
        evaluate(tiny_finetuned("classify"), fresh, out=out)


def test_predictions_that_cannot_be_written_leave_the_old_ones(
    tiny_finetuned: Finetuned, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(self: SentenceAnswers, file: Path, source: Path | None) -> None:
        file.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SentenceAnswers, "write", half)
    out = tmp_path / "said.jsonl"
    out.write_text("old")
    with pytest.raises(StorageFailed, match=r"cannot be written to .*said\.jsonl: No space left"):
        evaluate(tiny_finetuned("classify"), fresh, out=out, device="cpu")
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh.jsonl", "said.jsonl"]


def test_a_head_that_belongs_to_other_weights_is_refused(
    tiny_finetuned: Finetuned, shore_bert: Path, fresh: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(tiny_finetuned("classify"), folder)
    shutil.copy(shore_bert / "model.safetensors", folder / "model.safetensors")
    (folder / "layerlake.json").unlink()
    assert "belongs to other weights" in refused(folder, fresh)


def test_a_report_says_what_was_dropped(
    tiny_finetuned: Finetuned, labelled_data: Path, tmp_path: Path
) -> None:
    records = lines_of(labelled_data / "mnli.jsonl")[:5]
    records[3]["gold_label"] = "-"
    file = tmp_path / "mnli-dev.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    report: EvaluationReport = evaluate(tiny_finetuned("mnli"), file, device="cpu")
    assert report.notes == ("1 pairs of mnli-dev have no gold label: left out",)
    assert (report.data["mnli-dev"]["n_examples"], report.data["mnli-dev"]["n"]) == (5, 4)


@pytest.mark.parametrize("data", ["x", ["a"], {"train": "s"}, {"train": ["f"]}, None])
def test_lineage_from_elsewhere_may_say_of_the_data_what_it_likes(
    data: Any, tiny_finetuned: Finetuned, fresh: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "said"
    shutil.copytree(tiny_finetuned("classify"), folder)
    lineage = json.loads((folder / "layerlake.json").read_text())
    lineage["training"]["data"] = data
    (folder / "layerlake.json").write_text(json.dumps(lineage))
    assert evaluate(folder, fresh, device="cpu").notes == ()
