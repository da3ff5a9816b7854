"""Sums over pairs of dissimilarities, from sums of kernels that are known up to a constant.

A cosine of two kernels, unlike a correlation, sees what was added to them. What is compared then is
what a table of dissimilarities would hold: 1 - K for `cosine` and `correlation`, the squared
distance for `sqeuclidean`, and for `linear`, which is none, the kernel itself.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.similarity.features.kernels import Frame
from layerlake.analyses.similarity.features.moments import PairSums
from layerlake.analyses.similarity.tiles.tile_kernels import SpaceKernel

Line = tuple[float, float]
"""Offset and slope of a dissimilarity as a function of what was summed."""


def line_of(frame: Frame) -> Line:
    """Return how the dissimilarity of a space follows from its features."""
    if frame.kernel.distance:
        return 0.0, -2.0 / frame.scale**2
    if frame.kernel.unit:
        return 1.0 - frame.constant, -1.0
    return frame.constant / frame.scale**2, 1.0 / frame.scale**2


def line_of_tiles(kernel: SpaceKernel) -> Line:
    """Return how the dissimilarity of a space follows from the entries of its tiles."""
    offset, slope = kernel.scale * kernel.constant, kernel.scale
    unlike = kernel.kernel.rows.distance and kernel.kernel.name != "rbf"
    if kernel.kernel.function is not None or kernel.kernel.name == "linear" or unlike:
        return offset, slope  # a distance, or a person's own kernel, taken as it is
    return 1.0 - offset, -slope


def along(sums: NDArray[np.float64], left: Line, right: Line) -> NDArray[np.float64]:
    """Return sums of dissimilarities, (6, ...), from sums of kernels: count, k, l, kk, ll, kl."""
    count, k, l, kk, ll, kl = sums
    (a, b), (c, d) = left, right
    return np.stack(
        [
            count,
            a * count + b * k,
            c * count + d * l,
            a * a * count + 2 * a * b * k + b * b * kk,
            c * c * count + 2 * c * d * l + d * d * ll,
            a * c * count + a * d * l + b * c * k + b * d * kl,
        ]
    )


def pairs_along(sums: PairSums, left: Line, right: Line) -> PairSums:
    """Return the sums over pairs of two spaces as sums of their dissimilarities."""
    return replace(
        sums,
        total=along(sums.total, left, right),
        within=along(sums.within, left, right),
        own=along(sums.own, left, right),
    )


def leaving_along(
    leaving: NDArray[np.float64], sums: PairSums, left: Line, right: Line
) -> NDArray[np.float64]:
    """Return what touches each cluster, (5, cluster), as sums of dissimilarities."""
    count = sums.sizes * (float(sums.sizes.sum()) - 1.0)
    return along(np.concatenate([count[None], leaving]), left, right)[1:]
