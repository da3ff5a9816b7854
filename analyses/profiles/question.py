"""The question that a profile answers: its spaces, rows, intervals and resources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from layerlake.analyses.questions.choice import SpaceChoice, chosen_spaces
from layerlake.analyses.questions.rows import RowDraw
from layerlake.analyses.results.kept import read_identity
from layerlake.engine.passes.resources import Resources
from layerlake.engine.settings import check_confidence
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import Lake

ANALYSIS: Final = "profile"
"""The folder of results that profiles are kept in."""
INTERVALS: Final = ("cluster", "none")


@dataclass(frozen=True)
class ProfileQuestion:
    """A question as `profile` asks it of each corpus; checked when built."""

    spaces: SpaceChoice
    draw: RowDraw
    resources: Resources
    interval: str = "cluster"
    """`cluster` or `none`."""
    confidence: float = 0.95
    """Nominal coverage of the intervals."""

    def __post_init__(self) -> None:
        """Refuse an interval or a confidence that means nothing."""
        if self.interval not in INTERVALS:
            raise InvalidInput(
                f"there is no interval {self.interval!r} of a profile; choose "
                f"{' or '.join(INTERVALS)}"
            )
        check_confidence(self.confidence)


class LakeProfile:
    """The profiles of the spaces over one corpus of a lake."""

    def __init__(self, lake: Lake, question: ProfileQuestion) -> None:
        """Find the spaces; nothing is read."""
        self.lake, self.question = lake, question
        self.chosen = chosen_spaces(lake, question.spaces, "layerlake profile")
        self.settings = {
            "corpus": self.chosen.corpus,
            "variants": list(self.chosen.variants),
            "layers": list(self.chosen.layers),
            "site": question.spaces.site,
            "unit": self.chosen.unit,
            "pooling": self.chosen.pooling,
            "rows": question.draw.rows,
            "seed": question.draw.seed,
            "specials": question.draw.specials,
            "interval": question.interval,
            "confidence": question.confidence,
        }

    def identity(self) -> dict[str, Any]:
        """Return what tells the bytes that are read from any others."""
        return read_identity(self.lake, self.chosen.corpus, self.chosen.spaces.values())
