"""What every task of fine-tuning has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.finetuning.recipes import Recipe
from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.tokenization.batching import pad_batch
from layerlake.engine.tokenization.tokenize import Tokenization

if TYPE_CHECKING:
    import torch
    from torch import nn

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True, eq=False)
class Examples:
    """A corpus as a task sees it: inputs of pieces, and what is to be learned of each."""

    corpus: Corpus
    tokenization: Tokenization
    named: str
    """The file or the data set, for messages and scores."""
    targets: dict[str, NDArray[Any]] = field(default_factory=dict)
    """What a task keeps: per input, per word or per piece, as its own docstring says."""
    notes: tuple[str, ...] = ()
    """What a person should know of how they came about, a sentence each."""

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return self.tokenization.n_inputs

    def input_names(self, chosen: NDArray[np.int64]) -> list[str]:
        """Return the names of the examples that inputs were cut from."""
        examples = self.tokenization.input_example[chosen]
        return [self.corpus.example_name(int(example)) for example in examples]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some inputs side by side, padded at the right, as tensors."""

    chosen: NDArray[np.int64]
    """(batch,) which inputs of the examples."""
    inputs: dict[str, torch.Tensor]
    """`input_ids`, `attention_mask`, `token_type_ids`, each (batch, piece)."""
    targets: dict[str, torch.Tensor]
    """As the task lays them."""

    def to(self, device: torch.device) -> Batch:
        """Return it on a device."""

        def moved(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {name: value.to(device, non_blocking=True) for name, value in tensors.items()}

        return Batch(self.chosen, moved(self.inputs), moved(self.targets))


class Answers(ABC):
    """What a model says of examples, taken in batch by batch, and how good it is."""

    def __init__(self, examples: Examples, inventory: Mapping[str, Any], recipe: Recipe) -> None:
        self.examples = examples
        self.inventory = inventory
        self.recipe = recipe

    @abstractmethod
    def add(self, outputs: Mapping[str, torch.Tensor], batch: Batch) -> None:
        """Take in what the model gave for some inputs."""

    @abstractmethod
    def state(self) -> Any:
        """Return what was taken in, ready to be pickled."""

    @abstractmethod
    def join(self, state: Any) -> None:
        """Take in the state of another one over other examples of the same corpus."""

    @abstractmethod
    def scores(self) -> dict[str, float]:
        """Return the scores by name, the first of them the one that selects."""

    @abstractmethod
    def write(self, file: Path, source: Path | None) -> None:
        """Write the predictions in the task's own format.

        Parameters
        ----------
        file
            Where to.
        source
            The file that the examples were read from, where there is one.
        """


class Task(ABC):
    """One kind of thing that an encoder can be fine-tuned for. It holds no state."""

    name: ClassVar[str]
    recipe_class: ClassVar[type[Recipe]]
    formats: ClassVar[tuple[str, ...]]
    """Formats of files that it can be trained on, the usual one first."""
    suffix: ClassVar[str]
    """Of a file of its predictions."""

    @abstractmethod
    def inventory(self, train: Corpus, recipe: Recipe) -> dict[str, Any]:
        """Return what the head must know of the training data, such as its labels; JSON."""

    @abstractmethod
    def encode(
        self,
        corpus: Corpus,
        tokenizer: Any,
        limit: int | None,
        recipe: Recipe,
        inventory: Mapping[str, Any],
        named: str,
    ) -> Examples:
        """Cut a corpus into inputs, with their targets.

        Parameters
        ----------
        corpus, named
            The examples, and their file.
        tokenizer, limit
            Of the encoder, and the most pieces it has positions for.
        recipe, inventory
            As trained.

        Raises
        ------
        InvalidInput
            The corpus is not one for this task, or an example cannot be used (it is named).
        """

    @abstractmethod
    def head(self, encoder: nn.Module, inventory: Mapping[str, Any], recipe: Recipe) -> nn.Module:
        """Return an untrained head; its weights are set by `task_heads.initialise`.

        Its `forward(hidden, inputs, targets)` takes the last layer, (batch, piece, hidden), and the
        tensors of the batch, and returns named tensors.
        """

    @abstractmethod
    def weights(self, examples: Examples) -> NDArray[np.float64]:
        """Return (input,) how much each input counts in a mean over a batch."""

    @abstractmethod
    def loss(self, outputs: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Return the sum of the losses of a batch; over the sum of `weights` it is the mean."""

    @abstractmethod
    def answers(self, examples: Examples, inventory: Mapping[str, Any], recipe: Recipe) -> Answers:
        """Return what takes in the model's outputs over some examples."""

    def lay_targets(
        self, examples: Examples, chosen: NDArray[np.int64], width: int
    ) -> dict[str, NDArray[Any]]:
        """Return the targets of some inputs, padded to a width in pieces."""
        return {}

    def lay(self, examples: Examples, chosen: NDArray[np.int64], pad_id: int) -> Batch:
        """Return some inputs as a batch."""
        import torch

        cut = examples.tokenization
        laid = pad_batch(cut.piece_ids, cut.segment_ids, cut.input_offsets, chosen, pad_id)
        targets = self.lay_targets(examples, chosen, laid[0].shape[1])
        return Batch(
            chosen,
            {name: torch.from_numpy(array) for name, array in zip(INPUTS, laid, strict=True)},
            {name: torch.from_numpy(array) for name, array in targets.items()},
        )
