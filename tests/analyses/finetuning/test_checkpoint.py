"""What a run leaves: a folder that others can open, with a head that gives the logits it gave."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file

from layerlake.analyses.finetuning import run
from layerlake.analyses.finetuning.checkpoint import load_finetuned
from layerlake.analyses.finetuning.data import read_data
from layerlake.analyses.finetuning.finetune import finetune
from layerlake.engine.corpora.reading import Reading, read_corpus
from layerlake.engine.extraction.extract import extract
from layerlake.engine.models.lineage_record import read_lineage
from layerlake.engine.models.loading import load_model
from layerlake.engine.progress import silent
from layerlake.engine.tokenization.tokenizer_backend import tokenizer_fingerprint
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import open_lake

Call = Callable[..., dict[str, Any]]

OPEN = """
import sys
from transformers import AutoModel, AutoTokenizer
for folder in sys.argv[1:]:
    model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    assert len(AutoTokenizer.from_pretrained(folder)("the tide")["input_ids"]) == 4
    print(model.config.num_hidden_layers, model.dtype)
"""


def opened(*folders: str) -> list[str]:
    """Open folders as others do, in a process where warnings are errors; return what it says."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OPEN, *folders],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Warning" not in done.stderr
    assert "newly initialized" not in done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, calls_in: Callable[[Path], Call]
) -> dict[str, tuple[dict[str, Any], Any]]:
    """A run of every kind: its call, and the arguments that its checkpoint was written from."""
    place = tmp_path_factory.mktemp("runs")
    found = {}
    write = run.write_checkpoint
    with pytest.MonkeyPatch.context() as patched:
        for kind in ("mnli", "squad", "dep", "classify", "tag"):
            options = {"truncate": 2} if kind == "tag" else {}
            call = calls_in(place)(kind, epochs=1, out=str(place / kind), **options)
            written: list[Any] = []

            def kept(*given: Any, written: list[Any] = written) -> None:
                written.extend(given)
                write(*given)

            patched.setattr(run, "write_checkpoint", kept)
            finetune(**call)
            found[kind] = call, written
    return found


@pytest.fixture
def copied(runs: dict[str, tuple[dict[str, Any], Any]], tmp_path: Path) -> Path:
    """A copy of the folder of an entailment run."""
    return Path(shutil.copytree(runs["mnli"][0]["out"], tmp_path / "copied"))


def test_others_open_it_without_a_warning_and_nothing_missing(runs: Any) -> None:
    said = opened(*(runs[kind][0]["out"] for kind in runs))
    assert said == ["3 torch.float32"] * 4 + ["2 torch.float32"]


@pytest.mark.parametrize("kind", ["mnli", "squad", "dep", "classify", "tag"])
class TestEveryKind:
    def test_all_weights_are_safetensors_and_belong_to_the_lineage(
        self, kind: str, runs: Any
    ) -> None:
        folder = Path(runs[kind][0]["out"])
        assert not list(folder.rglob("*.bin"))
        lineage = read_lineage(folder)
        assert lineage is not None
        loaded = load_model(str(folder), device="cpu")
        parent = load_model(runs[kind][0]["model"], device="cpu")
        assert loaded.weights_digest == lineage.weights_digest != parent.weights_digest
        assert lineage.parent == {
            "source": "tiny",
            "revision": None,
            "weights_digest": parent.weights_digest,
            "randomize": None,
        }
        assert loaded.n_layers == (2 if kind == "tag" else 3)
        assert lineage.truncate == (2 if kind == "tag" else None)
        assert loaded.config["num_hidden_layers"] == loaded.n_layers
        assert tokenizer_fingerprint(loaded.tokenizer) == tokenizer_fingerprint(parent.tokenizer)

    def test_the_loaded_model_gives_the_logits_of_the_trained_one(
        self, kind: str, runs: Any
    ) -> None:
        call, written = runs[kind]
        _, trained, task, inventory, recipe, tokenizer, *_ = written
        found = load_finetuned(call["out"], device="cpu", task=kind)
        assert (found.task.name, found.inventory, found.recipe) == (kind, inventory, recipe)
        corpus = read_data(call["dev"], task, reading=Reading(), progress=silent).corpus
        examples = task.encode(corpus, tokenizer, 40, recipe, inventory, "dev")
        batch = task.lay(examples, np.arange(examples.n_inputs), 0)
        with torch.inference_mode():
            expected, logits = trained.eval()(batch), found.model(batch)
        assert expected.keys() == logits.keys()
        assert all(torch.equal(expected[name], logits[name]) for name in expected)


