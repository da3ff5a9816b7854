"""The data of a run: files, hub data sets or corpora, read in the format of the task."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from layerlake.analyses.finetuning.tasks.task import Task
from layerlake.engine.catalogue import Source, read_named
from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.formats import guess_format
from layerlake.engine.corpora.hub import is_hub_name
from layerlake.engine.corpora.objects import FORMATS_OF_ROWS
from layerlake.engine.corpora.reading import Reading
from layerlake.engine.corpora.subset import join_corpora, take_examples
from layerlake.engine.progress import Progress
from layerlake.engine.rows.seeded_draw import draw
from layerlake.engine.settings import check_seed, whole_number
from layerlake.store.errors import InvalidInput, is_a

Sources = Source | Sequence[Source] | Mapping[str, Source]
"""One source, several, or several by the names that scores get."""


@dataclass(frozen=True, eq=False)
class Data:
    """A corpus, and what is recorded of where it came from."""

    name: str
    corpus: Corpus
    files: tuple[str, ...]
    """The last parts of the names of its files."""
    sample: str | None = None
    """Which examples were drawn from it, as it was asked for."""

    def to_dict(self) -> dict[str, Any]:
        """Return what lineage says of it."""
        about: dict[str, Any] = {
            "files": list(self.files),
            "fingerprint": self.corpus.fingerprint,
            "n_examples": self.corpus.n_examples,
        }
        return about if self.sample is None else about | {"sample": self.sample}


@dataclass(frozen=True, eq=False)
class DataChoice:
    """What a run is trained and evaluated on, as it is asked for."""

    train: Sources
    """Trained on as one."""
    dev: Sources | None
    """Evaluated on, each by itself."""
    train_sample: int | str | None
    """How many of the training examples, as `parse_sample`; None for all."""
    reading: Reading
    """How all of them are read."""

    def read_training(self, task: Task, progress: Progress) -> Data:
        """Read what is trained on."""
        return read_training(
            self.train, task, self.train_sample, reading=self.reading, progress=progress
        )

    def read_dev(self, task: Task, progress: Progress) -> list[Data]:
        """Read what is evaluated on."""
        return read_dev(self.dev, task, reading=self.reading, progress=progress)


def read_data(
    source: Source,
    task: Task,
    *,
    name: str | None = None,
    reading: Reading,
    progress: Progress,
) -> Data:
    """Read one source.

    Parameters
    ----------
    source
        A file, `hf://...`, a `Corpus`, or examples in memory.
    task
        Whose format it has, where none is named.
    name
        What scores on it are called; by default what the file is called.
    reading
        How it is read; without a format in that of the task.
    progress
        Told of the lines read.

    Raises
    ------
    InvalidInput
        It cannot be read, or is of a format that the task has no use for.
    """
    kind = reading.format
    names_fields = any(field is not None for field in reading.fields.values())
    is_file = is_a(source, str, os.PathLike) and not is_hub_name(source)
    if kind is not None and kind not in task.formats:
        raise InvalidInput(
            f"format {kind} is not one that {task.name} is trained on; they are "
            f"{', '.join(task.formats)}"
        )
    if kind is None and is_file:
        kind = _format_of(Path(os.fspath(source)), task)  # type: ignore[arg-type]
    elif kind is None and not is_a(source, Corpus) and not names_fields:
        kind = task.formats[0] if task.formats[0] in FORMATS_OF_ROWS else None
    called, corpus = read_named(
        name or _name_of(source), source, replace(reading, format=kind), progress=progress
    )
    files = [Path(os.fspath(source)).name] if is_file else []  # type: ignore[arg-type]
    if is_hub_name(source):
        files = [str(source)]
    return Data(name or called, corpus, tuple(files))


def _format_of(path: Path, task: Task) -> str:
    """Return the format of a file: what its name says where the task can use that, or its own."""
    try:
        guessed = guess_format(path)
    except InvalidInput:
        return task.formats[0]
    return guessed if guessed in task.formats else task.formats[0]


def _name_of(source: Source) -> str | None:
    """Return a name for what may have none of its own."""
    named = is_a(source, str, os.PathLike)
    return None if named else "data"


def read_training(
    sources: Sources,
    task: Task,
    sample: int | str | None,
    *,
    reading: Reading,
    progress: Progress,
) -> Data:
    """Read what is trained on: all sources as one, or a sample of that.

    Parameters
    ----------
    sources
        One, or several.
    task
        The task.
    sample
        None for all, or how many examples: `12000`, or `12000@SEED` for another draw.
    reading, progress
        As `read_data`.

    Raises
    ------
    InvalidInput
        The sources have names, cannot be joined, or are fewer examples than the sample.
    """
    if isinstance(sources, Mapping):
        raise InvalidInput(
            f"what is trained on has no names, and {', '.join(map(repr, list(sources)[:3]))} were "
            "given; give one source, or a list of several"
        )
    parts = [
        read_data(source, task, reading=reading, progress=progress) for _, source in listed(sources)
    ]
    corpus = join_corpora([part.corpus for part in parts])
    files = tuple(file for part in parts for file in part.files)
    if sample is None:
        return Data(parts[0].name, corpus, files)
    n, seed = parse_sample(sample)
    if n > corpus.n_examples:
        raise InvalidInput(
            f"a sample of {n} was asked of {corpus.n_examples} training examples; ask for fewer"
        )
    chosen = draw(np.arange(corpus.n_examples, dtype=np.int64), n, seed)
    return Data(parts[0].name, take_examples(corpus, chosen), files, f"{n}@{seed}")


def parse_sample(sample: int | str) -> tuple[int, int]:
    """Return number and seed of `12000` or `12000@1`; raise `InvalidInput` for anything else."""
    text = str(sample)
    number, at, seed = text.partition("@")
    if not number.isdecimal() or (at and not seed.isdecimal()) or len(text) > 30:
        raise InvalidInput(
            f"train sample {sample!r} is not understood; give a number, as 12000, or 12000@SEED"
        )
    return whole_number(int(number), "train sample", 1), check_seed(int(seed or 0))


def read_dev(
    sources: Sources | None, task: Task, *, reading: Reading, progress: Progress
) -> list[Data]:
    """Read what is evaluated on, each source by itself; parameters as `read_data`.

    Raises
    ------
    InvalidInput
        Two have the same name.
    """
    found: list[Data] = []
    for name, source in [] if sources is None else listed(sources):
        data = read_data(source, task, name=name, reading=reading, progress=progress)
        if data.name in [other.name for other in found]:
            raise InvalidInput(
                f"two files to evaluate on are called {data.name}; name them, as NAME=FILE"
            )
        found.append(data)
    return found


def listed(sources: Sources) -> list[tuple[str | None, Source]]:
    """Return sources one by one, with their names where they were given any.

    A list is one of sources, unless it holds examples: mappings from fields to values, or pairs.
    """
    several = isinstance(sources, list | tuple | Mapping)
    if several and not sources:
        raise InvalidInput("no data is named; give a file")
    if isinstance(sources, Mapping):
        return list(sources.items())
    if not isinstance(sources, list | tuple) or _is_example(sources[0]):
        return [(None, sources)]
    return [(None, source) for source in sources]


def _is_example(entry: Any) -> bool:
    """Say whether an entry of a list is fields with values, or a pair of texts."""
    pair = isinstance(entry, list | tuple) and all(isinstance(part, str) for part in entry)
    return pair or isinstance(entry, Mapping)


def named_sources(given: Sequence[str]) -> Sources:
    """Return sources that people wrote as `FILE` or `NAME=FILE`.

    Raises
    ------
    InvalidInput
        Two have the same name.
    """
    from layerlake.store.errors import InvalidInput

    parted = [_parted(text) for text in given]
    if not any(name for name, _ in parted):
        return [source for _, source in parted]
    found: dict[str, str] = {}
    for name, source in parted:
        called = name or _usual_name(source)
        if called in found:
            raise InvalidInput(f"two sources are called {called}; name them, as NAME=FILE")
        found[called] = source
    return found


def _parted(text: str) -> tuple[str, str]:
    """Part `NAME=FILE`; a path may hold a `=` of its own."""
    name, equals, source = text.partition("=")
    if not equals or not name or "/" in name or Path(text).exists():
        return "", text
    return name, source


def _usual_name(source: str) -> str:
    """Return what a source is called where nobody names it."""
    from layerlake.engine.corpora.hub import is_hub_name, parse_hub_name
    from layerlake.store.schema import name_from

    if is_hub_name(source):
        return name_from(parse_hub_name(source).short)
    return name_from(Path(source).name.split(".")[0])
