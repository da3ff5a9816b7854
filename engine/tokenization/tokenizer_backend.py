"""What a tokenizer does, found out by asking it: specials, leading spaces, its fingerprint.

Nothing here knows a tokenizer by its name; the tokenizer given is never changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from layerlake.store.errors import InvalidInput

_PROBES = ("the", "cat", "house", "a", "Paris", "running", "7", "и", "的")


@dataclass(frozen=True)
class Template:
    """The pieces that a tokenizer puts around one text, or around and between two.

    With s texts there are s + 1 parts: before the first, between, after the last.
    """

    parts: tuple[tuple[int, ...], ...]
    """Piece ids of each part."""
    part_types: tuple[tuple[int, ...], ...]
    """Type ids of the same."""
    text_types: tuple[int, ...]
    """Type id of the pieces of each text."""

    @property
    def size(self) -> int:
        """Number of special pieces in an input."""
        return sum(len(part) for part in self.parts)

    def with_bos(self, bos: str, piece: int | None) -> Template:
        """Return the template with BOS in front ("always"), without any ("never"), or as it is.

        Where it is put in front, it has the type of what it stands before.
        """
        if bos == "always" and self.parts[0][:1] != (piece,) and piece is not None:
            kind = (*self.part_types[0], self.text_types[0])[0]
            return replace(
                self,
                parts=((piece, *self.parts[0]), *self.parts[1:]),
                part_types=((kind, *self.part_types[0]), *self.part_types[1:]),
            )
        if bos == "never":
            kept = [
                [place for place, found in enumerate(part) if found != piece] for part in self.parts
            ]
            return replace(
                self,
                parts=_chosen(self.parts, kept),
                part_types=_chosen(self.part_types, kept),
            )
        return self


def _chosen(
    parts: tuple[tuple[int, ...], ...], places: list[list[int]]
) -> tuple[tuple[int, ...], ...]:
    return tuple(
        tuple(part[place] for place in chosen) for part, chosen in zip(parts, places, strict=True)
    )


@dataclass(frozen=True)
class Backend:
    """A tokenizer ready for use: its own copy, without truncation and padding."""

    encoder: Any
    """A `tokenizers.Tokenizer`."""
    name: str
    """Class and origin, for messages."""
    fingerprint: str
    unknown_id: int | None
    """The id of the unknown piece; None where the tokenizer has none."""

    bos_id: int | None
    """The id of the piece that begins a text (BOS); None where the tokenizer has none."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without specials."""
        return list(self.encoder.encode(text, add_special_tokens=False).ids)


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return the sha256 (hex) of all that decides which pieces a fast tokenizer makes.

    Truncation and padding do not count, nor does the folder it was loaded from.

    Raises
    ------
    InvalidInput
        Where the tokenizer is not a fast one.
    """
    return _digest(_description(tokenizer))


def open_backend(tokenizer: Any) -> Backend:
    """Return a tokenizer's backend, copied; raise InvalidInput where it has none."""
    description = _description(tokenizer)
    encoder = type(tokenizer.backend_tokenizer).from_str(json.dumps(description))
    return Backend(
        encoder=encoder,
        name=_name(tokenizer),
        fingerprint=_digest(description),
        unknown_id=_unknown_id(tokenizer, encoder, description["model"]),
        bos_id=bos_id(tokenizer),
    )


def bos_id(tokenizer: Any) -> int | None:
    """Return the id of a tokenizer's BOS; None where it has none."""
    found = getattr(tokenizer, "bos_token_id", None)
    return found if isinstance(found, int) else None


