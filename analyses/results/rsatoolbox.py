"""Results as dissimilarity matrices of rsatoolbox, and its datasets and matrices as arrays.

rsatoolbox holds matrices whole: this is for few rows. Comparing spaces of many needs none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.results.space_matrix import space_matrix
from layerlake.store.amounts import parse_bytes, require
from layerlake.store.errors import InvalidInput
from layerlake.store.views.rsatoolbox_dataset import rsatoolbox_module

if TYPE_CHECKING:
    import xarray as xr

    from layerlake.analyses.results.record import Records


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
    DataArray
        A dataset gives (row, hidden), not copied; matrices give (rdm, row, other_row), symmetric
        with zeros on the diagonal. Descriptors are coordinates (`other_NAME` along `other_row`), or
        attributes if they describe the whole.

    Raises
    ------
    InvalidInput
        It is neither.
    MemoryRefused
        The matrices need more than is allowed.

    Examples
    --------
    Write the dataset of a subject into a lake:

    >>> import layerlake as ll
    >>> lake = ll.open_lake("lake", mode="a")
    >>> array = ll.from_rsatoolbox(dataset)  # an rsatoolbox.data.Dataset
    >>> ids = array["stimulus"].to_numpy().tolist()
    >>> with lake.writer("voxels", "subject-1", ids=ids, layers=0) as writer:
    ...     writer.append("resid", 0, array.to_numpy())
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
