"""What is asked of the spaces of a lake, one at a time, and the answers that the lake holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from layerlake.analyses.questions.answering import answered
from layerlake.analyses.questions.choice import SpaceChoice, chosen_spaces
from layerlake.analyses.questions.rows import RowDraw
from layerlake.analyses.results.kept import read_identity
from layerlake.analyses.results.profile import ProfileResult
from layerlake.engine.passes.resources import Resources
from layerlake.engine.progress import Progress
from layerlake.engine.settings import check_confidence
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import Lake

_ANALYSIS: Final = "profile"
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
        self.chosen = chosen_spaces(lake, question.spaces)
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

    def result(self, progress: Progress, *, fresh: bool) -> ProfileResult:
        """Return the profiles, from the lake where they are kept there."""
        identity = read_identity(self.lake, self.chosen.corpus, self.chosen.spaces.values())

        def compute() -> ProfileResult:
            """Run the passes; only they need the modules that compute."""
            from layerlake.analyses.profiles.lake_passes import ProfilePasses

            return ProfilePasses(self).computed(identity, progress)

        return answered(
            self.lake,
            _ANALYSIS,
            self.settings,
            identity,
            ProfileResult,
            compute,
            fresh=fresh,
        )
