"""A biaffine dependency parser on top of an encoder (Dozat & Manning 2017, section 2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from layerlake.analyses.finetuning.heads.task_heads import at_least_float32, mean_of_pieces

SLOPE = 0.1
"""Of the leaky rectifier (Dozat & Manning 2017, table 2)."""


class BiaffineHead(nn.Module):
    """Scores of every arc between the words of a sentence, and of every relation of an arc."""

    def __init__(
        self,
        hidden: int,
        n_relations: int,
        *,
        arc_width: int,
        label_width: int,
        dropout: float,
        learned_root: bool,
    ) -> None:
        """Make it for an encoder of that width.

        Parameters
        ----------
        hidden
            Width of the encoder.
        n_relations
            Relations that an arc may have.
        arc_width, label_width
            Of the vectors that arcs and labels are scored by.
        dropout
            Of these vectors.
        learned_root
            Whether ROOT is a vector of its own; else it is the first piece of the input.
        """
        super().__init__()
        self.root = nn.Parameter(torch.zeros(hidden)) if learned_root else None
        self.arc_dependent = nn.Linear(hidden, arc_width)
        self.arc_head = nn.Linear(hidden, arc_width)
        self.label_dependent = nn.Linear(hidden, label_width)
        self.label_head = nn.Linear(hidden, label_width)
        self.arcs = nn.Parameter(torch.zeros(arc_width, arc_width))
        self.arc_prior = nn.Parameter(torch.zeros(arc_width))
        # One row and one column more are the linear terms and the constant.
        self.relations = nn.Parameter(torch.zeros(n_relations, label_width + 1, label_width + 1))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden: torch.Tensor,
        inputs: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Return the scores of arcs, and the vectors that relations are scored by.

        Parameters
        ----------
        hidden
            (batch, piece, hidden).
        inputs
            Of the batch.
        targets
            `word_of_piece` (batch, piece), counted through the batch, -1 for none; `n_words`
            (batch,); `places` (batch, longest + 1): the row of each word, ROOT in place 0 with the
            row of its sentence behind all words, and padding with row 0; `real` (batch,
            longest + 1): whether a word, or ROOT, stands there.

        Returns
        -------
        `arcs` (batch, longest + 1, longest + 1): that the second is the head of the first; -inf
        where no word is. `dependents` and `heads` (batch, longest + 1, label width + 1), and
        `relations` (relation, label width + 1, label width + 1), for `relation_scores`.
        """
        n = int(targets["n_words"].sum())
        words = mean_of_pieces(hidden, targets["word_of_piece"], n)
        if self.root is None:
            roots = hidden[:, 0]
        else:
            roots = self.root.to(words.dtype).expand(len(hidden), -1)
        rows = torch.cat([words, roots])
        places, real = targets["places"], targets["real"]
        dependents = self._vectors(self.arc_dependent, rows)[places]
        heads = self._vectors(self.arc_head, rows)[places]
        scores = (dependents @ self.arcs.to(rows.dtype)) @ heads.transpose(1, 2)
        # How likely a word is to take dependents at all.
        scores = scores + (heads @ self.arc_prior.to(rows.dtype))[:, None, :]
        scores = at_least_float32(scores).masked_fill(~real[:, None, :], -torch.inf)
        return {
            "arcs": scores,
            "dependents": _with_one(self._vectors(self.label_dependent, rows))[places],
            "heads": _with_one(self._vectors(self.label_head, rows))[places],
            "relations": self.relations,
        }

    def _vectors(self, layer: nn.Linear, rows: torch.Tensor) -> torch.Tensor:
        activated = nn.functional.leaky_relu(layer(rows), SLOPE)
        dropped: torch.Tensor = self.dropout(activated)
        return dropped


def relation_scores(
    outputs: Mapping[str, torch.Tensor],
    sentence: torch.Tensor,
    dependent: torch.Tensor,
    head: torch.Tensor,
) -> torch.Tensor:
    """Return (arc, relation), the scores of all relations of some arcs.

    Parameters
    ----------
    outputs
        Of `BiaffineHead`.
    sentence, dependent, head
        (arc,), the sentence of the batch and the places of both words in it.
    """
    dependents = outputs["dependents"][sentence, dependent]
    heads = outputs["heads"][sentence, head]
    n, width = dependents.shape
    table = outputs["relations"].to(dependents.dtype).permute(1, 0, 2).reshape(width, -1)
    turned = (dependents @ table).view(n, -1, width)
    return at_least_float32(torch.bmm(turned, heads[:, :, None])[:, :, 0])


def _with_one(rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
