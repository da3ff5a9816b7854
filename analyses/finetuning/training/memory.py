"""What training will take in memory, told before it starts.

Weights, gradients and moments follow from the model. What a forward pass keeps for the way back
depends on the architecture, on its attention, on dropout, on what is frozen and on the head; so it
is looked at: one and two copies of an input are run, and what autograd keeps of them is counted.
That is a line in the number of copies, and an input takes the more per piece the longer it is, so
that a micro-batch of the longest inputs is the largest. For a block of BERT in float32 it comes to
4 (10 h + 2 i + 4 + 3 a n) bytes a piece, for a width h, an intermediate width i, a heads and inputs
of n pieces (PyTorch 2.10 on a CPU, where attention that drops out keeps its scores three times).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerlake.analyses.finetuning.tasks.task import Examples
from layerlake.analyses.finetuning.training.trainer import Trainer, precision
from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.memory import MemoryPlan
from layerlake.store.identity import is_string


def training_plan(
    trainer: Trainer, dev: Sequence[Examples], corpora: Iterable[Corpus]
) -> MemoryPlan:
    """Return what training takes at its peak, on the device of the model.

    Data counts where that is the CPU. What Python and its libraries take before anything is loaded
    (some hundreds of megabytes) does not.

    Parameters
    ----------
    trainer
        Ready to train; its weights are left as they are, its mode and torch's random numbers not.
    dev
        What is evaluated on.
    corpora
        What all of it was read from.
    """
    model = trainer.model
    every = {id(value): value for value in (*model.parameters(), *model.buffers())}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    n_trained = sum(parameter.nbytes for parameter in trained)
    kept, working = _activations(trainer)
    # Where a gradient is added to another one. That of the embeddings comes at the very end, when
    # the activations are gone, and so does what several processes exchange.
    encoder: Any = model.encoder
    embedding = encoder.get_input_embeddings().weight
    largest = max((p.nbytes for p in trained if p is not embedding), default=0)
    last = embedding.nbytes if embedding.requires_grad else 0
    exchanged = n_trained if trainer.team.size > 1 else 0
    parts = {
        "weights": sum(value.nbytes for value in every.values()),
        "gradients": n_trained,
        "moments": 2 * n_trained,
        "activations": kept,
        "working memory": max(working, largest, last - kept, exchanged - kept),
    }
    if trainer.team.device.type == "cpu":
        parts["data"] = _data_bytes((trainer.examples, *dev), corpora)
    return MemoryPlan(parts)


def _activations(trainer: Trainer) -> tuple[int, int]:
    """Return the bytes kept for the way back of the largest micro-batch, and those in passing."""
    lengths = trainer.examples.tokenization.lengths
    longest = int(lengths.max())
    inputs = min(trainer.recipe.batch, trainer.examples.n_inputs)
    pieces = max(longest, min(trainer.most_pieces, inputs * longest))
    # A head may take more of the input that has the most words than of that with the most pieces.
    probes = {int(lengths.argmax()), int(trainer.task.weights(trainer.examples).argmax())}
    shortest = int(lengths.argmin())  # so that there is padding, and a mask for it
    kept = working = 0
    for probe in sorted(probes):
        one, two = (_kept_by(trainer, np.array([shortest, *[probe] * n], np.int64)) for n in (1, 2))
        scale = pieces / int(lengths[probe])
        encoder, head = (
            int(scale * (two[part] - one[part])) + max(0, 3 * one[part] - 2 * two[part])
            for part in ("encoder", "head")
        )
        passing = int(scale * (two["passing"] - one["passing"]))
        kept = max(kept, encoder + head)
        # Gradients of one layer, or of the head, are there while what it kept still is.
        working = max(working, encoder // max(1, _n_trained_layers(trainer)), head, passing)
    return kept, working


def _n_trained_layers(trainer: Trainer) -> int:
    """Return in how many layers autograd keeps anything."""
    trunk = trainer.model.trunk
    if trunk.shared:
        return trunk.n_layers
    return sum(any(p.requires_grad for p in block.parameters()) for block in trunk.blocks)


def _kept_by(trainer: Trainer, chosen: NDArray[np.int64]) -> dict[str, int]:
    """Run some inputs; return the bytes that autograd keeps in the encoder and in head and loss.

    `passing` is the largest input or output of any one module, four times: what a pass that keeps
    nothing holds at a time.
    """
    model, device = trainer.model.train(), trainer.team.device
    laid = trainer.task.lay(trainer.examples, chosen, trainer.pad_id).to(device)
    known = (*model.parameters(), *model.buffers(), *laid.inputs.values(), *laid.targets.values())
    own = {value.untyped_storage().data_ptr() for value in known}
    stored: dict[int, int] = {}
    held: list[torch.Tensor] = []
    """Keeps all memory in its place, so that no two tensors have the same one after another."""
    in_encoder = 0
    largest = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        memory = tensor.untyped_storage()
        # A step of the graph that held its own output, graph and all, would never go.
        kept = tensor.detach()
        if memory.data_ptr() not in own:
            held.append(kept)
            stored[memory.data_ptr()] = memory.nbytes()
        return kept

    def encoder_done(*_: Any) -> None:
        nonlocal in_encoder
        in_encoder = sum(stored.values())

    def passed(_: Any, __: Any, output: Any) -> None:
        nonlocal largest
        tensors = output if isinstance(output, tuple) else (output,)
        sizes = [value.nbytes for value in tensors if isinstance(value, torch.Tensor)]
        largest = max([largest, *sizes])

    hooks = [part.register_forward_hook(passed) for part in model.modules()]
    hooks.append(model.encoder.register_forward_hook(encoder_done))
    try:
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            precision(device, trainer.recipe),
        ):
            trainer.task.loss(model(laid), laid)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        "encoder": in_encoder,
        "head": sum(stored.values()) - in_encoder,
        "passing": 4 * largest,
    }


def _data_bytes(every: Iterable[Examples], corpora: Iterable[Corpus]) -> int:
    """Return what examples and the corpora they were made of take."""
    arrays: list[NDArray[Any]] = []
    texts: dict[int, str] = {}
    held = {id(corpus): corpus for corpus in corpora}
    for examples in every:
        cut = examples.tokenization
        arrays += [value for value in vars(cut).values() if isinstance(value, np.ndarray)]
        arrays += examples.targets.values()
        held[id(examples.corpus)] = examples.corpus
    for corpus in held.values():
        arrays += [corpus.word_offsets, corpus.word_start, corpus.word_stop, corpus.word_segment]
        arrays += [*corpus.annotations.values(), *corpus.columns.values()]
        texts |= {id(text): text for text in (*corpus.texts, *(corpus.pair_texts or ()))}
    return sum(map(sys.getsizeof, texts.values())) + sum(map(_array_bytes, arrays))


def _array_bytes(array: NDArray[Any]) -> int:
    """Return what an array takes, with the texts that lie outside of it."""
    outside = int(np.strings.str_len(array).sum()) if is_string(array) else 0
    return array.nbytes + outside
