"""What closed forms need of two spaces, shared between the forms."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from layerlake.analyses.similarity.closed_forms.centred_sums import CrossSums
from layerlake.analyses.similarity.closed_forms.decomposition import Decomposition
from layerlake.store.errors import InvalidInput


class Measured(NamedTuple):
    """A number, or why there is none."""

    value: float
    """NaN where the measure is not defined; then a note says why."""
    notes: tuple[str, ...] = ()
    """Sentences about what to be careful with."""


def undefined(reason: str) -> Measured:
    """Return the absence of a number."""
    return Measured(float("nan"), (reason,))


class Canonical(NamedTuple):
    """Canonical directions of two spaces, by falling correlation."""

    left: NDArray[np.float64]
    """(rank, direction): of the whitened left space."""
    correlations: NDArray[np.float64]
    """(direction,)."""
    right: NDArray[np.float64]
    """(rank, direction): of the whitened right space."""


@dataclass(frozen=True)
class SpacePair:
    """Two spaces over the same rows, with what several forms need, computed once.

    Raises
    ------
    InvalidInput
        The spaces are not of the same rows, or the sums over both do not fit them.
    """

    left: Decomposition
    right: Decomposition
    cross: CrossSums

    def __post_init__(self) -> None:
        """Check that the sums belong together."""
        left, right = self.left.sums, self.right.sums
        if left.n_rows != right.n_rows:
            raise InvalidInput(
                f"{self.left.name} was summed over {left.n_rows} rows and {self.right.name} over "
                f"{right.n_rows}; sum both over the same rows"
            )
        shape = (len(left.mean), len(right.mean))
        if self.cross.product.shape != shape:
            raise InvalidInput(
                f"the products of {self.left.name} and {self.right.name} are of shape "
                f"{self.cross.product.shape}; give {shape}"
            )
        if not np.isfinite(self.cross.product).all():
            raise InvalidInput(
                f"the products of {self.left.name} and {self.right.name} hold NaN or infinity; "
                "leave out the rows that do"
            )

    @cached_property
    def square(self) -> float:
        """||X'Y||^2: the sum over all pairs of rows of the products of both centred kernels."""
        return float(np.vdot(self.cross.product, self.cross.product))

    @cached_property
    def nuclear(self) -> float:
        """||X'Y||_*: the most that X and Y can overlap under a rotation of one of them."""
        return nuclear_norm(self.cross.product)

    @cached_property
    def canonical(self) -> Canonical:
        """The canonical directions; `correlations` alone are cheaper."""
        try:
            u, values, v = linalg.svd(
                self._whitened(), full_matrices=False, overwrite_a=True, check_finite=False
            )
        except linalg.LinAlgError:  # dividing and conquering fails on rare matrices; QR does not
            u, values, v = linalg.svd(
                self._whitened(), full_matrices=False, lapack_driver="gesvd", check_finite=False
            )
        return Canonical(u, np.minimum(values, 1.0), v.T)

    @cached_property
    def correlations(self) -> NDArray[np.float64]:
        """(min of both ranks,): the canonical correlations, falling."""
        if "canonical" in self.__dict__:  # there already, for a form that needs directions
            return self.canonical.correlations
        return np.minimum(singular_values(self._whitened()), 1.0)

    def _whitened(self) -> NDArray[np.float64]:
        """Return X'Y with both spaces whitened, (rank, other rank)."""
        whitened: NDArray[np.float64] = (
            self.left.whitening.T @ self.cross.product @ self.right.whitening
        )
        return whitened


def nuclear_norm(matrix: NDArray[np.float64]) -> float:
    """Return the sum of the singular values."""
    return float(singular_values(matrix).sum())


def singular_values(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the singular values, falling."""
    try:
        values: NDArray[np.float64] = linalg.svdvals(matrix, check_finite=False)
    except linalg.LinAlgError:  # dividing and conquering fails on rare matrices; QR does not
        values = linalg.svd(matrix, compute_uv=False, lapack_driver="gesvd", check_finite=False)
    return values
