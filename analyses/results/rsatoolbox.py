"""Dissimilarity matrices to rsatoolbox and back, and its datasets as labelled arrays.

rsatoolbox holds matrices whole: this is for few rows. Comparing spaces of many needs none of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.results.space_matrix import space_matrix
from layerlake.store.amounts import parse_bytes, require
from layerlake.store.errors import InvalidInput
from layerlake.store.views.rsatoolbox_dataset import (
    chosen_rows,
    dataset_bytes,
    row_descriptors,
    rsatoolbox_module,
    widened,
)

if TYPE_CHECKING:
    import xarray as xr

    from layerlake.analyses.results.record import Records
    from layerlake.store.space import Space

DISSIMILARITIES: Final = {
    "cosine": "1 - cosine",
    "correlation": "correlation",
    "sqeuclidean": "squared euclidean",
    "euclidean": "euclidean",
}
"""Kernels, and what rsatoolbox calls the dissimilarity (the mean over channels, of squares)."""
PANEL_ROWS: Final = 256
"""Rows whose dissimilarities to all others are in memory at once."""


def rdms_of(
    spaces: Sequence[Space],
    index: Any = None,
    *,
    kernel: str = "correlation",
    words: bool = True,
    memory: int | str = "1GiB",
) -> Any:
    """Return the dissimilarity matrices of spaces as `rsatoolbox.rdm.RDMs`, one each.

    Parameters
    ----------
    spaces
        Of the same rows (one row set), at least one.
    index
        Which rows, as `Space.rows` takes them; by default all.
    kernel
        `cosine` and `correlation` (1 - s), `sqeuclidean` and `euclidean` (as rsatoolbox has them:
        squares are divided by the number of channels).
    words
        Whether to read the texts of words.
    memory
        Most bytes to hold: 4 n (n - 1) a space for what comes back, and beside it twice the rows of
        one space in float64 and 256 n numbers.

    Returns
    -------
    RDMs, its `rdm_descriptors` corpus, variant, site and layer, its `pattern_descriptors` what is
    known of the rows, as `Space.to_rsatoolbox` has it. In float64.

    Raises
    ------
    InvalidInput
        Unknown kernel, no space, spaces of other rows, fewer than two rows, or a row that
        is not finite or has no direction under `cosine` or `correlation`.
    MemoryRefused, MissingExtra, OutOfRange, SetIncomplete
        As `Space.to_rsatoolbox`.
    """
    if kernel not in DISSIMILARITIES:
        raise InvalidInput(
            f"there is no dissimilarity {kernel!r}; choose one of {', '.join(DISSIMILARITIES)}"
        )
    if not spaces:
        raise InvalidInput("no space is given to make a dissimilarity matrix of; give at least one")
    _require_same_rows(spaces)
    chosen = chosen_rows(spaces[0], index)
    n = len(chosen)
    if n < 2:
        raise InvalidInput(f"{n} rows have no pair; choose at least two")
    widest = max(spaces, key=lambda space: space.shape[1])
    needed = 4 * n * (n - 1) * len(spaces) + 2 * dataset_bytes(widest, n) + 16 * n * PANEL_ROWS
    require(
        needed,
        parse_bytes(memory),
        f"{len(spaces)} dissimilarity matrices of {n} rows",
        "choose fewer rows or spaces, or allow more",
    )
    rdms = rsatoolbox_module("rsatoolbox.rdm").RDMs
    dissimilarities = np.empty((len(spaces), n * (n - 1) // 2))
    for space, out in zip(spaces, dissimilarities, strict=True):
        _fill(widened(space, chosen), kernel, out, space, chosen)
    return rdms(
        dissimilarities,
        dissimilarity_measure=DISSIMILARITIES[kernel],
        rdm_descriptors={
            field: [getattr(space, field) for space in spaces]
            for field in ("corpus", "variant", "site", "layer")
        },
        pattern_descriptors=row_descriptors(spaces[0], chosen, words=words, columns=()),
    )


def _require_same_rows(spaces: Sequence[Space]) -> None:
    first = spaces[0]
    for other in spaces[1:]:
        row_sets = {space.state.plan.contents.get("row_set") for space in (first, other)}
        if other.corpus != first.corpus or len(row_sets) > 1 or other.shape[0] != first.shape[0]:
            raise InvalidInput(
                f"{other.path} and {first.path} do not hold the same rows; choose sets of one row "
                "set, or extract the same rows of both"
            )


def _fill(
    rows: NDArray[np.float64],
    kernel: str,
    out: NDArray[np.float64],
    space: Space,
    chosen: NDArray[np.int64],
) -> None:
    """Write the dissimilarities of rows, which are changed, pair after pair: (0, 1), (0, 2) ..."""
    n, hidden = rows.shape
    unit = kernel in ("cosine", "correlation")
    if unit:
        before = np.linalg.norm(rows, axis=1)
        if kernel == "correlation":
            rows -= rows.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(rows, axis=1)
        # What is left of a constant row after its mean is taken off is rounding.
        lost = np.flatnonzero(~(norms > 16 * np.finfo(np.float64).eps * before))
        if len(lost):
            raise InvalidInput(
                f"row {chosen[lost[0]]} of {space.path} has no direction under {kernel} (its "
                f"values are {'all alike' if kernel == 'correlation' else 'zero'}, or not finite); "
                f"leave out the {len(lost)} such rows that were chosen"
            )
        rows /= norms[:, None]
    else:
        rows -= rows.mean(axis=0)  # distances stay, and squares lose fewer digits
    squares = np.einsum("ij,ij->i", rows, rows)
    if not np.isfinite(squares).all():
        worst = chosen[np.flatnonzero(~np.isfinite(squares))[0]]
        raise InvalidInput(f"row {worst} of {space.path} holds NaN or infinity; leave it out")
    at = 0
    for start in range(0, n, PANEL_ROWS):
        stop = min(start + PANEL_ROWS, n)
        products = rows[start:stop] @ rows[start:].T
        for k in range(start, stop):
            found = products[k - start, k - start + 1 :]
            if unit:
                found = 1 - found
            else:
                found = np.maximum(squares[k] + squares[k + 1 :] - 2 * found, 0.0) / hidden
            out[at : at + len(found)] = np.sqrt(found) if kernel == "euclidean" else found
            at += len(found)


def result_to_rdms(
    result: Records,
    measure: str | None = None,
    *,
    corpus: str | None = None,
    site: str | None = None,
) -> Any:
    """Return how unlike spaces are as `rsatoolbox.rdm.RDMs`; see `SimilarityResult.to_rsatoolbox`."""
    matrix = space_matrix(result, measure, corpus=corpus, site=site)
    alike = matrix.attrs["kind"] == "similarity"
    values = matrix.to_numpy()
    upper = values[np.triu_indices(len(values), 1)]
    rdms = rsatoolbox_module("rsatoolbox.rdm").RDMs
    name = str(matrix.name)
    return rdms(
        (1 - upper if alike else upper)[None],
        dissimilarity_measure=f"1 - {name}" if alike else name,
        descriptors={field: matrix.attrs[field] for field in ("corpus", "site")},
        pattern_descriptors={
            field: matrix[field].to_numpy() for field in ("space", "variant", "layer")
        },
    )


def from_rsatoolbox(given: Any, *, memory: int | str = "1GiB") -> xr.DataArray:
    """Return a dataset or dissimilarity matrices of rsatoolbox as a labelled array.

    Parameters
    ----------
    given
        `rsatoolbox.data.Dataset`, or `rsatoolbox.rdm.RDMs`.
    memory
        Most bytes that square matrices may take: 8 n^2 each.

    Returns
    -------
    DataArray over (row, hidden), not copied; or over (rdm, row, other_row), symmetric with zeros on
    the diagonal. Descriptors are coordinates (`other_NAME` along `other_row`), or attributes where
    they are of the whole. To put a dataset into a lake, append its rows with `Lake.writer`.

    Raises
    ------
    InvalidInput
        It is neither.
    MemoryRefused
        The matrices need more than is allowed.
    """
    import xarray as xr

    if hasattr(given, "measurements") and getattr(given, "obs_descriptors", None) is not None:
        return xr.DataArray(
            given.measurements,
            dims=("row", "hidden"),
            coords=_coordinates("row", given.obs_descriptors, "")
            | _coordinates("hidden", given.channel_descriptors, "channel_"),
            attrs=dict(given.descriptors),
        )
    if not hasattr(given, "dissimilarities"):
        raise InvalidInput(
            f"a {type(given).__name__} was given; from_rsatoolbox takes a Dataset or RDMs"
        )
    vectors = np.asarray(given.dissimilarities)
    n, number = int(given.n_cond), len(vectors)
    require(
        8 * number * n * n,
        parse_bytes(memory),
        f"{number} square matrices of {n} rows",
        "take fewer of them, or allow more",
    )
    matrices = np.zeros((number, n, n))
    upper = np.triu_indices(n, 1)
    for matrix, vector in zip(matrices, vectors, strict=True):
        matrix[upper] = vector
        matrix[upper[::-1]] = vector
    return xr.DataArray(
        matrices,
        dims=("rdm", "row", "other_row"),
        coords=_coordinates("rdm", given.rdm_descriptors, "rdm_")
        | _coordinates("row", given.pattern_descriptors, "")
        | _coordinates("other_row", given.pattern_descriptors, "other_"),
        name=given.dissimilarity_measure,
        attrs=dict(given.descriptors),
    )


def _coordinates(
    dimension: str, descriptors: Mapping[str, Any], prefix: str
) -> dict[str, tuple[str, NDArray[Any]]]:
    """Return descriptors as coordinates; one that is called as its dimension labels it."""
    found = {}
    for name, values in descriptors.items():
        label = name if name == dimension else f"{prefix}{name}"
        found[label] = (dimension, np.asarray(values))
    return found
