"""One comparison over one corpus of a lake: the question, its spaces and its rows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from layerlake.analyses.questions.choice import SpaceChoice
from layerlake.analyses.questions.rows import RowDraw, Rows, draw_rows
from layerlake.analyses.results.kept import read_identity
from layerlake.analyses.similarity.comparing.pairs import (
    OWN,
    KeyPair,
    PairChoice,
    pairs_among,
    pairs_of_lake,
)
from layerlake.analyses.similarity.question import METHOD_VERSIONS, Question, check_question
from layerlake.engine.passes.resources import Resources
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import Lake


@dataclass(frozen=True)
class Summaries:
    """What is made of the values of pairs, beside the values."""

    differences: bool = False
    """Differences of the similarities of two variants to one reference."""
    seeds: bool = False
    """Means over variants that differ only in their seed."""
    ceilings: bool = False
    """Noise ceilings of those variants."""


@dataclass(frozen=True)
class Comparison:
    """A question as `compare` asks it of each corpus; checked when built."""

    spaces: SpaceChoice
    pairs: PairChoice
    draw: RowDraw
    question: Question
    summaries: Summaries
    resources: Resources

    def __post_init__(self) -> None:
        """Refuse what a lake cannot be asked.

        Raises
        ------
        InvalidInput
            A kernel of one's own, or summaries that the measures do not have.
        """
        question, summaries = self.question, self.summaries
        if callable(question.kernel):
            raise InvalidInput(
                "a kernel of your own cannot be kept with a result; call compare_arrays with it"
            )
        check_question(question)
        if summaries.ceilings and not question.summed:
            raise InvalidInput(
                "noise ceilings are there for rsa with the scores pearson and cosine; ask for "
                "those, or leave ceilings out"
            )
        if summaries.differences and not (question.summed and question.interval == "cluster"):
            raise InvalidInput(
                "differences are there for rsa with the scores pearson and cosine and the interval "
                "cluster; ask for those, or leave differences out"
            )


class LakeComparison:
    """A comparison of the spaces of one corpus of a lake."""

    def __init__(self, lake: Lake, comparison: Comparison) -> None:
        """Find the spaces that the comparison is about; nothing is read."""
        self.lake, self.comparison = lake, comparison
        self.question, self.resources = comparison.question, comparison.resources
        command = f"layerlake compare --measure {','.join(self.question.measures)}"
        self.asked = pairs_of_lake(
            lake,
            comparison.spaces,
            comparison.pairs,
            "layerlake rsa" if self.analysis == "rsa" else command,
        )
        seeds, ceilings = comparison.summaries.seeds, comparison.summaries.ceilings
        self.groups: dict[str, list[str]] = {}
        if seeds or ceilings:
            from layerlake.analyses.questions.seed_groups import seed_groups

            about = {name: lake.attributes(f"variants/{name}") for name in lake.variants()}
            self.groups = seed_groups(about, self.asked.variants)
        among = pairs_among(self.asked, self.groups.values()) if ceilings else []
        self.pairs: tuple[KeyPair, ...] = (*self.asked.pairs, *among)
        self.settings = self._settings()
        self._drawn: Rows | None = None

    def _settings(self) -> dict[str, Any]:
        """Return all that the answer depends on, beside the bytes."""
        asked = self.comparison
        question = dataclasses.asdict(self.question)
        del question["precision"]
        if "rsa" not in self.question.measures:
            del question["kernel"], question["score"]
        if not any(measure in ("mutual-knn", "cknna") for measure in self.question.measures):
            del question["neighbours"]
        if methods := {m: v for m, v in METHOD_VERSIONS.items() if m in self.question.measures}:
            question["methods"] = methods
        if self.question.interval != "bootstrap":
            del question["resamples"]
        return {
            "corpus": self.asked.corpus,
            "reference": self.asked.reference,
            "variants": list(self.asked.variants),
            "layers": list(self.asked.layers),
            "reference_layer": asked.pairs.reference_layer,
            "all_pairs": asked.pairs.all_pairs,
            "site": asked.spaces.site,
            "unit": self.asked.unit,
            "pooling": self.asked.pooling,
            "rows": asked.draw.rows,
            "specials": asked.draw.specials,
            "differences": asked.summaries.differences,
            "seeds": asked.summaries.seeds,
            "ceilings": asked.summaries.ceilings,
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
    def analysis(self) -> str:
        """The folder of results that the answer is kept in."""
        return "rsa" if self.question.measures == ("rsa",) else "similarity"

    @property
    def aligned(self) -> bool:
        """Whether each pair is of one layer, so that variants name spaces well enough."""
        return all(one[1] == other[1] for one, other in self.pairs)

    def rows(self) -> Rows:
        """Sample the rows, once."""
        if self._drawn is None:
            self._drawn = draw_rows(self.asked.spaces.values(), self.comparison.draw)
        return self._drawn

    def identity(self) -> dict[str, Any]:
        """Return what tells the bytes that are read from any others."""
        return read_identity(self.lake, self.asked.corpus, self.asked.spaces.values())
