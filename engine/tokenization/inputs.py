"""Inputs: which pieces of its texts each one takes, under a limit, in windows, or trimmed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.tokenization.packing import Packing
from layerlake.engine.tokenization.word_pieces import Pieces
from layerlake.store.errors import InvalidInput
from layerlake.store.row_sets import offsets_of, runs

LONG = ("refuse", "drop", "split", "window")

_NAMES_IN_MESSAGE = 3
_NAMES_KEPT = 20
_LENGTH_WEIGHT = 0.01  # of a window's length beside the context of a piece (Devlin et al. 2019)


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs, in the order of the examples."""

    example: NDArray[np.int64]
    """(input,) the example that each was cut from; never falls."""
    start: NDArray[np.int64]
    """(input, text) first piece of each text's part."""
    count: NDArray[np.int64]
    """(input, text) number of its pieces."""
    owner: NDArray[np.int64] | None = None
    """(piece,) of the inputs that hold a piece the one whose copy counts; None where every piece
    is in one input at most."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(input,) pieces of its texts."""
        sizes: NDArray[np.int64] = self.count.sum(axis=1)
        return sizes

    def keep(self, chosen: NDArray[np.bool_]) -> Inputs:
        """Return some of the inputs; for those that share no pieces."""
        return replace(
            self, example=self.example[chosen], start=self.start[chosen], count=self.count[chosen]
        )


