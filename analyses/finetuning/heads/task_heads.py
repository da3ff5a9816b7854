"""Heads: small networks from an encoder's last layer to what a task asks for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

STANDARD_DEVIATION = 0.02
"""Of new weights, from a normal cut at two of them (Devlin et al. 2019, released code)."""


def initialise(head: nn.Module, seed: int) -> None:
    """Draw the weights of a new head: truncated normal, norm layers and biases as usual.

    The pooler of a pre-trained encoder, which a head may hold, keeps its weights. Of a
    seed the lower 32 bits count, as in all that torch draws on a CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    kept = {
        id(parameter)
        for part in head.modules()
        if getattr(part, "trained", False)
        for parameter in part.parameters()
    }
    for part in head.modules():
        norm = "norm" in type(part).__name__.lower()
        for name, parameter in part.named_parameters(recurse=False):
            if id(parameter) in kept:
                continue
            with torch.no_grad():
                if name.endswith("bias"):
                    parameter.zero_()
                elif norm:
                    parameter.fill_(1.0)
                else:
                    drawn = torch.empty(parameter.shape)
                    nn.init.trunc_normal_(
                        drawn,
                        std=STANDARD_DEVIATION,
                        a=-2 * STANDARD_DEVIATION,
                        b=2 * STANDARD_DEVIATION,
                        generator=generator,
                    )
                    parameter.copy_(drawn)


class Pooler(nn.Module):
    """One vector for an input: a dense layer and tanh on the piece that stands for it."""

    def __init__(self, hidden: int, pool: str) -> None:
        """Make it; `pool` is `first`, `last` or `mean`."""
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.pool = pool
        self.trained = False
        """Whether its weights came with the encoder."""

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (batch, hidden) of the last layer, (batch, piece, hidden), and its mask."""
        if self.pool == "first":
            chosen = hidden[:, 0]
        elif self.pool == "last":
            last = mask.sum(dim=1) - 1
            chosen = hidden[torch.arange(len(hidden), device=hidden.device), last]
        else:
            weights = mask.to(hidden.dtype)[:, :, None]
            chosen = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        return torch.tanh(self.dense(chosen))


class SentenceHead(nn.Module):
    """A label for an input: pooler, dropout, linear (Devlin et al. 2019, section 4.1)."""

    def __init__(self, hidden: int, n_labels: int, pool: str, dropout: float) -> None:
        """Make it for an encoder of that width."""
        super().__init__()
        self.pooler = Pooler(hidden, pool)
        self.dropout = nn.Dropout(dropout)
        self.labels = nn.Linear(hidden, n_labels)

    def forward(
        self,
        hidden: torch.Tensor,
        inputs: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Return `logits`, (batch, label)."""
        pooled = self.pooler(hidden, inputs["attention_mask"])
        return {"logits": self.labels(self.dropout(pooled))}


class AnswerHead(nn.Module):
    """Where an answer starts and ends: two rows on every piece (Devlin et al. 2019, 4.2)."""

    def __init__(self, hidden: int) -> None:
        """Make it for an encoder of that width."""
        super().__init__()
        self.ends = nn.Linear(hidden, 2)

    def forward(
        self,
        hidden: torch.Tensor,
        inputs: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Return `start` and `end`, each (batch, piece); padding has the least logit there is."""
        logits = at_least_float32(self.ends(hidden))
        hidden_places = inputs["attention_mask"] == 0
        logits = logits.masked_fill(hidden_places[:, :, None], torch.finfo(logits.dtype).min)
        return {"start": logits[..., 0], "end": logits[..., 1]}


class WordHead(nn.Module):
    """A label for every word: dropout and linear on the mean of its pieces."""

    def __init__(self, hidden: int, n_labels: int, dropout: float) -> None:
        """Make it for an encoder of that width."""
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.labels = nn.Linear(hidden, n_labels)

    def forward(
        self,
        hidden: torch.Tensor,
        inputs: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Return `logits`, (word, label), of all words of the batch in order."""
        words = mean_of_pieces(hidden, targets["word_of_piece"], int(targets["n_words"].sum()))
        return {"logits": self.labels(self.dropout(words))}


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Return values in float32, or in what is wider if they are: losses need the digits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def mean_of_pieces(hidden: torch.Tensor, word_of_piece: torch.Tensor, n: int) -> torch.Tensor:
    """Return (n, hidden), the mean over the pieces of every word.

    Parameters
    ----------
    hidden
        (batch, piece, hidden).
    word_of_piece
        (batch, piece), the word that a piece belongs to, counted through the batch; -1 for none.
    n
        Words of the batch; each has a piece at least.
    """
    flat = word_of_piece.reshape(-1)
    of_words = flat >= 0
    index = flat[of_words]
    taken = hidden.reshape(-1, hidden.shape[-1])[of_words]
    sums = hidden.new_zeros(n, hidden.shape[-1]).index_add_(0, index, taken)
    counts = hidden.new_zeros(n).index_add_(0, index, torch.ones_like(taken[:, 0]))
    return sums / counts[:, None]
