"""Both passes of RSA over a real lake on every scheduler, with workers that die, equal the loop."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from numpy.typing import NDArray

from layerlake.analyses.similarity.compared_rows import COMPARISON
from layerlake.analyses.similarity.features.cluster_deletions import ClusterDeletions, LeavingSums
from layerlake.analyses.similarity.features.kernels import KERNELS, frame_of
from layerlake.analyses.similarity.features.moment_state import MomentState
from layerlake.analyses.similarity.features.moments import GroupMoments, pair_sums
from layerlake.analyses.similarity.features.preparation import Preparation
from layerlake.engine.passes.blocks import SpaceLike, cut_blocks, read_blocks, run_pass
from layerlake.engine.passes.devices import fetched_spaces
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import SelectedRows, select_rows
from layerlake.engine.passes.shared_pass import run_in_parts
from layerlake.engine.workers.schedulers import cut_parts
from layerlake.store.errors import InvalidInput, LakeNotFound
from layerlake.store.lake import open_lake
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan
from layerlake.store.space import Space
from layerlake.store.writer import SetWriter

N = 1000
LENGTHS = np.array([3, 7, 300, 1, 9] * 3 + [40])  # some longer than a block
EMPTY = [5, 150, 999]
"""Rows without a direction."""
PAIRS = [(0, 1), (0, 2), (1, 2)]


@pytest.fixture(scope="module", autouse=True)
def by_value() -> Iterator[None]:
    """Send the classes of this module with their code: workers cannot import tests."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Space, ...]:
    """Three related spaces in windows of 256 rows, of 24, 24 and 31 columns."""
    lake = open_lake(tmp_path_factory.mktemp("partitioned") / "lake", "a")
    lake.add_table("corpora/wiki", {"text": np.array(["a"])}, {"fingerprint": "f"})
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((N, 12)) + 3
    for variant, width, empty in zip(("base", "near", "far"), (24, 24, 31), EMPTY, strict=True):
        values = (latent @ rng.standard_normal((12, width))).astype("float16")
        values[empty] = 0
        layout = ActivationLayout(N, width, "float16", "none", window_rows=256, chunk_rows=64)
        contents = {"row_set": "r", "unit": "piece", "rows": "all"}
        plan = SetPlan("wiki", variant, contents, {}, {}, ("resid/0",), layout)
        with SetWriter(lake.location, plan) as writer:
            for window in range(layout.n_windows):
                start, stop = layout.window(window)
                writer.write_window(window, {"resid/0": values[start:stop]})
            writer.seal()
    return tuple(lake.space("wiki", variant, 0) for variant in ("base", "near", "far"))


@dataclass
class Passes:
    """The two passes of a comparison, and what a loop makes of them."""

    spaces: tuple[SpaceLike, ...]
    kernel: str

    def __post_init__(self) -> None:
        self.rows = [np.arange(N)] * len(self.spaces)
        self.cuts = cut_blocks(np.concatenate([[0], np.cumsum(LENGTHS)]), 64)
        self.dropped: list[NDArray[np.int64]] = []
        sample = np.linspace(0, N - 1, 256).astype(np.int64)
        frames = tuple(frame_of(s.rows(sample), KERNELS[self.kernel]) for s in self.spaces)
        clusters = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
        self.moments = GroupMoments(frames, LENGTHS, PAIRS)
        self.preparation = Preparation(
            frames, PAIRS, clusters, LENGTHS, "float32", self.selected.row_names
        )

    @property
    def selected(self) -> SelectedRows:
        """The rows of all spaces."""
        clusters = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
        return select_rows(self.spaces, self.rows, clusters, ["base", "near", "far"], COMPARISON)

    def loop(self) -> tuple[MomentState, LeavingSums]:
        """Run both passes here."""

        def prepared() -> Iterator[Any]:
            for block in read_blocks(self.spaces, self.rows, self.cuts):
                yield self.preparation(block)

        (state,) = run_pass(prepared(), [self.moments])
        (leaving,) = run_pass(prepared(), [ClusterDeletions(self.copied(state), "float32")])
        return state, leaving

    def shared(
        self, scheduler: str | None, on_progress: Any = None
    ) -> tuple[MomentState, LeavingSums]:
        """Run both passes on workers."""

        def run(accumulator: Any) -> Any:
            return run_in_parts(
                self.selected,
                cut_parts(self.cuts),
                Resources(scheduler=scheduler, workers=2),
                [accumulator],
                self.preparation,
                on_dropped=self.dropped.append,
                on_progress=on_progress,
            )[0]

        state = run(self.moments)
        return state, run(ClusterDeletions(self.copied(state), "float32"))

    def copied(self, state: MomentState) -> MomentState:
        """Return a copy: the second pass gives up the moments of the first."""
        copy: MomentState = cloudpickle.loads(cloudpickle.dumps(state))
        return copy


@pytest.fixture(scope="module", params=["cosine", "sqeuclidean"])
def passes(request: pytest.FixtureRequest, spaces: tuple[Space, ...]) -> Passes:
    """Both passes under a kernel that drops rows and one that does not."""
    return Passes(spaces, request.param)


@pytest.fixture(scope="module")
def expected(passes: Passes) -> tuple[MomentState, LeavingSums]:
    """What a loop in this process makes of them."""
    return passes.loop()


