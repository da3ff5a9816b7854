"""Make the lake, the runs and the model that `lake.tar.xz`, `runs.tar.xz` and `lake.json` hold.

    python tests/contract/make_archives.py [FOLDER]

They were made once, by commit 9470c02, and what later versions must read is those files: running
this again makes others, with other weights and so with other fingerprints. It is for a change of
the format or of the method that is wanted (`METHOD_VERSION` counted up), and calls nothing but
public functions. Everything is made in a temporary folder under relative paths, so that no path of
a machine is recorded.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import multiprocessing
import os
import signal
import sys
import tarfile
import tempfile
from contextlib import chdir, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np

import layerlake as ll
from layerlake.cli.main import main as command_line

ANIMALS = ("gull", "seal", "crab", "tern", "whelk", "eel")
PLACES = ("shore", "mast", "rock", "roof")
CLAIMS = ("entailment", "neutral", "contradiction")

RECIPE: dict[str, Any] = {"epochs": 2, "batch": 4, "lr": 1e-2, "device": "cpu"}
RUN: dict[str, Any] = {
    "task": "tag",
    "model": "tiny",
    "train": "tags.jsonl",
    "dev": {"shore": "shore.conllu"},
    "label": "upos",
    "save_steps": 2,
    **RECIPE,
}
"""The run that is stored done, and killed; `out` is not in it."""
KILLED_AT = 9
"""The update at which it was killed; of 12."""

WORDS = {"corpus": "shore", "unit": "word", "rows": "all"}
MANY = [
    *("rsa", "cka", "debiased-cka", "cca", "svcca", "pwcca", "procrustes", "procrustes-size"),
    *("bures", "netrep-0.5", "rbf-cka", "debiased-rbf-cka", "mutual-knn", "cknna"),
]
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "everything of seeds": (
        "rsa",
        {
            "corpus": "shore",
            "rows": "all",
            "differences": True,
            "seeds": True,
            "ceilings": True,
            "permutations": 19,
        },
    ),
    "own base": ("rsa", {"corpus": "shore", "reference": "own", "variants": ["tag-s0", "tag-s1"]}),
    "bootstrap": (
        "rsa",
        {
            "corpus": "shore",
            "variants": "tag-s0",
            "rows": 60,
            "seed": 3,
            "layers": "1-2",
            "kernel": "correlation",
            "interval": "bootstrap",
            "resamples": 80,
        },
    ),
    "ranks": (
        "rsa",
        {"corpus": "shore", "variants": ["tag-s0", "tag-s1"], "rows": 60, "score": "spearman"},
    ),
    "words": (
        "rsa",
        {
            **WORDS,
            "variants": ["outside", "tag-s0"],
            "kernel": "euclidean",
            "score": "cosine",
            "method": "tiles",
        },
    ),
    "external words": ("rsa", {**WORDS, "variants": "outside", "layers": [2], "specials": True}),
    "kendall": (
        "rsa",
        {"corpus": "shore", "variants": "noise", "rows": 40, "score": "kendall", "layers": 2},
    ),
    "whitened": (
        "rsa",
        {
            "corpus": "shore",
            "variants": "noise",
            "kernel": "sqeuclidean",
            "score": "whitened-cosine",
            "interval": "none",
        },
    ),
    "many measures": (
        "compare",
        {"corpus": "shore", "variants": "tag-s0", "measure": MANY, "rows": "all", "neighbours": 3},
    ),
    "all pairs": (
        "compare",
        {
            "corpus": "shore",
            "variants": ["base", "tag-s0"],
            "measure": "cka",
            "layers": "0,2",
            "all_pairs": True,
        },
    ),
    "one layer with all": (
        "compare",
        {
            "corpus": "shore",
            "variants": "tag-s0",
            "measure": "rsa,procrustes",
            "reference_layer": 1,
            "interval": "none",
        },
    ),
    "two corpora": (
        "compare",
        {
            "corpus": ["shore", "claims"],
            "variants": "tag-s0",
            "measure": ["cka", "mutual-knn"],
            "neighbours": 3,
            "confidence": 0.9,
        },
    ),
    "a row an example": (
        "compare",
        {
            "corpus": "firsts",
            "variants": "tag-s0",
            "measure": "rsa,cka",
            "interval": "rows",
            "specials": True,
        },
    ),
    "another site": (
        "compare",
        {"corpus": "claims", "variants": "tag-s0", "measure": "cka", "site": "mlp_out"},
    ),
    "profile": ("profile", {"corpus": "shore", "rows": "all"}),
    "profile of words": (
        "profile",
        {**WORDS, "variants": ["base", "outside"], "layers": "2", "interval": "none"},
    ),
}
"""Question by name: the public function, and its arguments after the lake."""


def write_data() -> None:
    """Write the corpora: trees with tags, lists of tagged words, pairs with labels."""
    trees, tags, pairs = [], [], []
    for number in range(24):
        words = ["the", ANIMALS[number % 6], "sleeps", "on", "the", PLACES[number // 6]]
        upos = ["DET", "NOUN", "VERB", "ADP", "DET", "NOUN"]
        arcs = [(2, "det"), (3, "nsubj"), (0, "root"), (6, "case"), (6, "det"), (3, "obl")]
        if number % 3 == 0:
            words, upos, arcs = [*words, "now"], [*upos, "ADV"], [*arcs, (3, "advmod")]
        trees.append(f"# sent_id = s{number}")
        trees += [
            f"{n}\t{word}\t{word}\t{tag}\t_\t_\t{head}\t{relation}\t_\t_"
            for n, (word, tag, (head, relation)) in enumerate(
                zip(words, upos, arcs, strict=True), 1
            )
        ]
        trees.append("")
        tags.append({"id": f"t{number}", "words": words[::-1], "upos": upos[::-1]})
        pairs.append(
            {
                "pairID": f"p{number}",
                "gold_label": CLAIMS[number % 3],
                "sentence1": " ".join(words),
                "sentence2": f"the {ANIMALS[number % 5]} is on the {PLACES[number % 4]}",
            }
        )
    Path("shore.conllu").write_text("\n".join(trees) + "\n")
    for name, records in (("tags", tags), ("claims", pairs)):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))


def write_model() -> None:
    """Write a random BERT of two layers, 8 wide, whose pieces are letters and few words."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{one}" for one in letters)]
    pieces += ["the", "sleeps", "on", "is", *PLACES, *ANIMALS[:4]]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    special |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained("tiny")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained("tiny")


