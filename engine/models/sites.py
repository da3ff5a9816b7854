"""Sites: the names of the places in a model where activations can be taken.

A *place* is a site and a layer. Layer 0 is what enters the first block, layer l belongs to block l.

| site          | layers    | what is taken                                                     |
|---------------|-----------|-------------------------------------------------------------------|
| `resid`       | 0 to L    | the raw output of the block, before any final norm                |
| `attn_out`    | 1 to L    | what the attention adds to the residual stream                    |
| `mlp_out`     | 1 to L    | what the feed-forward layer adds                                  |
| `embed`       | 0         | the token embedding alone, before positions, segments and norm    |
| `final_norm`  | L         | the output of the norm behind the last block                      |
| `block.PATH`  | 1 to L    | the output of the module at PATH inside every block               |
| a module path | its own   | `encoder.layer.3.output` is `block.output` of layer 4; what runs  |
|               |           | before the blocks is of layer 0, what runs behind them of layer L |

Of a module that gives several things the first is taken.
The names of TransformerLens are read too (`blocks.8.hook_resid_post` is `resid` of layer 9).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from layerlake.engine.models.architectures import anatomy, first_present
from layerlake.store.errors import InvalidInput, is_a

if TYPE_CHECKING:
    import torch

    from layerlake.engine.models.loading import LoadedModel

NAMED = ("resid", "attn_out", "mlp_out", "embed", "final_norm")
"""The sites that have names of their own."""

IN_BLOCK = "block."
"""Begins the site of a module inside every block."""

_LENS_BLOCK = re.compile(
    r"blocks\.(?P<block>[0-9]{1,6})\.hook_(?P<name>resid_pre|resid_post|attn_out|mlp_out)"
)
_LENS_OTHER = {"hook_embed": "embed", "ln_final.hook_normalized": "final_norm"}
_LENS_LOOK = re.compile(r"(?:blocks\.[0-9]+\.)?(?:\w+\.)?hook_\w+")

_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*")


class Place(NamedTuple):
    """A site of one layer."""

    site: str
    layer: int

    @property
    def name(self) -> str:
        """Path of its array within a set."""
        return f"{self.site}/{self.layer}"


@dataclass(frozen=True)
class Tap:
    """The module whose output is a site (for `resid`, the block itself)."""

    path: str | None
    """Inside every block, or in the whole model; None is the block itself."""
    in_block: bool


def split_sites(sites: str | Iterable[str]) -> tuple[str, ...]:
    """Return the sites asked for, in order and once each, as `resid,mlp_out` or a sequence.

    Raises
    ------
    InvalidInput
        There are none, or one is no text.
    """
    given = sites.split(",") if isinstance(sites, str) else sites
    if not is_a(given, Iterable) or not all(is_a(site, str) for site in given):
        raise InvalidInput(f"sites {sites!r} not understood; give them as resid,attn_out")
    names = tuple(dict.fromkeys(site.strip() for site in given if site.strip()))
    if not names:
        raise InvalidInput(f"no sites asked for; give some of {', '.join(NAMED)}")
    return names


def find_places(
    model: LoadedModel,
    sites: Sequence[str],
    layers: Sequence[int],
    layer_of: Callable[[str], int],
) -> tuple[Place, ...]:
    """Return the places that some sites and layers name in a model.

    A site of many layers gives those of `layers` that it has. One that names a single place
    (`embed`, `final_norm`, a module path, a TransformerLens name) gives that, whatever `layers` say.

    Parameters
    ----------
    model
        The model; one that is truncated to its embeddings has 0 layers.
    sites
        As people write them; see the table above.
    layers
        Which layers, each from 0 to `model.n_layers`.
    layer_of
        Asked to which layer a module outside the blocks belongs, by its path.

    Raises
    ------
    InvalidInput
        A site that the model does not have, or that has none of the layers.
    """
    n_layers = model.n_layers
    if not len(layers):
        raise InvalidInput(f"no layers asked for; give some of 0-{n_layers}")
    for layer in layers:
        if not 0 <= layer <= n_layers:
            raise InvalidInput(
                f"layer {layer} asked of a model with {n_layers} layers (0-{n_layers})"
            )
    chosen = sorted({int(layer) for layer in layers})
    places: dict[Place, None] = {}
    for asked in sites:
        site, only = _canonical(model, asked, layer_of)
        find_tap(model, site)
        if n_layers == 0 and site not in ("resid", "embed"):
            raise InvalidInput(
                f"site {asked!r} asked of a model truncated to its embeddings; it has resid and "
                "embed of layer 0"
            )
        if only is not None:
            places[Place(site, only)] = None
            continue
        lowest = 0 if site == "resid" else 1
        fitting = [layer for layer in chosen if layer >= lowest]
        if not fitting:
            raise InvalidInput(
                f"site {asked!r} has layers 1-{n_layers}, and only layer 0 is asked for"
            )
        places.update(dict.fromkeys(Place(site, layer) for layer in fitting))
    return tuple(places)


def _canonical(
    model: LoadedModel, asked: str, layer_of: Callable[[str], int]
) -> tuple[str, int | None]:
    """Return a site by the name that it is stored under, and its layer where it has but one."""
    trunk, n_layers = model.trunk, model.n_layers
    if lens := _LENS_BLOCK.fullmatch(asked):
        block = _block_number(asked, lens["block"], "blocks", n_layers)
        if lens["name"] == "resid_pre":
            return "resid", block
        return ("resid" if lens["name"] == "resid_post" else lens["name"]), block + 1
    asked = _LENS_OTHER.get(asked, asked)
    if asked == "embed":
        return asked, 0
    if asked == "final_norm":
        return asked, n_layers
    if asked in NAMED or asked.startswith(IN_BLOCK):
        return asked, None
    if _LENS_LOOK.fullmatch(asked):
        raise InvalidInput(
            f"site {asked!r} of TransformerLens has no counterpart here; those that have are "
            "blocks.N.hook_resid_pre, resid_post, attn_out and mlp_out, hook_embed and "
            "ln_final.hook_normalized"
        )
    if inside := re.fullmatch(rf"{re.escape(trunk.path)}\.([0-9]{{1,6}})(?:\.(.+))?", asked):
        if trunk.shared:
            raise InvalidInput(
                f"the layers of this model share the block of {asked!r}, so that it is of no one "
                f"layer; name it for all of them as {IN_BLOCK}{inside[2] or 'PATH'}"
            )
        block = _block_number(asked, inside[1], trunk.path, n_layers)
        return ("resid" if inside[2] is None else IN_BLOCK + inside[2]), block + 1
    if not asked or asked not in dict(model.module.named_modules()):
        raise InvalidInput(_unknown_site(model, asked))
    return asked, layer_of(asked)


def _block_number(asked: str, number: str, path: str, n_layers: int) -> int:
    if int(number) >= n_layers:
        raise InvalidInput(
            f"site {asked!r} asked of a model with blocks {path}.0 to {path}.{n_layers - 1}"
            if n_layers
            else f"site {asked!r} asked of a model truncated to its embeddings"
        )
    return int(number)


def find_tap(model: LoadedModel, site: str) -> Tap:
    """Return the module that a site is taken from.

    Raises
    ------
    InvalidInput
        The model does not have it; the sentence says what it has.
    """
    module, trunk = model.module, model.trunk
    config: Any = module.config
    kind = str(config.model_type)
    if site == "resid":
        return Tap(None, True)
    if site == "embed":
        return Tap(_embedding_path(module, kind), False)
    if site.startswith(IN_BLOCK):
        path = site.removeprefix(IN_BLOCK)
        known = [name for name, _ in trunk.blocks[0].named_modules() if name]
        if path not in known:
            raise InvalidInput(
                f"the blocks of architecture {kind!r} have no module {path!r}; {_near(path, known)}"
            )
        return Tap(path, True)
    if site not in NAMED:
        return Tap(site, False)
    body = anatomy(kind)
    if body is None:
        inner = [name for name, _ in trunk.blocks[0].named_modules() if name]
        raise InvalidInput(
            f"where architecture {kind!r} has its {site} is not known; name the module inside its "
            f"blocks as {IN_BLOCK}PATH, of which there are {', '.join(inner[:12])}"
        )
    if site == "final_norm":
        found = first_present(module, body.final_norm)
        if found is None:
            raise InvalidInput(
                f"architecture {kind!r} has no final norm: each of its blocks ends in one, so "
                "that resid of the last layer is normalised already"
            )
        return Tap(found, False)
    candidates = body.attn_out if site == "attn_out" else body.mlp_out
    found = first_present(trunk.blocks[0], candidates)
    if found is None:
        raise InvalidInput(
            f"this model of architecture {kind!r} has no {site} at {' or '.join(candidates)}; "
            f"name the module inside its blocks as {IN_BLOCK}PATH"
        )
    return Tap(found, True)


def _embedding_path(module: torch.nn.Module, kind: str) -> str:
    from torch.nn import Embedding

    known = anatomy(kind)
    if known is not None and (path := first_present(module, known.embed)) is not None:
        return path
    try:
        embedding = module.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        embedding = None
    for name, part in module.named_modules():
        if part is embedding and isinstance(part, Embedding):
            return str(name)
    raise InvalidInput(f"architecture {kind!r} has no token embedding to take as embed")


def _unknown_site(model: LoadedModel, asked: str) -> str:
    known = [
        *NAMED,
        *(IN_BLOCK + name for name, _ in model.trunk.blocks[0].named_modules() if name),
        *(name for name, _ in model.module.named_modules() if name),
    ]
    if not _PATH.fullmatch(asked):
        return f"site {asked!r} is no site: give some of {', '.join(NAMED)}, or a module path"
    return f"the model has no site {asked!r}; {_near(asked, known)}"


def _near(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known[:12])}"
