"""Tiles of every kernel against whole matrices in float64, in any panels and within memory."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from layerlake.analyses.similarity.tiles.planning import plan_tiles
from layerlake.analyses.similarity.tiles.tile_kernels import TileKernel, tile_kernel
from layerlake.analyses.similarity.tiles.tile_pass import TilePass, TileSource, open_tiles
from layerlake.analyses.similarity.workload import Workload
from layerlake.engine.passes.arrays import item_bytes, take_rows, to_host
from layerlake.store.errors import InvalidInput, MemoryRefused


@dataclass
class CountingSpace:
    """Rows in memory as a space, with a count of how often each was read."""

    values: Any
    reads: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.reads = np.zeros(self.values.shape[0], dtype=np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    def rows(self, index: NDArray[np.int64], /) -> Any:
        self.reads[index] += 1
        return take_rows(self.values, index)


def sized(widths: Sequence[int], value_bytes: Sequence[int], n_rows: int) -> Workload:
    """Return the sizes of a comparison over rows of one cluster."""
    return Workload(n_rows, tuple(widths), tuple(value_bytes), np.array([n_rows]), ())


def cauchy(left: Any, right: Any) -> Any:
    """A kernel of a person's own: 1 / (1 + |x - y|^2)."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return 1 / (1 + np.maximum(squares, 0))


def opened(
    spaces: list[Any],
    kernel: TileKernel,
    panel_rows: int | None = 60,
    allowed: int = 2**28,
    precision: str = "float32",
    clusters: NDArray[np.int64] | None = None,
    **settings: Any,
) -> TilePass:
    """Open a pass over all rows of some arrays or spaces."""
    held = [z if isinstance(z, CountingSpace) else CountingSpace(z) for z in spaces]
    every = np.arange(held[0].shape[0])
    names = tuple(f"space {s}" for s in range(len(held)))
    source = TileSource(
        tuple(held), (every,) * len(held), every if clusters is None else clusters, names, kernel,
        precision,
    )  # fmt: skip
    hiddens, stored = [z.shape[1] for z in held], [item_bytes(z.dtype) for z in held]
    return open_tiles(
        source,
        lambda n: plan_tiles(
            sized(hiddens, stored, n),
            kernel,
            allowed=allowed,
            precision=precision,
            panel_rows=panel_rows,
        ),
        **settings,
    )


def assembled(tiles: TilePass) -> list[NDArray[np.float64]]:
    """Return the kernel of every space, (row, row), from the tiles; each pair must come once."""
    n = tiles.n_rows
    whole = [np.zeros((n, n)) for _ in tiles.kernels]
    times = np.zeros((n, n), dtype=int)
    panels = []
    for tile in tiles.tiles():
        place = slice(*tile.rows), slice(*tile.columns)
        panels.append((tile.rows, tile.columns))
        assert (tile.row_clusters == tiles.clusters[place[0]]).all()
        assert (tile.column_clusters == tiles.clusters[place[1]]).all()
        times[place] += 1
        for matrix, kernel, entries in zip(whole, tiles.kernels, tile.kernels, strict=True):
            values = to_host(entries).astype(np.float64)
            if tile.diagonal:
                # A function may round k(x, y) and k(y, x) apart, by as much as |x - y|^2 loses.
                near = 0 if kernel.kernel.function is None else 1e-5 * values.max()
                np.testing.assert_allclose(values, values.T, rtol=0, atol=near)
            matrix[place] = kernel.scale * (values + kernel.constant)
    assert panels == sorted(panels)
    assert (times[np.triu_indices(n)] == 1).all()
    return [np.triu(matrix) + np.triu(matrix, 1).T for matrix in whole]


def dense(rows: NDArray[Any], kernel: str, sigma: float | None = None) -> NDArray[np.float64]:
    """The whole matrix of a kernel in float64."""
    wide = rows.astype(np.float64)
    if kernel == "linear":
        return wide @ wide.T
    if kernel == "rbf":
        assert sigma is not None
        return np.exp(-cdist(wide, wide, "sqeuclidean") / (2 * sigma**2))
    if kernel in ("cosine", "correlation"):
        return 1 - cdist(wide, wide, kernel)
    return cdist(wide, wide, kernel)


def spaces_of(n: int, shift: float = 3.0, dtype: str = "float32") -> list[NDArray[Any]]:
    """Two related spaces of widths 24 and 31, off the origin."""
    rng = np.random.default_rng(1)
    base = rng.standard_normal((n, 24))
    other = base @ rng.standard_normal((24, 31)) + rng.standard_normal((n, 31))
    return [(z + shift).astype(dtype) for z in (base, other)]


