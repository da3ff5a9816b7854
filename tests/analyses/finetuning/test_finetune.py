"""A run as a whole: done once, then found done; refused where the folder is another's."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from layerlake.analyses.finetuning import run, run_files
from layerlake.analyses.finetuning.finetune import finetune
from layerlake.analyses.finetuning.tasks.sentence import Classification, SentenceAnswers
from layerlake.analyses.finetuning.training.trainer import Trainer
from layerlake.analyses.questions.seed_groups import seed_groups
from layerlake.analyses.runs import run_folder
from layerlake.engine.memory import MemoryPlan
from layerlake.engine.models.lineage_record import read_lineage
from layerlake.engine.models.loading import load_model
from layerlake.engine.models.placement import weights_digest
from layerlake.engine.progress import silent, to_function
from layerlake.store.errors import (
    InvalidInput,
    LakeBusy,
    NameConflict,
    StorageFailed,
    TrainingDiverged,
)

Call = Callable[..., dict[str, Any]]


def files_of(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, by their path in it."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def events_of(folder: Path) -> list[dict[str, Any]]:
    """Return the log of a run."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def refuse_to_train(*_: Any) -> None:
    raise AssertionError("it trains")


class Stopped(Exception):
    """What a test stops a run with."""


def stop_after(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """Stop training right before update n + 1."""
    update = Trainer._update

    def counted(self: Trainer, optimiser: Any, step: int, *rest: Any) -> Any:
        if step >= n:
            raise Stopped
        return update(self, optimiser, step, *rest)

    monkeypatch.setattr(Trainer, "_update", counted)


@pytest.fixture
def done(small_call: Call) -> tuple[dict[str, Any], Path]:
    """A call of `finetune`, and the folder where it was run to its end."""
    call = small_call("classify", epochs=1, progress=silent)
    finetune(**call)
    return call, Path(call["out"])


class TestDoneBefore:
    def test_the_same_again_does_nothing_and_reports_the_same(
        self, small_call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call = small_call("dep", keep="best")
        first = finetune(**call)
        folder = Path(call["out"])
        before = files_of(folder)
        assert not any(name.startswith("training") for name in before)
        monkeypatch.setattr(Trainer, "_update", refuse_to_train)
        monkeypatch.setattr(Trainer, "evaluate", refuse_to_train)
        monkeypatch.setattr("layerlake.analyses.finetuning.run.task_model", refuse_to_train)
        second = finetune(**call)
        assert (first.n_computed, second.n_computed) == (first.n_steps, 0)
        assert replace(second, n_computed=first.n_computed) == first
        assert files_of(folder) == before

    def test_what_decides_no_result_may_change(self, done: tuple[dict[str, Any], Path]) -> None:
        call, _ = done
        more = {"token_budget": 64, "save_steps": 2, "memory": "4GiB"}
        assert finetune(**call, **more).n_computed == 0

    def test_a_copy_of_the_model_elsewhere_is_the_same_model(
        self, done: tuple[dict[str, Any], Path], tmp_path: Path
    ) -> None:
        call, _ = done
        shutil.copytree(call["model"], tmp_path / "copied")
        assert finetune(**call | {"model": str(tmp_path / "copied")}).n_computed == 0

    def test_what_a_kill_at_the_very_end_left_is_removed(
        self, done: tuple[dict[str, Any], Path]
    ) -> None:
        call, folder = done
        (folder / "training").mkdir()
        (folder / "training" / "state.safetensors").write_bytes(b"x")
        assert finetune(**call).n_computed == 0
        assert not (folder / "training").exists()

    @pytest.mark.parametrize("part", ["model.safetensors", "head/model.safetensors"])
    def test_weights_that_went_missing_are_missed(
        self, done: tuple[dict[str, Any], Path], part: str
    ) -> None:
        call, folder = done
        (folder / part).unlink()
        said = rf"has lineage, but no {re.escape(part)}; restore it, or remove the folder"
        with pytest.raises(InvalidInput, match=said):
            finetune(**call)

    @pytest.mark.parametrize("part", ["config.json", "head/config.json"])
    def test_a_config_that_went_missing_is_missed(
        self, done: tuple[dict[str, Any], Path], part: str
    ) -> None:
        call, folder = done
        (folder / part).unlink()
        with pytest.raises(InvalidInput, match=rf"has lineage, but no {re.escape(part)}; restore"):
            finetune(**call)

    @pytest.mark.parametrize("part", ["model.safetensors", "head/model.safetensors"])
    def test_weights_that_were_cut_short_are_not_taken_for_done(
        self, done: tuple[dict[str, Any], Path], part: str
    ) -> None:
        call, folder = done
        content = (folder / part).read_bytes()
        for kept in (len(content) - 1, 500, 0):
            (folder / part).write_bytes(content[:kept])
            with pytest.raises(
                InvalidInput, match=rf"{re.escape(part)} is damaged \(.*\); restore"
            ):
                finetune(**call)


def other_pooler(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call on a model that differs in nothing but its pooler."""
    from safetensors.torch import load_file, save_file

    place = Path(call["out"]).parent / "pooled"
    shutil.copytree(call["model"], place)
    weights = load_file(place / "model.safetensors")
    weights["pooler.dense.bias"] += 1
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    return {"model": str(place)}


def other_config(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call on a model that drops out more."""
    place = Path(call["out"]).parent / "dropping"
    shutil.copytree(call["model"], place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.5}))
    return {"model": str(place)}


def other_words(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what changes one file of a call."""

    def change(call: dict[str, Any]) -> dict[str, Any]:
        file = Path(call[name])
        other = file.parent / "other" / file.name
        other.parent.mkdir()
        other.write_text(file.read_text().replace("tide", "boat"))
        return {name: str(other)}

    return change


CHANGES = [
    ({"seed": 1}, r"seed 0 there, 1 asked"),
    ({"lr": 2e-3}, r"lr 0\.001 there, 0\.002 asked"),
    ({"weight_decay": 0.0}, r"weight decay 0\.01 there, 0\.0 asked"),
    ({"epochs": 2}, r"epochs 1 there, 2 asked"),
    ({"freeze": 1}, r"freeze -1 there, 1 asked"),
    ({"truncate": 2}, r"truncate None there, 2 asked"),
    ({"keep": "best"}, r"keep 'last' there, 'best' asked"),
    ({"randomize": 3}, r"another model"),
    ({"train_sample": 8}, r"other training data"),
    ({"dev": None}, r"other data to evaluate on"),
    (other_pooler, r"a model with another pooler"),
    (other_config, r"a model with another config"),
    (other_words("train"), r"other training data"),
    (other_words("dev"), r"other data to evaluate on"),
]


class TestAnotherRunsFolder:
    @pytest.mark.parametrize(("change", "said"), CHANGES)
    def test_what_differs_is_named(
        self, change: Any, said: str, done: tuple[dict[str, Any], Path]
    ) -> None:
        call, folder = done
        before = files_of(folder)
        changes = change(call) if callable(change) else change
        with pytest.raises(NameConflict, match=rf"holds another run \({said}\); choose another"):
            finetune(**call | changes)
        assert files_of(folder) == before

    def test_and_so_is_what_differs_from_a_run_that_was_begun(
        self, small_call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call = small_call("classify")
        stop_after(monkeypatch, 8)
        with pytest.raises(Stopped):
            finetune(**call)
        before = files_of(Path(call["out"]))
        with pytest.raises(NameConflict, match=r"beginning of another run \(seed 0 there, 5 asked"):
            finetune(**call | {"seed": 5})
        assert files_of(Path(call["out"])) == before

    def test_a_model_of_somebody_else_is_not_overwritten(
        self, small_call: Call, tiny_bert: Path
    ) -> None:
        call = small_call("classify")
        shutil.copytree(tiny_bert, call["out"])
        before = files_of(Path(call["out"]))
        with pytest.raises(NameConflict, match="holds a model that is not of this run; choose"):
            finetune(**call)
        assert files_of(Path(call["out"])) == before

    def test_nor_one_with_lineage_from_elsewhere(
        self, small_call: Call, tiny_bert: Path, perturbed: Callable[..., Path]
    ) -> None:
        call = small_call("classify")
        perturbed(tiny_bert, Path(call["out"]), 0)
        with pytest.raises(NameConflict, match="holds a model that was trained otherwise"):
            finetune(**call)

    def test_a_folder_of_ones_own_called_training_is_left_alone(self, small_call: Call) -> None:
        call = small_call("tag", epochs=1, dev=None)
        mine = Path(call["out"]) / "training"
        mine.mkdir(parents=True)
        (mine / "thesis.part").write_text("mine")
        with pytest.raises(NameConflict, match=r"training holds thesis\.part, which no run wrote"):
            finetune(**call)
        assert files_of(Path(call["out"])).keys() == {"training/thesis.part"}
        shutil.rmtree(mine)
        finetune(**call)
        mine.mkdir()
        (mine / "later.txt").write_text("mine")
        assert finetune(**call).n_computed == 0
        assert (mine / "later.txt").read_text() == "mine"

    def test_a_file_in_the_way_is_named(self, small_call: Call) -> None:
        call = small_call("classify")
        Path(call["out"]).write_text("mine")
        with pytest.raises(InvalidInput, match="out is a file; name a folder with --out"):
            finetune(**call)
        with pytest.raises(StorageFailed, match=r"cannot write .*out/deeper: Not a directory"):
            finetune(**call | {"out": f"{call['out']}/deeper"})

    def test_a_folder_that_another_process_trains_into_is_busy(self, small_call: Call) -> None:
        call = small_call("classify")
        Path(call["out"]).mkdir()
        held = os.open(call["out"], os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(LakeBusy, match=r"another process is training into .*; wait for it"):
                finetune(**call)
        finally:
            os.close(held)
        assert finetune(**call).n_computed == 12

    def test_a_run_that_another_process_ended_meanwhile_is_found_done(
        self, small_call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        call = small_call("classify")
        finetune(**call | {"out": str(tmp_path / "other")})
        require = run_folder.RunFolder.require_space

        def late(self: Any, *rest: Any, **more: Any) -> None:
            shutil.copytree(tmp_path / "other", self.out)
            require(self, *rest, **more)

        monkeypatch.setattr(run_folder.RunFolder, "require_space", late)
        assert finetune(**call).n_computed == 0


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"freeze": 4}, "freeze is 4; give a whole number from -1 to 3"),
            ({"freeze": 3, "truncate": 2}, "freeze is 3; give a whole number from -1 to 2"),
            ({"truncate": 0}, "truncate is 0; give a whole number from 1 to 3"),
            ({"train_sample": 25}, "a sample of 25 was asked of 24 training examples"),
            ({"train_sample": "many"}, "train sample 'many' is not understood"),
            ({"progress": 3}, "progress is 3; give silent"),
            ({"save_steps": 0}, "save steps is 0; give a whole number of 1 or more"),
            ({"token_budget": True}, "token budget is True; give a whole number"),
            ({"memory": "much"}, "'much' is no amount of memory"),
            ({"seed": -1}, "the seed is -1"),
            ({"keep": "first"}, "keep is 'first'; choose one of last, best"),
            ({"keep": "best", "dev": None}, "the best epoch is told by a score"),
            ({"keep": "best", "dev": {}}, "the best epoch is told by a score"),
            ({"model": 5}, "5 names no model"),
            ({"out": 5}, "out is 5; give the folder"),
            ({"task": "chess"}, "there is no task 'chess'"),
            ({"rate": 1}, "rate is no entry of the recipe of classify"),
            ({"frozen_dropout": True}, "frozen-dropout is for frozen blocks"),
            ({"device": "cuda:77"}, "device 'cuda:77' asked for"),
        ],
    )
    def test_one_sentence_and_no_folder(
        self, changes: dict[str, Any], said: str, small_call: Call
    ) -> None:
        call = small_call("classify") | changes
        with pytest.raises(InvalidInput, match=said) as refused:
            finetune(**call)
        assert "\n" not in str(refused.value)
        assert not isinstance(call["out"], str) or not Path(call["out"]).exists()

    def test_what_lineage_cannot_say_is_told_before_anything_is_trained(
        self, small_call: Call
    ) -> None:
        call = small_call("tag")
        odd = Path(call["out"]).parent / os.fsdecode(b"caf\xe9.jsonl")
        shutil.copy(call["train"], odd)
        with pytest.raises(InvalidInput, match=r"cannot be written as JSON .*udce9"):
            finetune(**call | {"train": str(odd)})
        assert not Path(call["out"]).exists()

    def test_a_file_without_examples(self, small_call: Call) -> None:
        call = small_call("classify")
        for part in ("train", "dev"):
            empty = Path(call["out"]).parent / f"{part}-empty.jsonl"
            empty.write_text("")
            with pytest.raises(InvalidInput, match=rf"{part}-empty\.jsonl"):
                finetune(**call | {part: str(empty)})
        assert not Path(call["out"]).exists()

    def test_a_dev_set_of_which_every_example_is_left_out(self, small_call: Call) -> None:
        call = small_call("tag", long="drop")
        words = ["word"] * 60
        long = Path(call["dev"]).with_name("long.jsonl")
        long.write_text(json.dumps({"id": "1", "words": words, "labels": ["NOUN"] * 60}) + "\n")
        with pytest.raises(InvalidInput, match="long"):
            finetune(**call | {"dev": str(long)})
        assert not Path(call["out"]).exists()

    def test_too_small_a_disk_is_told_before_anything_is_trained(
        self, small_call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call = small_call("classify")
        usage = shutil.disk_usage(call["model"])
        small = usage._replace(free=2**20)
        monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda path: small)
        monkeypatch.setattr(Trainer, "_update", refuse_to_train)
        with pytest.raises(
            StorageFailed, match=r"needs 3\d\.\d MiB \(\d+ bytes\) .* has 1\.0 MiB \(1048576 bytes"
        ):
            finetune(**call)
        assert not Path(call["out"]).exists()

    def test_what_a_run_has_saved_counts_as_room(
        self, small_call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call = small_call("classify")
        with monkeypatch.context() as stopping:
            stop_after(stopping, 8)
            with pytest.raises(Stopped):
                finetune(**call)
        saved = sum(file.stat().st_size for file in Path(call["out"]).glob("training/*"))
        model = load_model(call["model"], device="cpu").module
        monkeypatch.setattr(run_files, "_SPARE_BYTES", 0)
        usage = shutil.disk_usage(call["out"])
        free = usage._replace(free=7 * sum(p.nbytes for p in model.parameters()) - saved)
        monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda path: free)
        assert finetune(**call).n_computed == 6

    def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_state_before(
        self, small_call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call = small_call("classify", save_steps=2)
        loss = Classification.loss
        seen: list[Any] = []

        def spoilt(self: Any, outputs: Any, batch: Any) -> Any:
            found = loss(self, outputs, batch)
            seen.extend(batch.chosen)
            # Counted in inputs, of which a batch has four, in however many parts it runs.
            return found * float("nan") if len(seen) > 4 * 9 else found

        with monkeypatch.context() as spoiling:
            spoiling.setattr(Classification, "loss", spoilt)
            # It looks at inputs of its own before the first update.
            spoiling.setattr(run, "training_plan", lambda *given: MemoryPlan({}))
            with pytest.raises(TrainingDiverged) as stopped:
                finetune(**call)
        names = [f"c{number}" for number in seen[36:]]
        assert "the loss is no number (nan) at update 10 of 12, on the batch of " in str(
            stopped.value
        )
        assert any(name in str(stopped.value) for name in names)
        folder = Path(call["out"])
        assert events_of(folder)[-1] == events_of(folder)[-1] | {
            "event": "failed",
            "error": str(stopped.value),
        }
        report = finetune(**call)  # the cause is gone: it goes on from update 8
        assert (report.n_computed, events_of(folder)[-1]["event"]) == (4, "finished")


FIELDS = {
    "started": {"identity", "settings", "n_steps"},
    "resumed": {"step"},
    "trained": {
        "step", "epoch", "loss", "rate", "norm", "pieces_per_second", "seconds_left",
    },
    "evaluated": {"step", "epoch", "scores"},
    "saved": {"step"},
    "finished": {"step", "scores", "seconds"},
    "failed": {"error"},
}  # fmt: skip


class TestLog:
    def test_events_are_those_of_the_table_in_their_order(
        self, small_call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call = small_call("classify", save_steps=4)
        with monkeypatch.context() as stopping:
            stop_after(stopping, 9)
            with pytest.raises(Stopped):
                finetune(**call)
        with (Path(call["out"]) / "log.jsonl").open("a") as log:
            log.write('{"event": "trai')  # killed there
        finetune(**call)
        events = events_of(Path(call["out"]))
        assert [event["event"] for event in events] == [
            "started", "saved", "trained", "evaluated", "saved", "saved", "failed",
            "resumed", "trained", "evaluated", "saved", "finished",
        ]  # fmt: skip
        assert [event.get("step") for event in events if event["event"] == "saved"] == [4, 6, 8, 12]
        assert events[7]["step"] == 8
        for event in events:
            assert event.keys() == {"event", "time", "run"} | FIELDS[event["event"]]
            assert event["run"] == events[0]["identity"][:12]
        for name in {name for fields in FIELDS.values() for name in fields}:
            assert f"`{name}`" in (run_files.__doc__ or "")

    def test_the_loss_of_a_line_is_the_mean_since_the_last(
        self, small_call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call = small_call("classify")
        losses: list[float] = []
        update = Trainer._update

        def noted(self: Trainer, *rest: Any) -> Any:
            found = update(self, *rest)
            losses.append(found.loss)
            return found

        monkeypatch.setattr(Trainer, "_update", noted)
        finetune(**call)
        trained = [event for event in events_of(Path(call["out"])) if event["event"] == "trained"]
        assert [event["step"] for event in trained] == [6, 12]
        means = [np.mean(losses[:6]), np.mean(losses[6:])]
        assert [event["loss"] for event in trained] == pytest.approx(means, abs=1e-6)

    def test_one_that_cannot_be_written_is_one_sentence(
        self, small_call: Call, tmp_path: Path
    ) -> None:
        (tmp_path / "out" / "log.jsonl").mkdir(parents=True)
        with pytest.raises(StorageFailed, match=r"cannot write .*log\.jsonl: Is a directory; free"):
            finetune(**small_call("classify"))


def test_progress_tells_of_updates_with_loss_and_score(small_call: Call) -> None:
    told: list[Any] = []
    finetune(**small_call("classify", seed=7), progress=to_function(told.append))
    updates = [event for event in told if event.unit == "updates"]
    assert {event.label for event in updates} == {"classify, seed 7"}
    assert (updates[-1].done, updates[-1].total, updates[-1].state) == (12, 12, "finished")
    assert "dev accuracy" in updates[-1].note


def test_the_callers_random_numbers_are_left_alone(small_call: Call) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    finetune(**small_call("classify", epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_the_best_epoch_is_kept(small_call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    told, digests = [0.2, 0.6, 0.6, 0.4], []
    evaluate = Trainer.evaluate

    def noted(self: Trainer, *rest: Any) -> Any:
        digests.append(weights_digest(self.model.encoder))
        return evaluate(self, *rest)

    monkeypatch.setattr(Trainer, "evaluate", noted)
    monkeypatch.setattr(
        SentenceAnswers, "scores", lambda self: {"accuracy": told[len(digests) - 1], "majority": 1}
    )
    report = finetune(**small_call("classify", epochs=4, keep="best"))
    assert (report.epoch, report.weights_digest) == (2, digests[1])
    assert len(set(digests)) == 4
    assert report.scores == {"classify-dev": {"accuracy": 0.6, "majority": 1}}


def test_seeds_of_one_recipe_are_one_group(small_call: Call, tmp_path: Path) -> None:
    about = {}
    for seed in (0, 1):
        call = small_call("classify", seed=seed, epochs=1, out=str(tmp_path / f"s{seed}"))
        finetune(**call)
        lineage = read_lineage(Path(call["out"]))
        assert lineage is not None
        about[f"run {seed}"] = {"training": lineage.training, "parent": lineage.parent}
    assert about["run 0"]["training"]["scores"].keys() == {"classify-dev"}
    assert [sorted(group) for group in seed_groups(about, about).values()] == [["run 0", "run 1"]]


def test_frozen_blocks_stay_as_they_were(small_call: Call) -> None:
    call = small_call("tag", freeze=2)
    before = load_model(call["model"], device="cpu").module.state_dict()
    finetune(**call)
    after = load_model(call["out"], device="cpu").module.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert {".".join(name.split(".")[:3]) for name in changed} == {"encoder.layer.2"}


@pytest.mark.parametrize("freeze", [0, 3])
def test_embeddings_alone_and_everything_can_be_frozen(small_call: Call, freeze: int) -> None:
    call = small_call("classify", freeze=freeze, epochs=1)
    before = load_model(call["model"], device="cpu").module.state_dict()
    finetune(**call)
    after = load_model(call["out"], device="cpu").module.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("embeddings.")} <= same
    assert (len(same) == len(before)) == (freeze == 3)
