"""The sizes of a comparison, from which planners compute bytes and multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.engine.passes.selected_rows import SelectedRows, making_bytes, value_bytes


@dataclass(frozen=True, eq=False)
class Workload:
    """How many rows of which spaces are compared, and how they are clustered."""

    n_rows: int
    widths: tuple[int, ...]
    """Hidden size of each space."""
    value_bytes: tuple[int, ...]
    """Bytes of a value of each space as it is read."""
    cluster_sizes: NDArray[np.int64]
    """(cluster,): rows of each cluster, in order."""
    pairs: tuple[Pair, ...]
    """Spaces that are compared, by their places."""
    making_bytes: int = 0
    """What making rows of what is read takes beside them."""

    @classmethod
    def of(cls, selected: SelectedRows, pairs: Sequence[Pair]) -> Workload:
        """Return the sizes of selected rows and pairs of their spaces."""
        return cls(
            selected.n_rows,
            tuple(space.shape[1] for space in selected.spaces),
            tuple(value_bytes(space) for space in selected.spaces),
            selected.lengths,
            tuple(pairs),
            making_bytes(selected.spaces),
        )

    def over(self, n_rows: int) -> Workload:
        """Return the same over so many of the rows."""
        return replace(self, n_rows=n_rows)

    @property
    def n_spaces(self) -> int:
        """Spaces compared."""
        return len(self.widths)

    @property
    def n_clusters(self) -> int:
        """Clusters that the rows come from."""
        return len(self.cluster_sizes)

    @property
    def bounds(self) -> NDArray[np.int64]:
        """(cluster + 1,): where each cluster starts, and the number of rows."""
        return np.concatenate([[0], np.cumsum(self.cluster_sizes)]).astype(np.int64)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of every space, as they are read."""
        return sum(w * b for w, b in zip(self.widths, self.value_bytes, strict=True))