def train_and_die() -> None:
    """Run until an update, and end this process as the kernel would for lack of memory."""

    def die(event: Any) -> None:
        if event.unit == "updates" and event.done >= KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    ll.finetune(**RUN, out="killed", progress=ll.to_function(die, min_seconds=0))


def write_runs() -> None:
    """Fine-tune twice to the end, and once until it is killed."""
    for seed in (0, 1):
        ll.finetune(**RUN, out=f"tag-s{seed}", seed=seed, progress=ll.silent)
    child = multiprocessing.get_context("spawn").Process(target=train_and_die)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL, child.exitcode
    assert Path("killed", "training").is_dir()


def write_lake() -> ll.Lake:
    """Extract from the models into the lake `lake`, and import what another program wrote."""
    lake = ll.open_lake("lake", "a")
    ll.add_corpus(lake, "shore", "shore.conllu", licence="Apache-2.0")
    ll.add_corpus(lake, "claims", "claims.jsonl", "mnli")
    ll.add_corpus(lake, "firsts", "claims.jsonl", "mnli")
    how: dict[str, Any] = {"device": "cpu", "progress": ll.silent}
    models = {"base": "tiny", "tag-s0": "tag-s0", "tag-s1": "tag-s1"}
    for name, model in models.items():
        ll.extract(lake, model, "shore", variant=name, **how)
        if name != "tag-s1":
            ll.extract(lake, model, "shore", variant=name, unit="word", **how)
            ll.extract(
                lake,
                model,
                "claims",
                variant=name,
                sites="resid,mlp_out",
                layers=[1, 2],
                store_dtype="float32",
                codec="lz4",
                packing="pair",
                **how,
            )
            ll.extract(
                lake, model, "firsts", variant=name, rows="cls", layers=2, packing="pair", **how
            )
    ll.extract(lake, "tiny", "shore", variant="noise", randomize=0, **how)
    ll.extract(lake, "tiny", "shore", variant="short", truncate=1, **how)
    words = lake.space("shore", "base", 2, unit="word").rows(slice(None))
    noise = np.random.default_rng(0).standard_normal((len(words), 5))
    np.save("outside.npy", np.concatenate([words, noise], axis=1).astype(np.float32))
    ll.import_activations(
        lake,
        "outside.npy",
        "shore",
        "outside",
        layers=2,
        unit="word",
        pooling="mean",
        progress=ll.silent,
    )
    return lake


