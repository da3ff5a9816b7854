"""The measures that can be asked for, and which of them go together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from layerlake.engine.settings import check_confidence
from layerlake.store.errors import InvalidInput, is_a

if TYPE_CHECKING:
    from layerlake.engine.passes.arrays import Array


FORMS: Final = (
    "cka",
    "debiased-cka",
    "cca",
    "svcca",
    "pwcca",
    "procrustes",
    "procrustes-size",
    "bures",
)
"""Measures that are a function of centred sums over rows, beside `netrep-ALPHA`."""
INFLUENCED: Final = ("cca", "cca-r2", "procrustes", "netrep-1", "bures")
"""Forms that take a decomposition of every pair and have a derivative: the influence of clusters
costs a pass of products, leaving out groups of them would cost a decomposition for each."""
METHOD_VERSIONS: Final = {"mutual-knn": 2, "cknna": 2}
"""Measures whose numbers are computed otherwise than they once were, and the count of the ways."""
TILED: Final = ("rbf-cka", "debiased-rbf-cka", "mutual-knn", "cknna")
"""Measures that need every pair of rows."""
MEASURES: Final = ("rsa", *FORMS, *TILED, "netrep-ALPHA")
_NETREP: Final = re.compile(r"netrep-(0(\.\d+)?|1(\.0+)?)")

FEATURED_KERNELS: Final = ("cosine", "correlation", "linear", "sqeuclidean")
"""Kernels that are products of features of the rows; see `features.kernels`."""
TILED_KERNELS: Final = ("euclidean", "rbf")
"""Kernels without features of a finite width."""
ALL_KERNELS: Final = (*FEATURED_KERNELS, *TILED_KERNELS)

SUMMED_SCORES: Final = ("pearson", "cosine")
"""Comparisons that are a function of sums over pairs of rows."""
RANKED_SCORES: Final = ("spearman", "kendall")
WHITENED_SCORES: Final = ("whitened-cosine", "whitened-correlation")
"""Comparisons that allow for the covariance of distances which share a row; a function of centred
sums."""
SCORES: Final = (*SUMMED_SCORES, *RANKED_SCORES, *WHITENED_SCORES)

INTERVALS: Final = ("cluster", "rows", "bootstrap", "none")
METHODS: Final = ("auto", "features", "tiles")
PRECISIONS: Final = ("float32", "float64")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every pair of spaces, checked; the parameters are those of `compare`."""

    measures: tuple[str, ...] = ("rsa",)
    kernel: str | UserKernel = "cosine"
    score: str = "pearson"
    interval: str = "cluster"
    confidence: float = 0.95
    method: str = "auto"
    precision: str = "float32"
    bandwidth: float | None = None
    neighbours: int = 10
    resamples: int = 1000
    permutations: int = 0
    seed: int = 0

    @property
    def forms(self) -> tuple[str, ...]:
        """The closed forms among the measures, whitened scores of RSA among them."""
        forms = tuple(m for m in self.measures if m in FORMS or m.startswith("netrep-"))
        return forms + ((self.score,) if self.whitened else ())

    @property
    def tiled_kernel(self) -> bool:
        """Whether the kernel has no features of a finite width."""
        return callable(self.kernel) or self.kernel in TILED_KERNELS

    @property
    def whitened(self) -> bool:
        """Whether RSA is asked for with a whitened score."""
        return "rsa" in self.measures and self.score in WHITENED_SCORES

    @property
    def summed(self) -> bool:
        """Whether RSA is asked for with a score that is a function of sums over pairs of rows."""
        return "rsa" in self.measures and self.score in SUMMED_SCORES

    @property
    def ranked(self) -> bool:
        """Whether RSA is asked for with a score of ranks."""
        return "rsa" in self.measures and self.score in RANKED_SCORES


def measures_of(asked: str | Iterable[str]) -> tuple[str, ...]:
    """Return the measures of a list or of a text with commas, each once, in order.

    Raises
    ------
    InvalidInput
        There is no such measure, or none is named.
    """
    if not is_a(asked, str, Iterable):
        raise InvalidInput(f"measure is {asked!r}; choose among {', '.join(MEASURES)}")
    parts = asked.split(",") if isinstance(asked, str) else list(asked)
    names: list[str] = []
    for part in parts:
        if not is_a(part, str):
            raise InvalidInput(f"measure {part!r} is no name; choose among {', '.join(MEASURES)}")
        names += [name.strip() for name in part.split(",") if name.strip()]
    for name in names:
        if name not in MEASURES[:-1] and not _NETREP.fullmatch(name):
            given = "netrep-0.5, with a number from 0 to 1," if name.startswith("netrep") else ""
            raise InvalidInput(
                f"there is no measure {name!r}; give {given or 'one of'} {', '.join(MEASURES)}"
            )
    if not names:
        raise InvalidInput(f"no measure is named; choose among {', '.join(MEASURES)}")
    return tuple(dict.fromkeys(names))