def test_a_pooler_that_was_trained_takes_the_place_of_the_parents(runs: Any) -> None:
    poolers = {}
    for kind in ("mnli", "squad"):
        weights = load_file(Path(runs[kind][0]["out"]) / "model.safetensors")
        poolers[kind] = weights["pooler.dense.weight"]
    parent = load_file(Path(runs["mnli"][0]["model"]) / "model.safetensors")["pooler.dense.weight"]
    head = load_file(Path(runs["mnli"][0]["out"]) / "head" / "model.safetensors")
    assert torch.equal(poolers["squad"], parent)
    assert torch.equal(poolers["mnli"], head["pooler.dense.weight"])
    assert not torch.equal(poolers["mnli"], parent)
    assert torch.dist(poolers["mnli"], parent) < torch.dist(parent, torch.zeros(()))


def test_a_mean_leaves_the_parents_pooler_alone(small_call: Call) -> None:
    call = small_call("classify", pool="mean", epochs=1)
    finetune(**call)
    parent, own = (
        load_file(Path(call[name]) / "model.safetensors")["pooler.dense.bias"]
        for name in ("model", "out")
    )
    assert torch.equal(parent, own)


def test_an_extraction_takes_the_folder(runs: Any, tmp_path: Path) -> None:
    lake = open_lake(tmp_path / "lake", "a")
    folder = runs["tag"][0]["out"]
    extract(lake, folder, ["the tide turned"], corpus_name="c", variant="tagger", device="cpu")
    about = lake.attributes("variants/tagger")
    assert about["training"]["task"] == "tag"
    assert about["training"]["truncate"] == 2
    assert about["n_layers"] == 2
    lineage = read_lineage(Path(folder))
    assert lineage is not None
    assert about["weights_digest"] == lineage.weights_digest


def test_a_parent_stored_in_half_precision_gives_a_folder_in_single(
    small_call: Call, tmp_path: Path
) -> None:
    from transformers import AutoModel

    call = small_call("classify", epochs=1)
    half = tmp_path / "half"
    shutil.copytree(call["model"], half)
    AutoModel.from_pretrained(half, dtype=torch.bfloat16).save_pretrained(half)
    finetune(**call | {"model": str(half)})
    assert AutoModel.from_pretrained(call["out"]).dtype == torch.float32


def test_a_fine_tuned_model_can_be_tuned_on(runs: Any, small_call: Call) -> None:
    first = runs["mnli"][0]["out"]
    call = small_call("classify", model=first, epochs=1)
    report = finetune(**call)
    assert report.parent["weights_digest"] == load_model(first, device="cpu").weights_digest
    assert report.parent["source"] == "mnli"