def results_in(place: Path) -> list[str]:
    """Return the paths of the kept results."""
    return sorted(
        file.parent.relative_to(place).as_posix() for file in place.glob("results/*/*/zarr.json")
    )


def ask_all(lake: ll.Lake) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask every question; return each with the paths it is kept under, and the answers."""
    asked, answers = {}, {}
    for name, (function, arguments) in QUESTIONS.items():
        before = results_in(Path("lake"))
        result = getattr(ll, function)(lake, **arguments, progress=ll.silent)
        new = sorted(set(results_in(Path("lake"))) - set(before))
        assert new, name
        asked[name] = {"function": function, "arguments": arguments, "kept": new}
        answers[name] = json.loads(result.to_json())
        if function == "profile":
            spectrum = result.to_spectrum()["variance"].values
            answers[name]["spectrum"] = np.where(np.isnan(spectrum), None, spectrum).tolist()
    return asked, answers


def said_by(*line: str) -> Any:
    """Return what a line prints as JSON."""
    said = io.StringIO()
    with redirect_stdout(said), suppress(SystemExit):
        command_line([*line, "--lake", "lake", "--json"])
    return json.loads(said.getvalue())


def described(lake: ll.Lake) -> dict[str, Any]:
    """Return what the lake says of itself, and the digests of its spaces."""
    listed = said_by("ls")["records"]
    for record in listed:
        del record["what"]  # words for people
    spaces = {}
    for state in lake.sets():
        for name in state.plan.arrays:
            site, layer = name.split("/")
            space = lake.space_of(state, site, int(layer))
            rows = space.rows(slice(None))
            spaces[f"{state.plan.path}/{name}"] = {
                "shape": list(rows.shape),
                "dtype": rows.dtype.name,
                "sha256": hashlib.sha256(rows.tobytes()).hexdigest(),
            }
    return {
        "ls": listed,
        "info": {record["path"]: said_by("info", record["path"]) for record in listed},
        "verify": said_by("verify"),
        "spaces": spaces,
    }


def pack(archive: Path, names: list[str]) -> None:
    """Write files and folders into an archive, the same bytes for the same content."""
    files = []
    for name in names:
        below = [Path(name)] if Path(name).is_file() else Path(name).rglob("*")
        files += [file for file in below if file.is_file()]
    with tarfile.open(archive, "w:xz") as packed:
        for file in sorted(files):
            entry = tarfile.TarInfo(file.as_posix())
            entry.size, entry.mode = file.stat().st_size, 0o644
            with file.open("rb") as content:
                packed.addfile(entry, content)
    print(f"{archive}: {archive.stat().st_size:,} bytes of {len(files)} files")


def main(folder: Path) -> None:
    """Make all, and write the archives and their description into a folder."""
    with tempfile.TemporaryDirectory() as place, chdir(place):
        write_data()
        write_model()
        write_runs()
        lake = write_lake()
        asked, answers = ask_all(lake)
        Path("answers.json").write_text(json.dumps(answers, indent=1, allow_nan=False) + "\n")
        versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
        about = {"questions": asked, **described(lake)}
        text = json.dumps(about, indent=1, sort_keys=True) + "\n"
        (folder / "lake.json").write_text(text)
        runs = {"run": RUN, "killed_at": KILLED_AT, "versions": versions}
        Path("runs.json").write_text(json.dumps(runs, indent=1) + "\n")
        pack(folder / "lake.tar.xz", ["lake", "answers.json"])
        models = ["tiny", "tag-s0", "killed"]
        pack(folder / "runs.tar.xz", ["runs.json", "tags.jsonl", "shore.conllu", *models])


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else Path(__file__).parent).resolve())
