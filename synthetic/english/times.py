"""Times: when something happens, in phrases that go with its tense."""

from __future__ import annotations

from layerlake.synthetic.english.draws import Draws
from layerlake.synthetic.english.meaning import Time
from layerlake.synthetic.english.names import MONTHS, NUMBERS, WEEKDAYS


def draw_time(draws: Draws, tense: str) -> Time:
    """Draw a time that goes with a tense: "past", "present", or any other for what is to come."""
    day, month = draws.choice(WEEKDAYS), draws.choice(MONTHS)
    if tense == "present":
        unit = draws.choice(("day", "week", "month", "morning", "evening", day))
        return Time(("every", unit), "DATE")
    kind = draws.below(8)
    if kind == 0:
        return Time((day,), "DATE", "on")
    if kind == 1:
        return Time((month,), "DATE", "in")
    if kind == 2:
        return Time((month, str(1 + draws.below(28))), "DATE", "on")
    if kind == 3:
        hour = draws.choice(("noon", "midnight", "dawn", "dusk"))
        return Time((hour,), "TIME", "at")
    if kind == 4:
        unit = draws.choice(("days", "weeks", "months", "years", "hours"))
        label = "TIME" if unit == "hours" else "DATE"
        return Time((draws.choice(NUMBERS), unit), label, "after")
    if kind == 5 and tense == "past":
        return Time((str(1900 + draws.below(120)),), "DATE", "in")
    unit = draws.choice(("week", "month", "year", "summer", "winter", "spring", day))
    if tense == "past":
        return Time(("yesterday",) if draws.chance(0.3) else ("last", unit), "DATE")
    return Time(("tomorrow",) if draws.chance(0.3) else ("next", unit), "DATE")
