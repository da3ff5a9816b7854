"""CKA under any kernel from tiles (Kornblith et al. 2019), biased and debiased, with deletions.

HSIC is the sum over all pairs of rows of two centred kernels' product. From sums of tiles:

- biased (Gretton et al. 2005): tr(K H L H) = S - 2/n r.s + (1'r)(1's)/n^2, where S sums k l over
  all ordered pairs with the rows themselves, and r and s are the row sums of K and L;
- debiased (Song et al. 2012, equation 5, which Nguyen et al. 2021 put into CKA): with the rows
  themselves left out of S, r and s, n(n - 3) times [S + (1'r)(1's)/((n-1)(n-2)) - 2 r.s/(n-2)].

Neither sees a constant added to a kernel, so the entries of tiles will do. Whole clusters are dealt
out to a few groups, and the sums are kept by group, which is what leaving one out takes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.moment_state import Pair, with_own
from layerlake.analyses.similarity.tiles.planning import ReducerBytes
from layerlake.analyses.similarity.tiles.tile import Tile
from layerlake.analyses.similarity.tiles.tile_kernels import (
    ENTRY_ROUNDING,
    STRIP_ROWS,
    part_of,
    strips,
)
from layerlake.analyses.similarity.tiles.tile_pass import TilePass
from layerlake.engine.passes.arrays import Array, from_host, is_numpy, namespace, to_host

GROUPS: Final = 20
"""Groups of clusters that are left out in turn."""
_ROUNDING: Final = 2.0**-36
"""Share of the sums that an HSIC is made of below which it is what rounding left of 0."""


@dataclass(slots=True)
class CkaState:
    """Running sums of kernels less their centres."""

    rows: NDArray[np.float64]
    """(space, row, group): sums of each row over the rows of a group, itself left out."""
    products: NDArray[np.float64]
    """(pair, group, group): sums of k l over ordered pairs of two rows."""
    own: NDArray[np.float64]
    """(space, row): each row with itself."""


@dataclass(frozen=True, slots=True)
class CkaValue:
    """The CKA of two spaces; NaN where a kernel does not vary."""

    biased: float
    debiased: float
    deleted_biased: NDArray[np.float64]
    """(group,): with each group left out, for `jackknife.jackknife`; empty with one group."""
    deleted_debiased: NDArray[np.float64]


def deal_groups(clusters: NDArray[np.int64], n_groups: int) -> NDArray[np.int64]:
    """Deal whole clusters out to groups of about as many rows.

    Parameters
    ----------
    clusters
        (row,): cluster of each row, ascending.
    n_groups
        Groups; as many as there are clusters where those are fewer.

    Returns
    -------
    ndarray
        (row,): group of each row, 0, 1, ..., ascending: neighbouring clusters, such as those of one
        document, are left out together.
    """
    starts = np.flatnonzero(np.append(True, clusters[1:] != clusters[:-1]))
    n_groups = min(n_groups, len(starts))
    lengths = np.diff(np.append(starts, len(clusters)))
    middles = starts + lengths / 2
    group = np.minimum((middles * n_groups / len(clusters)).astype(np.int64), n_groups - 1)
    _, group = np.unique(group, return_inverse=True)  # a long cluster may span a whole group
    return np.repeat(group, lengths)


class TileCka:
    """CKA of any pairs of spaces (an `Accumulator` of tiles)."""

    def __init__(self, tiles: TilePass, pairs: Sequence[Pair], *, n_groups: int = GROUPS) -> None:
        """Take the pass, the pairs of its spaces, and the groups to leave out (1 for none)."""
        self.spaces = len(tiles.kernels)
        self.pairs = tuple(pairs)
        self.centres = tiles.centres
        self.products = with_own(self.spaces, pairs)
        self.noise = ENTRY_ROUNDING[tiles.source.precision] ** 2
        self.groups = deal_groups(tiles.clusters, n_groups)
        self.n_groups = int(self.groups[-1]) + 1

    def start(self) -> CkaState:
        """Return the sums of no tiles."""
        n_rows = len(self.groups)
        return CkaState(
            np.zeros((self.spaces, n_rows, self.n_groups)),
            np.zeros((len(self.products), self.n_groups, self.n_groups)),
            np.zeros((self.spaces, n_rows)),
        )

    def update(self, state: CkaState, tile: Tile) -> CkaState:
        """Absorb a tile."""
        first = tile.kernels[0]
        over_rows, over_columns = (
            self._members(tile.rows, first),
            self._members(tile.columns, first),
        )
        if tile.diagonal:
            for s, kernel in enumerate(tile.kernels):
                own = to_host(namespace(kernel).linalg.diagonal(kernel)).astype(np.float64)
                state.own[s, slice(*tile.rows)] = own - self.centres[s]
        for lo, hi in strips(first):
            left = lo if tile.diagonal else 0
            parts = [
                part_of(kernel, lo, hi, left, centre, diagonal=tile.diagonal)
                for kernel, centre in zip(tile.kernels, self.centres, strict=True)
            ]
            member_rows, member_columns = over_rows[lo:hi, :], over_columns[left:, :]
            rows = slice(tile.rows[0] + lo, tile.rows[0] + hi)
            columns = slice(tile.columns[0] + left, tile.columns[1])
            for s, part in enumerate(parts):
                xp = namespace(part)
                state.rows[s, rows] += to_host(part @ member_columns)
                state.rows[s, columns] += to_host(xp.matrix_transpose(part) @ member_rows)
            room = np.empty_like(parts[0], order="C") if is_numpy(first) else None
            group = self.groups[rows]
            firsts = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
            for p, (s, t) in enumerate(self.products):
                product = (
                    parts[s] * parts[t]
                    if room is None
                    else np.multiply(parts[s], parts[t], out=room)
                )
                sums = to_host(product @ member_columns).astype(np.float64)
                state.products[p, group[firsts]] += np.add.reduceat(sums, firsts, axis=0)
        return state

    def merge(self, state: CkaState, other: CkaState) -> CkaState:
        """Add the sums of other tiles."""
        state.rows += other.rows
        state.products += other.products
        state.own += other.own
        return state

    def finish(self, state: CkaState) -> dict[Pair, CkaValue]:
        """Return the CKA of each pair."""
        # Every unordered pair of rows has come once, and counts in both orders.
        products = state.products + np.swapaxes(state.products, 1, 2)
        whole = np.ones(self.n_groups, dtype=np.bool_)
        left = [whole]
        if self.n_groups > 1:
            left += [np.arange(self.n_groups) != g for g in range(self.n_groups)]
        found = np.array(
            [self._hsics(state, products, kept) for kept in left]
        )  # (kept, 2, product)
        place = {pair: p for p, pair in enumerate(self.products)}
        values = {}
        for s, t in self.pairs:
            cross, k, l = (found[:, :, place[pair]] for pair in ((s, t), (s, s), (t, t)))
            with np.errstate(invalid="ignore", divide="ignore"):
                cka = np.where((k > 0) & (l > 0), cross / np.sqrt(k * l), np.nan)
            values[s, t] = CkaValue(
                float(cka[0, 0]), float(cka[0, 1]), cka[1:, 0].copy(), cka[1:, 1].copy()
            )
        return values

    def _members(self, bounds: tuple[int, int], like: Array) -> Array:
        """Return which group each row is of, (row, group), 1 or 0."""
        member = self.groups[slice(*bounds)][:, None] == np.arange(self.n_groups)
        xp = namespace(like)
        return xp.astype(from_host(member, like), like.dtype)

    def _hsics(
        self, state: CkaState, products: NDArray[np.float64], kept: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return biased and debiased HSIC of every product over the groups kept, (2, product).

        Both up to a factor of the number of rows; a kernel's own is NaN where it is rounding.
        """
        rows = kept[self.groups]
        n = int(rows.sum())
        sums = state.rows[:, rows][:, :, kept].sum(axis=2)
        own = state.own[:, rows]
        out = np.full((2, len(self.products)), math.nan)
        for p, (s, t) in enumerate(self.products):
            apart = float(products[p][np.ix_(kept, kept)].sum())
            r, q = sums[s], sums[t]
            a, b = r + own[s], q + own[t]
            diagonal = float(own[s] @ own[t])
            least = n * self.noise * diagonal if s == t else -math.inf
            terms = apart + diagonal, 2 / n * float(a @ b), a.sum() * b.sum() / n**2
            out[0, p] = _above(least, terms)
            if n > 3:
                terms = (
                    apart,
                    2 / (n - 2) * float(r @ q),
                    r.sum() * q.sum() / ((n - 1) * (n - 2)),
                )
                out[1, p] = _above(least, terms)
        return out