FEATURED = ("cosine", "correlation", "linear", "sqeuclidean")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("kernel", [*FEATURED, "euclidean", "rbf"])
def test_tiles_are_those_of_the_whole_matrix(kernel: str, dtype: str) -> None:
    spaces = spaces_of(230, dtype=dtype)
    tiles = opened(list(spaces), tile_kernel(kernel))
    for found, rows, own in zip(assembled(tiles), spaces, tiles.kernels, strict=True):
        expected = dense(rows, kernel, own.sigma)
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-7 * np.abs(expected).max())


@pytest.mark.parametrize("kernel", [*FEATURED, "euclidean", "rbf"])
def test_float64_tiles_keep_their_digits(kernel: str) -> None:
    spaces = spaces_of(100, dtype="float64")
    tiles = opened(list(spaces), tile_kernel(kernel), precision="float64")
    for found, rows, own in zip(assembled(tiles), spaces, tiles.kernels, strict=True):
        expected = dense(rows, kernel, own.sigma)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("mean_cosine", [0.95, 0.99999])
def test_anisotropic_rows_keep_the_digits_of_what_varies(mean_cosine: float) -> None:
    size = np.sqrt(mean_cosine / (1 - mean_cosine))
    rows = spaces_of(300, shift=float(size), dtype="float64")[0].astype(np.float32)
    entries = assembled(opened([rows], tile_kernel("cosine")))[0]
    unit = rows.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    expected = 1 - cdist(unit, unit, "sqeuclidean") / 2
    pairs = np.triu_indices(300, 1)
    # 24 products and 4 numbers beside them are added up in float32, in any order, about the mean.
    size = ((unit - unit.mean(axis=0)) ** 2).sum(axis=1).max()
    assert np.abs(entries - expected)[pairs].max() < 28 * 2.0**-24 * size
    assert size < 10 * expected[pairs].std()


@pytest.mark.parametrize("kernel", ["euclidean", "rbf"])
def test_rows_that_are_nearly_equal(kernel: str) -> None:
    rows = spaces_of(150)[0].astype(np.float64)
    for place, step in enumerate((0, 1e-6, 1e-4, 1e-2), start=40):
        rows[place + 50] = rows[place]
        rows[place + 50, 3] += step
    tiles = opened([rows], tile_kernel(kernel, **({"bandwidth": 1e-2} if kernel == "rbf" else {})))
    found, expected = assembled(tiles)[0], dense(rows, kernel, 1e-2)
    if kernel == "rbf":
        assert found[40, 90] == pytest.approx(1, abs=0.01)
        assert (np.diag(found) == 1).all()
        return
    assert (np.diag(found) == 0).all()
    assert found[40, 90] == 0
    for place in (41, 42, 43):
        assert found[place, place + 50] == pytest.approx(expected[place, place + 50], abs=1e-6)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_the_bandwidth_is_the_median_of_a_seeded_sample() -> None:
    rows = spaces_of(200)[0]
    median = float(np.median(pdist(rows.astype(np.float64))))
    assert opened([rows], tile_kernel("rbf")).kernels[0].sigma == pytest.approx(median, rel=1e-12)
    half = opened([rows], tile_kernel("rbf", of_median=0.5)).kernels[0].sigma
    assert half == pytest.approx(median / 2, rel=1e-12)
    assert opened([rows], tile_kernel("rbf", bandwidth=2.5)).kernels[0].sigma == 2.5
    many = spaces_of(1500)[0]
    drawn = opened([many], tile_kernel("rbf"), None).kernels[0].sigma
    assert drawn == pytest.approx(float(np.median(pdist(many.astype(np.float64)))), rel=0.01)
    with pytest.raises(InvalidInput, match="half of the sampled rows of space 0 are equal"):
        opened([np.repeat(rows[:2], [150, 50], axis=0)], tile_kernel("rbf"))


def test_the_centre_is_about_the_mean_of_the_tiles() -> None:
    rows = spaces_of(250)[0]
    pairs = np.triu_indices(250, 1)
    for kernel in ("euclidean", "rbf", cauchy):
        tiles = opened([rows], tile_kernel(kernel))
        entries = next(opened([rows], tile_kernel(kernel), 250).tiles()).kernels[0][pairs]
        assert tiles.centres[0] == pytest.approx(
            float(entries.mean()), abs=0.1 * float(entries.std())
        )
    for kernel in FEATURED:
        entries = next(opened([rows], tile_kernel(kernel), 250).tiles()).kernels[0][pairs]
        assert abs(entries.mean()) < 0.2 * entries.std()


