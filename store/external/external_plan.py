"""What a set of brought activations will be: asked for, found begun, and what it stands on."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from layerlake.store import schema
from layerlake.store.errors import InvalidInput, NameConflict, is_a
from layerlake.store.external.external_rows import ExternalRows
from layerlake.store.identity import settings_fingerprint
from layerlake.store.schema import ActivationLayout
from layerlake.store.sets import SetPlan, SetState
from layerlake.store.storage import Storage

if TYPE_CHECKING:
    from layerlake.store.lake import Lake

BROUGHT = "brought"
"""What recipe, variant and messages call activations that no model of ours computed."""


@dataclass(frozen=True)
class WriterSettings:
    """What `Lake.writer` was asked for; names and pooling are checked when it is built."""

    corpus: str
    variant: str
    arrays: tuple[str, ...] | None
    """`<site>/<layer>` of every array; None where the first window is to tell."""
    pooling: str | None
    """How the pieces of a word became its row; of word rows only."""
    storage: Storage
    allowed_bytes: int
    """Most that the windows may take."""
    source: Mapping[str, Any]
    """Where the activations come from: what a resumed writer must share with the first."""

    def __post_init__(self) -> None:
        """Refuse names and a pooling that cannot be."""
        schema.check_name(self.corpus, "corpus")
        schema.check_name(self.variant, "variant")
        if self.pooling is not None and self.pooling not in schema.POOLINGS:
            poolings = ", ".join(schema.POOLINGS)
            raise InvalidInput(f"pooling {self.pooling!r} is not one of {poolings}")


def named_arrays(
    site: str | Sequence[str], layers: int | Iterable[int] | None, arrays: Sequence[str] | None
) -> tuple[str, ...] | None:
    """Return the names of the arrays that will come; None where nothing says them.

    Raises
    ------
    InvalidInput
        They cannot be arrays, none are named or one twice, or layers and arrays are both given.
    """
    if arrays is None:
        return None if layers is None else array_names(site, layers)
    if layers is not None:
        raise InvalidInput("layers and arrays both say what will come; give one of them")
    named = tuple(_checked_array(name) for name in arrays)
    if not named or len(set(named)) < len(named):
        raise InvalidInput(f"arrays {list(named)} must name some, each of them once")
    return named


def array_names(sites: str | Sequence[str], layers: int | Iterable[int]) -> tuple[str, ...]:
    """Return the names of the arrays of sites and layers; raise `InvalidInput` for bad ones."""
    named = [sites] if isinstance(sites, str) else list(sites)
    given = list(layers) if isinstance(layers, Iterable) else [layers]
    names = [array_name(site, layer) for site in named for layer in given]
    if not names or len(set(names)) < len(names):
        raise InvalidInput(f"sites {named} and layers {given} must name arrays, each of them once")
    return tuple(names)


def array_name(site: str, layer: Any) -> str:
    """Return `<site>/<layer>`; raise `InvalidInput` where there can be no such array."""
    schema.check_name(site, "site")
    if is_a(layer, bool) or not is_a(layer, int, np.integer) or not 0 <= layer <= 10**6:
        raise InvalidInput(f"layer {layer!r} is no number of a layer; give 0, 1, ...")
    return f"{site}/{int(layer)}"


def external_plan(
    asked: WriterSettings, brought: ExternalRows, arrays: tuple[str, ...], hidden: int, dtype: str
) -> SetPlan:
    """Return the plan of a set of brought activations."""
    rows = brought.rows
    parts = [name.rpartition("/") for name in arrays]
    contents: dict[str, Any] = {
        "row_set": rows.fingerprint,
        "rows": rows.settings["rows"],
        "unit": rows.unit,
        "pooling": asked.pooling if rows.unit == "word" else None,
        "tokenization": rows.settings.get("tokenization"),
        "sites": sorted({site for site, _, _ in parts}),
        "layers": sorted({int(layer) for _, _, layer in parts}),
        "dtype": dtype,
        "codec": asked.storage.codec,
    }
    if len(arrays) != len(contents["sites"]) * len(contents["layers"]):
        contents["arrays"] = sorted(arrays, key=array_order)
    about = {
        "source": BROUGHT,
        "ids": "matched" if brought.matched else "by order",
        "versions": {name: importlib.metadata.version(name) for name in ("layerlake", "numpy")},
    }
    layout = ActivationLayout(
        rows.n_rows, hidden, dtype, asked.storage.codec, asked.storage.window_rows
    )
    recipe = {"writer": BROUGHT, "source": dict(asked.source)}
    return SetPlan(asked.corpus, asked.variant, contents, recipe, about, arrays, layout)


def begun_plan(lake: Lake, asked: WriterSettings, brought: ExternalRows) -> SetPlan | None:
    """Return the plan, as this writer would make it, of the set that it goes on with."""
    check_external(lake, asked.variant)
    found: list[SetState] = []
    for state in lake.sets(asked.corpus, asked.variant):
        contents, arrays = state.plan.contents, state.plan.arrays
        if (
            contents.get("row_set") == brought.rows.fingerprint
            and contents.get("pooling") == (asked.pooling if brought.rows.unit == "word" else None)
            and contents.get("codec") == asked.storage.codec
            and asked.storage.store_dtype in ("auto", state.plan.layout.dtype)
            and (not state.sealed if asked.arrays is None else set(arrays) == set(asked.arrays))
        ):
            found.append(state)
    if len(found) > 1:
        raise InvalidInput(
            f"{len(found)} sets of {asked.variant} over {asked.corpus} could be gone on with "
            f"({', '.join(s.plan.path for s in found)}); say which with layers and store_dtype"
        )
    if not found:
        return None
    layout = found[0].plan.layout
    return external_plan(asked, brought, found[0].plan.arrays, layout.hidden, layout.dtype)


def _checked_array(name: str) -> str:
    """Return the name of an array, `<site>/<layer>`."""
    site, _, layer = str(name).rpartition("/")
    if not (layer.isascii() and layer.isdigit()):
        raise InvalidInput(f"{name!r} is no name of an array; give SITE/LAYER, as resid/8")
    return array_name(site, int(layer))


def check_pooling(unit: str, pooling: str | None) -> None:
    """Refuse word rows of which nobody says how they were made."""
    if unit == "word" and pooling is None:
        raise InvalidInput(
            "nothing says how the rows of words were made of pieces; give the pooling: "
            f"{', '.join(schema.POOLINGS)}"
        )


def array_order(name: str) -> tuple[str, int]:
    """Return what arrays are sorted by: site, then layer."""
    site, _, layer = name.rpartition("/")
    return site, int(layer)


def check_external(lake: Lake, variant: str) -> None:
    """Raise `NameConflict` where a variant of that name is a model's."""
    if variant in lake.variants():
        held = lake.attributes(f"variants/{variant}")
        if held.get("source") != BROUGHT:
            raise NameConflict(
                f"variant {variant!r} is that of a model ({held.get('source')}); choose another "
                "name for what you bring"
            )


def keep_tables(lake: Lake, rows: ExternalRows, plan: SetPlan) -> None:
    """Put into the lake what a brought set stands on, where it is not there yet."""
    for path, (columns, attributes) in rows.tables.items():
        lake.add_table(path, columns, attributes)
    check_external(lake, plan.variant)
    if plan.variant in lake.variants():
        return
    attributes = {
        "kind": "variant",
        "fingerprint": settings_fingerprint({"source": BROUGHT, "variant": plan.variant}),
        "weights_digest": None,  # nobody knows the weights, so that no two are said to be equal
        "source": BROUGHT,
        "revision": None,
        "architecture": "brought from elsewhere",
        "config": {},
        "n_layers": max(int(name.rpartition("/")[2]) for name in plan.arrays),
        "layers": list(plan.contents["layers"]),
        "hidden": plan.layout.hidden,
        "randomize": None,
        "truncate": None,
        "tokenizer": None,
    }
    lake.add_table(f"variants/{plan.variant}", {}, attributes)
