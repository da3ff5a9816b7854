"""Many variants over one corpus in one call: folders, revisions, seeds, truncations."""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import itertools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerlake.engine.catalogue import Source, resolve_corpus
from layerlake.engine.corpora.reading import Reading
from layerlake.engine.extraction.extract import extract
from layerlake.engine.extraction.plan import variant_name
from layerlake.engine.extraction.run import ExtractionReport
from layerlake.engine.models.checkpoints import explained, require_transformers
from layerlake.engine.progress import Progress, automatic
from layerlake.engine.settings import Choice, check_seed, parse_choices
from layerlake.store import schema
from layerlake.store.errors import InvalidInput, LayerLakeError, is_a
from layerlake.store.lake import Lake, nearest, require_lake

_READING = frozenset(field.name for field in dataclasses.fields(Reading))


@dataclass(frozen=True)
class VariantRequest:
    """One variant to extract."""

    source: str
    randomize: int | None
    truncate: int | None
    name: str
    """Its name in the lake."""


def list_variants(
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    revisions: str | Sequence[str] | None = None,
    randomize: Choice = None,
    truncate: Choice = None,
    variant: str | None = None,
) -> tuple[VariantRequest, ...]:
    """Return every variant that a line asks for, each with its name.

    Parameters
    ----------
    models
        A folder, a hub name, a pattern of folders (`runs/mnli-*`), or a sequence of them.
    revisions
        Of hub names: a list `main,step1000`, or patterns `step*` of their branches and tags.
    randomize, truncate
        Numbers, or lists of them such as `none,0-9`; every combination is a variant.
    variant
        The name. Where there are several, `{name}` in it stands for the model's (its folder, or
        its hub name with the revision) and `{revision}` for its revision; where there are several
        seeds or truncations, they are added at the end.

    Raises
    ------
    InvalidInput
        There are none, or two would have the same name.
    """
    seeds = [
        None if seed is None else check_seed(seed, "the seed of random weights")
        for seed in parse_choices(randomize, "randomize")
    ]
    cuts = parse_choices(truncate, "truncate")
    given = [models] if isinstance(models, str | os.PathLike) else models
    if not is_a(given, list, tuple) or not all(is_a(model, str, os.PathLike) for model in given):
        raise InvalidInput(
            f"a {type(models).__name__} names no models; give folders, hub names or patterns (a "
            "live model is for extract)"
        )
    sources = [
        revised
        for model in given
        for source in _folders(os.fspath(model))
        for revised in _revisions(source, revisions)
    ]
    if variant is not None and len(sources) > 1 and "{" not in variant:
        raise InvalidInput(
            f"{len(sources)} models cannot all be called {variant!r}; put {{name}} or {{revision}} "
            "into the name"
        )
    alone = len(seeds) == len(cuts) == 1
    requests = tuple(
        VariantRequest(source, seed, cut, _named(variant, source, seed, cut, alone))
        for source, seed, cut in itertools.product(sources, seeds, cuts)
    )
    taken: dict[str, VariantRequest] = {}
    for request in requests:
        if request.name in taken:
            raise InvalidInput(
                f"{taken[request.name].source} and {request.source} would both be called "
                f"{request.name!r}; tell them apart by a name with {{name}} or {{revision}}"
            )
        taken[schema.check_name(request.name, "variant")] = request
    return requests


