"""The lineage of a fine-tuned model: what it was made from and how, in `layerlake.json` beside it.

A folder may come from anybody: its lineage is bounded, plain JSON, and checked before it is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from layerlake.store.errors import InvalidInput, is_a
from layerlake.store.folder import replace_durably

LINEAGE_FILE: Final = "layerlake.json"
"""In the folder of a model, beside its config."""

FORMAT: Final = "layerlake-checkpoint"
FORMAT_VERSION: Final = 1

MOST_BYTES: Final = 4 * 2**20
"""Of a lineage as a file; it becomes attributes of a variant, which each look at a lake reads."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Lineage:
    """What a fine-tuned model was made from, and how.

    Raises
    ------
    InvalidInput
        A field is of the wrong kind.
    """

    weights_digest: str
    """sha256 (hex) of the weights as saved; see `engine.models.placement.weights_digest`."""
    parent: dict[str, Any]
    """What training began from: `source`, `revision`, `weights_digest`, `randomize`.

    The digest is of all its weights, before any were cut off by `truncate`: so it is found in a
    lake. `source` and `revision` are as in `LoadedModel`, `randomize` is a seed or None.
    """
    truncate: int | None
    """How many blocks were kept before training, or None for all of them."""
    training: dict[str, Any]
    """The `task`, the `seed`, and all else that is worth recording, ready for JSON.

    `scores`, `versions` and `finished` may differ between the seeds of one recipe; all the rest
    must agree for them to be grouped.
    """

    def __post_init__(self) -> None:
        """Refuse fields of the wrong kind."""
        for name, value, fits, expected in _expectations(self):
            if not fits:
                given = "missing" if value is ... else str(value)[:60]
                raise InvalidInput(f"{name} is {given}; it is to be {expected}")


def read_lineage(folder: Path) -> Lineage | None:
    """Return the lineage that lies in the folder of a model, or None where there is none.

    Raises
    ------
    InvalidInput
        It cannot be read, is too large, no JSON, of a later version, or incomplete.
    """
    file = folder / LINEAGE_FILE
    advice = f"restore it, or remove it to load {folder.name} without lineage"
    if not file.exists() and not file.is_symlink():
        return None
    try:
        if not file.is_file():
            raise InvalidInput("is no file")
        with file.open("rb") as opened:
            raw = opened.read(MOST_BYTES + 1)
        return _parsed(raw)
    except InvalidInput as error:
        raise InvalidInput(f"{file} {error}; {advice}") from error
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read ({error.strerror}); {advice}") from error


def write_lineage(folder: Path, lineage: Lineage) -> None:
    """Write a lineage into the folder of a model, in the place of any that is there.

    The file is whole or not there at all, whatever happens meanwhile.

    Raises
    ------
    InvalidInput
        Something in it is no JSON (a NaN too), it is too large, or there is no such folder.
    LakeReadOnly, StorageFailed
        The folder cannot be written to.
    """
    raw = _serialised(lineage)
    try:
        replace_durably(folder / LINEAGE_FILE, [raw])
    except FileNotFoundError as error:
        raise InvalidInput(f"no folder {folder}; save the model before its lineage") from error


def check_lineage(lineage: Lineage) -> None:
    """Refuse what `write_lineage` would, so that nothing is trained that cannot be recorded.

    Raises
    ------
    InvalidInput
        Something in it is no JSON (a NaN too), or it is too large.
    """
    _serialised(lineage)


def _serialised(lineage: Lineage) -> bytes:
    """Return a lineage as the bytes of its file, checked as a reader will."""
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(lineage)}
    try:
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        raw = f"{text}\n".encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"the lineage cannot be written as JSON ({error}); give plain texts, finite numbers, "
            "lists and mappings"
        ) from error
    try:
        _parsed(raw)
    except InvalidInput as error:
        raise InvalidInput(f"the lineage {error}; record less of the training") from error
    return raw


def _parsed(raw: bytes) -> Lineage:
    """Return the lineage that some bytes are; the sentence of an error lacks its subject."""
    if len(raw) > MOST_BYTES:
        raise InvalidInput(f"is larger than {MOST_BYTES // 2**20} MiB")
    try:
        document = json.loads(raw.decode(), parse_constant=_refuse_constant)
        # A number as 1e999 becomes infinite; half of a surrogate pair fits into no lake.
        json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:100]
        raise InvalidInput(f"is no JSON of finite numbers ({reason})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InvalidInput(f"is no lineage (format {FORMAT!r})")
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise InvalidInput(
            f"has format version {str(version)[:20]}, and this LayerLake reads {FORMAT_VERSION}"
        )
    fields = {}
    for name in Lineage.__dataclass_fields__:
        if name not in document:
            raise InvalidInput(f"lacks {name}")
        fields[name] = document[name]
    try:
        return Lineage(**fields)
    except InvalidInput as error:
        raise InvalidInput(f"is not complete: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _whole(value: object, least: int) -> bool:
    return is_a(value, int) and not is_a(value, bool) and value >= least  # type: ignore[operator]


def _expectations(lineage: Lineage) -> Iterator[tuple[str, Any, bool, str]]:
    """Yield name, value, whether it is what is expected, and what that is."""
    sha = "a sha256 in hexadecimal"
    digest = lineage.weights_digest
    yield "weights_digest", digest, _is_digest(digest), sha
    parent, training = lineage.parent, lineage.training
    yield "parent", parent, is_a(parent, dict), "a mapping"
    for name, kinds, expected in (
        ("source", (str,), "the name of a model"),
        ("revision", (str, type(None)), "a commit or null"),
    ):
        value = parent.get(name, ...)
        yield f"parent.{name}", value, is_a(value, *kinds), expected
    digest = parent.get("weights_digest", ...)
    yield "parent.weights_digest", digest, _is_digest(digest), sha
    value = parent.get("randomize", ...)
    yield "parent.randomize", value, value is None or _whole(value, 0), "a seed or null"
    cut = lineage.truncate
    yield "truncate", cut, cut is None or _whole(cut, 0), "a number of blocks or null"
    yield "training", training, is_a(training, dict), "a mapping"
    task = training.get("task", ...)
    yield "training.task", task, is_a(task, str) and bool(task), "the name of a task"
    seed = training.get("seed", ...)
    yield "training.seed", seed, _whole(seed, 0), "a whole number"


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None
