"""A corpus cut into pieces: inputs for a model, and the word that every piece belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.tokenization.chat import chat_frame, pieces_of_chats
from layerlake.engine.tokenization.inputs import LONG, Inputs, make_inputs
from layerlake.engine.tokenization.packing import parse_packing
from layerlake.engine.tokenization.tokenizer_backend import (
    Backend,
    Template,
    bos_id,
    learn_template,
    needs_leading_space,
    open_backend,
    tokenizer_fingerprint,
)
from layerlake.engine.tokenization.word_pieces import Pieces, pieces_of_texts, pieces_of_words
from layerlake.store.errors import InvalidInput
from layerlake.store.identity import settings_fingerprint
from layerlake.store.row_sets import offsets_of, runs

__all__ = ["BOS", "LONG", "Tokenization", "tokenization_request", "tokenize"]

BOS = ("auto", "always", "never")
"""What to do about the piece that begins a text."""

_ARRAYS: dict[str, type[np.generic]] = {
    "piece_ids": np.int32,
    "piece_word": np.int64,
    "segment_ids": np.uint8,
    "special": np.bool_,
    "repeated": np.bool_,
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
    """(piece,) word of the corpus; -1 for specials, pieces outside any word, and pieces of a word
    that is not whole in its input."""
    segment_ids: NDArray[np.uint8]
    """(piece,) type ids, as the tokenizer would give them."""
    special: NDArray[np.bool_]
    """(piece,) whether the piece was put there by the tokenizer's template."""
    repeated: NDArray[np.bool_]
    """(piece,) whether another input holds the copy of this piece that counts (windows overlap);
    such a piece is context and never a row."""
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
        per_piece = (self.piece_word, self.segment_ids, self.special, self.repeated)
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
    def candidates(self) -> NDArray[np.int64]:
        """The pieces that may be rows, specials included; each stimulus once."""
        return np.flatnonzero(~self.repeated)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(input,) pieces in each input."""
        return np.diff(self.input_offsets)

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name; `from_columns` reads them.

        `repeated` is among them only where a piece is.
        """
        kept = {name: getattr(self, name) for name in _ARRAYS}
        if not self.repeated.any():
            del kept["repeated"]
        return kept

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
            if "repeated" not in columns:
                none = np.zeros(len(columns["piece_ids"]), np.bool_)
                columns = {**columns, "repeated": none}
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


def tokenization_request(
    tokenizer: Any,
    *,
    packing: str = "single",
    long: str = "refuse",
    bos: str = "auto",
    chat: bool = False,
) -> dict[str, Any]:
    """Return what of a tokenization's settings is known before a corpus is cut.

    Two requests that are equal give the same pieces of a corpus, under the same limit.

    Raises
    ------
    InvalidInput
        Where a setting does not exist, the tokenizer cannot do it, or two do not go together.
    """
    chosen = parse_packing(packing)
    if long not in LONG:
        raise InvalidInput(f"long is {long!r}; choose one of {', '.join(LONG)}")
    if bos not in BOS:
        raise InvalidInput(f"bos is {bos!r}; choose one of {', '.join(BOS)}")
    request: dict[str, Any] = {
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "packing": str(chosen),
        "long": None if chosen.bounded else long,
    }
    if bos != "auto":
        request |= {"bos": bos, "bos_id": bos_id(tokenizer)}
        if bos == "always" and request["bos_id"] is None:
            raise InvalidInput(
                f"the tokenizer {open_backend(tokenizer).name} has no BOS to put in front; "
                "leave --bos always out"
            )
    if chat:
        if chosen.bounded:
            raise InvalidInput(
                f"packing {chosen} would cut through the chat template; use --packing single, "
                "pair, first or second with --chat"
            )
        if long in ("split", "window"):
            raise InvalidInput(
                f"--long {long} would cut through the chat template; use --long refuse or drop "
                "with --chat"
            )
        request["chat"] = list(chat_frame(tokenizer, 2 if chosen.kind == "pair" else 1))
    return request