def _description(tokenizer: Any) -> dict[str, Any]:
    """Return the backend's JSON, without what depends on use: truncation, padding, dropout."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not hasattr(backend, "to_str"):
        raise InvalidInput(
            f"the tokenizer {_name(tokenizer)} is not a fast one, so its pieces cannot be mapped "
            "to words; load it with AutoTokenizer and use_fast=True, or convert it to "
            "tokenizer.json"
        )
    try:
        description: dict[str, Any] = json.loads(backend.to_str())
    except Exception as error:  # noqa: BLE001 - the bindings raise nothing narrower
        raise InvalidInput(
            f"the tokenizer {_name(tokenizer)} cannot be written down ({error}); "
            "tokenizers with parts written in Python are not supported"
        ) from None
    description |= {"truncation": None, "padding": None}
    if description["model"].get("dropout") is not None:
        description["model"]["dropout"] = None  # a training device: pieces would be random
    return description


def _digest(description: dict[str, Any]) -> str:
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _name(tokenizer: Any) -> str:
    """Return the class of a tokenizer and where it came from."""
    origin = str(getattr(tokenizer, "name_or_path", "") or "")
    return type(tokenizer).__name__ + (f" ({origin})" if origin else "")


def _unknown_id(tokenizer: Any, encoder: Any, model: dict[str, Any]) -> int | None:
    """Return the id of the unknown piece: the model's own, else the one it is used with."""
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    for token in (model.get("unk_token"), getattr(tokenizer, "unk_token", None)):
        found = encoder.token_to_id(str(token)) if token else None
        if found is not None:
            return int(found)
    return None


def learn_template(backend: Backend, texts: int) -> Template:
    """Return the specials around one text or two, as two different probes agree on them.

    Raises
    ------
    InvalidInput
        Where the tokenizer sets no specials between two texts, or they follow no template.
    """
    words = _known_probes(backend)
    found = [
        _template_of(backend, [words[0], words[-1]][:texts]),
        _template_of(backend, [f"{words[-1]} {words[0]}", words[0]][:texts]),
    ]
    if found[0] is None or found[0] != found[1]:
        raise InvalidInput(
            f"the tokenizer {backend.name} does not put the same special pieces around "
            "every text, so inputs cannot be put together from words"
        )
    if texts == 2 and not found[0].parts[1]:
        raise InvalidInput(
            f"the tokenizer {backend.name} has no special piece between two texts, "
            "so packing 'pair' is not possible with it; use first or second for one text of each"
        )
    return found[0]


def _template_of(backend: Backend, texts: Sequence[str]) -> Template | None:
    """Return the template seen on some texts; None where the texts do not come through whole."""
    encoding = backend.encoder.encode(*texts, add_special_tokens=True)
    ids, types, owners = encoding.ids, encoding.type_ids, encoding.sequence_ids
    parts: list[list[int]] = [[] for _ in range(len(texts) + 1)]
    part_types: list[list[int]] = [[] for _ in range(len(texts) + 1)]
    pieces: list[list[int]] = [[] for _ in texts]
    text_types: list[set[int]] = [set() for _ in texts]
    part = 0
    for piece, kind, owner in zip(ids, types, owners, strict=True):
        if owner is None:
            parts[part].append(piece)
            part_types[part].append(kind)
        elif parts[owner + 1 :] != [[]] * (len(texts) - owner):
            return None  # a special inside a text
        else:
            part = owner + 1
            pieces[owner].append(piece)
            text_types[owner].add(kind)
    if pieces != [backend.encode(text) for text in texts] or {len(t) for t in text_types} != {1}:
        return None
    return Template(
        parts=tuple(map(tuple, parts)),
        part_types=tuple(map(tuple, part_types)),
        text_types=tuple(kinds.pop() for kinds in text_types),
    )


def needs_leading_space(backend: Backend) -> bool:
    """Say whether a word inside a text must be given with the space before it.

    Decided by probes: enc("w w") is enc(w) + enc(w) (WordPiece; SentencePiece that sets a space
    before every text) or enc(w) + enc(" w") (byte-level BPE; SentencePiece that does not).

    Raises
    ------
    InvalidInput
        Where neither holds for all probes.
    """
    bare = spaced = True
    for word in _known_probes(backend):
        twice, alone = backend.encode(f"{word} {word}"), backend.encode(word)
        bare = bare and twice == alone + alone
        spaced = spaced and twice == alone + backend.encode(f" {word}")
    if bare or spaced:
        return not bare
    raise InvalidInput(
        f"the tokenizer {backend.name} cuts a word inside a text neither like the word alone nor "
        "like the word after a space, so given words cannot be cut one by one; "
        "give raw texts instead"
    )


def _known_probes(backend: Backend) -> list[str]:
    """Return the probe words that give pieces."""
    words = [word for word in _PROBES if backend.encode(word)]
    if not words:
        raise InvalidInput(
            f"the tokenizer {backend.name} makes no piece of any of the words {', '.join(_PROBES)}"
        )
    return words
