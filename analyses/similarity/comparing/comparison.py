"""One question about one corpus of a lake: its spaces, its rows, its passes and its records."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.questions.rows import asked_rows, draw_rows
from layerlake.analyses.questions.seed_groups import seed_groups
from layerlake.analyses.results.kept import find_result, keep_result, read_identity
from layerlake.analyses.results.record import gathered_notes
from layerlake.analyses.results.similarity import SimilarityResult
from layerlake.analyses.similarity.compared_rows import COMPARISON
from layerlake.analyses.similarity.comparing.compare_spaces import (
    Plan,
    compare_selected,
    plan_comparison,
)
from layerlake.analyses.similarity.comparing.pairs import (
    OWN,
    pairs_among,
    pairs_of_lake,
    rows_of_pairs,
)
from layerlake.analyses.similarity.comparing.records import (
    ceiling_records,
    difference_records,
    pairs_to_differ,
    records_of,
    seed_records,
)
from layerlake.analyses.similarity.comparing.sharing import KeyPair, Share, share_out
from layerlake.analyses.similarity.differences import difference_values
from layerlake.analyses.similarity.estimates import PairValues, rsa_names
from layerlake.analyses.similarity.features.rsa_value import Deletions
from layerlake.analyses.similarity.permutations.pair_tests import with_pair_tests
from layerlake.analyses.similarity.question import Question, check_question, measures_of
from layerlake.engine.memory import parse_bytes
from layerlake.engine.passes.devices import device_named
from layerlake.engine.passes.resources import Resources
from layerlake.engine.passes.selected_rows import SelectedRows, select_rows
from layerlake.engine.progress import Progress
from layerlake.engine.settings import check_seed
from layerlake.engine.workers.local_workers import workers_here
from layerlake.engine.workers.schedulers import scheduler_named
from layerlake.store.errors import InvalidInput, MemoryRefused, is_a
from layerlake.store.lake import Lake

Deleted: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Values with each cluster left out, over all pairs of rows and over those between clusters."""


