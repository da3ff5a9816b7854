"""Sets: what one extraction writes, its attributes, its commits and its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.store import schema
from layerlake.store.errors import LakeCorrupt, NameNotFound
from layerlake.store.identity import settings_fingerprint, short
from layerlake.store.location import Location
from layerlake.store.schema import ActivationLayout
from layerlake.store.tables import read_attributes


def set_path(corpus: str, variant: str, set_id: str) -> str:
    """Return the path of a set."""
    return f"activations/{corpus}/{variant}/{set_id}"


@dataclass(frozen=True)
class SetPlan:
    """Everything that is known about a set before its first row is computed."""

    corpus: str
    variant: str
    contents: Mapping[str, Any]
    """What the set holds (row set, tokenization, unit, sites, layers, dtypes): names the set."""
    recipe: Mapping[str, Any]
    """How it is computed (compute dtype, device kind, batch plan, torch): equal for a resume."""
    about: Mapping[str, Any]
    """What else is worth knowing (versions, model source)."""
    arrays: tuple[str, ...]
    """`<site>/<layer>` of every array, in the order of `commits`."""
    layout: ActivationLayout

    @property
    def set_id(self) -> str:
        """Short hash of the contents."""
        return short(settings_fingerprint(self.contents))

    @property
    def path(self) -> str:
        """Path of the set in the lake."""
        return set_path(self.corpus, self.variant, self.set_id)

    def attributes(self, *, sealed: bool) -> dict[str, Any]:
        """Return the attributes of the set's group."""
        layout = self.layout
        return {
            "kind": "activations",
            "sealed": sealed,
            "contents": dict(self.contents),
            "recipe": dict(self.recipe),
            "about": dict(self.about),
            "arrays": list(self.arrays),
            "layout": {
                "n_rows": layout.n_rows,
                "hidden": layout.hidden,
                "dtype": layout.dtype,
                "codec": layout.codec,
                "window_rows": layout.window_rows,
                "chunk_rows": layout.chunk_rows,
            },
        }


@dataclass(frozen=True)
class SetState:
    """A set as it lies in the lake at one moment."""

    plan: SetPlan
    sealed: bool
    tombstone: bool
    commits: NDArray[np.uint64] = field(repr=False)
    """(window, array, chunk); 0 where nothing is committed."""
    begun: int = field(default=0, repr=False, compare=False)
    """When it was begun, in nanoseconds; 0 where the storage does not tell."""

    @property
    def committed(self) -> NDArray[np.bool_]:
        """Which windows are committed, shape (window,)."""
        return committed_windows(self.plan.layout, self.commits)

    @property
    def progress(self) -> str:
        """`sealed`, or how many of the windows are committed."""
        if self.sealed:
            return "sealed"
        return f"{int(self.committed.sum())} of {self.plan.layout.n_windows} windows"

    @property
    def n_bytes(self) -> int:
        """Bytes of the committed chunks, uncompressed."""
        layout = self.plan.layout
        chunks = sum(layout.chunks_in(w) for w in np.flatnonzero(self.committed).tolist())
        return chunks * layout.chunk_bytes * len(self.plan.arrays)


def committed_windows(layout: ActivationLayout, commits: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return which windows have a commit for every chunk that holds rows, shape (window,)."""
    wanted = np.array([layout.chunks_in(w) for w in range(layout.n_windows)])
    return np.asarray((commits != 0).sum(axis=2).min(axis=1) >= wanted)


def parse_plan(path: str, attributes: Mapping[str, Any]) -> SetPlan:
    """Build the plan from the attributes of a set's group; raise `LakeCorrupt` if they are bad."""
    _, corpus, variant, set_id = path.split("/")
    try:
        sizes = attributes["layout"]
        layout = ActivationLayout(
            n_rows=int(sizes["n_rows"]),
            hidden=int(sizes["hidden"]),
            dtype=str(sizes["dtype"]),
            codec=str(sizes["codec"]),
            window_rows=int(sizes["window_rows"]),
            chunk_rows=int(sizes["chunk_rows"]),
        )
        arrays = tuple(str(name) for name in attributes["arrays"])
        plan = SetPlan(
            corpus,
            variant,
            dict(attributes["contents"]),
            dict(attributes["recipe"]),
            dict(attributes["about"]),
            arrays,
            layout,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LakeCorrupt(f"the attributes of {path} are damaged ({error})") from error
    for name in arrays:
        site, _, layer = name.rpartition("/")
        schema.check_name(site, "site")
        if not layer.isdigit():
            raise LakeCorrupt(f"{path} names an array {name!r}; expected SITE/LAYER")
    if plan.set_id != set_id or not arrays:
        raise LakeCorrupt(f"{path} is damaged: its attributes do not belong to its name")
    return plan


def _read_numbers(
    location: Location, key: str, shape: tuple[int, ...]
) -> NDArray[np.uint64] | None:
    size = int(np.prod(shape)) * 8
    try:
        if location.size(key) != size:
            raise LakeCorrupt(
                f"{key} is damaged: {location.size(key)} bytes, where {size} were expected"
            )
        raw = location.read(key)
    except KeyError:
        return None
    return np.frombuffer(raw, "<u8").reshape(shape).astype(np.uint64)


def read_commits(location: Location, plan: SetPlan) -> NDArray[np.uint64]:
    """Return the commits window by window; zeros where a window has none."""
    layout = plan.layout
    shape = (layout.n_windows, len(plan.arrays), layout.chunks_per_window)
    commits = np.zeros(shape, np.uint64)
    for window in range(layout.n_windows):
        key = f"{plan.path}/commits/{schema.commit_key(window)}"
        found = _read_numbers(location, key, shape[1:])
        if found is not None:
            commits[window] = found
    return commits


def read_manifest(location: Location, plan: SetPlan) -> NDArray[np.uint64] | None:
    """Return the commits as written at the seal; None where there is no manifest."""
    layout = plan.layout
    shape = (layout.n_windows, len(plan.arrays), layout.chunks_per_window)
    return _read_numbers(location, f"{plan.path}/manifest/{schema.commit_key(0)}", shape)


def read_state(location: Location, path: str) -> SetState:
    """Return a set as it lies in the lake now.

    Raises
    ------
    NameNotFound
        Where there is no set.
    LakeCorrupt
        Where its attributes or commits are damaged.
    """
    attributes = read_attributes(location, path)
    if attributes.get("kind") != "activations":
        raise NameNotFound(f"{path} is no set of activations")
    plan = parse_plan(path, attributes)
    sealed = bool(attributes.get("sealed"))
    commits = read_manifest(location, plan) if sealed else None
    if commits is None:
        commits = read_commits(location, plan)
    begun = location.written(f"{path}/commits/{schema.METADATA}")
    state = SetState(plan, sealed, bool(attributes.get("tombstone")), commits, begun)
    if sealed and not state.committed.all():
        raise LakeCorrupt(
            f"{path} is sealed but misses windows; `layerlake verify --repair {path}` reopens it"
        )
    return state
