"""Words as running text: no space before a full stop, nor inside "didn't" and "the king's"."""

from __future__ import annotations

from collections.abc import Sequence

_JOINED = (".", ",", "?", "'s", "'", "n't")


def running_text(words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Return the text of words, and where each of them begins and ends in it."""
    text = ""
    places = []
    for word in words:
        if text and word not in _JOINED:
            text += " "
        places.append((len(text), len(text) + len(word)))
        text += word
    return text, places