@pytest.mark.parametrize("kind", ["albert", "roberta", "distilbert", "gpt2", "t5"])
def test_other_architectures_are_opened_too(kind: str, small_call: Call, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

    call = small_call("classify", epochs=1)
    n = 1 + max(AutoTokenizer.from_pretrained(call["model"]).get_vocab().values())
    sizes = {
        "albert": {"hidden_size": 16, "embedding_size": 8, "intermediate_size": 32,
                   "num_attention_heads": 2, "num_hidden_layers": 3, "max_position_embeddings": 40},
        "roberta": {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2,
                    "num_hidden_layers": 3, "max_position_embeddings": 48},
        "distilbert": {"dim": 16, "hidden_dim": 32, "n_heads": 2, "n_layers": 3,
                       "max_position_embeddings": 40},
        "gpt2": {"n_embd": 16, "n_head": 2, "n_layer": 3, "n_positions": 40,
                 "bos_token_id": None, "eos_token_id": None},
        "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 2, "num_layers": 3},
    }  # fmt: skip
    config = AutoConfig.for_model(kind, vocab_size=n, **sizes[kind])
    of = AutoModelForTextEncoding if kind == "t5" else AutoModel
    base = tmp_path / kind
    shutil.copytree(call["model"], base)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        AutoModel.from_config(config).save_pretrained(base)
    finetune(**call | {"model": str(base)})
    _, info = of.from_pretrained(call["out"], output_loading_info=True)
    assert not any(info.values()), info
    loaded = load_model(call["out"], device="cpu")
    lineage = read_lineage(Path(call["out"]))
    assert lineage is not None
    assert loaded.weights_digest == lineage.weights_digest
    found = load_finetuned(call["out"], device="cpu")
    assert found.model.head.labels.out_features == 2


class TestRefusals:
    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match=r"no folder .*nowhere; give one that"):
            load_finetuned(str(tmp_path / "nowhere"))

    def test_a_model_without_a_head(self, tiny_bert: Path) -> None:
        with pytest.raises(InvalidInput, match="tiny has no head for any task; fine-tune it"):
            load_finetuned(str(tiny_bert), device="cpu")

    def test_a_head_for_another_task(self, copied: Path) -> None:
        with pytest.raises(InvalidInput, match="has a head for mnli, and dep was asked for"):
            load_finetuned(str(copied), device="cpu", task="dep")

    @pytest.mark.parametrize("at", ["head moved", "all but lineage"])
    def test_training_that_is_not_finished(self, at: str, copied: Path) -> None:
        (copied / "training").mkdir()
        (copied / "training" / "run.json").write_text("{}")
        (copied / "layerlake.json").unlink()
        if at == "head moved":
            (copied / "model.safetensors").unlink()
        with pytest.raises(InvalidInput, match=r"the training of .* is not finished; run the same"):
            load_finetuned(str(copied), device="cpu")

    def test_the_head_of_another_encoder(self, copied: Path, runs: Any) -> None:
        shutil.rmtree(copied / "head")
        shutil.copytree(Path(runs["classify"][0]["out"]) / "head", copied / "head")
        with pytest.raises(InvalidInput, match=r"the head of .* belongs to other weights"):
            load_finetuned(str(copied), device="cpu")

    @pytest.mark.parametrize("name", ["model.safetensors", "head/model.safetensors"])
    @pytest.mark.parametrize("how", ["cut", "flipped", "empty", "missing"])
    def test_weights_that_are_damaged(self, name: str, how: str, copied: Path) -> None:
        file = copied / name
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        if how == "missing":
            file.unlink()
        else:
            file.write_bytes(content[: {"cut": -20, "flipped": None, "empty": 0}[how]])
        with pytest.raises(InvalidInput, match=r"restore|re-save|save the model") as said:
            load_finetuned(str(copied), device="cpu")
        assert "\n" not in str(said.value)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("{", "cannot be read"),
            ({"format": "other"}, "is no head of LayerLake"),
            ({"format_version": 99}, "has format version 99"),
            ({"recipe": None}, "has no recipe as it should"),
            ({"task": "chess"}, r"config\.json is not as it was written: there is no task 'chess'"),
            ({"task": "tag"}, r"config\.json is not as it was written: .* no entry of .* tag"),
            ({"inventory": {}}, "cannot be put together"),
            ({"inventory": {"labels": ["a", "b"]}}, "cannot be put together"),
            ({"inventory": {"labels": ["a", "a"]}}, "no list of different texts"),
            ({"inventory": {"labels": [["a"], 1]}}, "no list of different texts"),
            ({"padding": "x" * 2**24}, "is larger than 16 MiB"),
        ],
    )
    def test_a_head_that_says_nonsense(self, change: Any, said: str, copied: Path) -> None:
        file = copied / "head" / "config.json"
        about = json.loads(file.read_text())
        file.write_text(change if isinstance(change, str) else json.dumps(about | change))
        with pytest.raises(InvalidInput, match=said):
            load_finetuned(str(copied), device="cpu")


def test_a_head_takes_the_memory_of_its_file_whatever_its_config_says(
    runs: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "wide"
    shutil.copytree(runs["dep"][0]["out"], folder)
    file = folder / "head" / "config.json"
    about = json.loads(file.read_text())
    # Petabytes, which no machine gives.
    file.write_text(json.dumps(about | {"recipe": about["recipe"] | {"arc_width": 2**25}}))
    with pytest.raises(InvalidInput, match=r"cannot be put together .*size mismatch"):
        load_finetuned(str(folder), device="cpu")


def test_a_pooler_of_another_shape_is_no_beginning_of_ours(
    small_call: Call, tiny_bert: Path, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    parent = tmp_path / "parent"
    shutil.copytree(tiny_bert, parent)
    weights = load_file(parent / "model.safetensors")
    weights["pooler.dense.weight"] = torch.zeros(7, 16)
    weights["pooler.dense.bias"] = torch.zeros(7)
    save_file(weights, parent / "model.safetensors", metadata={"format": "pt"})
    report = finetune(**small_call("mnli", epochs=1, dev=None, model=str(parent)))
    stored = load_file(Path(report.folder) / "model.safetensors")
    assert stored["pooler.dense.weight"].shape == (16, 16)


def test_what_was_made_of_a_corpus_in_memory_is_recorded_as_such(
    small_call: Call, tmp_path: Path
) -> None:
    call = small_call("classify", epochs=1)
    corpus = read_corpus(call["train"], format="jsonl")
    report = finetune(**call | {"train": corpus})
    lineage = read_lineage(Path(report.folder))
    assert lineage is not None
    assert lineage.training["data"]["train"] == {
        "files": [],
        "fingerprint": corpus.fingerprint,
        "n_examples": 24,
    }
