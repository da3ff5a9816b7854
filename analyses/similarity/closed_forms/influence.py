"""How much each cluster moves a closed form: intervals from one second pass.

A closed form is a function of the centred sums of two spaces, so its derivative by the weight of a
row is a polynomial of that row, whose coefficients (a `Gradient`) follow from the sums of the first
pass. Added up over the rows of each cluster they are the influence of the cluster, and the sum of
their squares is the variance (the infinitesimal jackknife, Efron 1982, chapter 6). That costs
products of each row with three matrices, and no further decomposition: leaving clusters out one
at a time would cost one for each, and keeping the sums of groups of clusters a set of moments for
each.

For correlations over pairs, leaving clusters out exactly costs no more than this would: see
`features.rsa_value`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from layerlake.analyses.similarity.closed_forms.centred_sums import CrossSums, SpaceSums
from layerlake.analyses.similarity.features.kernels import Frame
from layerlake.analyses.similarity.features.moment_state import Pair
from layerlake.analyses.similarity.features.preparation import Prepared
from layerlake.analyses.statistics.jackknife import RESOLUTION, Interval
from layerlake.engine.memory import MemoryPlan
from layerlake.engine.passes.arrays import Array, from_host, namespace, to_host
from layerlake.engine.settings import check_confidence

_ROUNDING: Final = 2.0**-52
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Gradient:
    """The derivative of a measure by the weight of a row.

    With x and y the rows of both spaces less their means it is x'A x + x'B y + y'D y.
    """

    value: float
    """The measure."""
    left: Matrix
    """A, (hidden, hidden), symmetric."""
    cross: Matrix
    """B, (hidden, other hidden)."""
    right: Matrix
    """D, (other hidden, other hidden), symmetric."""


def bures_gradient(left: SpaceSums, right: SpaceSums, cross: CrossSums) -> Gradient:
    """Return that of ||X'Y||_* / (|X| |Y|), the cosine of the angular Procrustes distance."""
    u, values, v = np.linalg.svd(cross.product, full_matrices=False)
    kept = values > values[0] * _ROUNDING * max(cross.product.shape)
    p, q = float(np.trace(left.gram)), float(np.trace(right.gram))
    length = math.sqrt(p * q)
    value = float(values.sum()) / length
    return Gradient(
        value,
        -value / (2 * p) * np.eye(len(left.gram)),
        u[:, kept] @ v[kept] / length,
        -value / (2 * q) * np.eye(len(right.gram)),
    )


def canonical_gradient(
    left_whitener: Matrix, right_whitener: Matrix, product: Matrix, *, squared: bool = False
) -> Gradient:
    """Return that of the mean canonical correlation, or of the mean squared one.

    Parameters
    ----------
    left_whitener, right_whitener
        W of each space, (hidden, rank), with W' X'X W the identity.
    product
        (hidden, other hidden): X'Y.
    squared
        Average squares of the correlations.
    """
    u, values, v = np.linalg.svd(left_whitener.T @ product @ right_whitener, full_matrices=False)
    x, y = left_whitener @ u, right_whitener @ v.T
    count = len(values)
    weights = 2 * values if squared else np.ones(count)
    powers = weights * values
    return Gradient(
        float(np.mean(values**2 if squared else values)),
        -(x * powers) @ x.T / (2 * count),
        (x * weights) @ y.T / count,
        -(y * powers) @ y.T / (2 * count),
    )