class LakeComparison:
    """One question about one corpus of a lake."""

    def __init__(
        self,
        lake: Lake,
        corpus: str | None,
        *,
        reference: str | None,
        variants: str | Iterable[str] | None,
        measure: str | Iterable[str],
        layers: str | int | Iterable[int] | None,
        reference_layer: int | None,
        all_pairs: bool,
        site: str,
        unit: str | None,
        pooling: str,
        rows: int | str | None,
        seed: int,
        specials: bool,
        differences: bool,
        seeds: bool,
        ceilings: bool,
        memory: int | str,
        device: str,
        scheduler: str | None,
        workers: int | None,
        **question: Any,
    ) -> None:
        """Check the question and find the spaces it is about; nothing is read."""
        self.lake = lake
        self.n_rows = asked_rows(rows)
        self.seed = check_seed(seed)
        self.specials = specials
        if callable(question.get("kernel")):
            raise InvalidInput(
                "a kernel of your own cannot be kept with a result; call compare_arrays with it"
            )
        self.question = check_question(
            Question(measures=measures_of(measure), seed=self.seed, **question)
        )
        self.differences, self.seeds, self.ceilings = differences, seeds, ceilings
        if ceilings and not self.question.summed:
            raise InvalidInput(
                "noise ceilings are there for rsa with the scores pearson and cosine; ask for "
                "those, or leave ceilings out"
            )
        if differences and not (self.question.summed and self.question.interval == "cluster"):
            raise InvalidInput(
                "differences are there for rsa with the scores pearson and cosine and the interval "
                "cluster; ask for those, or leave differences out"
            )
        if workers is not None and scheduler_named(scheduler).kind not in ("threads", "processes"):
            raise InvalidInput(
                f"workers is {workers!r}, and only the schedulers threads and processes are told "
                "how many; leave it out, or give --scheduler threads or processes"
            )
        scheduler_named(scheduler)
        workers_here(workers)
        if is_a(reference_layer, bool) or not is_a(reference_layer, int, type(None)):
            raise InvalidInput(
                f"reference_layer is {reference_layer!r}; give the number of a layer"
            )
        chosen = device_named(device)
        allowed = parse_bytes(memory)
        self.resources = Resources(
            allowed, scheduler=scheduler, workers=workers, device=chosen, host=chosen.kind == "cpu"
        )
        self.asked = pairs_of_lake(
            lake,
            corpus,
            reference,
            variants,
            layers=layers,
            reference_layer=reference_layer,
            every_pair=all_pairs,
            site=site,
            unit=unit,
            pooling=pooling,
        )
        self.pooling = pooling if self.asked.unit == "word" else None
        self.site = site
        self.reference_layer = reference_layer
        self.groups: dict[str, list[str]] = {}
        if seeds or ceilings:
            about = {name: lake.attributes(f"variants/{name}") for name in lake.variants()}
            self.groups = seed_groups(about, self.asked.variants)
        among = pairs_among(self.asked, self.groups.values()) if ceilings else []
        self.pairs: tuple[KeyPair, ...] = (*self.asked.pairs, *among)
        self.settings = self._settings(reference_layer, every_pair=all_pairs)
        self._drawn: tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]] | None = None

    def _settings(self, reference_layer: int | None, *, every_pair: bool) -> dict[str, Any]:
        """Return all that the answer depends on, beside the bytes."""
        question = dataclasses.asdict(self.question)
        del question["precision"]
        if "rsa" not in self.question.measures:
            del question["kernel"], question["score"]
        if not any(measure in ("mutual-knn", "cknna") for measure in self.question.measures):
            del question["neighbours"]
        if self.question.interval != "bootstrap":
            del question["resamples"]
        return {
            "corpus": self.asked.corpus,
            "reference": self.asked.reference,
            "variants": list(self.asked.variants),
            "layers": list(self.asked.layers),
            "reference_layer": reference_layer,
            "all_pairs": every_pair,
            "site": self.site,
            "unit": self.asked.unit,
            "pooling": self.pooling,
            "rows": self.n_rows,
            "specials": self.specials,
            "differences": self.differences,
            "seeds": self.seeds,
            "ceilings": self.ceilings,
            # What lineage says is no part of the bytes that are read.
            "groups": self.groups,
            "references": self._references(),
            **question,
            "measures": list(self.question.measures),
        }

    def _references(self) -> dict[str, str]:
        """Return what each variant is compared with, where each has its own."""
        if self.asked.reference != OWN:
            return {}
        return {variant: reference for (reference, _one), (variant, _other) in self.asked.pairs}

    @property
    def _analysis(self) -> str:
        """The folder of results that the answer is kept in."""
        return "rsa" if self.question.measures == ("rsa",) else "similarity"

    def result(self, progress: Progress, *, fresh: bool) -> SimilarityResult:
        """Return the answer, from the lake where it is kept there."""
        lake, asked = self.lake, self.asked
        identity = read_identity(lake, asked.corpus, asked.spaces.values())
        if not fresh and not lake.verified:
            kept = find_result(lake, self._analysis, self.settings, identity, SimilarityResult)
            if kept is not None:
                return kept
        values, differences, n_lost = self._values(progress)
        shared = {"corpus": asked.corpus, "site": self.site}
        records = records_of(shared, asked.pairs, values, n_lost)
        said = [(pair[1], values[pair].notes) for pair in asked.pairs]
        notes = gathered_notes(said)
        notes += _difference_notes(differences)
        more, of_seeds = self._of_seeds(shared, records, values, n_lost)
        records += difference_records(shared, differences, n_lost) + more
        notes += [*of_seeds, *asked.notes]
        if n_lost:
            notes.append(
                f"{n_lost} rows have no direction in one of the spaces and are left out of all"
            )
        result = SimilarityResult(self.settings, identity, tuple(records), tuple(notes))
        return keep_result(lake, self._analysis, result)

    def _of_seeds(
        self,
        shared: Mapping[str, Any],
        records: Sequence[Mapping[str, Any]],
        values: Mapping[KeyPair, PairValues],
        n_lost: int,
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the records of groups of seeds, and notes."""
        found: list[dict[str, Any]] = []
        notes: list[str] = []
        if (self.seeds or self.ceilings) and not self.groups:
            notes.append(
                "no two variants differ in their seed alone, so there are no seeds to join"
            )
        if self.seeds:
            found, notes_of_means = seed_records(
                records,
                self.groups,
                self.question.confidence,
                own=self.asked.reference == OWN,
            )
            notes += notes_of_means
        if self.ceilings:
            ends, notes_of_ends = ceiling_records(
                shared,
                values,
                self.groups,
                self.asked.layers,
                rsa_names(self.question.score)[0],
                reference=self.asked.reference,
                reference_layer=self.reference_layer,
                n_dropped=n_lost,
            )
            found += ends
            notes += notes_of_ends
        return found, notes

    def rows(self) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
        """Draw the rows, once: those of each set, and the example of each."""
        if self._drawn is None:
            self._drawn = draw_rows(
                self.lake,
                self.asked.corpus,
                self.asked.spaces,
                self.n_rows,
                self.seed,
                self.specials,
            )
        return self._drawn

    def selected(
        self, share: Share, index: Mapping[str, NDArray[np.int64]], clusters: NDArray[np.int64]
    ) -> SelectedRows:
        """Return the rows of the spaces of a share."""
        names = [
            variant if self._aligned else f"{variant} layer {layer}"
            for variant, layer in share.keys
        ]
        spaces = [self.asked.spaces[key] for key in share.keys]
        return select_rows(
            spaces, rows_of_pairs(self.asked, index, share.keys), clusters, names, COMPARISON
        )

    @property
    def _aligned(self) -> bool:
        """Whether each pair is of one layer, so that variants name spaces well enough."""
        return all(one[1] == other[1] for one, other in self.pairs)

    def plans(self) -> list[tuple[Share, Plan]]:
        """Share the pairs out among passes that fit into memory, and plan each."""
        index, clusters = self.rows()

        def planned(share: Share) -> Plan:
            """Plan the passes over a share."""
            return plan_comparison(
                self.selected(share, index, clusters), share.pairs, self.question, self.resources
            )

        def fits(share: Share) -> bool:
            """Say whether a share fits into memory."""
            try:
                planned(share)
            except MemoryRefused:
                return False
            return True

        return [(share, planned(share)) for share in share_out(self.pairs, fits)]

    def _values(
        self, progress: Progress
    ) -> tuple[dict[KeyPair, PairValues], dict[tuple[KeyPair, KeyPair], PairValues], int]:
        """Run all passes, again without the rows that some space cannot take."""
        clusters = self.rows()[1]
        lost = np.zeros(len(clusters), dtype=np.bool_)
        plans = self.plans()
        label = "rsa" if self.question.measures == ("rsa",) else "comparison"
        label = f"{label} of {self.asked.corpus}"
        n_passes = sum(plan.passes for _share, plan in plans)
        left = np.arange(len(clusters))
        with progress(label, n_passes * len(left), "rows") as stage:
            found = self._compared(plans, left, lost, stage.advance)
        if lost.any():
            # A stimulus without a direction in one space is no stimulus in any: otherwise the
            # curve over layers would be one of different rows. Rare, so found out in passing.
            left = np.flatnonzero(~lost)
            COMPARISON.require_rows(len(left), int(lost.sum()))
            label += f" without {int(lost.sum())} rows"
            with progress(label, n_passes * len(left), "rows") as stage:
                found = self._compared(plans, left, lost, stage.advance)
        values, without = found
        differences = {
            (one, other): difference_values(
                rsa_names(self.question.score),
                values[one],
                without.get(one),
                values[other],
                without.get(other),
                self.question.confidence,
            )
            for one, other in (pairs_to_differ(self.asked.pairs) if self.differences else ())
        }
        if self.question.permutations:
            values = self._tested(plans, left, values, progress)
        return values, differences, int(lost.sum())

    def _over(self, share: Share, kept: NDArray[np.int64]) -> SelectedRows:
        """Return some of the rows drawn of the spaces of a share."""
        index, clusters = self.rows()
        some = {path: rows[kept] for path, rows in index.items()}
        return self.selected(share, some, clusters[kept])

    def _compared(
        self,
        plans: Sequence[tuple[Share, Plan]],
        kept: NDArray[np.int64],
        lost: NDArray[np.bool_],
        on_progress: Callable[[int], None],
    ) -> tuple[dict[KeyPair, PairValues], dict[KeyPair, Deleted]]:
        """Compare all pairs over some of the rows drawn; also return what deletions leave."""

        def lose(positions: NDArray[np.int64]) -> None:
            """Take note of rows that a space cannot take."""
            lost[kept[positions]] = True

        values: dict[KeyPair, PairValues] = {}
        without: dict[KeyPair, Deleted] = {}
        for share, plan in plans:
            deletions: Deletions | None = {} if self.differences else None
            found = compare_selected(
                self._over(share, kept),
                share.pairs,
                self.question,
                self.resources,
                plan=plan,
                deletions=deletions,
                on_progress=on_progress,
                on_dropped=lose,
            )
            own = {(s, t): (share.keys[s], share.keys[t]) for s, t in share.pairs}
            values |= {own[pair]: value for pair, value in found.items()}
            without |= {own[pair]: deleted for pair, deleted in (deletions or {}).items()}
        return {pair: values[pair] for pair in self.pairs}, without

    def _tested(
        self,
        plans: Sequence[tuple[Share, Plan]],
        kept: NDArray[np.int64],
        values: Mapping[KeyPair, PairValues],
        progress: Progress,
    ) -> dict[KeyPair, PairValues]:
        """Test the pairs asked for by permutations, over the rows that they were compared over."""
        tested = dict(values)
        wanted = set(self.asked.pairs)
        jobs = []
        for share, plan in plans:
            own = {(s, t): (share.keys[s], share.keys[t]) for s, t in share.pairs}
            own = {pair: keys for pair, keys in own.items() if keys in wanted}
            if own:
                jobs.append((share, plan, own))
        total = len(jobs) * self.question.permutations
        with progress(f"permutations of {self.asked.corpus}", total, "permutations") as stage:
            for share, plan, own in jobs:
                found = with_pair_tests(
                    {pair: values[keys] for pair, keys in own.items()},
                    self._over(share, kept),
                    self.question,
                    self.resources,
                    plan=plan.tests,
                    on_permutation=stage.advance,
                )
                tested |= {own[pair]: value for pair, value in found.items()}
        return tested


def _difference_notes(differences: Mapping[tuple[KeyPair, KeyPair], PairValues]) -> list[str]:
    """Return each note about differences once, with the layers that it is about."""
    noted: dict[tuple[str, str], dict[int, None]] = {}
    for ((_reference, (variant, layer)), other), value in differences.items():
        for note in value.notes:
            noted.setdefault((f"{variant} - {other[1][0]}", note), {})[layer] = None
    return [
        f"{names}, layer {', '.join(map(str, layers))}: no interval of the difference: {note}"
        for (names, note), layers in noted.items()
    ]
