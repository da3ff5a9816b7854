"""Passes that profile the spaces of a lake, and the records that come of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.profiles.profile_sums import Profile
from layerlake.analyses.profiles.question import LakeProfile
from layerlake.analyses.profiles.space_profile import groups_of, plan_pass, profile_selected
from layerlake.analyses.questions.rows import Rows, draw_rows
from layerlake.analyses.questions.units import cut_of
from layerlake.analyses.results.profile import ProfileResult
from layerlake.analyses.results.profile_measures import SHARES
from layerlake.analyses.results.record import Counts, Key, gathered_notes
from layerlake.engine.forecast import Forecast, seconds_a_byte, seconds_a_multiply_add
from layerlake.engine.passes.selected_rows import SelectedRows, select_rows, value_bytes
from layerlake.engine.progress import Progress
from layerlake.store.errors import MemoryRefused
from layerlake.store.space import Space


@dataclass(frozen=True, eq=False)
class _Share:
    """Spaces whose rows are the same stimuli, profiled in one pass."""

    keys: tuple[Key, ...]
    rows: Rows
    selected: SelectedRows


def forecast_of(questions: Iterable[LakeProfile]) -> Forecast:
    """Return what the passes of several questions would take."""
    return Forecast.sum(ProfilePasses(one).forecast() for one in questions)


class ProfilePasses:
    """The passes of one question."""

    def __init__(self, asked: LakeProfile) -> None:
        """Take the question; nothing is read."""
        self.lake, self.question, self.chosen = asked.lake, asked.question, asked.chosen
        self.settings = asked.settings
        self.notes: list[str] = []

    def forecast(self) -> Forecast:
        """Say what the passes would take."""
        found = Forecast()
        operation, wide = seconds_a_multiply_add("float64"), self.question.resources
        for share in self._shares():
            selected = share.selected
            hiddens = [space.shape[1] for space in selected.spaces]
            read = selected.n_rows * sum(
                hidden * value_bytes(space)
                for hidden, space in zip(hiddens, selected.spaces, strict=True)
            )
            seconds = seconds_a_byte(selected.spaces[0], selected.rows[0]) * read
            seconds += operation * selected.n_rows * sum(hidden**2 for hidden in hiddens)
            found += Forecast(
                rows=selected.n_rows * len(hiddens),
                passes=1,
                held=plan_pass(selected, wide).memory.needed,
                read=read,
                seconds=seconds,
            )
        return found

    def computed(self, identity: dict[str, Any], progress: Progress) -> ProfileResult:
        """Run the passes and return their records."""
        shares = self._shares()
        for share in shares:  # refused before anything is read
            plan_pass(share.selected, self.question.resources)
        found: dict[Key, tuple[Profile, Counts]] = {}
        total = sum(len(share.keys) * share.selected.n_rows for share in shares)
        with progress(f"profile of {self.chosen.corpus}", total, "rows") as stage:
            for share in shares:
                example = share.rows.example
                profiles = profile_selected(
                    share.selected,
                    groups_of(example, len(example))
                    if self.question.interval == "cluster"
                    else None,
                    self.question.resources,
                    confidence=self.question.confidence,
                    on_progress=stage.advance,
                )
                counts = _counts(example)
                for key, own in zip(share.keys, profiles, strict=True):
                    found[key] = own, counts
        ordered = {key: found[key] for key in self.chosen.spaces}
        corpus, site = self.chosen.corpus, self.question.spaces.site
        return ProfileResult(
            self.settings,
            identity,
            tuple(
                {"corpus": corpus, "variant": v, "site": site, "layer": layer, **numbers}
                for (v, layer), (own, counts) in ordered.items()
                for numbers in _records(own, counts)
            ),
            (*gathered_notes((key, own.notes) for key, (own, _c) in ordered.items()), *self.notes),
            {
                (corpus, v, site, layer): own.spectrum.variances
                for (v, layer), (own, _counts) in ordered.items()
            },
        )

    def _shares(self) -> list[_Share]:
        """Return the passes: a space each in a loop, as many as fit together for workers."""
        shares = []
        for group in self._groups():
            rows = draw_rows(group.values(), self.question.draw)
            self.notes += [note for note in rows.notes if note not in self.notes]
            keys, whole = tuple(group), self._selected([*group], rows)
            start = 0
            while start < len(keys):
                count = 1 if self.question.resources.scheduler is None else len(keys) - start
                while count > 1 and not self._fits(whole.only(slice(start, start + count))):
                    count = -(-count // 2)
                part = slice(start, start + count)
                shares.append(_Share(keys[part], rows, whole.only(part)))
                start += count
        return shares

    def _selected(self, keys: Sequence[Key], rows: Rows) -> SelectedRows:
        """Return the rows of some spaces."""
        spaces = [self.chosen.spaces[key] for key in keys]
        names = [f"{variant} layer {layer}" for variant, layer in keys]
        return select_rows(spaces, [rows.of(space) for space in spaces], rows.example, names)

    def _fits(self, selected: SelectedRows) -> bool:
        """Say whether a pass over some spaces fits into memory."""
        try:
            plan_pass(selected, self.question.resources)
        except MemoryRefused:
            return False
        return True

    def _groups(self) -> list[dict[Key, Space]]:
        """Group the spaces whose rows can be the same stimuli."""
        groups: dict[str | None, dict[Key, Space]] = {}
        for key, space in self.chosen.spaces.items():
            cut = cut_of(space.state) if self.chosen.unit == "piece" else None
            groups.setdefault(cut, {})[key] = space
        if len(groups) > 1:
            first, *others = ([*dict.fromkeys(v for v, _ in group)] for group in groups.values())
            apart = ", ".join(name for names in others for name in names)
            note = (
                f"{apart}: cut by another tokenizer than {first[0]}, so that their pieces are "
                "other stimuli; words, --unit word, are the same"
            )
            if note not in self.notes:
                self.notes.append(note)
        return list(groups.values())


def _counts(clusters: NDArray[np.int64]) -> Counts:
    """Count rows and examples."""
    sizes = np.unique(clusters, return_counts=True)[1].astype(np.int64)
    return Counts.of(sizes, 0)


def _records(own: Profile, counts: Counts) -> list[dict[str, Any]]:
    """Return the numbers of a space, each as the part of a record that is its own."""
    spectrum, norms = own.spectrum, own.norms
    constant = math.isnan(spectrum.participation_ratio)
    values: dict[str, float] = {
        "anisotropy": own.anisotropy,
        "participation-ratio": spectrum.participation_ratio,
        "effective-rank": spectrum.effective_rank,
        **{
            name: math.nan if constant else float(spectrum.components(share))
            for name, share in SHARES.items()
        },
        "variance": spectrum.total,
        "mean-length": own.mean_length,
        "norm-mean": norms.mean,
        "norm-sd": norms.sd,
        "norm-min": norms.lowest,
        **dict(zip(("norm-q1", "norm-median", "norm-q3"), norms.quartiles, strict=True)),
        "norm-max": norms.highest,
    }
    ends = {
        "anisotropy": (own.anisotropy_low, own.anisotropy_high),
        "norm-mean": (own.mean_norm_low, own.mean_norm_high),
    }
    binned = ("norm-q1", "norm-median", "norm-q3")
    return [
        {
            "measure": name,
            "value": None if math.isnan(value) else value,
            "low": ends.get(name, (None, None))[0],
            "high": ends.get(name, (None, None))[1],
            "bound": norms.bound * value if name in binned else None,
            "n": own.n_rows,
            "n_clusters": counts.n_clusters,
            "rows_per_cluster": counts.rows_per_cluster,
            "within_pair_share": counts.within_pair_share,
            "n_without_direction": own.n_without_direction,
        }
        for name, value in values.items()
    ]
