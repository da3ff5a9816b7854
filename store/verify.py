"""Checking a lake to the last byte, and dropping what is damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerlake.store import schema
from layerlake.store.errors import LakeCorrupt, LayerLakeError, StorageFailed
from layerlake.store.lake import Lake
from layerlake.store.location import Location
from layerlake.store.node_check import (
    check_metadata,
    check_table,
    expected_metadata,
    table_nodes,
)
from layerlake.store.sets import (
    SetPlan,
    SetState,
    committed_windows,
    parse_plan,
    read_manifest,
)
from layerlake.store.stored_space import StoredSpace
from layerlake.store.tables import read_attributes, read_document
from layerlake.store.writer import write_attributes


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it must be."""

    path: str
    """Key of the file or node."""
    problem: str
    repaired: bool = False
    """It was dropped; what wrote it resumes there."""


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    findings: tuple[Finding, ...]
    n_chunks: int
    """Chunks whose bytes were compared with their checksum."""
    n_bytes: int
    n_incomplete: int
    """Sets that are not sealed: no damage, they wait to be resumed."""

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged, or all that was is dropped."""
        return all(finding.repaired for finding in self.findings)


class _SetCheck:
    """The check of one set; collects findings and the windows that must go."""

    def __init__(self, location: Location, path: str, on_bytes: Callable[[int], None]) -> None:
        self.location = location
        self.path = path
        self.on_bytes = on_bytes
        self.findings: list[tuple[str, str]] = []
        self.bad_windows: set[int] = set()
        self.rewrite: dict[str, bytes] = {}
        self.drop: set[str] = set()
        self.n_chunks = 0
        self.n_bytes = 0
        self.unseal = False
        self.plan: SetPlan | None = None
        self.sealed = False

    def _found(self, key: str, problem: str) -> None:
        self.findings.append((key, problem))

    def _expect(self, key: str, content: bytes) -> None:
        try:
            same = self.location.read(key) == content
        except KeyError:
            same = False
        if not same:
            self._found(key, "metadata is not what was written")
            self.rewrite[key] = content

    def _metadata(self, plan: SetPlan) -> set[str]:
        """Compare every metadata document; return the keys of files that may be there."""
        array = schema.dump_json(plan.layout.document())
        group = schema.dump_json(schema.group_document({}))
        expected = {f"{self.path}/{name}/{schema.METADATA}": array for name in plan.arrays}
        for name in plan.arrays:
            expected[f"{self.path}/{name.rpartition('/')[0]}/{schema.METADATA}"] = group
        for name, whole in (("commits", False), ("manifest", True)):
            document = plan.layout.commits_document(len(plan.arrays), whole=whole)
            expected[f"{self.path}/{name}/{schema.METADATA}"] = schema.dump_json(document)
        for key, content in expected.items():
            self._expect(key, content)
        return {*expected, f"{self.path}/{schema.METADATA}"}

    def _commits(self, plan: SetPlan) -> Any:
        """Return the commits; a window whose commit and manifest disagree is not committed."""
        layout = plan.layout
        shape = (layout.n_windows, len(plan.arrays), layout.chunks_per_window)
        commits = np.zeros(shape, np.uint64)
        for window in range(layout.n_windows):
            key = f"{self.path}/commits/{schema.commit_key(window)}"
            try:
                raw = self.location.read(key)
            except KeyError:
                if self.sealed:
                    self._found(key, "missing in a sealed set")
                    self.bad_windows.add(window)
                continue
            if len(raw) != int(np.prod(shape[1:])) * 8:
                self._found(key, f"{len(raw)} bytes, expected {int(np.prod(shape[1:])) * 8}")
                self.bad_windows.add(window)
                continue
            commits[window] = np.frombuffer(raw, "<u8").reshape(shape[1:])
        if self.sealed:
            key = f"{self.path}/manifest/{schema.commit_key(0)}"
            try:
                manifest = read_manifest(self.location, plan)
            except LakeCorrupt:
                manifest = None
            differing = [] if manifest is None else (manifest != commits).any(axis=(1, 2))
            if manifest is None or any(differing):
                self._found(key, "does not agree with commits")
                self.unseal = True
            # Which of the two is wrong, the checksums of the window's own bytes will tell.
            for window in np.flatnonzero(differing).tolist():
                self._found(
                    f"{self.path}/commits/{schema.commit_key(window)}",
                    "does not agree with the manifest",
                )
        for window in np.flatnonzero((commits != 0).any(axis=(1, 2))).tolist():
            wanted = np.zeros(layout.chunks_per_window, bool)
            wanted[: layout.chunks_in(window)] = True
            if ((commits[window] != 0) != wanted).any():
                key = f"{self.path}/commits/{schema.commit_key(window)}"
                self._found(key, "does not name the chunks that the window holds")
                self.bad_windows.add(window)
        return commits

    def _window(self, space: StoredSpace, window: int, state: SetState) -> None:
        layout = state.plan.layout
        key = f"{space.path}/{schema.shard_key(window)}"
        start, stop = layout.window(window)
        try:
            shard = space._shard(window)
            for chunk in range(layout.chunks_in(window)):
                commit = int(state.commits[window, space._number, chunk])
                data = shard.verified(chunk, commit)
                rows = shard.decode(data)
                count = min(layout.chunk_rows, stop - start - chunk * layout.chunk_rows)
                if not np.isfinite(rows[:count]).all():
                    self._found(key, f"chunk {chunk} holds NaN or infinite values")
                    self.bad_windows.add(window)
                self.n_chunks += 1
                self.n_bytes += len(data)
                self.on_bytes(len(data))
        except (LakeCorrupt, StorageFailed) as error:
            self._found(key, str(error).partition("; `layerlake")[0].removeprefix(f"{key} "))
            self.bad_windows.add(window)
        finally:
            space._shards.clear()

    def run(self) -> None:
        key = f"{self.path}/{schema.METADATA}"
        try:
            attributes = read_attributes(self.location, self.path)
            plan = parse_plan(self.path, attributes)
        except (LayerLakeError, ValueError) as error:
            self._found(key, f"{error} (nothing below it can be trusted: remove the set)")
            return
        if attributes.get("tombstone"):
            return
        self.plan = plan
        self.sealed = bool(attributes.get("sealed"))
        known = self._metadata(plan)
        expected_root = schema.dump_json(read_document(self.location, self.path))
        if self.location.read(key) != expected_root:
            self._found(key, "metadata is not what was written")
            self.rewrite[key] = expected_root
        commits = self._commits(plan)
        state = SetState(plan, self.sealed, False, commits)
        for window in range(plan.layout.n_windows):
            known.add(f"{self.path}/commits/{schema.commit_key(window)}")
            known.update(f"{self.path}/{a}/{schema.shard_key(window)}" for a in plan.arrays)
        known.add(f"{self.path}/manifest/{schema.commit_key(0)}")
        for window in np.flatnonzero(committed_windows(plan.layout, commits)).tolist():
            for name in plan.arrays:
                site, _, layer = name.rpartition("/")
                space = StoredSpace(self.location, state, site, int(layer))
                self._window(space, window, state)
        for extra in sorted(set(self.location.files_below(self.path)) - known):
            self._found(extra, "does not belong to the set")
            self.drop.add(extra)

    def repair(self) -> bool:
        """Drop what is damaged; False where the set cannot be repaired."""
        if self.plan is None:
            return False
        with self.location.lock(self.path):
            # Another process may have mended it meanwhile: what counts is what lies there now
            # that nobody else can write.
            now = _SetCheck(self.location, self.path, lambda _: None)
            now.run()
            return now._drop_damage()

    def _drop_damage(self) -> bool:
        if self.plan is None:
            return False
        if self.bad_windows or self.unseal:
            write_attributes(self.location, self.plan, sealed=False)
            self.location.delete(f"{self.path}/manifest/{schema.commit_key(0)}")
        # Commits first: a window without one is not read, whatever its shards hold.
        for window in sorted(self.bad_windows):
            self.location.delete(f"{self.path}/commits/{schema.commit_key(window)}")
            for name in self.plan.arrays:
                self.location.delete(f"{self.path}/{name}/{schema.shard_key(window)}")
        for key in sorted(self.drop):
            self.location.delete(key)
        for key, content in self.rewrite.items():
            if key != f"{self.path}/{schema.METADATA}" or not (self.bad_windows or self.unseal):
                self.location.put(key, [content])
        return True


def verify(
    lake: Lake,
    path: str | None = None,
    *,
    repair: bool = False,
    on_bytes: Callable[[int], None] | None = None,
) -> Verification:
    """Check everything below a path: metadata, checksums, completeness, finite values.

    Parameters
    ----------
    path
        A node of the lake (`activations/wiki/base`); by default all of it.
    repair
        Drop the damaged windows of sets, so that extraction resumes, and whatever else is damaged
        and can be made anew (tokenizations, rows, variants, results); restore metadata. Corpora
        and sets whose attributes are damaged are named, never touched.
    on_bytes
        Called with the bytes of each chunk checked.

    Raises
    ------
    NameNotFound
        Where nothing lies at `path`.
    """
    if repair:
        lake.require_writable()
    if path is not None:
        lake.check_path(path)
    prefix = path or ""
    findings: list[Finding] = []
    n_chunks = n_bytes = n_incomplete = 0

    def inside(node: str) -> bool:
        return not prefix or node == prefix or node.startswith(f"{prefix}/")

    for key, content in expected_metadata(lake.location):
        if not inside(key.rpartition("/")[0]):
            continue
        if not check_metadata(lake.location, key, content, repair=repair):
            findings.append(Finding(key, "metadata is not what was written", repaired=repair))
    for table in table_nodes(lake.location):
        if inside(table):
            found_in = check_table(lake.location, table, repair=repair)
            findings += [Finding(*found) for found in found_in]
    for corpus in lake.location.nodes("activations"):
        for variant in lake.location.nodes(f"activations/{corpus}"):
            for name in lake.location.nodes(f"activations/{corpus}/{variant}"):
                node = f"activations/{corpus}/{variant}/{name}"
                if not (inside(node) or prefix.startswith(f"{node}/")):
                    continue
                check = _SetCheck(lake.location, node, on_bytes or (lambda _: None))
                check.run()
                mended = bool(repair and check.findings and check.repair())
                findings += [Finding(*found, repaired=mended) for found in check.findings]
                n_chunks += check.n_chunks
                n_bytes += check.n_bytes
                n_incomplete += int(check.plan is not None and not check.sealed)
    return Verification(tuple(findings), n_chunks, n_bytes, n_incomplete)
