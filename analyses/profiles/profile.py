"""Profiles of the spaces of a lake: how the rows of each layer of each variant are spread."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from layerlake.analyses.profiles.space_profile import Profile, block_of, profile_space
from layerlake.analyses.questions.rows import asked_rows, draw_rows
from layerlake.analyses.questions.spaces import (
    all_names,
    corpora_of,
    open_spaces,
    present_layers,
    sets_holding,
    unit_of,
)
from layerlake.analyses.results.joined import joined
from layerlake.analyses.results.kept import find_result, keep_result, read_identity
from layerlake.analyses.results.profile import ProfileResult
from layerlake.analyses.results.profile_measures import SHARES
from layerlake.analyses.results.record import Counts, Key, gathered_notes
from layerlake.engine.memory import parse_bytes
from layerlake.engine.passes.selected_rows import value_bytes
from layerlake.engine.progress import Progress, automatic
from layerlake.engine.settings import check_seed
from layerlake.store.errors import InvalidInput, is_a
from layerlake.store.identity import short
from layerlake.store.lake import Lake, require_lake
from layerlake.store.space import Space

_ANALYSIS: Final = "profile"
"""The folder of results that profiles are kept in."""
INTERVALS: Final = ("cluster", "none")


def profile(
    lake: Lake,
    corpus: str | Iterable[str] | None = None,
    variants: str | Iterable[str] | None = None,
    *,
    layers: str | int | Iterable[int] | None = None,
    site: str = "resid",
    unit: str | None = None,
    pooling: str = "mean",
    rows: int | str | None = None,
    seed: int = 0,
    specials: bool = False,
    interval: str = "cluster",
    confidence: float = 0.95,
    memory: int | str = "4GiB",
    fresh: bool = False,
    progress: Progress = automatic,
) -> ProfileResult:
    """Say how the rows of spaces of a lake are spread: directions, dimensions and lengths.

    Parameters
    ----------
    corpus
        One or several; by default the only one with activations.
    variants
        By default all over the corpus.
    layers
        `0,8`, `0-4`, a sequence, or all; a variant that lacks one (a truncated model) has no
        number there.
    site
        Where in a block.
    unit, pooling
        `piece`; `word`, and how its pieces were pooled: `mean`, `first`, `last` or `max`; or
        `example`. By default pieces, or the only unit that there is.
    rows, seed
        How many of the rows that all variants hold, drawn by identity: the same stimuli in every
        layer and variant, as `compare` draws them. `all` of them, or by default 5000, or all where
        there are fewer. Pieces of other tokenizers are other stimuli, and drawn apart.
    specials
        Include special pieces.
    interval
        Of the anisotropy and the mean length: `cluster` (jackknife over groups of examples) or
        `none`.
    confidence
        Nominal coverage of the intervals.
    memory
        Most that may be held, an amount or bytes.
    fresh
        Compute though the lake holds the answer (a verified lake is always read afresh).
    progress
        Told of the rows gone through; see `engine.progress`.

    Returns
    -------
    ProfileResult
        For each space `anisotropy` (mean cosine over all pairs of rows, exact), `participation-ratio`,
        `effective-rank`, `dimensions-50`, `-90` and `-99` (principal axes that hold that much of
        the variance), `variance`, `mean-length` (of the mean row), the lengths of rows (`norm-mean`,
        `norm-sd`, `norm-min`, `norm-q1`, `norm-median`, `norm-q3`, `norm-max`), and its spectrum.
        Kept in the lake under `results/profile` where the lake may be written.

    Raises
    ------
    InvalidInput, NameNotFound, SetIncomplete, MemoryRefused
        As their names say, each in one sentence.
    """
    asked = {name: value for name, value in locals().items() if name not in ("lake", "corpus")}
    fresh, progress = asked.pop("fresh"), asked.pop("progress")
    require_lake(lake)
    results = [
        LakeProfile(lake, one, **asked).result(progress, fresh=fresh) for one in corpora_of(corpus)
    ]
    spectra = {name: own for result in results for name, own in result.spectra.items()}
    return dataclasses.replace(joined(results), spectra=spectra)


class LakeProfile:
    """The profiles of spaces over one corpus of a lake; parameters as `profile`."""

    def __init__(
        self,
        lake: Lake,
        corpus: str | None,
        *,
        variants: str | Iterable[str] | None,
        layers: str | int | Iterable[int] | None,
        site: str,
        unit: str | None,
        pooling: str,
        rows: int | str | None,
        seed: int,
        specials: bool,
        interval: str,
        confidence: float,
        memory: int | str,
    ) -> None:
        """Check what is asked and find the spaces; nothing is read."""
        self.lake, self.site, self.specials = lake, site, specials
        self.n_rows, self.seed = asked_rows(rows), check_seed(seed)
        self.allowed = parse_bytes(memory)
        if interval not in INTERVALS:
            raise InvalidInput(
                f"there is no interval {interval!r} of a profile; choose {' or '.join(INTERVALS)}"
            )
        if not is_a(confidence, float) or not 0 < confidence < 1:
            raise InvalidInput(f"a confidence lies between 0 and 1, not {confidence!r}")
        self.interval, self.confidence = interval, confidence
        self.corpus, names = all_names(lake, corpus, None, variants)
        self.unit = unit_of(lake, self.corpus, names[0], unit)
        self.pooling = pooling if self.unit == "word" else None
        held = sets_holding(
            lake,
            self.corpus,
            names,
            site,
            self.unit,
            self.pooling,
            optional=names if variants is None else (),
        )
        left_out = [name for name in names if name not in held]
        self.notes = (
            [f"{', '.join(left_out)}: left out, having no such layers of such rows"]
            if left_out
            else []
        )
        wanted = present_layers(layers, {name: sorted(own) for name, own in held.items()})
        keys = [(name, layer) for name in held for layer in wanted if layer in held[name]]
        self.spaces: dict[Key, Space] = open_spaces(lake, held, site, keys)
        self.settings = {
            "corpus": self.corpus,
            "variants": list(held),
            "layers": list(wanted),
            "site": site,
            "unit": self.unit,
            "pooling": self.pooling,
            "rows": self.n_rows,
            "seed": self.seed,
            "specials": specials,
            "interval": interval,
            "confidence": confidence,
        }

    def result(self, progress: Progress, *, fresh: bool) -> ProfileResult:
        """Return the profiles, from the lake where they are kept there."""
        identity = read_identity(self.lake, self.corpus, self.spaces.values())
        if not fresh and not self.lake.verified:
            kept = find_result(self.lake, _ANALYSIS, self.settings, identity, ProfileResult)
            if kept is not None:
                return kept
        found: dict[Key, tuple[Profile, Counts]] = {}
        drawn = [(group, *self._drawn(group)) for group in self._groups()]
        self._require_memory({key: len(c) for group, _index, c in drawn for key in group})
        total = sum(len(group) * len(clusters) for group, _index, clusters in drawn)
        with progress(f"profile of {self.corpus}", total, "rows") as stage:
            for group, index, clusters in drawn:
                counts = _counts(clusters)
                for (variant, layer), space in group.items():
                    own = profile_space(
                        space,
                        index[space.state.plan.path],
                        clusters if self.interval == "cluster" else None,
                        confidence=self.confidence,
                        memory=self.allowed,
                        name=f"{variant} layer {layer}",
                        on_progress=stage.advance,
                    )
                    found[variant, layer] = own, counts
        ordered = {key: found[key] for key in self.spaces}
        result = ProfileResult(
            self.settings,
            identity,
            tuple(
                {"corpus": self.corpus, "variant": v, "site": self.site, "layer": layer, **numbers}
                for (v, layer), (own, counts) in ordered.items()
                for numbers in _records(own, counts)
            ),
            (*gathered_notes((key, own.notes) for key, (own, _c) in ordered.items()), *self.notes),
            {
                (self.corpus, v, self.site, layer): own.spectrum.variances
                for (v, layer), (own, _counts) in ordered.items()
            },
        )
        return keep_result(self.lake, _ANALYSIS, result)

    def _groups(self) -> list[dict[Key, Space]]:
        """Group the spaces whose rows can be the same stimuli."""
        groups: dict[str | None, dict[Key, Space]] = {}
        for key, space in self.spaces.items():
            rows = short(str(space.state.plan.contents["row_set"]))
            about = self.lake.attributes(f"corpora/{self.corpus}/rows/{rows}")["settings"]
            cut = about.get("tokenization") if self.unit == "piece" else None
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

    def _drawn(
        self, group: dict[Key, Space]
    ) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
        """Draw the rows of a group: those of each set, and the example of each."""
        return draw_rows(self.lake, self.corpus, group, self.n_rows, self.seed, self.specials)

    def _require_memory(self, rows: Mapping[Key, int]) -> None:
        """Refuse what does not fit, before anything is read."""
        for (variant, layer), n_rows in rows.items():
            space = self.spaces[variant, layer]
            name = f"{variant} layer {layer}"
            block_of(space.shape[1], value_bytes(space), n_rows, None, self.allowed, name)


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