def _above(least: float, terms: tuple[float, float, float]) -> float:
    """Return an HSIC from its terms, or NaN where a kernel's own is what rounding left of 0."""
    value = terms[0] - terms[1] + terms[2]
    if least > -math.inf and value <= max(least, _ROUNDING * max(map(abs, terms))):
        return math.nan
    return value


def cka_memory(
    n_rows: int,
    spaces: int,
    pairs: Sequence[Pair],
    *,
    n_groups: int = GROUPS,
    precision: str = "float32",
) -> ReducerBytes:
    """Return what `TileCka` holds for panels of so many rows, for `plan_tiles`."""
    quantities, value = len(with_own(spaces, pairs)), 8 if precision == "float64" else 4
    held = 8 * (n_rows * (spaces * (n_groups + 1) + 1) + quantities * n_groups**2)
    # Leaving a group out copies the row sums of the others, one way and then the other.
    ended = 8 * (n_rows * spaces * (2 * n_groups + 4) + 2 * quantities * n_groups**2)

    def reducing(panel_rows: int) -> int:
        """Count the sums, a strip of every space and a product, and who is in which group."""
        strip = min(STRIP_ROWS, panel_rows) * panel_rows
        members = panel_rows * n_groups * (3 * value + 9)
        return max(held + members + strip * value * (spaces + 1), held + ended)

    return reducing
