"""What a tile of a kernel matrix is made of, for kernels with and without features.

Every kernel but a person's own begins as one matrix product. A row with the features u and a (see
`kernels`) becomes the panel row [u, 1, 1, h, l] with a = h + l, two numbers of the working
precision; multiplied with [u, h, l, 1, 1] of another row that is u_i . u_j + a_i + a_j. Two numbers,
since the rounding of one would be the same along a whole row of the matrix and would not average
out.

The kernels without features go on from -|x_i - x_j|^2 / 2: `euclidean` takes the root, `rbf` (Chen
et al. 2002; Kornblith et al. 2019, section 3) is exp(-|x_i - x_j|^2 / (2 sigma^2)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.kernels import KERNELS, Frame, Kernel, prepare
from layerlake.analyses.similarity.question import UserKernel
from layerlake.engine.passes.arrays import Array, from_host, is_numpy, namespace, take_rows, to_host
from layerlake.store.errors import InvalidInput, is_a

EXTRA_COLUMNS: Final = 4
"""Columns of a panel beside u."""
STRIP_ROWS: Final = 128
"""Rows of a tile that are worked on at a time, so that they stay in the cache."""
REPAIRED_PAIRS: Final = 128
"""Pairs of close rows whose distance is taken again at a time."""
_CLOSE: Final = 2.0**-6
"""Share of |u_i|^2 + |u_j|^2 below which a squared distance is taken from the difference of the
rows: above it, the digits that the product loses move the distance by less than 2e-5 of itself."""
ENTRY_ROUNDING: Final = {"float32": 2.0**-20, "float64": 2.0**-36}
"""By precision: what rounding alone makes the entries of a kernel vary by, as a share of the
kernel of a row with itself."""
_ASYMMETRY: Final = 1e-3
"""Most that a person's kernel may differ from its transpose, as a share of its largest value."""


@dataclass(frozen=True, slots=True)
class TileKernel:
    """A kernel that a tile pass can form."""

    name: str
    rows: Kernel
    """How rows are prepared."""
    bandwidth: float | None = None
    """Sigma of `rbf`, in units of the stored rows and the same for every space; None for
    `of_median` times the median distance between rows of a sample of each space."""
    of_median: float = 1.0
    function: UserKernel | None = None
    """A person's own kernel."""

    @property
    def featured(self) -> bool:
        """Whether the kernel is a sum over features, and known up to a constant."""
        return self.function is None and self.name in KERNELS


def tile_kernel(
    kernel: str | UserKernel, *, bandwidth: float | None = None, of_median: float = 1.0
) -> TileKernel:
    """Return the kernel of that name, or of that function.

    Parameters
    ----------
    kernel
        `cosine`, `correlation`, `linear`, `sqeuclidean`, `euclidean`, `rbf`, or a function (see
        `UserKernel`).
    bandwidth
        Of `rbf`: sigma, in units of the stored rows; None for `of_median` times the median distance.
    of_median
        Of `rbf` without a bandwidth.

    Raises
    ------
    InvalidInput
        No kernel has that name, or the bandwidth is not above 0 or not that of an `rbf`.
    """
    if bandwidth is not None and kernel != "rbf":
        raise InvalidInput(
            f"a bandwidth of {bandwidth} is given, and only rbf has one; leave it out"
        )
    if not of_median == 1.0 and (kernel != "rbf" or bandwidth is not None):
        raise InvalidInput(
            f"{of_median} times the median distance is asked for, and only an rbf without a "
            "bandwidth takes it; leave it out"
        )
    for value, what in ((bandwidth, "the bandwidth"), (of_median, "the share of the median")):
        if value is not None and not (
            is_a(value, int, float) and math.isfinite(value) and value > 0
        ):
            raise InvalidInput(f"{what} is {value!r}; give a number above 0")
    if callable(kernel):
        name = str(getattr(kernel, "__name__", type(kernel).__name__))
        return TileKernel(name, KERNELS["linear"], function=kernel)
    if is_a(kernel, str) and kernel in KERNELS:
        return TileKernel(kernel, KERNELS[kernel])
    if kernel == "euclidean":
        return TileKernel(kernel, KERNELS["sqeuclidean"])
    if kernel == "rbf":
        return TileKernel(kernel, KERNELS["sqeuclidean"], bandwidth, of_median)
    raise InvalidInput(
        f"there is no kernel {kernel!r}; choose one of {', '.join(KERNELS)}, euclidean, rbf, or "
        "give a function of two blocks of rows"
    )


