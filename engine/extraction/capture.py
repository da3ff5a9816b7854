"""Taking activations out of a running model by hooks, never from its `hidden_states`.

The last entry of `hidden_states` is normalised in most decoders, and it holds every layer though
few may be wanted. Hooks see each place when it is computed, and the model stops after the last.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.models.architectures import anatomy
from layerlake.engine.models.batching_check import eval_mode, runs_over_tokens
from layerlake.engine.models.sites import Place, find_places, find_tap
from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import torch

    from layerlake.engine.models.loading import LoadedModel


class NotReached(InvalidInput):
    """A place that was asked for did not run."""


class _Reached(Exception):
    """All that was asked for is captured, so what follows need not run."""


def _given(path: str, *, layer: int) -> int:
    return layer


def withheld_inputs(module: torch.nn.Module) -> set[str]:
    """Return what a model accepts, but would make something else of.

    Decoders such as GPT-2 have no embedding of segments, and add that of the piece of that number.
    """
    config: Any = module.config
    segments = getattr(config.get_text_config(), "type_vocab_size", None)
    has_segments = isinstance(segments, int) and segments > 0
    accepted = inspect.signature(module.forward).parameters
    return set() if has_segments else accepted.keys() & {"token_type_ids"}


class Capture:
    """Take places out of a running model by hooks; a context manager.

    Parameters
    ----------
    model
        The model; inside the `with` block only its hooks are in place, and it is in eval mode.
    places
        Sites and layers; see `engine.models.sites`.

    Raises
    ------
    InvalidInput
        A place that the model does not have.
    """

    def __init__(self, model: LoadedModel, places: Iterable[Place]) -> None:
        self._model = model
        self._trunk = model.trunk
        self._wanted = dict.fromkeys(Place(*place) for place in places)
        if not self._wanted:
            raise InvalidInput("no places to capture; give a site and a layer")
        for site, layer in self._wanted:
            find_places(model, [site], [layer], partial(_given, layer=layer))
        self._hooks = ExitStack()
        # None while no batch of ours is running: what others run through the model is not ours.
        self._take: Callable[[Place, torch.Tensor], None] | None = None
        self._reached: set[Place] = set()
        self._shape: tuple[int, ...] = ()
        self._layer = 0
        self._stop = True
        accepted = inspect.signature(model.module.forward).parameters
        self._takes = accepted.keys() - withheld_inputs(model.module)
        # A decoder would otherwise keep the keys and values of every block.
        self._options = {"use_cache": False} if "use_cache" in accepted else {}

    def __enter__(self) -> Self:
        with ExitStack() as hooks:
            hooks.enter_context(eval_mode(self._model.module))
            for block in self._trunk.blocks:
                hooks.callback(
                    block.register_forward_pre_hook(self._enter, with_kwargs=True).remove
                )
            for site in dict.fromkeys(place.site for place in self._wanted):
                for module, layer in self._modules(site):
                    handle = module.register_forward_hook(self._after(site, layer))
                    hooks.callback(handle.remove)
            self._hooks = hooks.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.close()

    def _modules(self, site: str) -> list[tuple[torch.nn.Module, int | None]]:
        """Return the modules to hook for a site; with the layer, where the block does not say it."""
        tap = find_tap(self._model, site)
        layers = [place.layer for place in self._wanted if place.site == site]
        if not tap.in_block:
            return [(self._model.module.get_submodule(str(tap.path)), layers[0])]
        blocks = self._trunk.blocks
        chosen = blocks if self._trunk.shared else [blocks[x - 1] for x in layers if x > 0]
        return [
            (block if tap.path is None else block.get_submodule(tap.path), None) for block in chosen
        ]

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        on_place: Callable[[Place, torch.Tensor], None] | None = None,
        stop: bool = True,
    ) -> dict[Place, torch.Tensor]:
        """Run one batch, up to the last place asked for and no further.

        Parameters
        ----------
        inputs
            What the model takes, by name, numpy or torch; integers for `input_ids`,
            `attention_mask` and `token_type_ids`, shape (batch, sequence), padded at the right,
            the mask 1 on real pieces. What the model does not take is left out.
        on_place
            Called with each place and its activations when they are there, still in the cache;
            nothing is kept then, nor returned.
        stop
            False runs the model to its end, and refuses a place that runs more than once.

        Returns
        -------
        The activations of each place, shape (batch, sequence, width), in the model's dtype and on
        its device: the model's own tensors, not copies.

        Raises
        ------
        InvalidInput
            A module gives something else than one vector a piece, or runs more than once.
        NotReached
            A place did not run, or the `with` block is over.
        """
        import torch

        mask = inputs.get("attention_mask")
        if mask is not None and "attention_mask" not in self._takes and (mask == 0).any():
            raise InvalidInput(
                f"models of architecture {self._model.architecture!r} take no attention mask, so "
                "that padding would change their activations; run each text alone, with a token "
                "budget of 1"
            )
        tensors = {
            name: torch.as_tensor(value, device=self._model.device)
            for name, value in inputs.items()
            if value is not None and name in self._takes
        }
        taken: dict[Place, torch.Tensor] = {}
        self._take = taken.__setitem__ if on_place is None else on_place
        self._reached = set()
        pieces = tensors.get("input_ids")
        self._shape = () if pieces is None else tuple(pieces.shape)
        self._layer = 0
        self._stop = stop
        try:
            with torch.inference_mode():
                self._model.module(**tensors, **self._options)
        except _Reached:
            pass
        finally:
            self._take = None
        if missing := [place.name for place in self._wanted if place not in self._reached]:
            raise NotReached(
                f"{', '.join(missing)} of a {self._model.architecture} model did not run: outside "
                "`with`, or the architecture skips them"
            )
        return taken

    def _keep(self, place: Place, output: Any) -> None:
        if self._take is None:
            return
        hidden = output
        if isinstance(hidden, tuple | list) and hidden:
            hidden = hidden[0]
        if place in self._reached:
            raise InvalidInput(
                f"site {place.site!r} runs more than once in layer {place.layer}, so that it "
                "stands for no one activation; name another module"
            )
        shape = tuple(getattr(hidden, "shape", ()))
        if len(shape) == 2 and len(self._shape) == 2 and shape[0] == math.prod(self._shape):
            hidden = hidden.reshape(*self._shape, shape[1])  # some blocks lay all pieces end to end
        elif len(shape) != 3 or self._shape not in ((), shape[:2]):
            raise InvalidInput(
                f"site {place.site!r} gives {shape or type(hidden).__name__} for pieces of shape "
                f"{self._shape}, not one vector a piece; name another module"
            )
        self._reached.add(place)
        self._take(place, hidden)
        if self._stop and len(self._reached) == len(self._wanted):
            raise _Reached

    def _enter(self, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        first = Place("resid", 0)
        if self._layer == 0 and first in self._wanted:
            self._keep(first, args[0] if args else kwargs["hidden_states"])
        self._layer += 1

    def _after(self, site: str, layer: int | None) -> Callable[[Any, Any, Any], None]:
        def hook(module: Any, args: Any, output: Any) -> None:
            place = Place(site, self._layer if layer is None else layer)
            if place in self._wanted:
                self._keep(place, output)

        return hook


def trial_runs(
    model: LoadedModel, places: Iterable[Place]
) -> Callable[[Mapping[str, Any]], dict[Place, torch.Tensor]]:
    """Return what runs a few pieces through a model and gives its places, as copies."""

    def run(inputs: Mapping[str, Any]) -> dict[Place, torch.Tensor]:
        with Capture(model, places) as capture:
            return {place: values.clone() for place, values in capture.run(inputs).items()}

    return run


def resolve_places(
    model: LoadedModel,
    sites: Sequence[str],
    layers: Sequence[int],
    inputs: Mapping[str, Any] | None = None,
) -> dict[Place, int]:
    """Return the places that sites and layers name in a model, each with its width.

    Sites other than `resid`, and all of an architecture that is not known, are found out by running
    the model once, over a few pieces.

    Parameters
    ----------
    sites, layers
        As `engine.models.sites.find_places`.
    inputs
        What to run; needed for models of something else than text.

    Raises
    ------
    InvalidInput
        A site that the model does not have, or that gives no vector a piece.
    """
    given = _few_pieces(model) if inputs is None else inputs
    places = find_places(model, sites, layers, lambda path: _outer_layer(model, path, given))
    known = anatomy(model.architecture) is not None
    if known and all(place.site == "resid" for place in places):
        return dict.fromkeys(places, model.hidden)
    with Capture(model, places) as capture:
        try:
            # A model without blocks has nothing that could run behind its embeddings.
            with runs_over_tokens(model):
                taken = capture.run(given, stop=model.n_layers == 0)
        except NotReached as error:
            raise InvalidInput(f"{error}; name modules that run whenever the model does") from error
    return {place: int(taken[place].shape[-1]) for place in places}


def _few_pieces(model: LoadedModel) -> dict[str, NDArray[np.int64]]:
    ids = np.array([[0, 1, 2], [2, 1, 0]], np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def _outer_layer(model: LoadedModel, path: str, inputs: Mapping[str, Any]) -> int:
    """Return the layer of a module outside the blocks, told by when it runs.

    Raises
    ------
    InvalidInput
        It does not run, or not once, or among the blocks.
    """
    if model.n_layers == 0:
        return 0
    seen: list[int] = []
    done = 0

    def count(*_: Any) -> None:
        nonlocal done
        done += 1

    with ExitStack() as hooks, Capture(model, [Place("resid", 0)]) as capture:
        for block in model.trunk.blocks:
            hooks.callback(block.register_forward_hook(count).remove)
        module = model.module.get_submodule(path)
        hooks.callback(module.register_forward_hook(lambda *_: seen.append(done)).remove)
        with runs_over_tokens(model):
            capture.run(inputs, stop=False)
    if seen not in ([0], [model.n_layers]):
        when = "does not run" if not seen else f"runs {len(seen)} times"
        when = "runs between blocks" if len(seen) == 1 else when
        raise InvalidInput(
            f"module {path!r} {when}, so that it belongs to no layer; name one that runs once, "
            "before the blocks or behind them"
        )
    return seen[0]
