"""A map of spaces in few dimensions, from how alike each two of them are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.results.similarity_measures import measure_named
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import xarray as xr

DISTANCES: Final = ("angle", "chord")
FEWEST_SPACES: Final = 3


@dataclass(frozen=True, eq=False)
class SpaceMap:
    """Spaces as points."""

    spaces: tuple[tuple[str, int], ...]
    """Variant and layer of each point."""
    points: NDArray[np.float64]
    """(space, dimension), centred; the first axis spreads most."""
    shares: NDArray[np.float64]
    """(dimension,): part of the spread of all points that lies along each axis."""
    left_out: tuple[str, ...]
    """Spaces without any number."""


def space_map(matrix: xr.DataArray, *, distance: str = "angle", dimensions: int = 2) -> SpaceMap:
    """Place spaces so that their distances are kept as well as classical scaling can.

    Parameters
    ----------
    matrix
        What `SimilarityResult.to_matrix` gives. Of a measure that is not symmetric, the mean of
        both directions, or the one there is.
    distance
        How a similarity s becomes a distance: `angle`, arccos s, or `chord`, sqrt(2 (1 - s)).
        Distances and angles are taken as they are.
    dimensions
        Of the map.

    Raises
    ------
    InvalidInput
        Not all pairs were compared, or there are fewer than three spaces.
    """
    if distance not in DISTANCES:
        raise InvalidInput(f"there is no distance {distance!r}; choose {' or '.join(DISTANCES)}")
    values = np.asarray(matrix, dtype=np.float64)
    both = np.where(np.isnan(values), values.T, values)
    both = (both + np.where(np.isnan(values.T), values, values.T)) / 2
    left = ~np.isnan(both).all(axis=1)
    labels = matrix["space"].to_numpy()
    both = both[np.ix_(left, left)]
    n_missing = int(np.isnan(both[np.triu_indices(len(both), 1)]).sum())
    if n_missing:
        raise InvalidInput(
            f"{n_missing} of {len(both) * (len(both) - 1) // 2} pairs of spaces have no "
            f"{matrix.name}; a map needs all pairs compared"
        )
    if len(both) < FEWEST_SPACES:
        raise InvalidInput(f"{len(both)} spaces have numbers; a map needs at least {FEWEST_SPACES}")
    distances = _distances(both, str(matrix.name), distance)
    points, shares = classical_scaling(distances, dimensions)
    spaces = zip(matrix["variant"].to_numpy()[left], matrix["layer"].to_numpy()[left], strict=True)
    return SpaceMap(
        tuple((str(variant), int(layer)) for variant, layer in spaces),
        points,
        shares,
        tuple(map(str, labels[~left])),
    )


def _distances(values: NDArray[np.float64], measure: str, distance: str) -> NDArray[np.float64]:
    """Turn the values of a measure into distances, 0 on the diagonal."""
    if measure_named(measure).kind != "similarity":
        found = values.copy()
    elif distance == "angle":
        found = np.arccos(np.clip(values, -1.0, 1.0))
    else:
        found = np.sqrt(2 * (1 - np.clip(values, -1.0, 1.0)))
    np.fill_diagonal(found, 0.0)
    return found


def classical_scaling(
    distances: NDArray[np.float64], dimensions: int = 2
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points whose distances are closest to those given (Torgerson 1952; Gower 1966).

    Parameters
    ----------
    distances
        (point, point), symmetric, 0 on the diagonal.

    Returns
    -------
    points
        (point, dimension), centred. The signs of the axes, which distances leave open, are such
        that the farthest point of each lies on its positive side.
    shares
        (dimension,): the eigenvalue of each axis in the sum of the positive ones; those of
        distances that no Euclidean space holds are in part negative, and left out.
    """
    n = len(distances)
    squares = distances**2
    centred = squares - squares.mean(axis=0) - squares.mean(axis=1)[:, None] + squares.mean()
    eigenvalues, vectors = np.linalg.eigh(-centred / 2)
    order = np.argsort(eigenvalues)[::-1][:dimensions]
    kept = np.clip(eigenvalues[order], 0.0, None)
    points = vectors[:, order] * np.sqrt(kept)
    points *= np.where(points[np.abs(points).argmax(axis=0), np.arange(len(order))] < 0, -1, 1)
    total = np.clip(eigenvalues, 0.0, None).sum()
    shares = kept / total if total > 0 else np.zeros_like(kept)
    padding = dimensions - len(order)
    if padding > 0:
        points = np.hstack([points, np.zeros((n, padding))])
        shares = np.append(shares, np.zeros(padding))
    return points, shares