@dataclass(frozen=True, slots=True)
class SpaceKernel:
    """The kernel of one space, ready to be formed."""

    kernel: TileKernel
    frame: Frame
    shift: float = 0.0
    """Taken off every a, so that a kernel with features has a mean near 0."""
    sigma: float | None = None
    """Bandwidth of `rbf`, in units of the stored rows."""

    @property
    def constant(self) -> float:
        """What the tiles leave out of every entry; the kernel is `scale * (tile + constant)`."""
        return self.frame.constant + 2 * self.shift if self.kernel.featured else 0.0

    @property
    def scale(self) -> float:
        """What the tiles are to be multiplied with; negative where a tile is larger for rows that
        are closer and the kernel is a distance."""
        t = self.frame.scale
        if self.kernel.featured:
            return -2 / t**2 if self.kernel.rows.distance else 1 / t**2
        return 1 / t if self.kernel.name == "euclidean" and self.kernel.function is None else 1.0

    def rounding(self, square: float, largest: float, precision: str) -> float:
        """Return how far apart rounding alone may put the entries of tiles.

        Parameters
        ----------
        square
            The mean of |u|^2 of the prepared rows.
        largest
            The largest absolute value of the entries of two rows.
        precision
            Of the tiles.
        """
        share = ENTRY_ROUNDING[precision]
        if self.kernel.featured:
            return share * square
        if self.sigma is not None and largest > 0:  # a share of t moves exp(-t) by t times as much
            largest *= max(-math.log(largest), 1.0)
        return share * largest

    def width(self, hidden: int) -> int:
        """Return the columns of a panel."""
        return hidden if self.kernel.function else hidden + EXTRA_COLUMNS

    def fill(self, panel: Array, lo: int, rows: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Prepare rows into a panel from row `lo` on.

        Returns
        -------
        tuple
            Float64 sums of u, (hidden,), and of |u|^2, (), and which rows are usable, (row,).
        """
        xp = namespace(panel)
        count, hidden = rows.shape
        hi = lo + count
        part = prepare(rows, self.frame)
        usable = to_host(part.usable)
        ones = xp.ones((count,), dtype=xp.float64, device=part.u.device)
        # From u itself: of own and a little is left where rows hardly vary.
        sums = xp.matmul(ones, part.u), xp.sum(xp.vecdot(part.u, part.u))
        if self.kernel.function:
            panel[lo:hi, :] = xp.astype(rows, panel.dtype)
            return *sums, usable
        a = part.a - self.shift
        high = xp.astype(a, panel.dtype)
        low = xp.astype(a - xp.astype(high, xp.float64), panel.dtype)
        # numpy rounds while it stores
        panel[lo:hi, :hidden] = part.u if is_numpy(panel) else xp.astype(part.u, panel.dtype)
        panel[lo:hi, hidden : hidden + 2] = 1
        panel[lo:hi, hidden + 2] = high
        panel[lo:hi, hidden + 3] = low
        return *sums, usable

    def turned(self, panel: Array, out: Array | None = None) -> Array:
        """Return a copy of a panel that stands on the left of a product, in `out` where given."""
        if out is None:
            xp = namespace(panel)
            return xp.concat([panel[:, :-4], panel[:, -2:], panel[:, -4:-2]], axis=1)
        out[:, :-4] = panel[:, :-4]
        out[:, -4:-2] = panel[:, -2:]
        out[:, -2:] = panel[:, -4:-2]
        return out

    def form(self, left: Array, panel: Array, *, diagonal: bool, out: Array | None) -> Array:
        """Form the tile of the rows of two panels.

        Parameters
        ----------
        left, panel
            The panel of the rows, turned, and that of the columns; on the diagonal the same panel,
            not turned.
        diagonal
            Both hold the same rows; the tile is then symmetric.
        out
            (row, column) numpy array to form the tile in; None for other libraries.
        """
        if self.kernel.function:
            tile = self._called(left, panel, diagonal=diagonal)
            if out is None:
                return tile
            out[:] = tile
            return out
        xp = namespace(panel)
        if diagonal:
            # numpy turns u u' into a symmetric product of half the work.
            u = panel[:, :-4]
            tile = xp.matmul(u, xp.matrix_transpose(u), **({} if out is None else {"out": out}))
            # Copied out, for a column of a panel has a cache line for every value.
            high, low = (xp.asarray(panel[:, c], copy=True) for c in (-2, -1))
            for lo, hi in strips(tile):
                tile[lo:hi, :] += (high[lo:hi, None] + high[None, :]) + (
                    low[lo:hi, None] + low[None, :]
                )
        elif out is None:
            tile = xp.matmul(left, xp.matrix_transpose(panel))
        else:
            tile = np.matmul(left, panel.T, out=out)
        if not self.kernel.featured:
            self._finish(tile, left, panel, diagonal=diagonal)
        return tile

    def _called(self, left: Array, right: Array, *, diagonal: bool) -> Array:
        """Call a person's kernel and hold it to what a kernel is."""
        assert self.kernel.function is not None
        xp = namespace(left)
        found = self.kernel.function(left, right)
        shape = (left.shape[0], right.shape[0])
        if getattr(found, "shape", None) != shape:
            raise InvalidInput(
                f"the kernel {self.kernel.name} returned {_shape_of(found)} for {shape[0]} and "
                f"{shape[1]} rows; it has to return an array of {shape}"
            )
        tile = xp.astype(xp.asarray(found), left.dtype, copy=False)
        if not bool(xp.all(xp.isfinite(tile))):
            raise InvalidInput(
                f"the kernel {self.kernel.name} returned NaN or infinity; it has to be finite for "
                "every two rows"
            )
        if diagonal:
            apart = float(xp.max(xp.abs(tile - xp.matrix_transpose(tile))))
            if apart > _ASYMMETRY * float(xp.max(xp.abs(tile))):
                raise InvalidInput(
                    f"the kernel {self.kernel.name} differs by {apart:.3g} with its two rows "
                    "exchanged; it has to be symmetric"
                )
        return tile

    def _finish(self, tile: Array, left: Array, panel: Array, *, diagonal: bool) -> None:
        """Turn -|x - y|^2 / 2 into |x - y|, or into that of `rbf`, in place."""
        xp = namespace(tile)
        factor = -2.0 if self.sigma is None else 1 / (self.sigma * self.frame.scale) ** 2
        bound_left = _CLOSE * left[:, -2 if diagonal else -4]
        bound_right = _CLOSE * panel[:, -2]
        for lo, hi in strips(tile):
            strip = tile[lo:hi, :]
            close = strip > bound_left[lo:hi, None] + bound_right[None, :]
            if bool(xp.any(close)):
                found = to_host(close)
                if diagonal:
                    found = found.copy()
                    found[np.arange(hi - lo), np.arange(lo, hi)] = False
                strip = _repaired(strip, found, left[lo:hi, :-4], panel[:, :-4])
                if diagonal:
                    _set_diagonal(strip, lo, 0.0)
            strip *= factor
            if self.sigma is None:
                tile[lo:hi, :] = xp.sqrt(xp.where(strip > 0, strip, xp.zeros_like(strip)))
            else:
                tile[lo:hi, :] = xp.exp(xp.where(strip < 0, strip, xp.zeros_like(strip)))


def strips(tile: Array) -> list[tuple[int, int]]:
    """Cut the rows of a tile into strips that stay in the cache; one strip on a device."""
    n_rows = tile.shape[0]
    step = STRIP_ROWS if is_numpy(tile) else n_rows
    return [(lo, min(lo + step, n_rows)) for lo in range(0, n_rows, step)]


def part_of(kernel: Array, lo: int, hi: int, left: int, centre: float, *, diagonal: bool) -> Array:
    """Return a strip of a tile from column `left` on, less the centre.

    In a strip of a diagonal tile, which begins at its own rows, all but the strict upper half is 0.
    """
    part = kernel[lo:hi, left:]
    if centre:
        part = part - centre
    if not diagonal:
        return part
    if not is_numpy(part):
        return namespace(part).triu(part, k=1)
    part = part if centre else part.copy()
    part[:, : hi - lo] = np.triu(part[:, : hi - lo], k=1)
    return part


def _set_diagonal(strip: Array, lo: int, value: float) -> None:
    """Set the entries of rows with themselves in a strip whose first row is `lo`."""
    if is_numpy(strip):
        strip[np.arange(strip.shape[0]), np.arange(lo, lo + strip.shape[0])] = value
        return
    for row in range(strip.shape[0]):
        strip[row, lo + row] = value


def _repaired(strip: Array, close: NDArray[np.bool_], u: Array, v: Array) -> Array:
    """Return a strip of -|u - v|^2 / 2 with the close pairs taken from u - v in float64."""
    xp = namespace(strip)
    rows, columns = np.nonzero(close)
    host = to_host(strip)
    if not host.flags.writeable:
        host = host.copy()
    for at in range(0, len(rows), REPAIRED_PAIRS):
        i, j = rows[at : at + REPAIRED_PAIRS], columns[at : at + REPAIRED_PAIRS]
        apart = xp.astype(take_rows(u, i), xp.float64)
        apart -= xp.astype(take_rows(v, j), xp.float64)
        host[i, j] = -0.5 * to_host(xp.vecdot(apart, apart))
    return from_host(host, strip)


def _shape_of(found: Any) -> str:
    """Say in words what a person's kernel returned."""
    shape = getattr(found, "shape", None)
    return f"a {type(found).__name__}" if shape is None else f"an array of {tuple(shape)}"
