"""Similarity between spaces of a lake: any measures, any pairs, several corpora in one call."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from layerlake.analyses.questions.answering import answered
from layerlake.analyses.questions.choice import SpaceChoice, filled
from layerlake.analyses.questions.rows import RowDraw
from layerlake.analyses.results.joined import joined
from layerlake.analyses.results.similarity import SimilarityResult
from layerlake.analyses.similarity.comparing.comparison import (
    Comparison,
    LakeComparison,
    Summaries,
)
from layerlake.analyses.similarity.comparing.pairs import PairChoice
from layerlake.analyses.similarity.question import Question, measures_of
from layerlake.engine.passes.resources import Resources
from layerlake.engine.progress import Progress, automatic, check_progress
from layerlake.engine.settings import check_seed
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import Lake, require_lake

if TYPE_CHECKING:
    from layerlake.analyses.similarity.comparing.forecast import ComparisonForecast


def compare(
    lake: Lake,
    corpus: str | Iterable[str] | None = None,
    reference: str | None = None,
    variants: str | Iterable[str] | None = None,
    *,
    measure: str | Iterable[str] = "rsa",
    layers: str | int | Iterable[int] | None = None,
    reference_layer: int | None = None,
    all_pairs: bool = False,
    site: str = "resid",
    unit: str | None = None,
    pooling: str = "mean",
    rows: int | str | None = None,
    seed: int = 0,
    specials: bool = False,
    kernel: str = "cosine",
    score: str = "pearson",
    interval: str = "cluster",
    confidence: float = 0.95,
    method: str = "auto",
    bandwidth: float | None = None,
    neighbours: int = 10,
    resamples: int = 1000,
    differences: bool = False,
    permutations: int = 0,
    seeds: bool = False,
    ceilings: bool = False,
    memory: int | str = "4GiB",
    device: str = "auto",
    scheduler: str | None = None,
    workers: int | None = None,
    fresh: bool = False,
    progress: Progress = automatic,
) -> SimilarityResult:
    """Compare spaces of a lake by any measures of similarity.

    Parameters
    ----------
    corpus
        One or several; by default the only one with activations.
    reference
        By default `base`. `own` compares each variant with the one that it was made from.
    variants
        By default all others over the corpus.
    measure
        One or several of `rsa`, `cka`, `debiased-cka`, `cca`, `svcca`, `pwcca`, `procrustes`,
        `procrustes-size`, `bures`, `netrep-ALPHA`, `rbf-cka`, `debiased-rbf-cka`, `mutual-knn` and
        `cknna`. Those that share moments share a pass.
    layers
        `0,8`, `0-4`, a sequence, or all; a variant that lacks one (a truncated model) has no
        number there.
    reference_layer
        Compare this layer of the reference with every layer of every variant and its own others.
    all_pairs
        Compare every space with every other one.
    site
        Where in a block.
    unit, pooling
        `piece`; `word`, and how its pieces are pooled (`mean`, `first`, `last` or `max`); or `example`
        (`mean`, `first`, `last` or `cls`). Words and examples that were not extracted as such are
        pooled from stored pieces. By default pieces, where the reference and every variant named share a
        tokenizer: others that do not are left out with a note, and where one was named, or there
        is nothing else, rows are words. Where there are no pieces, the only unit that there is.
    rows, seed
        How many of the rows that all variants hold, drawn by identity: the same stimuli in every
        layer and variant. `all` of them, or by default 5000, or all where there are fewer. A row
        without a direction (zero norm, or constant under `correlation`) in any layer or variant is
        left out of all, and counted in `n_dropped`. The seed is also that of the bootstrap.
    specials
        Include special pieces, as rows, or among the pieces of an example.
    kernel
        Of `rsa`: `cosine`, `correlation`, `linear`, `sqeuclidean`, `euclidean` or `rbf`.
    score
        How `rsa` compares two kernels: `pearson`, `cosine` (of dissimilarities), `spearman`,
        `kendall` (tau-a), `whitened-cosine` or `whitened-correlation` (Diedrichsen et al. 2020).
    interval
        `cluster` (jackknife over examples; over groups of examples for closed forms), `rows` (over
        rows, where each is its own example), `bootstrap` (percentiles over resampled examples) or
        `none`.
    confidence
        Nominal coverage of the intervals.
    method
        `features` (no rows x rows matrix), `tiles` (any kernel), or `auto`: what costs less and
        fits.
    bandwidth
        Sigma of `rbf` and `rbf-cka` in units of the stored rows; by default the median distance
        between rows of a sample of each space.
    neighbours
        Of each row, for `mutual-knn` and `cknna`.
    resamples
        Of the bootstrap.
    differences
        Also compare variants with one another: the difference of their similarity to the
        reference, from the same examples left out of both.
    permutations
        Of whole examples among those of as many rows, to test `r_between` of `rsa` for any relation
        at all: `p` of its records, one-sided, (b + 1) / (permutations + 1). 0 for no test.
    seeds
        Also average over variants that differ only in their seed, with the interval of the mean
        over seeds (Student's t); never mixed with the spread over rows.
    ceilings
        Also say between which correlations with the variants that differ only in their seed the
        best model of them is expected, `ceiling_lower` and `ceiling_upper` (Nili et al. 2014).
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
    The result, kept in the lake under `results/rsa` or, with other measures,
    `results/similarity`, one for each corpus, where
    the lake may be written. The identity covers the settings, the corpus and the checksums of every
    set that was read, so that the same question of the same bytes is answered from there.

    Raises
    ------
    InvalidInput, NameNotFound, SetIncomplete, MemoryRefused, MissingExtra, WorkersFailed
        As their names say, each in one sentence.
    """
    require_lake(lake)
    comparison = Comparison(
        SpaceChoice(corpus, variants, layers, site, unit, pooling, specials, memory),
        PairChoice(reference, reference_layer, all_pairs),
        RowDraw(rows, seed, specials),
        Question(
            measures=measures_of(measure),
            kernel=kernel,
            score=score,
            interval=interval,
            confidence=confidence,
            method=method,
            bandwidth=bandwidth,
            neighbours=neighbours,
            resamples=resamples,
            permutations=permutations,
            seed=check_seed(seed),
        ),
        Summaries(differences, seeds, ceilings),
        Resources.of(memory, device, scheduler, workers),
    )
    check_progress(progress)
    # All are checked before the first is begun.
    asked = _by_corpus(lake, comparison)
    return joined([_answer(one, progress, fresh=fresh) for one in asked])


def _answer(asked: LakeComparison, progress: Progress, *, fresh: bool) -> SimilarityResult:
    """Return the answer to a comparison, from the lake where it is kept there."""
    identity = asked.identity()

    def compute() -> SimilarityResult:
        """Run the passes; only they need the modules that compute."""
        from layerlake.analyses.similarity.comparing.lake_values import computed

        return computed(asked, identity, progress)

    return answered(
        asked.lake,
        asked.analysis,
        asked.settings,
        identity,
        SimilarityResult,
        compute,
        fresh=fresh,
        notes=asked.asked.notes,
    )


def _by_corpus(lake: Lake, comparison: Comparison) -> list[LakeComparison]:
    """Return a comparison for each corpus that is asked about."""
    return [
        LakeComparison(lake, replace(comparison, spaces=spaces))
        for spaces in comparison.spaces.by_corpus()
    ]


def plan_compare(
    lake: Lake, corpus: str | Iterable[str] | None = None, **settings: Any
) -> ComparisonForecast:
    """Forecast what `compare` would read, hold and compute, without reading more than a block.

    Parameters
    ----------
    lake, corpus
        As `compare`.
    **settings
        All other parameters of `compare`, with its defaults.

    Returns
    -------
    ComparisonForecast
        Rows, spaces, pairs and passes; the method and why it was chosen; multiply-adds, bytes read
        and held at the peak of this machine, and seconds on one core.

    Raises
    ------
    InvalidInput, NameNotFound, SetIncomplete, MemoryRefused
        As `compare`.
    """
    require_lake(lake)
    given = _signature.bind(lake, corpus, **settings).arguments
    check_progress(given.get("progress", automatic))
    given["measures"] = measures_of(given.get("measure", "rsa"))
    comparison = Comparison(
        filled(SpaceChoice, given),
        filled(PairChoice, given),
        filled(RowDraw, given),
        filled(Question, given),
        filled(Summaries, given),
        filled(Resources.of, given),
    )
    from layerlake.analyses.similarity.comparing.forecast import forecast_of

    return forecast_of(_by_corpus(lake, comparison))


def rsa(
    lake: Lake,
    corpus: str | Iterable[str] | None = None,
    reference: str | None = None,
    variants: str | Iterable[str] | None = None,
    **settings: Any,
) -> SimilarityResult:
    """Compare variants with a reference by RSA (Merchant et al. 2020, section 5).

    Parameters
    ----------
    lake, corpus, reference, variants
        As `compare`, whose measure `rsa` this is.
    settings
        All others of `compare` but `measure`.

    Returns
    -------
    SimilarityResult
        Records of `r_all`, over all pairs of rows, and `r_between`, over pairs of rows from
        different examples; other scores have their own names.

    Raises
    ------
    InvalidInput, NameNotFound, SetIncomplete, MemoryRefused, MissingExtra, WorkersFailed
        As their names say, each in one sentence.
    """
    if "measure" in settings:
        raise InvalidInput("rsa is one measure; for others call compare, or `layerlake compare`")
    return compare(lake, corpus, reference, variants, **settings)


_signature = inspect.signature(compare)
rsa.__signature__ = _signature.replace(  # type: ignore[attr-defined]
    parameters=[p for name, p in _signature.parameters.items() if name != "measure"]
)  # what help() and notebooks show
