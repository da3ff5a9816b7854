"""Data sets of the Hugging Face hub: `hf://org/name[/config][:split][@revision]`, streamed."""

from __future__ import annotations

import importlib
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.objects import corpus_of_rows, rows_of_data_set
from layerlake.engine.progress import Progress, silent
from layerlake.store.errors import InvalidInput, LayerLakeError, MissingExtra

SCHEME = "hf://"

GRAMMAR = "hf://ORG/NAME[/CONFIG][:SPLIT][@REVISION]"

_NAME = re.compile(
    r"hf://(datasets/)?(?P<repository>[\w.-]+/[\w.-]+)(/(?P<config>[\w.+-]+))?"
    r"(:(?P<split>[\w.-]+))?(@(?P<revision>[^\s@]+))?"
)


@dataclass(frozen=True)
class HubName:
    """What a name on the hub says."""

    repository: str
    config: str | None
    split: str | None
    revision: str | None

    @property
    def short(self) -> str:
        """A name for the corpus: the last part, with configuration and split."""
        parts = (self.repository.split("/")[1], self.config, self.split)
        return "-".join(part for part in parts if part)


def is_hub_name(source: object) -> bool:
    """Say whether a source names a data set of the hub."""
    return isinstance(source, str) and source.startswith(SCHEME)


def parse_hub_name(source: str) -> HubName:
    """Return the parts of a name; raise `InvalidInput` where it is none."""
    found = _NAME.fullmatch(source)
    if not found:
        raise InvalidInput(f"{source!r} is no name of a data set on the hub; write {GRAMMAR}")
    parts = {key: found[key] for key in ("repository", "config", "split", "revision")}
    return HubName(**parts)


class HubData:
    """A data set found on the hub, or in the local cache where the hub cannot be reached.

    Parameters
    ----------
    source
        A name, as `GRAMMAR` says. Without a revision it is the newest one; without a split the
        only one.

    Raises
    ------
    InvalidInput
        There is no such data set, configuration or revision, or it is not in the cache and the hub
        cannot be reached.
    MissingExtra
        The `datasets` library is not installed.
    """

    def __init__(self, source: str) -> None:
        self.asked = source
        self.name = name = parse_hub_name(source)
        try:
            library: Any = importlib.import_module("datasets")
        except ImportError as error:
            raise MissingExtra(
                "data sets of the hub need the datasets library: pip install 'layerlake[data]'"
            ) from error
        if Path(name.repository).exists():
            raise InvalidInput(
                f"a folder {name.repository} lies here, which would be read in place of the data "
                "set of that name on the hub; run from another folder"
            )
        with _explained(source):
            self._builder = library.load_dataset_builder(
                name.repository, name.config, revision=name.revision
            )
        self.revision = str(self._builder.hash)
        """The commit."""
        if self.cached and name.revision not in (None, self.revision):
            raise InvalidInput(
                f"the hub cannot be reached, and the local cache holds {name.repository} at the "
                f"revision {self.revision}, not at {name.revision}; leave the revision out, or "
                "come back with a network"
            )

    @property
    def cached(self) -> bool:
        """Whether it comes from the local cache, the hub being out of reach."""
        return type(self._builder).__module__.endswith("packaged_modules.cache.cache")

    def read(
        self,
        format: str | None = None,
        *,
        licence: str | None = None,
        progress: Progress = silent,
        **fields: str | None,
    ) -> Corpus:
        """Stream the data set into a corpus; options as `corpus_of_object`."""
        with _explained(self.asked):
            stream = self._builder.as_streaming_dataset(split=self.name.split)
        split = self.name.split
        if split is None:
            if len(stream) != 1:
                raise InvalidInput(
                    f"{self.asked} has the splits {', '.join(stream)}; name one, such as "
                    f"{SCHEME}{self.name.repository}"
                    f"{'/' + self.name.config if self.name.config else ''}:{next(iter(stream))}"
                )
            ((split, stream),) = stream.items()
        source = {
            "format": "hf",
            "name": self.name.repository,
            "config": self._builder.config.name,
            "split": str(split),
            "revision": self.revision,
            "asked": self.request(format, **fields),
        }
        with progress(f"reading {self.asked}", None, "rows") as stage:
            return corpus_of_rows(
                self._rows(stream),
                self.asked,
                source,
                format,
                licence=licence,
                on_rows=stage.advance,
                **fields,
            )

    def request(self, format: str | None, **fields: str | None) -> dict[str, str]:
        """Return what was asked for, to know the same request again."""
        asked = {"source": self.asked, "format": format, **fields}
        return {key: value for key, value in asked.items() if value is not None}

    def _rows(self, stream: Any) -> Iterator[dict[str, Any]]:
        rows = rows_of_data_set(stream)
        while True:
            with _explained(self.asked):
                row = next(rows, None)
            if row is None:
                return
            yield row


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """Run the library quietly; say in one sentence what failed, with its own reason."""
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
    except LayerLakeError:
        raise
    except Exception as error:  # the library raises whatever its parsers and the network raise
        reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        if isinstance(error, ConnectionError):
            raise InvalidInput(
                f"{source} is not in the local cache of data sets, and the hub cannot be reached "
                f"({reason}); check the name and the network, or give a file"
            ) from error
        raise InvalidInput(
            f"{source} cannot be read from the hub ({reason}); the name is read as {GRAMMAR}"
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
