"""RSA between variants of a lake, layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.kept_results import find_result, keep_result
from layerlake.analyses.results import MEASURES, SimilarityResult
from layerlake.analyses.similarity.comparison import require_rows
from layerlake.analyses.similarity.inference import RsaValue
from layerlake.analyses.similarity.rsa import rsa_group
from layerlake.engine.catalogue import load_rows
from layerlake.engine.extraction_plan import parse_layers
from layerlake.engine.progress import Progress, silent
from layerlake.engine.rowsets import RowSet, draw
from layerlake.store.errors import InvalidInput, NameNotFound
from layerlake.store.identity import columns_fingerprint
from layerlake.store.reader import Lake, nearest
from layerlake.store.space import Space
from layerlake.store.tables import table_paths


def _common_rows(sets: Sequence[RowSet]) -> list[NDArray[np.int64]]:
    """Return, for each row set, the indices of the rows that all of them hold."""
    first = sets[0]
    for other in sets[1:]:
        if other.unit == "piece" and (
            other.settings["tokenization"] != first.settings["tokenization"]
        ):
            raise InvalidInput(
                "the variants were cut by different tokenizers, so that their pieces are not the "
                "same stimuli; extract both with --unit word and compare words"
            )
    common = first.row_id
    for other in sets[1:]:
        common = np.intersect1d(common, other.row_id, assume_unique=True)
    return [np.searchsorted(rows.row_id, common) for rows in sets]


def _names(lake: Lake, corpus: str | None, reference: str | None) -> tuple[str, str]:
    corpora = table_paths(lake.location, "activations")
    if corpus is None:
        if len(corpora) != 1:
            raise InvalidInput(
                f"the lake has activations over {len(corpora)} corpora "
                f"({', '.join(corpora) or 'none'}); name one with --corpus"
            )
        corpus = corpora[0]
    lake.check_corpus(corpus)
    present = table_paths(lake.location, f"activations/{corpus}")
    reference = reference or "base"
    if reference not in present:
        raise NameNotFound(
            f"no activations of reference {reference!r} over {corpus}; {nearest(reference, present)}"
        )
    return corpus, reference


def rsa(
    lake: Lake,
    corpus: str | None = None,
    reference: str | None = None,
    variants: Sequence[str] | None = None,
    *,
    layers: str | Sequence[int] | None = None,
    site: str = "resid",
    unit: str = "piece",
    rows: int | None = 5000,
    seed: int = 0,
    specials: bool = False,
    kernel: str = "cosine",
    interval: str = "cluster",
    confidence: float = 0.95,
    memory: int | str = "4GiB",
    fresh: bool = False,
    progress: Progress = silent,
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
    unit
        `piece` or `word`.
    rows, seed
        How many of the rows that all variants hold, drawn by identity: the same stimuli in every
        layer and variant. None for all. A row without a direction (zero norm, or constant under
        `correlation`) in any layer or variant is left out of all, and counted in `n_dropped`.
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
    corpus, reference = _names(lake, corpus, reference)
    others = [v for v in table_paths(lake.location, f"activations/{corpus}") if v != reference]
    chosen = list(variants) if variants else others
    if not chosen:
        raise InvalidInput(
            f"{corpus} holds {reference} alone; extract a variant to compare it with"
        )
    held = {
        v: sorted(
            {
                int(array.rpartition("/")[2])
                for state in lake.sets(corpus, v)
                if state.plan.contents["unit"] == unit
                for array in state.plan.arrays
                if array.rpartition("/")[0] == site
            }
        )
        for v in [reference, *chosen]
    }
    for name, numbers in held.items():
        if not numbers:
            lake.space(corpus, name, 0, site, unit=unit)
            raise NameNotFound(f"{name} over {corpus} has no {site} layers of {unit} rows")
    wanted = [
        layer
        for layer in (
            held[reference] if layers is None else parse_layers(layers, max(held[reference]))
        )
        if layer in held[reference]
    ]
    spaces = {
        (v, layer): lake.space(corpus, v, layer, site, unit=unit, sealed=True)
        for v in [reference, *chosen]
        for layer in wanted
        if layer in held[v]
    }
    settings = {
        "corpus": corpus,
        "reference": reference,
        "variants": chosen,
        "layers": wanted,
        "site": site,
        "unit": unit,
        "rows": rows,
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
    index, clusters = _draw(lake, corpus, spaces, rows, seed, specials)
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
            # A stimulus without a direction in one layer is no stimulus in any: otherwise the
            # curve over layers would be one of different rows. Rare, so found out in passing.
            left = np.flatnonzero(~lost)
            require_rows(len(left), int(lost.sum()))
            values = {layer: compared(layer, left) for layer in groups}
    records: list[dict[str, Any]] = []
    noted: dict[tuple[str, str], list[int]] = {}
    for layer, names in groups.items():
        for variant, value in zip(names[1:], values[layer], strict=True):
            for note in value.notes:
                noted.setdefault((variant, note), []).append(layer)
            shared = {
                "corpus": corpus,
                "reference": reference,
                "variant": variant,
                "site": site,
                "layer": layer,
            }
            records += _records(shared, dataclasses.replace(value, n_dropped=int(lost.sum())))
    notes = tuple(
        f"{variant}, layer {', '.join(map(str, layers))}: {note}"
        for (variant, note), layers in noted.items()
    )
    result = SimilarityResult(settings, identity, tuple(records), notes)
    return keep_result(lake, "rsa", result)


def _records(shared: Mapping[str, Any], value: RsaValue) -> list[dict[str, Any]]:
    """Return a record for each measure of a comparison."""
    fields = dataclasses.asdict(value)
    counts = {
        "n": value.n_rows,
        "n_clusters": value.n_clusters,
        "rows_per_cluster": value.rows_per_cluster,
        "within_pair_share": value.within_pair_share,
        "n_dropped": value.n_dropped,
    }
    return [
        {
            **shared,
            "measure": measure,
            "value": fields[measure],
            "low": fields[f"{measure}_low"],
            "high": fields[f"{measure}_high"],
            **counts,
        }
        for measure in MEASURES
    ]


def _set_digests(lake: Lake, spaces: Iterable[Space]) -> dict[str, str]:
    """Return, for each set that is read, what tells its bytes from those of any other."""
    states = {space.state.plan.path: space.state for space in spaces}
    return {path: columns_fingerprint({"commits": states[path].commits}) for path in sorted(states)}


def _draw(
    lake: Lake,
    corpus: str,
    spaces: dict[tuple[str, int], Space],
    rows: int | None,
    seed: int,
    specials: bool,
) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """Return the drawn rows of each set, and the example of each row."""
    plans = {space.state.plan.path: space.state.plan for space in spaces.values()}
    kept: dict[str, RowSet] = {}
    row_sets = []
    for plan in plans.values():
        fingerprint = str(plan.contents["row_set"])
        if fingerprint not in kept:
            kept[fingerprint] = load_rows(lake, corpus, fingerprint)
        row_sets.append(kept[fingerprint])
    common = _common_rows(row_sets)
    if not specials:
        plain = ~row_sets[0].row_special[common[0]]
        common = [part[plain] for part in common]
    if rows is not None:
        if rows > len(common[0]):
            raise InvalidInput(
                f"{rows} rows asked for, but the variants share {len(common[0])}; give fewer with "
                "--rows, or --rows all"
            )
        drawn = draw(row_sets[0].row_id[common[0]], rows, seed)
        common = [part[drawn] for part in common]
    clusters = row_sets[0].row_example[common[0]]
    return dict(zip(plans, common, strict=True)), clusters
