"""Similarity as others compute it: plain scripts, a good script, and formulas published with papers.

Every function is a method of `measured_process`: it takes spaces, (row, hidden) float32 each, and
settings, and returns one number for each pair. The kernel is the correlation of rows, for
neighbours their cosine and for CKA their product. Published
ones are written here in our own words, in the library and the precision that theirs use:
platonic-rep (Huh et al. 2024; its debiased CKA is that of Song et al. 2012, equation 5), ReSi
(Klabunde et al. 2025) and the RSA functions of thingsvision (Muttenthaler and Hebart 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Rows: TypeAlias = NDArray[np.float32]
Options: TypeAlias = Mapping[str, Any]

FEATURE_ROWS = 4096
"""Rows that `torch_features` takes at a time."""


def _pearson(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.corrcoef(first, second)[0, 1])


def _numpy_unit(rows: Rows) -> Rows:
    centred = rows - rows.mean(axis=1, keepdims=True)
    unit: Rows = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return unit


def numpy_dense(spaces: Sequence[Rows], options: Options, clock: Any) -> list[float]:
    """Correlate the strict upper triangles of whole kernels, as most scripts do."""
    upper = np.triu_indices(len(spaces[0]), 1)

    def triangle(rows: Rows) -> NDArray[Any]:
        unit = _numpy_unit(rows)
        kernel: Rows = unit @ unit.T
        triangle: NDArray[Any] = kernel[upper]
        return triangle

    reference = triangle(spaces[0])
    return [_pearson(reference, triangle(rows)) for rows in spaces[1:]]


def numpy_dense_all(spaces: Sequence[Rows], options: Options, clock: Any) -> list[float]:
    """Correlate the triangles of all spaces with each other."""
    upper = np.triu_indices(len(spaces[0]), 1)
    triangles = np.empty((len(spaces), len(upper[0])), np.float32)
    for rows, triangle in zip(spaces, triangles, strict=True):
        unit = _numpy_unit(rows)
        triangle[:] = (unit @ unit.T)[upper]
    found: Rows = np.corrcoef(triangles, dtype=np.float32)
    return [float(value) for value in found[np.triu_indices(len(spaces), 1)]]


def thingsvision_formulas(spaces: Sequence[Rows], options: Options, clock: Any) -> list[float]:
    """Do what thingsvision's functions do: square distance matrices, then scipy's correlation."""
    import scipy.stats

    score = {"pearson": scipy.stats.pearsonr, "spearman": scipy.stats.spearmanr}[options["score"]]

    def distances(rows: Rows) -> Rows:
        centred = rows - rows.mean(axis=1)[:, None]
        products = centred @ centred.T
        lengths = np.linalg.norm(centred, axis=1)
        found: Rows = 1 - (products / np.outer(lengths, lengths)).clip(-1.0, 1.0)
        return found

    reference = distances(spaces[0])
    found = []
    for rows in spaces[1:]:
        other = distances(rows)
        upper = np.triu_indices(len(reference), 1)
        found.append(float(score(reference[upper], other[upper])[0]))
    return found


def scipy_pdist(spaces: Sequence[Rows], options: Options, clock: Any) -> list[float]:
    """Correlate condensed distances of scipy, in float64."""
    from scipy.spatial.distance import pdist
    from scipy.stats import kendalltau, spearmanr

    scores: dict[str, Callable[..., float]] = {
        "pearson": _pearson,
        "spearman": lambda one, other: float(spearmanr(one, other).statistic),
        "kendall": lambda one, other: float(kendalltau(one, other).statistic),
    }
    reference = pdist(spaces[0], "correlation")
    return [scores[options["score"]](reference, pdist(rows, "correlation")) for rows in spaces[1:]]


def resi_spearman(spaces: Sequence[Rows], options: Options, clock: Any) -> list[float]:
    """Correlate ranks as ReSi does: cosines of centred rows, one triangle, scipy's `spearmanr`."""
    from scipy.spatial.distance import squareform
    from scipy.stats import spearmanr

    def triangle(rows: Rows) -> NDArray[Any]:
        unit = _numpy_unit(rows)
        found: NDArray[Any] = squareform(unit @ unit.T, checks=False)
        return found

    reference = triangle(spaces[0])
    return [float(spearmanr(reference, triangle(rows)).statistic) for rows in spaces[1:]]