class ClusterInfluence:
    """Sums the influence of every cluster on measures (an `Accumulator` for a second pass)."""

    def __init__(
        self,
        gradients: Mapping[Pair, Sequence[Gradient]],
        frames: Sequence[Frame],
        means: Sequence[NDArray[np.float64]],
        n_clusters: int,
        precision: str = "float32",
    ) -> None:
        """Take the gradients of the measures of each pair of spaces.

        Parameters
        ----------
        gradients
            By pair, from sums in the units of the rows.
        frames
            Of each space, in which the blocks are prepared.
        means
            (hidden,) of each space: the mean row, as in `SpaceSums`.
        n_clusters
            Clusters of the selection.
        precision
            Of the products.
        """
        self.gradients = {pair: list(measures) for pair, measures in gradients.items()}
        self.n_clusters = n_clusters
        self._frames = tuple(frames)
        self._means = tuple(means)
        self._precision = precision

    def start(self) -> dict[Pair, NDArray[np.float64]]:
        """Return zeros: (measure, cluster) of each pair."""
        return {
            pair: np.zeros((len(measures), self.n_clusters))
            for pair, measures in self.gradients.items()
        }

    def update(
        self, state: dict[Pair, NDArray[np.float64]], block: Prepared
    ) -> dict[Pair, NDArray[np.float64]]:
        """Absorb a block prepared in the frames of the first pass."""
        if not len(block.clusters):
            return state
        first = int(block.clusters[0])
        place = block.clusters - first
        rows: dict[int, Array] = {}
        for pair, measures in self.gradients.items():
            for s in pair:
                if s not in rows:
                    rows[s] = self._centred(s, block.u[s])
            x, y = (rows[s] for s in pair)
            for m, gradient in enumerate(measures):
                totals = np.bincount(place, weights=to_host(self._scores(gradient, x, y)))
                state[pair][m, first : first + len(totals)] += totals
        return state

    def _centred(self, s: int, u: Array) -> Array:
        """Return rows less their mean, in their own units and the working precision."""
        xp = namespace(u)
        frame = self._frames[s]
        mean = from_host(self._means[s], u) * frame.scale - frame.origin
        rows = (xp.astype(u, xp.float64) - mean[None, :]) / frame.scale
        return xp.astype(rows, getattr(xp, self._precision), copy=False)

    def _scores(self, gradient: Gradient, x: Array, y: Array) -> Array:
        """Return the polynomial of every row, (row,) float64."""
        xp = namespace(x)

        def placed(matrix: Matrix) -> Array:
            """Put coefficients where the rows are."""
            return xp.astype(from_host(matrix, x), x.dtype)

        def wide(values: Array) -> Array:
            """Go on in float64."""
            return xp.astype(values, xp.float64)

        by_x = xp.matmul(x, placed(gradient.left))
        by_y = xp.matmul(x, placed(gradient.cross)) + xp.matmul(y, placed(gradient.right))
        return wide(xp.vecdot(by_x, x)) + wide(xp.vecdot(by_y, y))

    def merge(
        self, state: dict[Pair, NDArray[np.float64]], other: dict[Pair, NDArray[np.float64]]
    ) -> dict[Pair, NDArray[np.float64]]:
        """Add the sums of other rows."""
        return {pair: sums + other[pair] for pair, sums in state.items()}

    def finish(self, state: dict[Pair, NDArray[np.float64]]) -> dict[Pair, NDArray[np.float64]]:
        """Return the influence of each cluster on each measure, (measure, cluster) by pair."""
        return state


def plan_influence(
    hiddens: Sequence[int],
    pairs: Sequence[Pair],
    n_measures: int,
    n_clusters: int,
    block_rows: int,
    value_bytes: int = 4,
) -> MemoryPlan:
    """Say what the gradients and the second pass hold, beside the block that is absorbed.

    Parameters
    ----------
    hiddens
        Hidden of each space.
    pairs, n_measures
        Pairs of spaces, and measures of each.
    n_clusters, block_rows
        Of the pass.
    value_bytes
        Of the working precision: 4 or 8.
    """
    widest = max(hiddens)
    square = 8 * sum(hiddens[s] ** 2 + hiddens[t] ** 2 + hiddens[s] * hiddens[t] for s, t in pairs)
    rows = value_bytes * block_rows * sum(hiddens)
    centring = 16 * block_rows * widest
    products = value_bytes * (3 * block_rows * widest + 2 * widest**2) + 32 * block_rows
    return MemoryPlan(
        {
            "gradients": n_measures * square,
            "clusters": 8 * n_measures * len(pairs) * n_clusters + 16 * n_clusters,
            "rows": rows + max(centring, products),
            "objects": 2**17,
        }
    )


def influence_interval(
    value: float, influence: NDArray[np.float64], confidence: float = 0.95
) -> Interval | None:
    """Return the interval that follows from the influence of every cluster, symmetric in atanh.

    Parameters
    ----------
    value
        The measure, a similarity within [-1, 1].
    influence
        (cluster,): of the clusters that have rows.
    confidence
        Nominal coverage, by Student's t with one degree of freedom fewer than there are clusters.

    Returns
    -------
    Interval or None
        None with fewer than two clusters, or where the value is not defined. A similarity that
        cannot be told from 1 or -1 has the interval from itself to that number.
    """
    check_confidence(confidence)
    n_clusters = len(influence)
    if n_clusters < 2 or math.isnan(value) or bool(np.isnan(influence).any()):
        return None
    if abs(value) > 1 + RESOLUTION:
        return None
    if 1 - abs(value) <= RESOLUTION:
        return Interval(value, 1.0) if value > 0 else Interval(-1.0, value)
    spread = float(np.sum((influence - influence.mean()) ** 2)) * n_clusters / (n_clusters - 1)
    reach = float(stdtrit(n_clusters - 1, 0.5 + confidence / 2)) * math.sqrt(spread)
    reach /= 1 - value**2
    return Interval(math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach))
