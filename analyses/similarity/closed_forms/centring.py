"""From the moments of a pass to centred sums: one set of moments, many measures.

In the frames of distances p_i = |u_i|^2 is -2 a_i, and in those of unit rows it is
1 - |mu|^2 - 2 a_i, so the moments of [u, a, 1] hold all sums of p and q (see `kernels`). Moving the
origins to the means does the rest.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from layerlake.analyses.similarity.closed_forms.centred_sums import CrossSums, SpaceSums
from layerlake.analyses.similarity.features.kernels import Frame
from layerlake.analyses.similarity.features.moment_state import MomentState, Pair, moved
from layerlake.engine.passes.arrays import Array, from_host, to_host


class CentredSums(NamedTuple):
    """What the closed forms of a group of spaces are computed from."""

    spaces: tuple[SpaceSums, ...]
    crosses: dict[Pair, CrossSums]
    """By pair of two different spaces."""


class _Square(NamedTuple):
    """p as a function of a: offset - 2 a."""

    offset: float
    scale: float  # prepared rows are this many times the rows


def _at_mean(frame: Frame, matrix: Array) -> Frame:
    """Return the frame whose origin is the mean of the rows."""
    mean = matrix[-1, :-2] / matrix[-1, -1]
    origin = frame.origin + from_host(to_host(mean), frame.origin)
    constant = 0.0
    if frame.kernel.unit:
        host = to_host(origin)
        constant = float(host @ host)
    return replace(frame, origin=origin, constant=constant)


def centred_sums(state: MomentState) -> CentredSums:
    """Return the centred sums of every space and pair of a finished pass, on the host.

    Rows are those of the kernel: the rows themselves for `sqeuclidean`, unit rows for `cosine` and
    centred unit rows for `correlation`.

    Parameters
    ----------
    state
        Finished, of one row or more; unchanged.

    Raises
    ------
    ValueError
        The frames are those of the `linear` kernel, whose moments do not hold |u|^2.
    """
    if any(f.kernel.name == "linear" for f in state.frames):
        raise ValueError("moments of the linear kernel lack the squares of the rows")
    n_spaces = len(state.frames)
    frames = tuple(_at_mean(f, state.moments[s, s]) for s, f in enumerate(state.frames))
    central = moved(state, frames)
    ways = [
        _Square(1 - frame.constant if frame.kernel.unit else 0.0, frame.scale) for frame in frames
    ]
    spaces = []
    for s in range(n_spaces):
        cross, gram = _cross(to_host(central.moments[s, s]), ways[s], ways[s])
        mean = to_host(frames[s].origin) / ways[s].scale
        n_rows = int(central.moments[s, s][-1, -1])
        spaces.append(SpaceSums(n_rows, mean, gram, cross.left, cross.squares))
    crosses = {
        (s, t): _cross(to_host(central.moments[s, t]), ways[s], ways[t])[0] for s, t in state.same
    }
    return CentredSums(tuple(spaces), crosses)


def _cross(
    matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]], p: _Square, q: _Square
) -> tuple[CrossSums, np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """Return the sums of two spaces, in the units of their rows, and sum x y' once more."""
    n_rows = matrix[-1, -1]
    product = matrix[:-2, :-2] / (p.scale * q.scale)
    left = (q.offset * matrix[:-2, -1] - 2 * matrix[:-2, -2]) / (p.scale * q.scale**2)
    right = (p.offset * matrix[-1, :-2] - 2 * matrix[-2, :-2]) / (p.scale**2 * q.scale)
    squares = (
        p.offset * q.offset * n_rows
        - 2 * p.offset * matrix[-1, -2]
        - 2 * q.offset * matrix[-2, -1]
        + 4 * matrix[-2, -2]
    ) / (p.scale**2 * q.scale**2)
    return CrossSums(product, left, right, float(squares)), product
