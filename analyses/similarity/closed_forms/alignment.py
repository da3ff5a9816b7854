"""Forms that need no decomposition: alignments of centred kernels and of whitened distances.

The entries of the rows x rows kernels K = XX' and L = YY' of centred rows are never formed: their
inner product is ||X'Y||^2, and their diagonals are the squared lengths p and q of the rows.
"""

import math
from typing import Final

import numpy as np

from layerlake.analyses.similarity.closed_forms.decomposition import Decomposition
from layerlake.analyses.similarity.closed_forms.pair import Measured, SpacePair, undefined

_LEFT_OVER: Final = 1e-12
"""A difference smaller than this share of what it is the difference of is rounding."""
_FEWEST_ROWS: Final = 4


def linear_cka(pair: SpacePair) -> Measured:
    """Return ||X'Y||^2 / (||X'X|| ||Y'Y||) (Kornblith et al. 2019, section 3).

    The same number is the cosine of the two matrices of squared Euclidean distances after
    whitening by the covariance of such distances under independent noise (Diedrichsen et al. 2021;
    `cosine_cov` of rsatoolbox). With few rows for the hidden it is biased upwards.
    """
    return _ratio(pair.square, pair.left.square, pair.right.square)


def whitened_correlation(pair: SpacePair) -> Measured:
    """Return the same cosine with the mean squared distance taken off first (`corr_cov`).

    The mean of the squared distances is 2 tr(X'X) / (n - 1), and what it adds to the centred
    kernel is tr(X'X) / (n - 1) on the diagonal.
    """
    left, right, others = pair.left, pair.right, pair.left.n_rows - 1
    spreads = [space.square - space.trace**2 / others for space in (left, right)]
    for space, spread in zip((left, right), spreads, strict=True):
        if spread <= _LEFT_OVER * space.square:
            return undefined(
                f"the rows of {space.name} all lie at one distance from one another, so the "
                "whitened correlation of distances is not defined"
            )
    return _ratio(pair.square - left.trace * right.trace / others, *spreads)


def debiased_cka(pair: SpacePair) -> Measured:
    """Return CKA from the unbiased estimate of HSIC (Song et al. 2012, eq. 5; Nguyen et al. 2021).

    With centred rows, the sums over a row of K without its diagonal are -p, so the estimate is
    ||X'Y||^2 - sum pq n / (n - 2) + sum p sum q / ((n - 1) (n - 2)), over n (n - 3).
    """
    left, right = pair.left, pair.right
    if left.n_rows < _FEWEST_ROWS:
        return undefined(
            f"debiased CKA needs at least {_FEWEST_ROWS} rows, and there are {left.n_rows}"
        )
    own = [_unbiased(s, s, s.square, s.sums.squares) for s in (left, right)]
    for space, hsic in zip((left, right), own, strict=True):
        if hsic <= _LEFT_OVER * max(space.square, space.sums.squares):
            return undefined(
                f"the kernel of {space.name} holds nothing beyond what each row has in common "
                "with all others, so debiased CKA is not defined"
            )
    return _ratio(_unbiased(left, right, pair.square, pair.cross.squares), *own)


def _unbiased(left: Decomposition, right: Decomposition, square: float, squares: float) -> float:
    """Return n (n - 3) times the unbiased estimate of HSIC."""
    n = left.n_rows
    return square - squares * n / (n - 2) + left.trace * right.trace / ((n - 1) * (n - 2))


def _ratio(product: float, left: float, right: float) -> Measured:
    """Return a cosine from an inner product and two squared lengths."""
    return Measured(float(np.clip(product / (math.sqrt(left) * math.sqrt(right)), -1.0, 1.0)))
