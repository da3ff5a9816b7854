"""Extraction as others do it: the loop most scripts hold, the simplest script, and NeuroX.

Each works in float32 and keeps every layer; what each keeps, and how, is its own.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layerlake.store.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    from layerlake.engine.models.loading import LoadedModel

USUAL_BATCH = 32

_NEUROX = """
import contextlib, json, os, sys, time
import torch
from neurox.data.extraction import transformers_extractor as extractor
model, texts, out, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
loaded = extractor.get_model_and_tokenizer(model)
extractor.get_model_and_tokenizer = lambda *_, **__: loaded
wall, cpu = time.perf_counter(), time.process_time()
with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    extractor.extract_representations(
        model, texts, out, aggregation="average", output_type="hdf5", decompose_layers=False
    )
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""


def usual_loop(model: LoadedModel, padder: Any, texts: Sequence[str], folder: Path) -> None:
    """Tokenise, run, keep and save as most scripts do: 32 texts at a time, `hidden_states`."""
    import torch

    kept: list[list[Any]] = [[] for _ in range(model.n_layers + 1)]
    for low in range(0, len(texts), USUAL_BATCH):
        batch = list(texts[low : low + USUAL_BATCH])
        inputs = padder(batch, padding=True, return_tensors="pt")
        with torch.no_grad():
            out = model.module(**inputs, output_hidden_states=True)
        real = inputs["attention_mask"].bool()
        for rows, hidden in zip(kept, out.hidden_states, strict=True):
            rows.append(hidden[real].half().numpy())
    for layer, rows in enumerate(kept):
        np.save(folder / f"{layer}.npy", np.concatenate(rows))


def one_by_one(model: LoadedModel, padder: Any, texts: Sequence[str], folder: Path) -> None:
    """Run each text alone and save its layers to a file of its own: the simplest script."""
    import torch

    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        with torch.no_grad():
            out = model.module(**padder(text, return_tensors="pt"), output_hidden_states=True)
        layers = torch.stack(out.hidden_states)[:, 0].half()
        np.save(folder / f"{number}.npy", layers.numpy())


def neurox_algorithm(model: LoadedModel, padder: Any, texts: Sequence[str], file: Path) -> None:
    """Do what NeuroX 1.0 does, in our own words: each sentence alone, words pooled by their mean.

    The pieces of a word are counted by tokenising it alone (once a type); every layer is copied
    to numpy and stacked, special pieces are left out, words are averaged one after the other, and
    each sentence becomes a data set (layer, word, hidden) of one HDF5 file, float32.

    Raises
    ------
    MissingExtra
        h5py is not installed.
    """
    import torch

    h5py = require_h5py()
    specials = {token for token in padder.all_special_ids if token != padder.unk_token_id}
    counts: dict[str, int] = {}
    with h5py.File(file, "w") as out, torch.no_grad():
        for number, text in enumerate(texts):
            words = text.split(" ")
            for word in words:
                if word not in counts:
                    ids = padder.encode(word)
                    counts[word] = sum(token not in specials for token in ids)
            ids = padder.encode(text)
            found = model.module(torch.tensor([ids]), output_hidden_states=True).hidden_states
            states = np.array([hidden[0].numpy() for hidden in found])
            states = states[:, [place for place, token in enumerate(ids) if token not in specials]]
            pooled = np.zeros((len(states), len(words), states.shape[2]))
            start = 0
            for place, word in enumerate(words):
                stop = start + counts[word]
                if stop > start:
                    pooled[:, place] = states[:, start:stop].mean(axis=1)
                start = stop
            out.create_dataset(str(number), data=pooled.astype("float32"))


def require_h5py() -> Any:
    """Return h5py; raise `MissingExtra` where it is not installed."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra(
            "the re-creation of NeuroX writes HDF5 and needs h5py, which is not installed; install "
            "it with: pip install 'layerlake[hdf5]'"
        ) from error
    return h5py


def neurox(
    python: str, model: str, texts: Sequence[str], folder: Path, threads: int
) -> list[float]:
    """Run NeuroX itself, with the interpreter it is installed for; return wall and CPU seconds.

    Its model is loaded before the clock starts, and what it prints goes nowhere.

    Raises
    ------
    InvalidInput
        The interpreter does not run, or NeuroX fails there.
    """
    lines = folder / "neurox.txt"
    lines.write_text("".join(" ".join(text.split()) + "\n" for text in texts))
    target = folder / "neurox.hdf5"
    target.unlink(missing_ok=True)
    line = [python, "-W", "ignore", "-c", _NEUROX, model, str(lines), str(target), str(threads)]
    # Its interpreter must not see the one that runs here.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise InvalidInput(
            f"{python} cannot be run ({error.strerror}); give the Python that NeuroX is installed for"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InvalidInput(f"NeuroX does not run with {python}: {last}")
    wall, cpu = json.loads(done.stdout.splitlines()[-1])
    return [float(wall), float(cpu)]
