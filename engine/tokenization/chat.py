"""Chat templates: each example as a turn of a user, a pair as that turn and its answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.tokenization.tokenizer_backend import Backend
from layerlake.engine.tokenization.word_pieces import Pieces, WordLine, batches_of, flat_ids
from layerlake.store.errors import InvalidInput

_MARKS = ("qzjonevx", "qzjtwovx")
_ROLES = ("user", "assistant")


def render(tokenizer: Any, texts: Sequence[str]) -> str:
    """Return the chat of one or two turns as the tokenizer's template writes it.

    Raises
    ------
    InvalidInput
        Where there is no template, or it refuses.
    """
    name = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
    if not getattr(tokenizer, "chat_template", None):
        raise InvalidInput(f"the tokenizer {name} has no chat template; leave --chat out")
    turns = [{"role": role, "content": text} for role, text in zip(_ROLES, texts, strict=False)]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception as error:  # a template is a program: it raises what it likes
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise InvalidInput(
            f"the chat template of {name} cannot be applied to {len(texts)} turns ({reason}); "
            "leave --chat out"
        ) from error


def chat_frame(tokenizer: Any, turns: int) -> tuple[str, ...]:
    """Return what the template writes before the first text, between two, and after the last.

    Raises
    ------
    InvalidInput
        Where there is no template, or it does not write every text once.
    """
    marks = _MARKS[:turns]
    rendered = render(tokenizer, marks)
    parts = []
    for mark in marks:
        before, found, rendered = rendered.partition(mark)
        if not found or mark in rendered:
            raise InvalidInput(
                "the chat template does not write every text once and in order, so pieces cannot "
                "be mapped to words; leave --chat out"
            )
        parts.append(before)
    return (*parts, rendered)


def pieces_of_chats(
    corpus: Corpus,
    tokenizer: Any,
    backend: Backend,
    frame: tuple[str, ...],
    bos: str,
    segments: tuple[int, ...],
    on_progress: Callable[[int], None] | None,
) -> Pieces:
    """Cut the chat of every example as one text; its turns are the texts of some segments.

    A piece that lies outside all texts of an example is special. Any other belongs to the word
    that holds its first character within the text, by the rule of `pieces_of_texts`.

    Raises
    ------
    InvalidInput
        Where the template changes a text otherwise than at its ends (the example is named).
    """
    line = WordLine(corpus)
    every = [corpus.texts, corpus.pair_texts or []]
    # The template writes the BOS as text; where none is wanted this text is left out.
    written = str(getattr(tokenizer, "bos_token", None) or "")
    dropped = len(written) if bos == "never" and written and frame[0].startswith(written) else 0
    ids: list[NDArray[np.int32]] = []
    words: list[NDArray[np.int64]] = []
    counts: list[NDArray[np.int64]] = []
    special: list[NDArray[np.bool_]] = []
    for first, last in batches_of(corpus, segments):
        chats: list[str] = []
        places: list[list[tuple[int, int, int]]] = []
        for example in range(first, last):
            texts = [every[segment][example] for segment in segments]
            chat = render(tokenizer, texts)
            found = _places(chat, frame, texts)
            if found is None:
                raise InvalidInput(
                    f"the chat template changes the text of example "
                    f"{corpus.example_name(example)!r}, so its pieces cannot be mapped to words; "
                    "leave --chat out"
                )
            chats.append(chat[dropped:])
            places.append([(start - dropped, stop - dropped, lost) for start, stop, lost in found])
        encodings = backend.encoder.encode_batch(chats, add_special_tokens=False)
        batch_counts = np.array([len(encoding) for encoding in encodings], np.int64)
        total = int(batch_counts.sum())
        spans = np.fromiter(
            itertools.chain.from_iterable(
                itertools.chain.from_iterable(encoding.offsets for encoding in encodings)
            ),
            np.int64,
            2 * total,
        ).reshape(-1, 2)
        owner = np.repeat(np.arange(last - first), batch_counts)
        bounds = np.array(places, np.int64)[owner]  # (piece, text, 3)
        word, outside = np.full(total, -1, np.int64), np.ones(total, np.bool_)
        for place, segment in enumerate(segments):
            start, stop, lost = bounds[:, place].T
            inside = (spans[:, 1] > start) & (spans[:, 0] < stop)
            character = np.maximum(spans[:, 0] - start, 0) + lost
            sequence = (owner + first) * corpus.n_segments + segment
            found_words = line.words_at(sequence, character)
            word = np.where(inside & outside, found_words, word)
            outside &= ~inside
        ids.append(flat_ids(encodings, total))
        words.append(word)
        counts.append(batch_counts)
        special.append(outside)
        if on_progress is not None:
            on_progress(last)
    return Pieces(
        np.concatenate(ids),
        np.concatenate(words),
        np.concatenate(counts),
        0,
        np.concatenate(special),
    )


def _places(
    chat: str, frame: tuple[str, ...], texts: list[str]
) -> list[tuple[int, int, int]] | None:
    """Return where each text stands in a chat: its first character, one past its last, and the
    characters of its beginning that the template left out; None where it did more than that."""
    for forms in itertools.product(*((text, text.strip()) for text in texts)):
        pairs = itertools.zip_longest(frame, forms, fillvalue="")
        if chat == "".join(itertools.chain.from_iterable(pairs)):
            places, reach = [], 0
            for part, form, text in zip(frame, forms, texts, strict=False):
                reach += len(part)
                places.append((reach, reach + len(form), text.index(form)))
                reach += len(form)
            return places
    return None
