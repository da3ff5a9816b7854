"""Records of a comparison: flat mappings, one for each number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from layerlake.analyses.results.measures import CEILINGS, DIFFERENCE, known_measure
from layerlake.analyses.similarity.comparing.pairs import KeyPair
from layerlake.analyses.similarity.estimates import Estimate, PairValues


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


def pairs_to_differ(pairs: Iterable[KeyPair]) -> list[tuple[KeyPair, KeyPair]]:
    """List pairs of one reference with two variants at one layer of both."""
    alike: dict[tuple[Any, ...], list[KeyPair]] = {}
    for pair in pairs:
        reference, (variant, layer) = pair
        if variant != reference[0]:
            alike.setdefault((reference, layer), []).append(pair)
    return [both for found in alike.values() for both in combinations(found, 2)]


def difference_records(
    shared: Mapping[str, Any],
    differences: Mapping[tuple[KeyPair, KeyPair], PairValues],
    n_dropped: int,
) -> list[dict[str, Any]]:
    """Return a record for each measure of each difference."""
    records = []
    for (one, other), value in differences.items():
        (reference, reference_layer), (variant, layer) = one
        names = {
            "reference": reference,
            "reference_layer": reference_layer,
            "variant": f"{variant} - {other[1][0]}",
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
    records: Sequence[Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    confidence: float,
    *,
    own: bool = False,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the mean over seeds of each number that all seeds of a group have, and notes.

    Parameters
    ----------
    records
        Of variants with their references.
    groups
        The variants of each group, by its name, as `questions.seed_groups` returns them.
    confidence
        Nominal coverage of the intervals, Student's t on one degree of freedom fewer than there
        are seeds.
    own
        Whether each variant was compared with its own base: then the reference is no part of what
        the numbers of a mean have in common.
    """
    from layerlake.analyses.statistics.seeds import mean_over_seeds

    averaged = []
    said: dict[tuple[str, str, str], dict[int, None]] = {}
    for name, variants in groups.items():
        alike: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for record in map(_seed_second(variants), records):
            if record["variant"] in variants and record["reference"] not in variants:
                reference = None if own else record["reference"]
                key = (reference, record["reference_layer"], record["layer"], record["measure"])
                alike.setdefault(key, []).append(record)
        for (_reference, _layer, layer, measure), found in alike.items():
            if sorted(record["variant"] for record in found) != sorted(variants):
                continue  # some seeds have no number there
            known = known_measure(measure)
            bounded = known is not None and known.kind == "similarity"
            values = [math.nan if r["value"] is None else float(r["value"]) for r in found]
            mean = mean_over_seeds(values, confidence=confidence, correlations=bounded)
            for note in mean.notes:
                said.setdefault((name, measure, note), {})[layer] = None
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
    notes = [
        f"{name}, {measure}, layer {', '.join(map(str, layers))}: {note}"
        for (name, measure, note), layers in said.items()
    ]
    return averaged, notes


def _seed_second(
    variants: Sequence[str],
) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Return what turns a record of a seed with another space about, where it may be turned."""

    def turned(record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Put the seed second."""
        known = known_measure(record["measure"])
        first = record["reference"] in variants and record["variant"] not in variants
        if not first or known is None or not known.symmetric:
            return record
        return {
            **record,
            "reference": record["variant"],
            "variant": record["reference"],
            "reference_layer": record["layer"],
            "layer": record["reference_layer"],
        }

    return turned


def ceiling_records(
    shared: Mapping[str, Any],
    pairs: Mapping[KeyPair, PairValues],
    groups: Mapping[str, Sequence[str]],
    layers: Iterable[int],
    measure: str,
    *,
    reference: str,
    reference_layer: int | None,
    n_dropped: int,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the noise ceiling of each group at each layer that all of it have, and notes.

    Parameters
    ----------
    shared
        Fields of all records.
    pairs
        Values of pairs of spaces, those of each group at each layer among them.
    groups
        The variants of each group, by its name.
    layers
        The layers compared.
    measure
        Which of the values the ceiling is of.
    reference, reference_layer
        What the records of the variants call theirs; no layer where each is compared with its own.
    n_dropped
        Rows left out.
    """
    from layerlake.analyses.similarity.ceilings import noise_ceiling

    either = {**pairs} | {(two, one): value for (one, two), value in pairs.items()}
    records: list[dict[str, Any]] = []
    notes: list[str] = []
    for name, variants in groups.items():
        for layer in layers:
            keys = [(variant, layer) for variant in variants]
            if any(pair not in either for pair in combinations(keys, 2)):
                continue
            matrix = np.eye(len(keys))
            for i, j in combinations(range(len(keys)), 2):
                matrix[i, j] = matrix[j, i] = either[keys[i], keys[j]].value(measure)
            found = noise_ceiling(matrix)
            ends = PairValues(
                (Estimate(CEILINGS[0], found.lower), Estimate(CEILINGS[1], found.upper)),
                either[keys[0], keys[1]].counts,
            )
            names = {
                "reference": reference,
                "reference_layer": layer if reference_layer is None else reference_layer,
                "variant": name,
                "layer": layer,
            }
            records += [
                {**record, "n_seeds": found.n_spaces}
                for record in _records(shared, names, ends, n_dropped)
            ]
            notes += [f"{name}, layer {layer}: no noise ceiling: {note}" for note in found.notes]
    return records, notes
