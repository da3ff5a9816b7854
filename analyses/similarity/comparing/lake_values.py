"""The passes of a comparison over a lake, and the records that come of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.results.record import gathered_notes
from layerlake.analyses.results.similarity import SimilarityResult
from layerlake.analyses.similarity.compared_rows import COMPARISON
from layerlake.analyses.similarity.comparing.compare_spaces import (
    Plan,
    compare_selected,
    plan_comparison,
)
from layerlake.analyses.similarity.comparing.comparison import LakeComparison
from layerlake.analyses.similarity.comparing.pairs import (
    OWN,
    KeyPair,
)
from layerlake.analyses.similarity.comparing.records import (
    ceiling_records,
    difference_records,
    pairs_to_differ,
    records_of,
    seed_records,
)
from layerlake.analyses.similarity.comparing.sharing import Share, share_out
from layerlake.analyses.similarity.estimates import PairValues, rsa_names
from layerlake.analyses.similarity.features.rsa_value import Deletions
from layerlake.engine.passes.selected_rows import SelectedRows, select_rows
from layerlake.engine.progress import Progress
from layerlake.store.errors import MemoryRefused

Deleted: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Values with each cluster left out, over all pairs of rows and over those between clusters."""


def computed(
    comparison: LakeComparison, identity: dict[str, Any], progress: Progress
) -> SimilarityResult:
    """Return the answer to a comparison, computed; `identity` is that of the bytes read."""
    work, asked = LakePasses(comparison), comparison.asked
    values, differences, n_lost = work.values(progress)
    shared = {"corpus": asked.corpus, "site": comparison.comparison.spaces.site}
    records = records_of(shared, asked.pairs, values, n_lost)
    notes = gathered_notes((pair[1], values[pair].notes) for pair in asked.pairs)
    notes += _difference_notes(differences)
    more, of_seeds = work.records_of_seeds(shared, records, values, n_lost)
    records += difference_records(shared, differences, n_lost) + more
    notes += [*of_seeds, *comparison.rows().notes]
    if n_lost:
        notes.append(
            f"{n_lost} rows have no direction in one of the spaces and are left out of all"
        )
    return SimilarityResult(comparison.settings, identity, tuple(records), tuple(notes))


class LakePasses:
    """The passes of one comparison."""

    def __init__(self, comparison: LakeComparison) -> None:
        """Take the comparison; nothing is read."""
        self.comparison, self.asked = comparison, comparison.asked
        self.question, self.resources = comparison.question, comparison.resources
        self.summaries = comparison.comparison.summaries

    def selected(self, share: Share, kept: NDArray[np.int64] | None = None) -> SelectedRows:
        """Return the rows of the spaces of a share, or some of them."""
        rows = self.comparison.rows() if kept is None else self.comparison.rows().some(kept)
        spaces = [self.asked.spaces[key] for key in share.keys]
        names = [
            variant if self.comparison.aligned else f"{variant} layer {layer}"
            for variant, layer in share.keys
        ]
        index = [rows.of(space) for space in spaces]
        return select_rows(spaces, index, rows.example, names, COMPARISON)

    def records_of_seeds(
        self,
        shared: Mapping[str, Any],
        records: Sequence[Mapping[str, Any]],
        values: Mapping[KeyPair, PairValues],
        n_lost: int,
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the records of groups of seeds, and notes."""
        found: list[dict[str, Any]] = []
        notes: list[str] = []
        if (self.summaries.seeds or self.summaries.ceilings) and not self.comparison.groups:
            notes.append(
                "no two variants differ in their seed alone, so there are no seeds to join"
            )
        if self.summaries.seeds:
            found, notes_of_means = seed_records(
                records,
                self.comparison.groups,
                self.question.confidence,
                own=self.asked.reference == OWN,
            )
            notes += notes_of_means
        if self.summaries.ceilings:
            ends, notes_of_ends = ceiling_records(
                shared,
                values,
                self.comparison.groups,
                self.asked.layers,
                rsa_names(self.question.score)[0],
                reference=self.asked.reference,
                reference_layer=self.comparison.comparison.pairs.reference_layer,
                n_dropped=n_lost,
            )
            found += ends
            notes += notes_of_ends
        return found, notes

    def plans(self) -> list[tuple[Share, Plan]]:
        """Share the pairs out among passes that fit into memory, and plan each."""

        def planned(share: Share) -> Plan:
            """Plan the passes over a share."""
            return plan_comparison(self.selected(share), share.pairs, self.question, self.resources)

        def fits(share: Share) -> bool:
            """Say whether a share fits into memory."""
            try:
                planned(share)
            except MemoryRefused:
                return False
            return True

        return [(share, planned(share)) for share in share_out(self.comparison.pairs, fits)]

    def values(
        self, progress: Progress
    ) -> tuple[dict[KeyPair, PairValues], dict[tuple[KeyPair, KeyPair], PairValues], int]:
        """Run all passes, again without the rows that some space cannot take."""
        n_rows = len(self.comparison.rows().example)
        lost = np.zeros(n_rows, dtype=np.bool_)
        plans = self.plans()
        label = "rsa" if self.question.measures == ("rsa",) else "comparison"
        label = f"{label} of {self.asked.corpus}"
        n_passes = sum(plan.passes for _share, plan in plans)
        left = np.arange(n_rows)
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
        differences = self._differences(values, without) if self.summaries.differences else {}
        if self.question.permutations:
            values = self._tested(plans, left, values, progress)
        return values, differences, int(lost.sum())

    def _differences(
        self, values: Mapping[KeyPair, PairValues], without: Mapping[KeyPair, Deleted]
    ) -> dict[tuple[KeyPair, KeyPair], PairValues]:
        """Compare variants with one another by their similarity to the reference."""
        from layerlake.analyses.similarity.differences import difference_values

        return {
            (one, other): difference_values(
                rsa_names(self.question.score),
                values[one],
                without.get(one),
                values[other],
                without.get(other),
                self.question.confidence,
            )
            for one, other in pairs_to_differ(self.asked.pairs)
        }

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
            deletions: Deletions | None = {} if self.summaries.differences else None
            found = compare_selected(
                self.selected(share, kept),
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
        return {pair: values[pair] for pair in self.comparison.pairs}, without

    def _tested(
        self,
        plans: Sequence[tuple[Share, Plan]],
        kept: NDArray[np.int64],
        values: Mapping[KeyPair, PairValues],
        progress: Progress,
    ) -> dict[KeyPair, PairValues]:
        """Test the pairs asked for by permutations, over the rows that they were compared over."""
        from layerlake.analyses.similarity.permutations.pair_tests import with_pair_tests

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
                    self.selected(share, kept),
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