def check(
    found: tuple[MomentState, LeavingSums], expected: tuple[MomentState, LeavingSums]
) -> None:
    """Hold the sums of both passes to those of the loop, relative to the largest of their kind."""
    pairs, others = pair_sums(found[0]), pair_sums(expected[0])
    for pair in PAIRS:
        for name in ("sizes", "total", "within", "own"):
            a, b = getattr(pairs[pair], name), getattr(others[pair], name)
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(b).max())
    assert found[1].keys() == expected[1].keys()
    for key, b in expected[1].items():
        np.testing.assert_allclose(found[1][key], b, rtol=1e-12, atol=1e-12 * np.abs(b).max())


@pytest.mark.parametrize("scheduler", [None, "threads", "processes", "cluster"])
def test_every_scheduler_equals_the_loop(
    passes: Passes,
    expected: tuple[MomentState, LeavingSums],
    scheduler: str | None,
    request: pytest.FixtureRequest,
) -> None:
    if scheduler == "cluster":
        scheduler = request.getfixturevalue("cluster").scheduler_address
    passes.dropped.clear()
    rows: list[int] = []
    check(passes.shared(scheduler, rows.append), expected)
    assert sum(rows) == 2 * N
    lost = np.concatenate(passes.dropped) if passes.dropped else []
    assert sorted(set(lost)) == (EMPTY if passes.kernel == "cosine" else [])


@dataclass(frozen=True)
class DeadlySpace:
    """A space whose reader dies over one row, the first time that a file is not there."""

    space: Space
    row: int
    died: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.space.shape

    @property
    def dtype(self) -> Any:
        return self.space.dtype

    def rows(self, index: NDArray[np.int64], /) -> Any:
        if self.died and self.row in index and not Path(self.died).exists():
            Path(self.died).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.space.rows(index)


@pytest.mark.parametrize("scheduler", ["processes", "cluster"])
def test_a_worker_that_dies_changes_nothing(
    spaces: tuple[Space, ...], tmp_path: Path, scheduler: str, request: pytest.FixtureRequest
) -> None:
    whole = Passes(spaces, "correlation").shared("threads")
    if scheduler == "cluster":
        scheduler = request.getfixturevalue("cluster").scheduler_address
    died = tmp_path / "died"
    passes = Passes(spaces, "correlation")
    passes.spaces = (spaces[0], DeadlySpace(spaces[1], 700, str(died)), spaces[2])
    found = passes.shared(scheduler)
    assert died.exists()
    check(found, whole)


def test_states_that_were_pickled_merge_without_a_move(
    passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_move(*_: Any) -> Any:
        raise AssertionError("moved to the frames where it lies")

    monkeypatch.setattr("layerlake.analyses.similarity.features.moments.moved", no_move)
    accumulator = passes.moments
    accumulator.merge(accumulator.start(), passes.copied(accumulator.start()))


@pytest.mark.parametrize("scheduler", ["threads", "processes", "cluster"])
def test_a_row_that_cannot_be_compared_is_named(
    tmp_path: Path, scheduler: str, request: pytest.FixtureRequest
) -> None:
    lake = open_lake(tmp_path / "lake", "a")
    lake.add_table("corpora/wiki", {"text": np.array(["a"])}, {"fingerprint": "f"})
    values = np.random.default_rng(1).standard_normal((N, 4)).astype("float32")
    values[[777, 900]] = np.inf
    layout = ActivationLayout(N, 4, "float32", "none")
    contents = {"row_set": "r", "unit": "piece", "rows": "all"}
    plan = SetPlan("wiki", "base", contents, {}, {}, ("resid/0",), layout)
    with SetWriter(lake.location, plan) as writer:
        writer.write_window(0, {"resid/0": values})
        writer.seal()
    if scheduler == "cluster":
        scheduler = request.getfixturevalue("cluster").scheduler_address
    passes = Passes((lake.space("wiki", "base", 0),) * 3, "linear")
    row = "(777|900)" if "tcp" in scheduler else "777"
    with pytest.raises(InvalidInput, match=f"^row {row} of base holds NaN or infinity"):
        passes.shared(scheduler)


def test_a_worker_that_does_not_see_the_lake_says_so(
    spaces: tuple[Space, ...], tmp_path: Path
) -> None:
    passes = Passes(spaces, "cosine")
    elsewhere = cloudpickle.loads(cloudpickle.dumps(spaces[0]))
    object.__setattr__(elsewhere, "location", type(elsewhere.location)(tmp_path / "not mounted"))
    passes.spaces = (elsewhere, *spaces[1:])
    with pytest.raises(
        LakeNotFound, match=r"^there is no lake at .*not mounted on [^;]*; put it where"
    ):
        passes.shared("processes")


class StrictTransfers:
    """Arrays of the strict library, as if they lay on a device."""

    def room(self, shape: tuple[int, ...], dtype: Any) -> None:
        return None

    def fill(self, room: None, rows: NDArray[Any]) -> Any:
        import array_api_strict

        return array_api_strict.asarray(rows.astype("float32"))


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_rows_that_arrive_on_a_device_give_the_same(passes: Passes, scheduler: str) -> None:
    there = Passes(fetched_spaces(passes.spaces, StrictTransfers), passes.kernel)
    check(there.shared(scheduler), there.loop())
