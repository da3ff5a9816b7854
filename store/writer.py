"""Writing a set: whole shards, then the window's commit, then the seal.

The order is the protocol: a window's commit is written only when every shard of the window lies
on disk, the manifest only when every window is committed, the seal only after the manifest. A
writer killed between any two steps leaves a set whose committed windows are whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from layerlake.store import schema
from layerlake.store.errors import (
    InvalidInput,
    LakeBusy,
    LakeCorrupt,
    NameConflict,
    NameNotFound,
)
from layerlake.store.location import Buffer, Location
from layerlake.store.sets import (
    SetPlan,
    SetState,
    committed_windows,
    parse_plan,
    read_commits,
    read_manifest,
)
from layerlake.store.shards import encode_shard
from layerlake.store.tables import ensure_group, read_attributes, sealed_group

_ATTEMPTS: Final = 5
"""Times that a set is begun while others remove the groups it goes into."""


def _set_files(plan: SetPlan) -> dict[str, list[Buffer]]:
    array = schema.dump_json(plan.layout.document())
    empty = schema.dump_json(schema.group_document({}))
    files: dict[str, list[Buffer]] = {
        schema.METADATA: [sealed_group(plan.attributes(sealed=False))],
    }
    for name in plan.arrays:
        files[f"{name}/{schema.METADATA}"] = [array]
        files[f"{name.rpartition('/')[0]}/{schema.METADATA}"] = [empty]
    for name, whole in (("commits", False), ("manifest", True)):
        document = plan.layout.commits_document(len(plan.arrays), whole=whole)
        files[f"{name}/{schema.METADATA}"] = [schema.dump_json(document)]
    return files


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    keys = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
    return ", ".join(f"{key} {old.get(key)!r} then, {new.get(key)!r} now" for key in keys)


class SetWriter:
    """The one writer of a set, new or resumed; a context manager that holds the set's lock.

    Parameters
    ----------
    location
        Where the lake lies.
    plan
        The set to write. Where it exists already, its recipe must be the same.

    Raises
    ------
    LakeBusy
        Another process writes the set.
    NameConflict
        The set exists with another recipe: the rest of it would not be the same computation.
    """

    def __init__(self, location: Location, plan: SetPlan) -> None:
        self.location = location
        self.plan = plan
        self.sealed = False
        self._resources = ExitStack()
        self._commits: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._down: dict[int, dict[str, NDArray[np.uint64]]] = {}  # of windows not committed yet

    def __enter__(self) -> Self:
        path = self.plan.path
        self._discard_dead()
        for _ in range(_ATTEMPTS):
            ensure_group(self.location, path.rpartition("/")[0])
            with contextlib.suppress(
                FileNotFoundError
            ):  # others removed the last set beside it just now
                self.location.publish(path, _set_files(self.plan))
                break
        else:
            raise LakeBusy(
                f"{path} cannot be begun while other processes remove what lies beside it; try again"
            )
        self._resources.enter_context(self.location.lock(path))
        try:
            try:
                attributes = read_attributes(self.location, path)
            except NameNotFound:
                raise LakeCorrupt(
                    f"{path} is damaged: its {schema.METADATA} is missing; remove it with "
                    f"`layerlake rm {path}` and extract again"
                ) from None
            stored = parse_plan(path, attributes)
            if stored.recipe != dict(self.plan.recipe) or stored.layout != self.plan.layout:
                layouts = (
                    {name.replace("_", " "): value for name, value in vars(layout).items()}
                    for layout in (stored.layout, self.plan.layout)
                )
                changed = _differences(*layouts) or _differences(stored.recipe, self.plan.recipe)
                raise NameConflict(
                    f"{path} was begun in another way ({changed}); run it as it was begun, or "
                    f"remove it with `layerlake rm {path}` and extract again"
                )
            self.sealed = bool(attributes.get("sealed"))
            self._commits = read_commits(self.location, stored)
            self.plan = stored
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()

    def _discard_dead(self) -> None:
        """Finish a removal that was interrupted after its tombstone."""
        with contextlib.suppress(NameNotFound, LakeCorrupt):
            remove_dead(self.location, self.plan.path)

    @property
    def state(self) -> SetState:
        """The set as it lies in the lake now."""
        return SetState(self.plan, self.sealed, False, self._commits)

    @property
    def committed(self) -> NDArray[np.bool_]:
        """Which windows are down, shape (window,)."""
        return committed_windows(self.plan.layout, self._commits)

    def write_window(self, window: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write every shard of a window, then its commit.

        Parameters
        ----------
        window
            Index of the window.
        arrays
            For each array of the set, its rows of the window: shape (rows, hidden), stored dtype.

        Raises
        ------
        InvalidInput
            Arrays missing, or of the wrong shape or dtype; nothing is written then.
        StorageFailed
            The storage refused; the window stays uncommitted.
        """
        if set(arrays) != set(self.plan.arrays):
            raise InvalidInput(
                f"window {window} came with {sorted(arrays)}, expected {sorted(self.plan.arrays)}"
            )
        for name, rows in arrays.items():
            self._check(window, name, rows)
        self._down.pop(window, None)  # of an attempt that failed
        for name in self.plan.arrays:
            self.write_array(window, name, arrays[name])

    def _check(self, window: int, name: str, rows: NDArray[Any]) -> None:
        layout = self.plan.layout
        start, stop = layout.window(window)
        if rows.shape != (stop - start, layout.hidden) or rows.dtype != layout.dtype:
            raise InvalidInput(
                f"{name} of window {window} came as {rows.dtype} {rows.shape}, expected "
                f"{layout.dtype} {(stop - start, layout.hidden)}"
            )

    def write_array(self, window: int, name: str, rows: NDArray[Any]) -> bool:
        """Write the shard of one array of a window; with the last of them, commit the window.

        Parameters
        ----------
        window, name
            Index of the window, and the array (`<site>/<layer>`).
        rows
            Its rows of the window: shape (rows, hidden), stored dtype.

        Returns
        -------
        Whether the window is committed now. A writer that ends before leaves shards that nobody
        reads, and that the next one writes anew.

        Raises
        ------
        InvalidInput
            Rows of the wrong shape or dtype; nothing is written then.
        StorageFailed
            The storage refused; the window stays uncommitted.
        """
        layout = self.plan.layout
        self._check(window, name, rows)
        parts, chunks = encode_shard(layout, rows)
        self.location.put(f"{self.plan.path}/{name}/{schema.shard_key(window)}", parts)
        down = self._down.setdefault(window, {})
        down[name] = chunks
        if len(down) < len(self.plan.arrays):
            return False
        commits = np.stack([down[name] for name in self.plan.arrays])
        key = f"{self.plan.path}/commits/{schema.commit_key(window)}"
        self.location.put(key, [commits.astype("<u8").tobytes()])
        self._commits[window] = commits
        del self._down[window]
        return True

    def seal(self) -> None:
        """Write the manifest and the seal.

        Raises
        ------
        InvalidInput
            Windows are missing.
        """
        missing = np.flatnonzero(~self.committed)
        if len(missing):
            raise InvalidInput(
                f"{self.plan.path} cannot be sealed: {len(missing)} windows are missing, "
                f"the first is {missing[0]}"
            )
        if self.sealed and read_manifest(self.location, self.plan) is not None:
            return
        path = self.plan.path
        numbers = self._commits.astype("<u8").tobytes()
        self.location.put(f"{path}/manifest/{schema.commit_key(0)}", [numbers])
        write_attributes(self.location, self.plan, sealed=True)
        self.sealed = True


def remove_dead(location: Location, path: str) -> int:
    """Remove a set that carries a tombstone; return the bytes freed.

    The tombstone counts only while the set is held: without that, another process may have
    finished the removal and begun the set anew since it was read.

    Raises
    ------
    NameNotFound, LakeCorrupt
        As `read_attributes`.
    LakeBusy
        Another process holds the set.
    """
    if not read_attributes(location, path).get("tombstone"):
        return 0
    with location.lock(path):
        if not read_attributes(location, path).get("tombstone"):
            return 0
        freed = sum(location.size(key) for key in location.files_below(path))
        location.remove(path)
        return freed


def write_attributes(
    location: Location, plan: SetPlan, *, sealed: bool, tombstone: bool = False
) -> None:
    """Replace the attributes of a set's group."""
    attributes = plan.attributes(sealed=sealed)
    if tombstone:
        attributes["tombstone"] = True
    location.put(f"{plan.path}/{schema.METADATA}", [sealed_group(attributes)])