def _named(pattern: str | None, source: str, seed: int | None, cut: int | None, alone: bool) -> str:
    if pattern is None:
        return variant_name(source, seed, cut)
    name = schema.name_from(Path(source.rstrip("/")).name)
    revision = source.partition("@")[2] or name
    stem = pattern.replace("{name}", name).replace("{revision}", revision)
    if "{" in stem or "}" in stem:
        raise InvalidInput(
            f"the name {pattern!r} cannot be read; {{name}} and {{revision}} are what it may hold"
        )
    return stem if alone else stem + variant_name("x", seed, cut).removeprefix("x")


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Order `step10` after `step9`."""
    parts = re.split(r"([0-9]+)", text)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def _folders(source: str) -> list[str]:
    """Return the folders of a pattern; anything else as it is."""
    if Path(source).exists() or not glob.has_magic(source):
        return [source]
    marks = ("config.json", "adapter_config.json")
    found = [
        place
        for place in glob.glob(str(Path(source).expanduser()))  # noqa: PTH207 (may be absolute)
        if any((Path(place) / mark).is_file() for mark in marks)
    ]
    if not found:
        raise InvalidInput(
            f"no folder that matches {source} holds a model (config.json); check the pattern"
        )
    return sorted(found, key=_natural)


def _revisions(source: str, wanted: str | Sequence[str] | None) -> list[str]:
    """Return a hub name with each of its revisions that are wanted."""
    if wanted is None:
        return [source]
    if Path(source).exists():
        raise InvalidInput(f"{source} is a folder, which has no revisions; leave them out")
    if "@" in source:
        raise InvalidInput(f"{source} names a revision already; leave the other revisions out")
    patterns = [p.strip() for p in wanted.split(",")] if isinstance(wanted, str) else list(wanted)
    chosen: list[str] = []
    known: list[str] | None = None
    for pattern in filter(None, patterns):
        if not glob.has_magic(pattern):
            chosen.append(pattern)
            continue
        known = _known_revisions(source) if known is None else known
        fitting = fnmatch.filter(known, pattern)
        if not fitting:
            raise InvalidInput(
                f"no revision of {source} matches {pattern!r}; {nearest(pattern, known)}"
            )
        chosen.extend(sorted(fitting, key=_natural))
    if not chosen:
        raise InvalidInput(f"no revisions of {source} are named; give some as main,step1000")
    return [f"{source}@{revision}" for revision in dict.fromkeys(chosen)]


def _known_revisions(name: str) -> list[str]:
    """Return branches and tags of a hub model: of the hub, or of the cache where it is offline."""
    require_transformers()
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "refs"
        found = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
        if not found:
            raise InvalidInput(
                f"the hub is offline and the cache knows no revision of {name}; go online, or name "
                "folders"
            )
        return found
    with explained(f"the revisions of {name} cannot be listed", "check the name and the network"):
        refs = HfApi().list_repo_refs(name)
    return [ref.name for ref in (*refs.branches, *refs.tags)]


def extract_many(
    lake: Lake,
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    corpus: Source,
    *,
    revisions: str | Sequence[str] | None = None,
    randomize: Choice = None,
    truncate: Choice = None,
    variant: str | None = None,
    on_report: Callable[[ExtractionReport], None] | None = None,
    progress: Progress = automatic,
    **options: Any,
) -> list[ExtractionReport]:
    """Run many variants over one corpus, which is read and tokenised once.

    What is done already is skipped, what was interrupted goes on. An error stops at its variant;
    what came before it is kept.

    Parameters
    ----------
    lake, corpus, progress
        As `extract`.
    models, revisions, randomize, truncate, variant
        As `list_variants`.
    on_report
        Called with what was done for each variant.
    **options
        Anything else that `extract` takes.

    Raises
    ------
    InvalidInput
        No variants, two of the same name, or what `extract` raises, with the variant's name.
    """
    requests = list_variants(
        models, revisions=revisions, randomize=randomize, truncate=truncate, variant=variant
    )
    require_lake(lake)
    # The corpus is read once, here; `extract` then finds it by name or is given what was read.
    reading = Reading(**{name: options.pop(name) for name in _READING & options.keys()})
    name, content = resolve_corpus(
        lake, options.pop("corpus_name", None), corpus, reading, progress
    )
    reports = []
    for request in requests:
        try:
            report = extract(
                lake,
                request.source,
                name if name in lake.corpora() else content,
                corpus_name=name,
                variant=request.name,
                randomize=request.randomize,
                truncate=request.truncate,
                progress=progress,
                **options,
            )
        except LayerLakeError as error:
            if len(requests) > 1:
                error.args = (f"variant {request.name!r}: {error}", *error.args[1:])
            raise
        reports.append(report)
        if on_report is not None:
            on_report(report)
    return reports
