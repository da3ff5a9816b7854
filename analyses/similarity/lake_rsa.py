"""RSA between variants of a lake, layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.kept_results import find_result, keep_result
from layerlake.analyses.results import MEASURES, SimilarityResult
from layerlake.analyses.similarity.inference import RsaValue
from layerlake.analyses.similarity.rsa import rsa_group
from layerlake.analyses.similarity.selected import require_rows
from layerlake.analyses.similarity.selection import (
    asked_rows,
    draw_rows,
    layers_of,
    names_of,
    sets_holding,
    unit_of,
)
from layerlake.engine.progress import Progress, automatic
from layerlake.engine.settings import check_seed
from layerlake.store.identity import columns_fingerprint
from layerlake.store.reader import Lake, require_lake
from layerlake.store.space import Space, incomplete


def rsa(
    lake: Lake,
    corpus: str | None = None,
    reference: str | None = None,
    variants: str | Iterable[str] | None = None,
    *,
    layers: str | int | Iterable[int] | None = None,
    site: str = "resid",
    unit: str | None = None,
    pooling: str = "mean",
    rows: int | str | None = None,
    seed: int = 0,
    specials: bool = False,
    kernel: str = "cosine",
    interval: str = "cluster",
    confidence: float = 0.95,
    memory: int | str = "4GiB",
    fresh: bool = False,
    progress: Progress = automatic,
) -> SimilarityResult:
    """Compare variants with a reference, layer by layer (Merchant et al. 2020, section 5).

    Parameters
    ----------
    corpus
        By default the only one with activations.
    reference
        By default `base`.
    variants
        By default all others over the corpus.
    layers
        `0,8`, `0-4`, a sequence, or all that the reference has; a variant that lacks one (a
        truncated model) has no number there.
    unit, pooling
        `piece`; `word`, and how its pieces were pooled: `mean`, `first`, `last` or `max`; or
        `example`. By default pieces, or the only unit that the reference has.
    rows, seed
        How many of the rows that all variants hold, drawn by identity: the same stimuli in every
        layer and variant. `all` of them, or by default 5000, or all where there are fewer. A row
        without a direction (zero norm, or constant under `correlation`) in any layer or variant is
        left out of all, and counted in `n_dropped`.
    specials
        Include special pieces.
    kernel, interval, confidence, memory
        As `rsa_group`; the clusters are the examples of the corpus.
    fresh
        Compute though the lake holds the answer (a verified lake is always read afresh).
    progress
        Told of the rows read; see `engine.progress`.

    Returns
    -------
    The result, kept in the lake under `results/rsa/<identity>` where the lake may be written. The
    identity covers the settings, the corpus and the checksums of every set that was read, so that
    the same question of the same bytes is answered from there.

    Raises
    ------
    InvalidInput, NameNotFound, SetIncomplete, MemoryRefused
        As their names say, each in one sentence.
    """
    require_lake(lake)
    asked = asked_rows(rows)
    seed = check_seed(seed)
    reference = "base" if reference is None else reference
    corpus, chosen = names_of(lake, corpus, reference, variants)
    unit = unit_of(lake, corpus, reference, unit)
    held = sets_holding(
        lake,
        corpus,
        [reference, *chosen],
        site,
        unit,
        pooling if unit == "word" else None,
        optional=chosen if variants is None else (),
    )
    left_out = [name for name in chosen if name not in held]
    chosen = [name for name in chosen if name in held]
    wanted = layers_of(layers, held, reference)
    spaces = {}
    for name in [reference, *chosen]:
        for layer in wanted:
            if layer in held[name]:
                state = held[name][layer][-1]
                if not state.sealed:
                    raise incomplete(state, np.flatnonzero(~state.committed))
                spaces[name, layer] = lake.space_of(state, site, layer)
    settings = {
        "corpus": corpus,
        "reference": reference,
        "variants": chosen,
        "layers": wanted,
        "site": site,
        "unit": unit,
        "pooling": pooling if unit == "word" else None,
        "rows": asked,
        "seed": seed,
        "specials": specials,
        "kernel": kernel,
        "score": "pearson",
        "interval": interval,
        "confidence": confidence,
    }
    identity = {
        "corpus": lake.attributes(f"corpora/{corpus}")["fingerprint"],
        "sets": _set_digests(lake, spaces.values()),
    }
    if not fresh and not lake.verified:
        kept = find_result(lake, "rsa", settings, identity)
        if kept is not None:
            return kept
    index, clusters = draw_rows(lake, corpus, spaces, asked, seed, specials)
    groups = {layer: [v for v in [reference, *chosen] if (v, layer) in spaces] for layer in wanted}
    groups = {layer: names for layer, names in groups.items() if len(names) > 1}
    passes = 1 if interval == "none" else 2
    total = passes * len(clusters) * len(groups)
    lost = np.zeros(len(clusters), dtype=np.bool_)

    def lose(positions: NDArray[np.int64]) -> None:
        lost[positions] = True

    def compared(
        layer: int, kept: NDArray[np.int64], on_progress: Callable[[int], None] | None = None
    ) -> list[RsaValue]:
        group = [spaces[name, layer] for name in groups[layer]]
        return rsa_group(
            group[0],
            group[1:],
            [index[space.state.plan.path][kept] for space in group],
            clusters[kept],
            kernel=kernel,
            interval=interval,
            confidence=confidence,
            memory=memory,
            names=groups[layer],
            on_progress=on_progress,
            on_dropped=lose,
        )

    every = np.arange(len(clusters))
    with progress(f"rsa of {corpus}", total, "rows") as stage:
        values = {layer: compared(layer, every, stage.advance) for layer in groups}
    if lost.any():
        # A stimulus without a direction in one layer is no stimulus in any: otherwise the curve
        # over layers would be one of different rows. Rare, so found out in passing.
        left = np.flatnonzero(~lost)
        require_rows(len(left), int(lost.sum()))
        label = f"rsa of {corpus} without {int(lost.sum())} rows"
        with progress(label, passes * len(left) * len(groups), "rows") as stage:
            values = {layer: compared(layer, left, stage.advance) for layer in groups}
    records: list[dict[str, Any]] = []
    noted: dict[tuple[str, str], list[int]] = {}
    for layer, names in groups.items():
        for variant, value in zip(names[1:], values[layer], strict=True):
            for note in value.notes:
                noted.setdefault((variant, note), []).append(layer)
            shared = {
                "corpus": corpus,
                "reference": reference,
                "reference_layer": layer,
                "variant": variant,
                "site": site,
                "layer": layer,
            }
            records += _records(shared, dataclasses.replace(value, n_dropped=int(lost.sum())))
    result = SimilarityResult(settings, identity, tuple(records), _notes(noted, left_out))
    return keep_result(lake, "rsa", result)


def _notes(
    noted: Mapping[tuple[str, str], Sequence[int]], left_out: Sequence[str]
) -> tuple[str, ...]:
    """Return each note once, with the variants and layers that it is about."""
    about: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (variant, note), layers in noted.items():
        about.setdefault((note, tuple(layers)), []).append(variant)
    notes = [
        f"{', '.join(names)}, layer {', '.join(map(str, layers))}: {note}"
        for (note, layers), names in about.items()
    ]
    if left_out:
        notes.append(f"{', '.join(left_out)}: left out, having no such layers of such rows")
    return tuple(notes)


def _records(shared: Mapping[str, Any], value: RsaValue) -> list[dict[str, Any]]:
    """Return a record for each measure of a comparison."""
    fields = dataclasses.asdict(value)
    counts = {
        "n": value.n_rows,
        "n_clusters": value.n_clusters,
        "rows_per_cluster": value.rows_per_cluster,
        "within_pair_share": value.within_pair_share,
        "n_dropped": value.n_dropped,
        "n_seeds": 1,
    }
    return [
        {
            **shared,
            "measure": measure,
            "value": fields[measure],
            "low": fields[f"{measure}_low"],
            "high": fields[f"{measure}_high"],
            "bound": None,
            **counts,
        }
        for measure in MEASURES
    ]


def _set_digests(lake: Lake, spaces: Iterable[Space]) -> dict[str, str]:
    """Return, for each set that is read, what tells its bytes from those of any other."""
    states = {space.state.plan.path: space.state for space in spaces}
    return {path: columns_fingerprint({"commits": states[path].commits}) for path in sorted(states)}