def check_choice(what: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse a setting that is none of its choices."""
    if not is_a(value, str) or value not in choices:
        raise InvalidInput(f"there is no {what} {value!r}; choose one of {', '.join(choices)}")


def check_question(question: Question) -> Question:
    """Return the question, or refuse what cannot be asked.

    Raises
    ------
    InvalidInput
        A setting is unknown or out of range, or two of them do not fit together.
    """
    if not callable(question.kernel):
        check_choice("kernel", question.kernel, ALL_KERNELS)
    check_choice("score", question.score, SCORES)
    check_choice("interval", question.interval, INTERVALS)
    check_choice("method", question.method, METHODS)
    check_choice("precision", question.precision, PRECISIONS)
    confidence = question.confidence
    check_confidence(confidence)
    width = question.bandwidth
    if width is not None and (not is_a(width, int, float) or not 0 < width < float("inf")):
        raise InvalidInput(f"bandwidth is {width!r}; give a number above 0, or none for the median")
    for what, number, least in (
        ("neighbours", question.neighbours, 1),
        ("resamples", question.resamples, 20),
        ("permutations", question.permutations, 0),
    ):
        if isinstance(number, bool) or not is_a(number, int) or number < least:
            raise InvalidInput(f"{what} is {number!r}; give a whole number of at least {least}")
    if question.interval == "bootstrap":
        from layerlake.analyses.statistics.bootstrap import require_resamples

        require_resamples(question.resamples, confidence)
    if question.whitened and question.kernel != "sqeuclidean":
        raise InvalidInput(
            f"{question.score} compares squared Euclidean distances, and the kernel is "
            f"{question.kernel}; give --kernel sqeuclidean with it"
        )
    _check_use(question)
    _check_method(question)
    return question


def _check_use(question: Question) -> None:
    """Refuse settings that nothing asked for uses: who gave them expects that they count."""
    usual = Question()
    if "rsa" not in question.measures:
        for what, value, default in (
            ("kernel", question.kernel, usual.kernel),
            ("score", question.score, usual.score),
        ):
            if value != default:
                advice = "; rbf-cka is CKA under that kernel" if value == "rbf" else ""
                raise InvalidInput(
                    f"the {what} {value} is one of rsa, which is not asked for; leave it out, or "
                    f"ask for rsa{advice}"
                )
    bandwidths = {"rbf-cka", "debiased-rbf-cka"} & set(question.measures)
    if "rsa" in question.measures and question.kernel == "rbf":
        bandwidths.add("rsa")
    if question.bandwidth is not None and not bandwidths:
        raise InvalidInput(
            f"a bandwidth of {question.bandwidth:g} is given, and nothing asked for has one; leave "
            "it out, or ask for the kernel rbf or for rbf-cka"
        )


def _check_method(question: Question) -> None:
    """Refuse a method that has no form of what is asked."""
    if question.method == "features":
        tiled = [m for m in question.measures if m in TILED]
        if "rsa" in question.measures and question.tiled_kernel:
            tiled.append(f"the {question.kernel} kernel")
        if question.ranked:
            tiled.append(f"the score {question.score}")
        if question.interval == "bootstrap":
            tiled.append("the interval bootstrap")
        if tiled:
            raise InvalidInput(
                f"{' and '.join(tiled)} cannot be had from features of the rows; use the method "
                "tiles or auto"
            )
    if question.method == "tiles" and question.forms:
        raise InvalidInput(
            f"{', '.join(question.forms)} cannot be had from tiles; use the method features or auto"
        )
    if question.interval == "bootstrap" and (question.measures != ("rsa",) or not question.summed):
        raise InvalidInput(
            "the interval bootstrap is there for rsa alone, with the scores pearson and cosine; ask "
            "for that, or for the interval cluster"
        )
    if question.permutations and ("rsa" not in question.measures or question.score != "pearson"):
        raise InvalidInput(
            "permutations test rsa with the score pearson; ask for that, or for no permutations"
        )


UserKernel: TypeAlias = "Callable[[Array, Array], Array]"
"""Takes (i, hidden) and (j, hidden) rows in the working precision, as they were stored (neither
centred nor scaled), and returns the symmetric kernel of each with each, (i, j)."""
