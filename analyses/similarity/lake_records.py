"""Records of a comparison: flat mappings, one for each number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from layerlake.analyses.measure_kinds import known_measure
from layerlake.analyses.result_parts import DIFFERENCE
from layerlake.analyses.similarity.pairing import Key, KeyPair
from layerlake.analyses.similarity.seeds import mean_over_seeds
from layerlake.analyses.similarity.values import Estimate, PairValues


def records_of(
    shared: Mapping[str, Any],
    pairs: Iterable[KeyPair],
    values: Mapping[KeyPair, PairValues],
    n_dropped: int,
) -> list[dict[str, Any]]:
    """Return a record for each estimate of each pair."""
    records = []
    for pair in pairs:
        (reference, reference_layer), (variant, layer) = pair
        names = {
            "reference": reference,
            "reference_layer": reference_layer,
            "variant": variant,
            "layer": layer,
        }
        records += _records(shared, names, values[pair], n_dropped)
    return records


def difference_records(
    shared: Mapping[str, Any],
    differences: Mapping[tuple[KeyPair, KeyPair], PairValues],
    n_dropped: int,
) -> list[dict[str, Any]]:
    """Return a record for each difference of two values at one layer of both."""
    records = []
    for (one, other), value in differences.items():
        (reference, reference_layer), (variant, layer) = one
        against, against_layer = other[1]
        if layer != against_layer or variant == against:
            continue
        names = {
            "reference": reference,
            "reference_layer": reference_layer,
            "variant": f"{variant} - {against}",
            "layer": layer,
        }
        for record in _records(shared, names, value, n_dropped):
            records.append({**record, "measure": record["measure"] + DIFFERENCE})
    return records


def _records(
    shared: Mapping[str, Any], names: Mapping[str, Any], value: PairValues, n_dropped: int
) -> list[dict[str, Any]]:
    """Return the records of a pair."""
    counts = value.counts
    return [
        {
            **shared,
            **names,
            "measure": estimate.measure,
            **_numbers(estimate),
            "n": counts.n_rows,
            "n_clusters": counts.n_clusters,
            "rows_per_cluster": counts.rows_per_cluster,
            "within_pair_share": counts.within_pair_share,
            "n_dropped": n_dropped,
            "n_seeds": 1,
        }
        for estimate in value.estimates
    ]


def _numbers(estimate: Estimate) -> dict[str, float | None]:
    """Return the numbers of an estimate; None where one is not defined."""
    value = None if math.isnan(estimate.value) else estimate.value
    return {
        "value": value,
        "low": estimate.low,
        "high": estimate.high,
        "bound": estimate.bound,
        "p": estimate.p,
    }


def seed_records(
    records: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[str]], confidence: float
) -> list[dict[str, Any]]:
    """Return the mean over seeds of each number that all seeds of a group have.

    Parameters
    ----------
    records
        Of variants with their references.
    groups
        The variants of each group, by its name, as `lineage.seed_groups` returns them.
    confidence
        Nominal coverage of the intervals, Student's t on one degree of freedom fewer than there
        are seeds.
    """
    averaged = []
    for name, variants in groups.items():
        alike: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for record in records:
            # Each against its own base, so the reference is no part of what is alike.
            if record["variant"] in variants and record["reference"] not in variants:
                key = (record["reference_layer"], record["layer"], record["measure"])
                alike.setdefault(key, []).append(record)
        for (_own, _layer, measure), found in alike.items():
            if len({record["variant"] for record in found}) < len(variants):
                continue
            known = known_measure(measure)
            bounded = known is not None and known.kind == "similarity"
            values = [math.nan if r["value"] is None else float(r["value"]) for r in found]
            mean = mean_over_seeds(values, confidence=confidence, correlations=bounded)
            references = dict.fromkeys(record["reference"] for record in found)
            averaged.append(
                {
                    **found[0],
                    "reference": next(iter(references)) if len(references) == 1 else "own",
                    "variant": name,
                    "value": None if math.isnan(mean.value) else mean.value,
                    "low": mean.low,
                    "high": mean.high,
                    "bound": None,
                    "p": None,
                    "n_seeds": mean.n_seeds,
                }
            )
    return averaged


def gathered_notes(said: Iterable[tuple[Key, Iterable[str]]]) -> list[str]:
    """Return each note of spaces once, with the variants and layers that it is about."""
    noted: dict[tuple[str, str], dict[int, None]] = {}
    for (variant, layer), notes in said:
        for note in notes:
            noted.setdefault((variant, note), {})[layer] = None
    about: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (variant, note), layers in noted.items():
        about.setdefault((note, tuple(sorted(layers))), []).append(variant)
    return [
        f"{', '.join(names)}, layer {', '.join(map(str, layers))}: {note}"
        for (note, layers), names in about.items()
    ]