def _tensors(spaces: Sequence[Rows], options: Options) -> list[torch.Tensor]:
    """Return the spaces as tensors on the device that was asked for."""
    import torch

    return [torch.from_numpy(rows).to(options["device"]) for rows in spaces]


def _torch_unit(rows: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.normalize(rows - rows.mean(dim=1, keepdim=True), dim=1)


def torch_dense(spaces: Sequence[Rows], options: Options, clock: Any) -> list[float]:
    """Correlate whole kernels without taking triangles out: the diagonal is subtracted."""
    import torch

    with torch.inference_mode():
        tensors = _tensors(spaces, options)
        n = len(tensors[0])
        pairs = n * (n - 1)

        def centred(rows: torch.Tensor) -> torch.Tensor:
            unit = _torch_unit(rows)
            kernel = unit @ unit.T
            kernel.fill_diagonal_(0)
            kernel -= kernel.sum() / pairs
            return kernel.fill_diagonal_(0).reshape(-1)

        reference = centred(tensors[0])
        found = []
        for rows in tensors[1:]:
            kernel = centred(rows)
            covariance = torch.dot(reference, kernel)
            found.append(covariance / (reference.norm() * kernel.norm()))
        return [float(value) for value in found]


def torch_dense_all(spaces: Sequence[Rows], options: Options, clock: Any) -> list[float]:
    """Correlate the triangles of all spaces in one product."""
    import torch

    with torch.inference_mode():
        tensors = _tensors(spaces, options)
        n = len(tensors[0])
        rows, columns = torch.triu_indices(n, n, 1, device=tensors[0].device)
        place = rows * n + columns
        triangles = torch.empty((len(tensors), len(place)), device=tensors[0].device)
        for space, triangle in zip(tensors, triangles, strict=True):
            unit = _torch_unit(space)
            torch.take(unit @ unit.T, place, out=triangle)
        found = torch.corrcoef(triangles).cpu()
        return [float(value) for value in found[np.triu_indices(len(spaces), 1)]]


class _Features:
    """One space for `torch_features`: unit rows less their mean, and what is summed beside them."""

    def __init__(self, rows: torch.Tensor, origin: torch.Tensor) -> None:
        import torch

        unit = _torch_unit(rows.double()) - origin
        self.linear = unit @ origin
        self.squares = torch.linalg.vecdot(unit, unit)
        self.moved = unit
        self.rough = unit.float()


def torch_features(spaces: Sequence[Rows], options: Options, clock: Any) -> list[float]:
    """Correlate kernels by products over rows alone, with float32 products and float64 sums.

    What a careful author of such a script writes: rows are normalised in float64 and measured from
    the mean of a spread sample, so that the float32 products lose little, and all that is not a
    matrix product is summed in float64.
    """
    import torch

    with torch.inference_mode():
        tensors = _tensors(spaces, options)
        n = len(tensors[0])
        sample = torch.linspace(0, n - 1, min(n, 1024), device=tensors[0].device).long()
        origins = [_torch_unit(rows[sample].double()).mean(dim=0) for rows in tensors]
        moments = _Moments(len(tensors))
        for low in range(0, n, FEATURE_ROWS):
            moments.add(
                [
                    _Features(rows[low : low + FEATURE_ROWS], origin)
                    for rows, origin in zip(tensors, origins, strict=True)
                ]
            )
        return [moments.correlation(0, other) for other in range(1, len(tensors))]


class _Moments:
    """Sums over rows of the first space with itself and others, and of each with itself."""

    def __init__(self, count: int) -> None:
        self.pairs = [(s, s) for s in range(count)] + [(0, s) for s in range(1, count)]
        self.matrices: dict[tuple[int, int], Any] = {}
        self.n = 0

    def add(self, block: Sequence[_Features]) -> None:
        """Absorb a block of rows of every space."""
        import torch

        self.n += len(block[0].linear)
        for s, t in self.pairs:
            one, other = block[s], block[t]
            edges = torch.stack(
                [
                    torch.dot(one.linear, other.linear),
                    one.linear.sum(),
                    other.linear.sum(),
                    torch.dot(
                        one.squares + 2 * one.linear,
                        other.squares + 2 * other.linear,
                    ),
                    (one.squares + 2 * one.linear).sum(),
                    (other.squares + 2 * other.linear).sum(),
                ]
            )
            own = (
                (one.rough.T @ other.rough).double(),
                one.moved.T @ other.linear,
                one.moved.sum(dim=0),
                other.moved.T @ one.linear,
                other.moved.sum(dim=0),
                edges,
            )
            held = self.matrices.get((s, t))
            self.matrices[s, t] = (
                own if held is None else tuple(a.add_(b) for a, b in zip(held, own, strict=True))
            )

    def _product(self, s: int, t: int) -> tuple[float, float, float]:
        """Return the sums of k l, k and l over ordered pairs of two rows."""
        import torch

        matrix, by_other, first, by_one, second, edges = self.matrices[s, t]
        products, one, other, own, own_one, own_other = edges.tolist()
        both = float(torch.linalg.vector_norm(matrix) ** 2)
        both += 2 * float(torch.dot(by_other, first) + torch.dot(by_one, second))
        both += 2 * (self.n * products + one * other) - own
        return (
            both,
            float(torch.dot(first, first)) + 2 * self.n * one - own_one,
            float(torch.dot(second, second)) + 2 * self.n * other - own_other,
        )

    def correlation(self, s: int, t: int) -> float:
        """Return Pearson's correlation of two kernels."""
        pairs = self.n * (self.n - 1)

        def covariance(one: int, other: int) -> float:
            both, first, second = self._product(one, other)
            return both / pairs - first / pairs * (second / pairs)

        return covariance(s, t) / math.sqrt(covariance(s, s) * covariance(t, t))


def _unbiased(k: torch.Tensor, l: torch.Tensor) -> torch.Tensor:
    """Return the unbiased HSIC of two kernels, as Song et al. write it in equation 5."""
    import torch

    n = len(k)
    k, l = k.clone().fill_diagonal_(0), l.clone().fill_diagonal_(0)
    found = torch.sum(k * l.T) + k.sum() * l.sum() / ((n - 1) * (n - 2))
    return (found - 2 * torch.sum(k @ l) / (n - 2)) / (n * (n - 3))


def platonic_cka(spaces: Sequence[Rows], options: Options, clock: Any) -> float:
    """Find debiased linear CKA as platonic-rep does: whole kernels in float32, three HSICs."""
    import torch

    with torch.inference_mode():
        x, y = _tensors(spaces, options)
        k, l = x @ x.T, y @ y.T
        own = _unbiased(k, k) * _unbiased(l, l)
        return float(_unbiased(k, l) / (torch.sqrt(own) + 1e-6))


def numpy_cka(spaces: Sequence[Rows], options: Options, clock: Any) -> float:
    """Find debiased linear CKA with whole kernels, only the sums of rows where a product was."""
    kernels = []
    for rows in spaces:
        centred = rows - rows.mean(axis=0)  # which changes nothing but the rounding
        kernel = centred @ centred.T
        np.fill_diagonal(kernel, 0)
        kernels.append((kernel, kernel.sum(axis=1, dtype=np.float64)))
    n = len(spaces[0])

    def unbiased(first: Any, second: Any) -> float:
        (k, k_sums), (l, l_sums) = first, second
        found = float(np.vdot(k, l)) + k_sums.sum() * l_sums.sum() / ((n - 1) * (n - 2))
        return float(found - 2 * np.dot(k_sums, l_sums) / (n - 2))

    one, other = kernels
    return float(unbiased(one, other) / np.sqrt(unbiased(one, one) * unbiased(other, other)))


def resi_cka(spaces: Sequence[Rows], options: Options, clock: Any) -> float:
    """Find biased linear CKA as ReSi does: products over rows in float32, kernels below n = d."""
    import torch

    with torch.inference_mode():
        x, y = (rows - rows.mean(dim=0) for rows in _tensors(spaces, options))
        if len(x) < x.shape[1]:
            k, l = x @ x.T, y @ y.T
            k, l = (kernel - kernel.mean(dim=0)[:, None] for kernel in (k, l))
            products = [torch.trace(one @ other) for one, other in ((k, l), (k, k), (l, l))]
            return float(products[0] / torch.sqrt(products[1] * products[2]))
        norms = [torch.linalg.norm(one.T @ other) for one, other in ((y, x), (x, x), (y, y))]
        return float(norms[0] ** 2 / (norms[1] * norms[2]))


def platonic_knn(spaces: Sequence[Rows], options: Options, clock: Any) -> float:
    """Find mutual neighbours as platonic-rep does: whole rows sorted, then masks of all pairs."""
    import torch

    with torch.inference_mode():
        masks = []
        for rows in _tensors(spaces, options):
            unit = torch.nn.functional.normalize(rows, dim=1)
            kernel = (unit @ unit.T).fill_diagonal_(-1e8)
            near = kernel.argsort(dim=1, descending=True)[:, : options["neighbours"]]
            mask = torch.zeros_like(kernel)
            mask[torch.arange(len(near), device=near.device)[:, None], near] = 1
            masks.append(mask)
        shared = (masks[0] * masks[1]).sum(dim=1) / options["neighbours"]
        return float(shared.mean())


def torch_topk(spaces: Sequence[Rows], options: Options, clock: Any) -> float:
    """Find mutual neighbours with `topk`, a panel of rows at a time."""
    import torch

    k = options["neighbours"]
    with torch.inference_mode():
        nearest = []
        for rows in _tensors(spaces, options):
            unit = torch.nn.functional.normalize(rows, dim=1)
            found = []
            for low in range(0, len(unit), 1024):
                kernel = unit[low : low + 1024] @ unit.T
                own = torch.arange(len(kernel), device=kernel.device)
                kernel[own, own + low] = -torch.inf
                found.append(kernel.topk(k, dim=1).indices)
            nearest.append(torch.cat(found))
        one, other = nearest
        return float((one[:, :, None] == other[:, None, :]).sum() / one.numel())


def numpy_bootstrap(spaces: Sequence[Rows], options: Options, clock: Any) -> float:
    """Resample clusters by taking rows and columns of whole kernels, copies' own pairs left out.

    A few resamples are run and charged as all of them; the value is the estimate itself.
    """
    kernels = [unit @ unit.T for unit in map(_numpy_unit, spaces)]
    n = len(kernels[0])
    size = options["rows_per_cluster"]
    clusters = [np.arange(low, min(low + size, n)) for low in range(0, n, size)]
    rng = np.random.default_rng(0)
    upper = np.triu_indices(n, 1)
    value = _pearson(*(kernel[upper] for kernel in kernels))
    with clock.times(options["resamples"] / options["resamples_run"]):
        for _ in range(options["resamples_run"]):
            drawn = rng.integers(0, len(clusters), len(clusters))
            rows = np.concatenate([clusters[g] for g in drawn])
            copy = np.repeat(np.arange(len(drawn)), [len(clusters[g]) for g in drawn])
            taken = np.ix_(rows, rows)
            # Another copy of a cluster says nothing about it.
            kept = np.triu((rows[:, None] // size != rows // size) | (copy[:, None] == copy), 1)
            _pearson(*(kernel[taken][kept] for kernel in kernels))
    return value


def gemm_rate(spaces: Sequence[Rows], options: Options, clock: Any) -> float:
    """Return the operations per CPU second of a float32 product by numpy, the best of three."""
    import time

    side = options["side"]
    matrix = np.random.default_rng(0).standard_normal((side, side), np.float32)
    other, out = matrix.copy(), np.empty_like(matrix)
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        np.matmul(matrix, other, out=out)
        best = min(best, time.process_time() - start)
    return float(2 * side**3 / max(best, 1e-9))


def torch_gemm_rate(spaces: Sequence[Rows], options: Options, clock: Any) -> float:
    """Return the operations per second of a float32 product by torch, the best of three."""
    import time

    import torch

    side = options["side"]
    matrix = torch.randn(side, side, device=options["device"])
    best = np.inf
    for _ in range(4):
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])
        best = min(best, time.perf_counter() - start)
    return float(2 * side**3 / best)


def products_alone(spaces: Sequence[Rows], options: Options, clock: Any) -> list[float]:
    """Multiply as the feature-space form must: each space with itself, the first with others."""
    for rows in spaces:
        np.matmul(rows.T, rows)
    for rows in spaces[1:]:
        np.matmul(spaces[0].T, rows)
    return []