def tokenize(
    corpus: Corpus,
    tokenizer: Any,
    *,
    packing: str = "single",
    long: str = "refuse",
    limit: int | None = None,
    bos: str = "auto",
    chat: bool = False,
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
        "single": an input an example, for single texts; "pair": both texts in one input; "first",
        "second": one text of each pair. "trim(LENGTH)": as single or pair, cut to LENGTH pieces,
        specials included, from the end of the longer text (BERT's procedure).
        "window(LENGTH,STRIDE)": as single or pair, the text (of a pair the second) in windows that
        begin STRIDE pieces after one another, each input LENGTH pieces at most;
        "window(LENGTH,STRIDE,FIRST)" keeps FIRST pieces of the first text. Of the copies of a
        piece in several windows one is a candidate for a row: that with most context; of the first
        text, that in the first window.
    long
        What happens to examples over the limit: "refuse"; "drop" them; "split" them between words
        into as few inputs as possible (later inputs begin in mid-text: no piece is cut anew);
        "window": cut them into windows of the limit that begin half a limit after one another. A
        packing with a LENGTH makes none that are over it, and is refused where LENGTH is more than
        the limit and an input needs it.
    limit
        The most pieces an input may have, specials included; None for no limit.
    bos
        "auto": as the tokenizer's template has it; "always": the BOS in front, if the template
        lacks it; "never": no BOS.
    chat
        Write each text as a user's turn (of a pair: the second as the assistant's answer) with the
        tokenizer's chat template, all of whose pieces are special. For raw texts only.
    on_progress
        Called now and then with the number of examples done so far.

    Raises
    ------
    InvalidInput
        Where packing and corpus do not fit, the tokenizer cannot be used, or an example is too
        long (and is refused, or cannot be split).
    """
    settings = tokenization_request(tokenizer, packing=packing, long=long, bos=bos, chat=chat)
    if limit is not None and limit < 1:
        raise InvalidInput(f"the limit is {limit} pieces; it must be 1 or more")
    chosen = parse_packing(packing)
    segments = chosen.segments(corpus.n_segments)
    backend = open_backend(tokenizer)
    if chat:
        template = Template(parts=((), ()), part_types=((), ()), text_types=(0,))
    else:
        template = learn_template(backend, len(segments)).with_bos(bos, backend.bos_id)
    if limit is not None and limit <= template.size:
        raise InvalidInput(
            f"a limit of {limit} pieces leaves no room for text beside the {template.size} "
            f"special pieces of {backend.name}; raise the limit"
        )
    if chat:
        if corpus.words_given:
            raise InvalidInput(
                "the words of this corpus are given and cut one by one, which a chat template "
                "does not allow; leave --chat out, or give raw texts"
            )
        frame = tuple(settings["chat"])
        words = "by offsets"
        pieces = pieces_of_chats(corpus, tokenizer, backend, frame, bos, segments, on_progress)
        opens = pieces.ids[offsets_of(pieces.counts)[:-1]]
        if bos == "always" and backend.bos_id is not None and (opens != backend.bos_id).any():
            template = template.with_bos(bos, backend.bos_id)
    elif corpus.words_given:
        leading_space = needs_leading_space(backend)
        words = "alone, leading space" if leading_space else "alone"
        pieces = pieces_of_words(corpus, backend, leading_space, on_progress, segments)
    else:
        words = "by offsets"
        pieces = pieces_of_texts(corpus, backend, on_progress, segments)
    texts = len(template.text_types)
    inputs, done = make_inputs(corpus, pieces, texts, template.size, chosen, long, limit)
    settings["words"] = words
    if any(done.get(way) for way in ("dropped", "split", "windowed")):
        settings["limit"] = limit
    fingerprint = settings_fingerprint(settings)
    settings |= {"tokenizer_class": type(tokenizer).__name__, **done}
    settings["words_as_unknown"] = pieces.unknown_words
    settings["specials"] = [
        [backend.encoder.id_to_token(piece) for piece in part] for part in template.parts
    ]
    return _assemble(corpus, backend, template, pieces, inputs, settings, fingerprint)


def _assemble(
    corpus: Corpus,
    backend: Backend,
    template: Template,
    pieces: Pieces,
    inputs: Inputs,
    settings: dict[str, Any],
    fingerprint: str,
) -> Tokenization:
    """Put the specials of the template around the pieces of every input."""
    lengths = inputs.sizes + template.size
    if not lengths.min():
        empty = corpus.example_name(int(inputs.example[int(lengths.argmin())]))
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
    repeated = np.zeros(total, np.bool_)
    first, last = pieces.word_bounds()
    in_part = np.zeros(corpus.n_words, np.bool_)
    place = offsets[:-1].copy()  # where the next part of every input goes
    for part in range(len(template.parts)):
        for piece, kind in zip(template.parts[part], template.part_types[part], strict=True):
            ids[place], types[place] = piece, kind
            place += 1
        if part < len(template.text_types):
            start, count = inputs.start[:, part], inputs.count[:, part]
            to, taken = runs(place, count), runs(start, count)
            whole = (first[taken] >= np.repeat(start, count)) & (
                last[taken] < np.repeat(start + count, count)
            )
            ids[to], word[to] = pieces.ids[taken], np.where(whole, pieces.word[taken], -1)
            types[to] = template.text_types[part]
            special[to] = False if pieces.special is None else pieces.special[taken]
            if inputs.owner is not None:
                repeated[to] = inputs.owner[taken] != np.repeat(np.arange(len(lengths)), count)
            in_part[pieces.word[taken][~whole]] = True
            place += count
    in_part[word[word >= 0]] = False  # some other input holds it whole
    if in_part.any():
        settings["words_cut"] = int(in_part.sum())
    return Tokenization(
        piece_ids=ids,
        piece_word=word,
        segment_ids=types,
        special=special,
        repeated=repeated,
        input_offsets=offsets,
        input_example=inputs.example,
        settings=settings,
        fingerprint=fingerprint,
    )
