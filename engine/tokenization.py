"""A corpus cut into pieces: inputs for a model, and the word that every piece belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.tokenizer_backend import (
    Backend,
    Template,
    learn_template,
    needs_leading_space,
    open_backend,
    tokenizer_fingerprint,
)
from layerlake.engine.word_pieces import (
    Pieces,
    offsets_of,
    pieces_of_texts,
    pieces_of_words,
    runs,
)
from layerlake.store.errors import InvalidInput
from layerlake.store.identity import settings_fingerprint

__all__ = ["LONG", "PACKINGS", "Tokenization", "tokenize", "tokenizer_fingerprint"]

PACKINGS = ("single", "pair")
LONG = ("refuse", "drop", "split")

_NAMES_IN_MESSAGE = 3
_NAMES_KEPT = 20

_ARRAYS: dict[str, type[np.generic]] = {
    "piece_ids": np.int32,
    "piece_word": np.int64,
    "segment_ids": np.uint8,
    "special": np.bool_,
    "input_offsets": np.int64,
    "input_example": np.int64,
}


@dataclass(frozen=True, eq=False)
class Tokenization:
    """Pieces of every input, end to end.

    Raises
    ------
    InvalidInput
        When built from arrays that do not fit together.
    """

    piece_ids: NDArray[np.int32]
    """(piece,) ids in the tokenizer's vocabulary."""
    piece_word: NDArray[np.int64]
    """(piece,) word of the corpus; -1 for specials and pieces outside any word."""
    segment_ids: NDArray[np.uint8]
    """(piece,) type ids, as the tokenizer would give them."""
    special: NDArray[np.bool_]
    """(piece,) whether the piece was put there by the tokenizer's template."""
    input_offsets: NDArray[np.int64]
    """(input + 1,) the pieces of input i are [input_offsets[i], input_offsets[i + 1])."""
    input_example: NDArray[np.int64]
    """(input,) the example each input was cut from; never falls."""
    settings: dict[str, Any]
    """Tokenizer, packing, how words were cut, what was done with long examples, and counts."""
    fingerprint: str
    """Sha256 (hex) of the settings that decide the pieces of a corpus."""

    def __post_init__(self) -> None:
        """Check that the arrays fit together."""
        n, offsets = self.n_pieces, self.input_offsets
        per_piece = (self.piece_word, self.segment_ids, self.special)
        if any(values.shape != (n,) for values in per_piece):
            raise InvalidInput(f"every array of pieces must have shape ({n},)")
        if (
            len(offsets) != self.n_inputs + 1
            or offsets[0] != 0
            or offsets[-1] != n
            or np.any(np.diff(offsets) < 1)
        ):
            raise InvalidInput(f"input_offsets must rise from 0 to {n} over {self.n_inputs} inputs")

    @property
    def n_pieces(self) -> int:
        """Number of pieces, specials included."""
        return len(self.piece_ids)

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return len(self.input_example)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(input,) pieces in each input."""
        return np.diff(self.input_offsets)

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name; `from_columns` reads them."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def to_attributes(self) -> dict[str, Any]:
        """Return the settings and the fingerprint, ready for JSON."""
        return {"settings": self.settings, "fingerprint": self.fingerprint}

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]
    ) -> Tokenization:
        """Build the tokenization that `to_columns` and `to_attributes` described.

        Raises
        ------
        InvalidInput
            Where something is missing, or the arrays do not fit together.
        """
        try:
            arrays = {
                name: np.ascontiguousarray(columns[name], dtype) for name, dtype in _ARRAYS.items()
            }
            return cls(
                **arrays,
                settings=dict(attributes["settings"]),
                fingerprint=str(attributes["fingerprint"]),
            )
        except KeyError as error:
            raise InvalidInput(f"these columns are no tokenization: {error} is missing") from None


def tokenize(
    corpus: Corpus,
    tokenizer: Any,
    *,
    packing: str = "single",
    long: str = "refuse",
    limit: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Tokenization:
    """Cut a corpus into inputs of pieces.

    Given words are cut one by one, with a leading space on every word but the first of a text
    where the tokenizer needs it; a word that yields no piece becomes the unknown piece. Raw texts
    are cut as they are, and pieces belong to words by character offsets.

    Parameters
    ----------
    corpus
        The examples.
    tokenizer
        A fast tokenizer of `transformers`; it is left as it is.
    packing
        "single": an input an example, for single texts; "pair": both texts in one input.
    long
        What happens to examples over the limit: "refuse"; "drop" them; "split" them between words
        into as few inputs as possible (later inputs begin in mid-text: no piece is cut anew).
    limit
        The most pieces an input may have, specials included; None for no limit.
    on_progress
        Called now and then with the number of examples done so far.

    Raises
    ------
    InvalidInput
        Where packing and corpus do not fit, the tokenizer cannot be used, or an example is too
        long (and is refused, or cannot be split).
    """
    _check(corpus, packing, long, limit)
    backend = open_backend(tokenizer)
    template = learn_template(backend, 1 if packing == "single" else 2)
    if limit is not None and limit <= template.size:
        raise InvalidInput(
            f"a limit of {limit} pieces leaves no room for text beside the {template.size} "
            f"special pieces of {backend.name}; raise the limit"
        )
    if corpus.words_given:
        leading_space = needs_leading_space(backend)
        words = "alone, leading space" if leading_space else "alone"
        pieces = pieces_of_words(corpus, backend, leading_space, on_progress)
    else:
        words = "by offsets"
        pieces = pieces_of_texts(corpus, backend, on_progress)
    pieces, input_example, kept = _fit(corpus, pieces, template, long, limit)
    settings: dict[str, Any] = {
        "tokenizer": backend.fingerprint,
        "packing": packing,
        "long": long,
        "words": words,
    }
    if kept["dropped"] or kept["split"]:
        settings["limit"] = limit
    fingerprint = settings_fingerprint(settings)
    settings |= {"tokenizer_class": type(tokenizer).__name__, **kept}
    settings["words_as_unknown"] = pieces.unknown_words
    return _assemble(corpus, backend, template, pieces, input_example, settings, fingerprint)


def _check(corpus: Corpus, packing: str, long: str, limit: int | None) -> None:
    """Refuse settings that do not exist, or do not fit the corpus."""
    if packing not in PACKINGS:
        raise InvalidInput(f"there is no packing {packing!r}; choose one of {', '.join(PACKINGS)}")
    if long not in LONG:
        raise InvalidInput(f"long is {long!r}; choose one of {', '.join(LONG)}")
    if limit is not None and limit < 1:
        raise InvalidInput(f"the limit is {limit} pieces; it must be 1 or more")
    if packing == "single" and corpus.pair_texts is not None:
        raise InvalidInput("the examples of this corpus are pairs of texts; use --packing pair")
    if packing == "pair" and corpus.pair_texts is None:
        raise InvalidInput(
            "packing 'pair' needs two texts an example, and this corpus has one; "
            "use --packing single"
        )


def _fit(
    corpus: Corpus, pieces: Pieces, template: Template, long: str, limit: int | None
) -> tuple[Pieces, NDArray[np.int64], dict[str, Any]]:
    """Return pieces whose inputs keep the limit, the example of each input, and what was done."""
    texts = len(template.text_types)
    lengths = pieces.counts.reshape(-1, texts).sum(axis=1) + template.size
    examples = np.arange(len(lengths), dtype=np.int64)
    done: dict[str, Any] = {"dropped": 0, "split": 0, "dropped_examples": []}
    over = np.zeros(len(lengths), np.bool_) if limit is None else lengths > limit
    if limit is None or not over.any():
        return pieces, examples, done
    if long == "refuse" or (long == "split" and texts > 1):
        raise InvalidInput(_too_long(corpus, lengths, over, limit, texts))
    if long == "drop":
        if over.all():
            raise InvalidInput(
                f"all {len(over)} examples have more than {limit} pieces, so nothing is left; "
                "use --long split, or shorter examples"
            )
        done["dropped"] = int(over.sum())
        done["dropped_examples"] = [
            corpus.example_name(e) for e in np.flatnonzero(over)[:_NAMES_KEPT].tolist()
        ]
        keep = np.repeat(~over, texts)
        chosen = np.repeat(keep, pieces.counts)
        left = replace(
            pieces,
            ids=pieces.ids[chosen],
            word=pieces.word[chosen],
            counts=pieces.counts[keep],
        )
        return left, examples[~over], done
    done["split"] = int(over.sum())
    cuts: list[int] = []
    offsets = offsets_of(pieces.counts)
    for example in np.flatnonzero(over).tolist():
        first, last = int(offsets[example]), int(offsets[example + 1])
        cuts.extend(_cuts(corpus, example, pieces, first, last, limit - template.size))
    inner = np.array(cuts, np.int64)
    bounds = np.sort(np.concatenate([offsets, inner]), kind="stable")
    owner = np.searchsorted(offsets, inner, side="right") - 1
    split = replace(pieces, counts=np.diff(bounds))
    return split, np.sort(np.concatenate([examples, owner])), done


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
    ways = "--long drop or --long split" if texts == 1 else "--long drop (pairs cannot be split)"
    return (
        f"{int(over.sum())} of {len(over)} examples have more than {limit} pieces: "
        f"{named}{more}; use {ways}, or shorter examples"
    )


def _assemble(
    corpus: Corpus,
    backend: Backend,
    template: Template,
    pieces: Pieces,
    input_example: NDArray[np.int64],
    settings: dict[str, Any],
    fingerprint: str,
) -> Tokenization:
    """Put the specials of the template around the pieces."""
    texts = len(template.text_types)
    counts = pieces.counts.reshape(-1, texts)
    lengths = counts.sum(axis=1) + template.size
    if not lengths.min():
        empty = corpus.example_name(int(input_example[int(lengths.argmin())]))
        raise InvalidInput(
            f"the tokenizer {backend.name} makes no piece at all of example {empty!r}; "
            "leave that example out"
        )
    offsets = offsets_of(lengths)
    total = int(offsets[-1])
    ids = np.empty(total, np.int32)
    word = np.full(total, -1, np.int64)
    types = np.empty(total, np.uint8)
    special = np.ones(total, np.bool_)
    source = offsets_of(pieces.counts)[:-1].reshape(-1, texts)
    place = offsets[:-1].copy()  # where the next part of every input goes
    for part in range(texts + 1):
        for piece, kind in zip(template.parts[part], template.part_types[part], strict=True):
            ids[place], types[place] = piece, kind
            place += 1
        if part < texts:
            to = runs(place, counts[:, part])
            taken = runs(source[:, part], counts[:, part])
            ids[to], word[to] = pieces.ids[taken], pieces.word[taken]
            types[to], special[to] = template.text_types[part], False
            place += counts[:, part]
    return Tokenization(
        piece_ids=ids,
        piece_word=word,
        segment_ids=types,
        special=special,
        input_offsets=offsets,
        input_example=input_example,
        settings=settings,
        fingerprint=fingerprint,
    )
