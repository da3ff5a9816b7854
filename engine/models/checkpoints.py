"""Where a model's files lie: a folder, or what the hub has, fetched into the local cache."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerlake.store.errors import InvalidInput, MissingExtra

_HUB_NAME = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[^@\s]+))?")


_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Checkpoint:
    """The folder that holds a model's files, and what to call it."""

    folder: Path
    given: str
    name: str
    revision: str | None
    trust_remote_code: bool

    @property
    def options(self) -> dict[str, Any]:
        return {"local_files_only": True, "trust_remote_code": self.trust_remote_code}

    @property
    def is_adapter(self) -> bool:
        return self.holds("adapter_config.json") and not self.holds("config.json")

    def holds(self, *patterns: str) -> bool:
        return any(next(self.folder.glob(pattern), None) for pattern in patterns)


def require_transformers() -> None:
    """Load torch and transformers, or say what to install."""
    # On CPUs torch keeps what it has compiled for each of the last 1024 shapes. Every batch of an
    # extraction has a shape of its own, so that this grew by 200 MB and was never of use.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "running a model needs torch and transformers: pip install 'layerlake[models]'"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the loaders' warnings and progress bars off the terminal while they run."""
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            if bars:
                transformers_logging.disable_progress_bar()
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            if bars:
                transformers_logging.enable_progress_bar()


@contextmanager
def explained(failed: str, advice: str) -> Iterator[None]:
    """Run a loader quietly; say in one sentence what failed, with the loader's own reason."""
    try:
        with _quiet():
            yield
    except InvalidInput:
        raise
    except Exception as error:  # loaders raise whatever their parsers and checks raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2])[:200].rstrip(".") or type(error).__name__
        raise InvalidInput(f"{failed} ({reason}); {advice}") from error


def locate(source: str, trust_remote_code: bool, *, weights: bool) -> Checkpoint:
    """Return where the model's files lie, after fetching what the hub has and the cache lacks."""
    if not source:
        raise InvalidInput("no model is named; give a model's folder or a hub name")
    try:
        folder = Path(source).expanduser()
        present = folder.exists()
    except (OSError, RuntimeError) as error:  # too long a name, or the home of nobody
        raise InvalidInput(
            f"no folder {source[:100]}; give a model's folder or a hub name"
        ) from error
    if folder.is_dir():
        found = Checkpoint(folder, source, folder.resolve().name, None, trust_remote_code)
    elif present:
        raise InvalidInput(f"{source} is a file; give the folder that holds the model")
    else:
        matched = _HUB_NAME.fullmatch(source)
        if not matched or source.startswith((".", "~", "-")):
            raise InvalidInput(f"no folder {source}; give a model's folder or a hub name")
        name = matched["name"]
        folder = _fetch(name, matched["revision"], weights=weights, code=trust_remote_code)
        found = Checkpoint(folder, source, name, folder.name, trust_remote_code)
    if not found.is_adapter and not (found.folder / "config.json").is_file():
        raise InvalidInput(
            f"{source} holds no config.json; give a folder written by save_pretrained"
        )
    if weights and not found.holds("*.safetensors"):
        held = "pickled weights only, which may run code" if found.holds("*.bin") else "no weights"
        raise InvalidInput(
            f"{source} holds {held}; save the model with save_pretrained, as safetensors"
        )
    return found


def _fetch(name: str, revision: str | None, *, weights: bool, code: bool) -> Path:
    """Return the cached snapshot of a hub model (its last part is the commit), made up to date."""
    from huggingface_hub import errors, snapshot_download

    wanted = ["*.json", "*.txt", "*.model", "*.tiktoken"]
    wanted += ["*.safetensors"] if weights else []
    wanted += ["*.py"] if code else []
    known: dict[type[Exception], str] = {
        errors.GatedRepoError: "has terms to accept; do so on its page, then `hf auth login`",
        errors.RevisionNotFoundError: f"has no revision {revision!r}; give a branch, tag or commit",
        errors.RepositoryNotFoundError: "is neither a folder here nor a public model of the hub; "
        "check the name",
        errors.HFValidationError: "is neither a folder here nor a possible hub name; check it",
        errors.LocalEntryNotFoundError: "is neither a folder here nor in the local cache, and the "
        "hub cannot be reached; check the name and the network, or give a folder",
    }
    # Sub-folders and `consolidated` hold the same weights in other formats.
    options: dict[str, Any] = {
        "allow_patterns": wanted,
        "ignore_patterns": ["*/*", "consolidated*"],
    }
    with explained(f"{name!r} cannot be fetched from the hub", "try again, or give a folder"):
        if revision and _COMMIT.fullmatch(revision):
            # A commit never changes, so what the cache has of it needs no look at the hub.
            with suppress(errors.LocalEntryNotFoundError):
                cached = Path(
                    snapshot_download(name, revision=revision, local_files_only=True, **options)
                )
                if any(cached.glob("*.safetensors" if weights else "config.json")):
                    return cached
        try:
            return Path(snapshot_download(name, revision=revision, **options))
        except tuple(known) as error:
            if isinstance(error, errors.LocalEntryNotFoundError):
                staged = _staged(name, revision or "main")
                if staged is not None and any(
                    staged.glob("*.safetensors" if weights else "config.json")
                ):
                    return staged
            what = next(text for kind, text in known.items() if isinstance(error, kind))
            raise InvalidInput(f"{name!r} {what}") from error


def _staged(name: str, revision: str) -> Path | None:
    """Return the cached snapshot of a branch or tag whose reference was written by hand.

    transformers takes a reference that ends in a line break; the hub's own look-up does not.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    try:
        commit = (place / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    snapshot = place / "snapshots" / commit
    return snapshot if _COMMIT.fullmatch(commit) and snapshot.is_dir() else None
