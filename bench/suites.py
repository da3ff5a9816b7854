"""What the suites over generated spaces are asked for.

This imports nothing that takes long, so that a command line can name workloads and defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from layerlake.store.errors import InvalidInput

RSA_WORKLOADS: Final = ("pair", "star", "growth")
ALL_PAIRS: Final = "all-pairs"
SIMILARITY_WORKLOADS: Final = (
    ALL_PAIRS,
    "spearman",
    "kendall",
    "cka",
    "debiased-cka",
    "mutual-knn",
    "bootstrap",
)


@dataclass(frozen=True)
class Conditions:
    """What is generated, and under which conditions it is measured."""

    hidden: int = 768
    """Of every space."""
    mean_cosine: float = 0.95
    """Between two rows of a space."""
    repeats: int = 3
    """Runs of each method, medians taken; one that takes more than 4 s is run once."""
    threads: int = 1
    """Of products and the like, in each process."""
    memory: str = "4GiB"
    """Allowed to LayerLake."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""
    peers: bool = True
    """Whether others are measured too."""
    rsatoolbox: str | None = None
    """A Python that the package is installed for; by default this one, if it is."""
    thingsvision: str | None = None
    """Likewise."""
    folder: str | Path | None = None
    """Where files lie meanwhile; by default the system's temporary folder."""


@dataclass(frozen=True)
class RsaSuite:
    """Workloads of RSA; checked when built."""

    n_rows: Sequence[int] = (2000, 5000, 20_000)
    """Of the spaces in memory, once or several times."""
    growth: Sequence[int] = (10_000, 100_000, 1_000_000)
    """Rows read from a lake of two spaces in float16, which is deleted afterwards; it takes
    4 x hidden bytes a row on disk."""
    star: int = 13
    """How many spaces one is compared with."""
    workloads: Sequence[str] = RSA_WORKLOADS
    """Some of `RSA_WORKLOADS`."""

    def __post_init__(self) -> None:
        """Refuse workloads that there are not."""
        _check_workloads(self.workloads, RSA_WORKLOADS)


@dataclass(frozen=True)
class SimilaritySuite:
    """Workloads of other comparisons; checked when built."""

    n_rows: int = 5000
    """Of the two spaces that are compared by every measure."""
    spaces: Sequence[int] = (13, 26, 52)
    """How many spaces are all compared with each other by Pearson's correlation."""
    all_pairs_rows: int = 2000
    """Rows of these."""
    workloads: Sequence[str] = SIMILARITY_WORKLOADS
    """Some of `SIMILARITY_WORKLOADS`."""
    neighbours: int = 10
    """Of each row, for `mutual-knn`."""
    resamples: int = 1000
    """Of the bootstrap."""
    resamples_run: int = 5
    """How many of them the others run; they are charged for all, and `scaled` says so."""

    def __post_init__(self) -> None:
        """Refuse workloads that there are not, and more resamples than all."""
        _check_workloads(self.workloads, SIMILARITY_WORKLOADS)
        if not 1 <= self.resamples_run <= self.resamples:
            raise InvalidInput(
                f"others are to run {self.resamples_run} of {self.resamples} resamples; give 1 to "
                f"{self.resamples}"
            )


def _check_workloads(asked: Sequence[str], known: Sequence[str]) -> None:
    """Refuse workloads that are not known."""
    unknown = set(asked) - set(known)
    if unknown:
        raise InvalidInput(
            f"there is no workload {', '.join(sorted(unknown))}; choose among {', '.join(known)}"
        )