def make_inputs(
    corpus: Corpus,
    pieces: Pieces,
    texts: int,
    specials: int,
    packing: Packing,
    long: str,
    limit: int | None,
) -> tuple[Inputs, dict[str, Any]]:
    """Return the inputs and counts of what was done to make them.

    Parameters
    ----------
    corpus
        For names in messages.
    pieces
        Of all texts that are packed, `texts` sequences an example.
    texts, specials
        Texts and special pieces of an input.
    packing, long, limit
        As `tokenize`.

    Raises
    ------
    InvalidInput
        Where an example is too long, and is refused, or cannot be split.
    """
    if packing.bounded and limit is not None and (packing.length or 0) > limit:
        inputs, done = _bounded(corpus, pieces, texts, specials, packing)
        longest = int(inputs.sizes.max()) + specials
        if longest > limit:
            raise InvalidInput(
                f"packing {packing} makes inputs of {longest} pieces, and the limit is {limit}; "
                f"write at most {limit} for the length"
            )
        return inputs, done
    if packing.bounded:
        return _bounded(corpus, pieces, texts, specials, packing)
    inputs = _whole(pieces, texts)
    lengths = inputs.sizes + specials
    done = {"dropped": 0, "split": 0, "dropped_examples": []}
    over = np.zeros(len(lengths), np.bool_) if limit is None else lengths > limit
    if limit is None or not over.any():
        return inputs, done
    if long == "refuse" or (long == "split" and texts > 1):
        raise InvalidInput(_too_long(corpus, lengths, over, limit, texts))
    if long == "drop":
        if over.all():
            raise InvalidInput(
                f"all {len(over)} examples have more than {limit} pieces, so nothing is left; "
                "use --long split, or shorter examples"
            )
        named = np.flatnonzero(over)[:_NAMES_KEPT].tolist()
        done["dropped"] = int(over.sum())
        done["dropped_examples"] = [corpus.example_name(e) for e in named]
        return inputs.keep(~over), done
    if long == "window":
        half = Packing("window", limit, max(1, limit // 2))
        inputs, counted = _windows(corpus, pieces, texts, specials, half)
        return inputs, done | counted | {"windowed": int(over.sum())}
    done["split"] = int(over.sum())
    return _split(corpus, pieces, inputs, over, limit - specials), done


def _bounded(
    corpus: Corpus, pieces: Pieces, texts: int, specials: int, packing: Packing
) -> tuple[Inputs, dict[str, Any]]:
    """Return inputs of the packings that are never too long."""
    length = packing.length or 0
    room = length - specials - (packing.first_most or 0)
    least = texts if packing.first_most is None else 1
    if room < least:
        raise InvalidInput(
            f"packing {packing} leaves no room for text beside {length - room} pieces "
            f"({specials} of them special); raise the length to {length - room + least} or more"
        )
    if packing.kind == "trim":
        return _trimmed(_whole(pieces, texts), length - specials)
    return _windows(corpus, pieces, texts, specials, packing)


def _whole(pieces: Pieces, texts: int) -> Inputs:
    """Return an input an example."""
    count = pieces.counts.reshape(-1, texts)
    start = offsets_of(pieces.counts)[:-1].reshape(-1, texts)
    return Inputs(np.arange(len(count), dtype=np.int64), start, count)


def _trimmed(inputs: Inputs, room: int) -> tuple[Inputs, dict[str, Any]]:
    """Cut the longer text of each input, piece by piece from its end, until both fit in `room`.

    Where both are as long the second is cut (`_truncate_seq_pair` of Devlin et al. 2019). So the
    shorter text stays whole unless the room is less than twice its length; then both end up with
    half the room, the first with the odd piece.
    """
    count = inputs.count
    if count.shape[1] == 1:
        left = np.minimum(count, room)
    else:
        short = count.min(axis=1)
        rest = np.maximum(room - short[:, None], short[:, None])
        halves = np.array([(room + 1) // 2, room // 2])
        left = np.where((2 * short <= room)[:, None], np.minimum(count, rest), halves)
        left = np.where((count.sum(axis=1) <= room)[:, None], count, left)
    cut = (count - left).sum(axis=1)
    done = {"trimmed": int((cut > 0).sum()), "pieces_trimmed": int(cut.sum())}
    return replace(inputs, count=left), done


def _windows(
    corpus: Corpus, pieces: Pieces, texts: int, specials: int, packing: Packing
) -> tuple[Inputs, dict[str, Any]]:
    """Cut the last text of each example into windows that overlap, each with the first text.

    A window begins `stride` pieces after the one before it, or where that one ends if this comes
    first; the last one ends with the text (Devlin et al. 2019, `run_squad.py`).
    """
    whole = _whole(pieces, texts)
    count = whole.count.copy()
    if texts > 1 and packing.first_most is not None:
        count[:, 0] = np.minimum(count[:, 0], packing.first_most)
    long, size = count[:, -1], (packing.length or 0) - specials
    room = size - count[:, :-1].sum(axis=1)
    # Without a text that needs room a first text may fill the input to its last piece.
    lacking = room < np.minimum(long, 1)
    if lacking.any():
        bad = int(lacking.argmax())
        raise InvalidInput(
            f"the first text of example {corpus.example_name(bad)!r} has "
            f"{int(count[bad, 0])} pieces and leaves no room for the second in windows of "
            f"{packing.length}; use --packing "
            f"'window({packing.length},{packing.stride},{max(1, size // 4)})', say, to cut it"
        )
    room = np.maximum(room, 1)
    step = np.minimum(packing.stride or 1, room)
    windows = 1 + np.maximum(0, -((room - long) // step))
    example = np.repeat(whole.example, windows)
    number = runs(np.zeros(len(windows), np.int64), windows)
    start, taken = whole.start[example], count[example]
    before = number * step[example]
    start[:, -1] += before
    taken[:, -1] = np.minimum(room[example], long[example] - before)
    done = {
        "windows": len(example),
        "examples_in_windows": int((windows > 1).sum()),
        "first_texts_cut": int((count != whole.count)[:, 0].sum()) if texts > 1 else 0,
    }
    inputs = Inputs(example, start, taken)
    return replace(inputs, owner=_owners(pieces, inputs, windows)), done


def _owners(pieces: Pieces, inputs: Inputs, windows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the window whose copy of each piece counts: the one that shows most around it.

    The context of a piece in a window is the smaller number of pieces at its left and right, plus
    a hundredth of the window's length; the first window wins a tie (Devlin et al. 2019). Here the
    pieces of a word go together: a word has the least context of its pieces, and none in a window
    that does not hold all of it. A first text counts in the first window.
    """
    offsets = offsets_of(windows)[:-1]
    owner = np.full(len(pieces.ids), -1, np.int64)
    stop = inputs.start + inputs.count
    opening = inputs.count[offsets]
    owner[runs(inputs.start[offsets].reshape(-1), opening.reshape(-1))] = np.repeat(
        offsets, opening.sum(axis=1)
    )
    first, last = pieces.word_bounds()
    for example in np.flatnonzero(windows > 1).tolist():
        ours = range(int(offsets[example]), int(offsets[example] + windows[example]))
        begin, end = int(inputs.start[ours[0], -1]), int(stop[ours[-1], -1])
        owner[begin:end] = -1
        best = np.full(end - begin, -np.inf)
        # Words first; then the pieces of words that no window holds whole, each for itself.
        alone = np.arange(begin, end)
        for left, right in ((first[begin:end], last[begin:end]), (alone, alone)):
            free = owner[begin:end] < 0
            if not free.any():
                break
            for window in ours:
                low, high = int(inputs.start[window, -1]), int(stop[window, -1])
                part = slice(low - begin, high - begin)
                context = np.minimum(left[part] - low, high - 1 - right[part])
                score = context + _LENGTH_WEIGHT * (high - low)
                better = free[part] & (context >= 0) & (score > best[part])
                best[part][better] = score[better]
                owner[low:high][better] = window
    return owner


def _split(
    corpus: Corpus, pieces: Pieces, inputs: Inputs, over: NDArray[np.bool_], room: int
) -> Inputs:
    """Cut single texts that are too long between words."""
    cuts: list[int] = []
    offsets = offsets_of(pieces.counts)
    for long in np.flatnonzero(over).tolist():
        cuts.extend(_cuts(corpus, long, pieces, int(offsets[long]), int(offsets[long + 1]), room))
    inner = np.array(cuts, np.int64)
    bounds = np.sort(np.concatenate([offsets, inner]), kind="stable")
    owner = np.searchsorted(offsets, inner, side="right") - 1
    example = np.sort(np.concatenate([inputs.example, owner]))
    return Inputs(example, bounds[:-1, None], np.diff(bounds)[:, None])


def _cuts(
    corpus: Corpus, example: int, pieces: Pieces, first: int, last: int, room: int
) -> list[int]:
    """Return where the pieces [first, last) are cut: between words, each part as long as can be.

    Taking as much as fits is optimal: no other choice reaches further with as many parts.
    """
    word = pieces.word[first:last]
    begins = np.ones(len(word), np.bool_)
    # A piece outside any word (the space at the end of a text) goes with the word before it.
    begins[1:] = (word[1:] != word[:-1]) & (word[1:] >= 0)
    edges = np.append(np.flatnonzero(begins), len(word))
    cuts = []
    reach = 0
    while len(word) - reach > room:
        edge = int(edges[np.searchsorted(edges, reach + room, side="right") - 1])
        if edge <= reach:
            owner = int(word[reach])
            name = repr(corpus.word(owner)) if owner >= 0 else "the white space"
            raise InvalidInput(
                f"{name} in example {corpus.example_name(example)!r} alone has more pieces than "
                f"the {room} that fit in an input; use --long drop"
            )
        cuts.append(first + edge)
        reach = edge
    return cuts


def _too_long(
    corpus: Corpus, lengths: NDArray[np.int64], over: NDArray[np.bool_], limit: int, texts: int
) -> str:
    """Return the sentence that names the first examples over the limit."""
    first = np.flatnonzero(over)[:_NAMES_IN_MESSAGE].tolist()
    named = ", ".join(f"{corpus.example_name(e)} ({lengths[e]})" for e in first)
    more = ", ..." if over.sum() > len(first) else ""
    ways = (
        "--long drop, split or window"
        if texts == 1
        else "--long drop or window (pairs cannot be split)"
    )
    return (
        f"{int(over.sum())} of {len(over)} examples have more than {limit} pieces: "
        f"{named}{more}; use {ways}, or shorter examples"
    )
