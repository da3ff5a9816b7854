"""Profiles of the spaces of a lake: how the rows of each layer of each variant are spread."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from layerlake.analyses.profiles.question import ANALYSIS, LakeProfile, ProfileQuestion
from layerlake.analyses.questions.answering import answered
from layerlake.analyses.questions.choice import SpaceChoice, filled
from layerlake.analyses.questions.rows import RowDraw
from layerlake.analyses.results.joined import joined
from layerlake.analyses.results.profile import ProfileResult
from layerlake.engine.passes.resources import Resources
from layerlake.engine.progress import Progress, automatic, check_progress
from layerlake.store.lake import Lake, require_lake

if TYPE_CHECKING:
    from layerlake.engine.forecast import Forecast


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
    device: str = "auto",
    scheduler: str | None = None,
    workers: int | None = None,
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
        `piece`; `word`, and how its pieces are pooled (`mean`, `first`, `last` or `max`); or `example`
        (`mean`, `first`, `last` or `cls`). Words and examples that were not extracted as such are
        pooled from stored pieces. By default pieces, where the variants named share a
        tokenizer: others that do not are left out with a note, and where one was named, or there
        is nothing else, rows are words. Where there are no pieces, the only unit that there is.
    rows, seed
        How many of the rows that all variants hold, drawn by identity: the same stimuli in every
        layer and variant, as `compare` draws them. `all` of them, or by default 5000, or all where
        there are fewer. Pieces of other tokenizers are other stimuli, and drawn apart.
    specials
        Include special pieces, as rows, or among the pieces of an example.
    interval
        Of the anisotropy and the mean length: `cluster` (jackknife over groups of examples) or
        `none`.
    confidence
        Nominal coverage of the intervals.
    memory
        Most that may be held, an amount or bytes; on a device, of its memory.
    device
        `auto`, `cpu`, `cuda` or `cuda:N`.
    scheduler, workers
        `threads` or `processes` and how many, or `tcp://HOST:PORT`, a Dask cluster whose workers
        can read the lake by its location; by default none.
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
    InvalidInput, NameNotFound, SetIncomplete, MemoryRefused, MissingExtra, WorkersFailed
        As their names say, each in one sentence.
    """
    require_lake(lake)
    question = ProfileQuestion(
        SpaceChoice(corpus, variants, layers, site, unit, pooling, specials, memory),
        RowDraw(rows, seed, specials),
        Resources.of(memory, device, scheduler, workers),
        interval,
        confidence,
    )
    check_progress(progress)
    results = [_answer(one, progress, fresh=fresh) for one in _by_corpus(lake, question)]
    spectra = {name: own for result in results for name, own in result.spectra.items()}
    return dataclasses.replace(joined(results), spectra=spectra)


def plan_profile(
    lake: Lake, corpus: str | Iterable[str] | None = None, **settings: Any
) -> Forecast:
    """Forecast what `profile` would read, hold and take, without reading more than a block.

    Parameters
    ----------
    lake, corpus
        As `profile`.
    **settings
        All other parameters of `profile`, with its defaults.

    Returns
    -------
    Forecast
        `rows` gone through, `passes`, bytes `read` and `held` at the peak of this machine, and
        `seconds` on one core at the speed of a short trial. Forecasts add up.

    Raises
    ------
    InvalidInput, NameNotFound, SetIncomplete, MemoryRefused
        As `profile`.

    Examples
    --------
    >>> import layerlake as ll
    >>> lake = ll.open_lake("lake")
    >>> print(ll.plan_profile(lake, "wiki", rows="all", scheduler="threads").table())
    """
    require_lake(lake)
    given = inspect.signature(profile).bind(lake, corpus, **settings).arguments
    check_progress(given.get("progress", automatic))
    values = {
        "spaces": filled(SpaceChoice, given),
        "draw": filled(RowDraw, given),
        "resources": filled(Resources.of, given),
    }
    question = filled(ProfileQuestion, given | values)
    from layerlake.analyses.profiles.lake_passes import forecast_of

    return forecast_of(_by_corpus(lake, question))


def _answer(asked: LakeProfile, progress: Progress, *, fresh: bool) -> ProfileResult:
    """Return the profiles of one corpus, from the lake where they are kept there."""
    identity = asked.identity()

    def compute() -> ProfileResult:
        """Run the passes; only they need the modules that compute."""
        from layerlake.analyses.profiles.lake_passes import ProfilePasses

        return ProfilePasses(asked).computed(identity, progress)

    return answered(
        asked.lake,
        ANALYSIS,
        asked.settings,
        identity,
        ProfileResult,
        compute,
        fresh=fresh,
        notes=asked.chosen.notes,
    )


def _by_corpus(lake: Lake, question: ProfileQuestion) -> list[LakeProfile]:
    """Return a question for each corpus that is asked about."""
    return [
        LakeProfile(lake, dataclasses.replace(question, spaces=spaces))
        for spaces in question.spaces.by_corpus()
    ]