def test_a_kernel_of_ones_own_sees_the_rows_as_stored() -> None:
    spaces = spaces_of(130)
    found = assembled(opened(list(spaces), tile_kernel(cauchy)))
    for entries, rows in zip(found, spaces, strict=True):
        expected = 1 / (1 + dense(rows, "sqeuclidean"))
        np.testing.assert_allclose(entries[np.triu_indices(130, 1)],
                                   expected[np.triu_indices(130, 1)], rtol=1e-5)  # fmt: skip


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, y: (x @ y.T)[:, :1], r"returned an array of \(60, 1\) for 60 and 60 rows"),
        (lambda x, y: 3.0, "returned a float"),
        (lambda x, y: np.full((len(x), len(y)), np.nan), "returned NaN or infinity"),
        (lambda x, y: x[:, :1] - y[:, 0], "has to be symmetric"),
    ],
)
def test_a_kernel_that_is_none_is_refused(function: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        list(opened([spaces_of(60)[0]], tile_kernel(function)).tiles())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": "cosin"}, "no kernel 'cosin'; choose one of cosine, .*euclidean, rbf"),
        ({"kernel": "cosine", "bandwidth": 2.0}, "only rbf has one"),
        ({"kernel": "rbf", "bandwidth": 0.0}, "the bandwidth is 0.0; give a number above 0"),
        ({"kernel": "rbf", "bandwidth": float("nan")}, "the bandwidth is nan"),
        ({"kernel": "rbf", "bandwidth": "2"}, "the bandwidth is '2'"),
        ({"kernel": "rbf", "of_median": -1}, "share of the median is -1"),
        ({"kernel": "rbf", "bandwidth": 1.0, "of_median": 2.0}, "without a bandwidth"),
    ],
)
def test_kernels_are_checked(settings: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        tile_kernel(**settings)


@pytest.mark.parametrize("kernel", ["cosine", "euclidean"])
def test_rows_without_a_direction_are_dropped_from_all_spaces(kernel: str) -> None:
    spaces = spaces_of(120)
    spaces[0][[3, 61]] = 0
    spaces[1][100] = 0
    told: list[int] = []
    tiles = opened(list(spaces), tile_kernel(kernel), clusters=np.arange(120) // 4,
                   on_dropped=lambda lost: told.extend(lost.tolist()))  # fmt: skip
    dropped = [3, 61, 100] if kernel == "cosine" else []
    assert (tiles.n_dropped, told) == (len(dropped), dropped)
    left = np.setdiff1d(np.arange(120), dropped)
    assert (tiles.kept_rows == left).all()
    for found, rows in zip(assembled(tiles), spaces, strict=True):
        np.testing.assert_allclose(found, dense(rows[left], kernel), atol=1e-5)


def test_rows_that_cannot_be_compared_are_named() -> None:
    spaces = spaces_of(120)
    spaces[1][[90, 70], 3] = np.nan
    for kernel in ("cosine", "rbf", cauchy):
        with pytest.raises(InvalidInput, match="row 70 of space 1 holds NaN or infinity"):
            opened(list(spaces), tile_kernel(kernel))
    spaces[0][3:] = 0
    spaces[1][:] = 1
    with pytest.raises(InvalidInput, match="3 rows are left after 117"):
        opened(list(spaces), tile_kernel("cosine"))


def test_an_origin_that_misleads_is_moved() -> None:
    rows = spaces_of(1024, 0.0)[0]
    sampled = np.linspace(0, 1023, 256).astype(np.int64)
    rows[np.setdiff1d(np.arange(1024), sampled)] += 300
    space = CountingSpace(rows)
    tiles = opened([space], tile_kernel("linear"), None)
    assert (space.reads[np.setdiff1d(np.arange(1024), sampled)] == 2).all()
    np.testing.assert_allclose(assembled(tiles)[0], dense(rows, "linear"), atol=2e-7 * 24 * 300**2)


def test_panels_that_do_not_fit_are_read_again() -> None:
    space = CountingSpace(spaces_of(400)[0])
    kernel = tile_kernel("cosine")
    whole = opened([space], kernel, 50)
    expected = assembled(whole)
    assert whole.plan.kept_panels == 8
    assert whole.plan.pass_bytes == 0
    reads = space.reads.copy()
    assembled(whole)
    assert (space.reads == reads).all()

    panel = 50 * 28 * 4
    short = opened([space], kernel, 50, allowed=whole.plan.memory.needed + 3 * panel)
    assert short.plan.kept_panels == 3
    space.reads[:] = 0
    found = assembled(short)
    assert (found[0] == expected[0]).all()
    assert space.reads[::50].tolist() == [1, 2, 3, 4, 5, 0, 0, 0]
    assert short.plan.pass_bytes == space.reads.sum() * 24 * 4
    assert short.plan.multiply_adds == 400 * 399 / 2 * 24
    with pytest.raises(MemoryRefused, match="by tiles needs"):
        opened([space], kernel, 50, allowed=whole.plan.memory.needed - 1)


def test_the_plan_takes_longer_panels_where_that_saves_reading() -> None:
    kernel = tile_kernel("cosine")

    def plan(allowed: int) -> Any:
        return plan_tiles(sized([768, 768], [2, 2], 100_000), kernel, allowed=allowed)

    roomy, short, tight = plan(2**30), plan(2**27), plan(2**24)
    assert roomy.kept_panels == len(roomy.panels)
    assert short.panel_rows > roomy.panel_rows > tight.panel_rows
    assert 0 < short.pass_bytes < tight.pass_bytes
    for one in (roomy, short, tight):
        lengths = np.diff(one.panels, axis=1)
        assert lengths.max() - lengths.min() <= 1
        assert lengths.sum() == 100_000


def test_workers_form_the_tiles_of_their_row_panels() -> None:
    tiles = opened([spaces_of(200)[0]], tile_kernel("euclidean"), 50)
    whole = [(t.rows, t.columns, t.kernels[0].copy()) for t in tiles.tiles()]
    worker = pickle.loads(pickle.dumps(tiles))
    parts = [(t.rows, t.columns, t.kernels[0].copy()) for p in ([0, 2], [1, 3])
             for t in worker.tiles(p)]  # fmt: skip
    for one, other in zip(whole, sorted(parts, key=lambda part: part[:2]), strict=True):
        assert one[:2] == other[:2]
        assert (one[2] == other[2]).all()


@pytest.mark.parametrize("kernel", [*FEATURED, "euclidean", "rbf"])
@pytest.mark.parametrize("library", ["array_api_strict", "torch"])
def test_other_array_libraries_agree_with_numpy(library: str, kernel: str) -> None:
    xp = pytest.importorskip(library)
    rows = spaces_of(90)[0]
    rows[20] = rows[80]
    here = assembled(opened([rows], tile_kernel(kernel), 40))[0]
    there = assembled(opened([xp.asarray(rows)], tile_kernel(kernel), 40))[0]
    np.testing.assert_allclose(there, here, atol=2e-7 * np.abs(here).max())


@pytest.mark.parametrize(
    ("kernel", "dtype", "panel_rows", "spare"),
    [
        ("cosine", "float16", None, 2**30),
        ("cosine", "float16", 250, 0),
        ("cosine", "float32", 250, 2_000_000),
        ("euclidean", "float32", 500, 2**30),
        ("rbf", "float16", 250, 0),
        (cauchy, "float32", 500, 0),
    ],
)
def test_memory_stays_within_what_was_said(
    kernel: Any, dtype: str, panel_rows: int | None, spare: int
) -> None:
    n, d = 2000, 400
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2, n, d))
    if kernel == "euclidean":
        rows = rows[:, rng.integers(0, 3, n)]  # a third of all pairs are close
    spaces = [CountingSpace(part.astype(dtype)) for part in rows]
    chosen = tile_kernel(kernel)
    size = spaces[0].dtype.itemsize
    wished = plan_tiles(sized([d, d], [size] * 2, n), chosen, allowed=2**40, panel_rows=panel_rows)
    allowed = wished.memory.needed + spare
    tracemalloc.start()
    try:
        tiles = opened(list(spaces), chosen, panel_rows, allowed)
        for _ in tiles.tiles():
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    plan = tiles.plan
    assert plan.memory.peak <= allowed
    assert 0.8 * plan.memory.peak <= peak <= plan.memory.peak


@pytest.mark.parametrize("wanted", [{0}, {2}, {1, 3}])
def test_tiles_of_some_rows_are_those_of_the_whole_pass(wanted: set[int]) -> None:
    whole = opened(spaces_of(200), tile_kernel("cosine"), panel_rows=50)
    starts = [lo for lo, _hi in whole.plan.panels]
    assert len(starts) == 4
    expected = {
        (tile.rows, tile.columns): [kernel.copy() for kernel in tile.kernels]
        for tile in whole.tiles()
        if {starts.index(tile.rows[0]), starts.index(tile.columns[0])} & wanted
    }
    met = set()
    for tile in replace(whole, wanted=frozenset(wanted)).tiles():
        met.add((tile.rows, tile.columns))
        for kernel, same in zip(tile.kernels, expected[tile.rows, tile.columns], strict=True):
            np.testing.assert_array_equal(kernel, same)
    assert met == set(expected)
