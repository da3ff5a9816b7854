"""Verification as people call it: the store's full check, with progress."""

from __future__ import annotations

from layerlake.engine.progress import Progress, automatic
from layerlake.store.lake import Lake, require_lake
from layerlake.store.verify import Verification
from layerlake.store.verify import verify as check


def verify(
    lake: Lake,
    path: str | None = None,
    *,
    repair: bool = False,
    progress: Progress = automatic,
) -> Verification:
    """Check everything below a path: metadata, checksums, completeness, finite values.

    Parameters
    ----------
    lake
        Opened for writing where `repair` is asked for.
    path
        A node of the lake (`activations/wiki/base`); by default all of it.
    repair
        Drop the damaged windows of sets, so that extraction resumes, and restore metadata.
        Tables and sets whose attributes are damaged are named, never touched.
    progress
        Told of the bytes checked; see `engine.progress`.

    Raises
    ------
    NameNotFound
        Where nothing lies at `path`.
    LakeReadOnly
        `repair` was asked of a lake that was opened for reading.
    """
    require_lake(lake)
    with progress(f"verifying {path or lake.location.name}", None, "bytes") as stage:
        return check(lake, path, repair=repair, on_bytes=stage.advance)
