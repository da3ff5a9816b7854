"""Permutation of whole clusters: is there any relation between two spaces beyond the clustering?

Rows of one cluster are alike in every space, so rows are never exchanged one by one: shuffled
tokens would be told from unshuffled ones by their clustering alone. Clusters trade places with
clusters of as many rows, each row going where the row of its place in the other cluster was, and
only pairs of rows from different clusters are correlated. Such an exchange leaves all sums but
that of k l as they are.

The test is of no relation at all between the spaces. It says nothing of how two relations differ;
see `differences` for that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.permutations.between_features import plan_features
from layerlake.analyses.similarity.permutations.between_kernels import plan_kernels
from layerlake.engine.memory import MemoryPlan, require
from layerlake.store.errors import InvalidInput

ALTERNATIVES: Final = ("greater", "two-sided")
_TIE: Final = 1e-6
"""Correlations closer than this are counted as equal: float32 products round by less."""
_ENTRY_COST: Final = 75
"""Multiply-adds that a CPU could do while it puts one pair of rows in its place."""
_CELL_COST: Final = 150
"""The same for an ordered pair of rows of one cluster, found through an index."""


class Rearranged(Protocol):
    """Correlations between clusters of pairs of spaces while rows of one side change places."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each cluster, (cluster,), in row order."""
        ...

    def correlations(self, order: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Return r_between of every pair with row i of one side replaced by row order[i], (pair,).

        NaN where a kernel does not vary.
        """
        ...


@dataclass(frozen=True, slots=True)
class PermutationTest:
    """How one correlation compares with those under permuted clusters."""

    r_between: float
    """Correlation over pairs of rows from different clusters; NaN where it is not defined."""
    p_value: float | None
    """(b + 1) / (B + 1) with b of B permutations at least as extreme; None where there is none."""
    null_mean: float | None
    """Mean of the permuted correlations."""
    null_sd: float | None
    """Their standard deviation."""
    n_permutations: int
    n_clusters: int
    """Clusters with rows."""
    n_exchangeable: int
    """Those that have another of as many rows to change places with."""
    alternative: str
    notes: tuple[str, ...]
    """Sentences about what to be careful with."""


@dataclass(frozen=True, slots=True)
class PermutationPlan:
    """In which form clusters are permuted."""

    form: str
    """`kernels` (`KeptKernels`, then `BetweenKernels`) or `features` (`KeptFeatures`, then
    `BetweenFeatures`)."""
    memory: MemoryPlan
    operations: float
    """Multiply-adds, or what takes as long, of one permutation of all pairs."""


def plan_permutation(
    sizes: NDArray[np.int64],
    hiddens: Sequence[int],
    pairs: Sequence[Pair],
    *,
    allowed: int,
    tile_rows: int,
    factored: bool = True,
    value_bytes: int = 4,
    beside: Mapping[str, int] | None = None,
) -> PermutationPlan:
    """Choose the form that takes less time and fits.

    Parameters
    ----------
    sizes
        (cluster,): rows of each cluster.
    hiddens
        Hidden of each space.
    pairs
        Pairs of spaces to test; the first of a pair is rearranged.
    allowed
        Bytes allowed.
    tile_rows
        Most rows of a tile.
    factored
        Whether the kernel has features; the others are kept whole.
    value_bytes
        Of an entry or a feature: 4 or 8.
    beside
        Bytes held beside each form, while it is read.

    Raises
    ------
    MemoryRefused
        No form fits.
    """
    n_rows, n_cells = int(sizes.sum()), float((np.asarray(sizes, np.float64) ** 2).sum())
    moved = {s for s, _t in pairs}
    whole = _ENTRY_COST * n_rows**2 / 2 * (len(moved) + len(pairs) / 10)
    plans = [
        PermutationPlan(
            "kernels", plan_kernels(n_rows, len(hiddens), tile_rows, value_bytes), whole
        )
    ]
    if factored:
        products = sum(n_rows * (hiddens[s] + 2.0) * (hiddens[t] + 2.0) for s, t in pairs)
        cost = products + _CELL_COST * n_cells * len(moved)
        memory = plan_features(sizes, hiddens, value_bytes)
        plans.append(PermutationPlan("features", memory, cost))
    plans = [
        replace(plan, memory=MemoryPlan({**plan.memory.parts, "reading": beside[plan.form]}))
        if beside
        else plan
        for plan in plans
    ]
    fitting = [plan for plan in plans if plan.memory.needed <= allowed]
    if not fitting:
        require(
            min(plan.memory.needed for plan in plans),
            allowed,
            f"permuting the clusters of {n_rows} rows in {len(hiddens)} spaces",
            "allow more memory, or draw fewer rows",
        )
    return min(fitting, key=lambda plan: plan.operations)


def draw_order(sizes: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw an exchange of clusters of equal size, (row,): the row that takes each row's place."""
    by_size = np.argsort(sizes, kind="stable")
    replaced = np.empty(len(sizes), dtype=np.int64)
    replaced[by_size] = np.lexsort((generator.random(len(sizes)), sizes))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    order: NDArray[np.int64] = np.arange(len(clusters)) + (starts[replaced] - starts)[clusters]
    return order


def permute_clusters(
    rearranged: Rearranged,
    *,
    n_permutations: int = 999,
    seed: int = 0,
    alternative: str = "greater",
    on_progress: Callable[[int], None] | None = None,
) -> list[PermutationTest]:
    """Test every pair of spaces for any relation between clusters.

    Parameters
    ----------
    rearranged
        The spaces, as kernels (`BetweenKernels`) or as features (`BetweenFeatures`).
    n_permutations
        How many to draw; p is at least 1 / (n_permutations + 1).
    seed
        Of the draw. All pairs see the same permutations.
    alternative
        `greater` (alike spaces have larger r) or `two-sided`.
    on_progress
        Called with the number of permutations just done.

    Returns
    -------
    list of PermutationTest
        One for each pair.

    Raises
    ------
    InvalidInput
        A setting means nothing.
    """
    if alternative not in ALTERNATIVES:
        raise InvalidInput(
            f"there is no alternative {alternative!r}; choose one of {', '.join(ALTERNATIVES)}"
        )
    if n_permutations < 1:
        raise InvalidInput(f"{n_permutations} permutations are asked for; give at least 1, as 999")
    sizes = rearranged.sizes
    observed = rearranged.correlations(np.arange(int(sizes.sum())))
    found, counts = np.unique(sizes, return_counts=True)
    movable = counts[counts > 1]
    drawn = np.empty((n_permutations if len(movable) else 0, len(observed)))
    generator = np.random.default_rng(seed)
    for row in drawn:
        row[:] = rearranged.correlations(draw_order(sizes, generator))
        if on_progress is not None:
            on_progress(1)
    notes = _notes(found, counts, n_permutations)
    return [
        _test(r, drawn[:, p], sizes, int(movable.sum()), alternative, notes)
        for p, r in enumerate(observed.tolist())
    ]


def _test(
    r: float,
    drawn: NDArray[np.float64],
    sizes: NDArray[np.int64],
    n_exchangeable: int,
    alternative: str,
    notes: Sequence[str],
) -> PermutationTest:
    """Compare a correlation with those drawn."""
    n_clusters = len(sizes)
    p_value = None
    if np.isnan(r):
        reason = (
            "all rows come from one cluster, so there are no pairs between clusters"
            if n_clusters < 2
            else "a kernel does not vary between clusters, so there is nothing to test"
        )
        notes = (reason,)
    elif len(drawn):
        extreme = (
            np.abs(drawn) >= abs(r) - _TIE if alternative == "two-sided" else drawn >= r - _TIE
        )
        p_value = (int(extreme.sum()) + 1) / (len(drawn) + 1)
    tested = p_value is not None
    return PermutationTest(
        r,
        p_value,
        float(drawn.mean()) if tested else None,
        float(drawn.std(ddof=1)) if tested and len(drawn) > 1 else None,
        len(drawn),
        n_clusters,
        n_exchangeable,
        alternative,
        tuple(notes),
    )


def _notes(
    found: NDArray[np.int64], counts: NDArray[np.int64], n_permutations: int
) -> tuple[str, ...]:
    """Say what the sizes of the clusters keep the test from, given how many have each size."""
    fixed = int(counts[counts == 1].sum())
    if fixed == counts.sum():
        return ("no two clusters have equally many rows, so none can change places",)
    notes = []
    rows, fixed_rows = int(counts @ found), int(found[counts == 1].sum())
    if fixed_rows > rows / 10:
        notes.append(
            f"{fixed} clusters ({fixed_rows} of {rows} rows) have no other of their size and stay "
            "where they are, which makes the test cautious; draw equally many rows per cluster"
        )
    arrangements = float(np.exp(min(gammaln(counts + 1.0).sum(), 600.0)))
    if arrangements < 10 * n_permutations:
        notes.append(
            f"the clusters have only {arrangements:.0f} arrangements, so p cannot come out below "
            f"about {1 / arrangements:.2g}"
        )
    return tuple(notes)
