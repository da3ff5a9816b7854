"""Where activations are taken: the blocks of each architecture, and hooks on them.

Layer 0 is the hidden state that enters the first block, layer l the raw output of block l. Both
are taken by hooks, never from `hidden_states`, whose last entry is normalised in most decoders.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from layerlake.store.errors import InvalidInput

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from layerlake.engine.models import LoadedModel

BLOCKS = {
    "bert": "encoder.layer",
    "camembert": "encoder.layer",
    "distilbert": "transformer.layer",
    "electra": "encoder.layer",
    "gemma": "layers",
    "gpt2": "h",
    "gpt_neo": "h",
    "gpt_neox": "layers",
    "llama": "layers",
    "mistral": "layers",
    "mpnet": "encoder.layer",
    "opt": "decoder.layers",
    "qwen2": "layers",
    "qwen3": "layers",
    "roberta": "encoder.layer",
    "xlm-roberta": "encoder.layer",
}
"""Module path of the list of blocks, by `config.model_type`."""

SHARED_BLOCKS = frozenset({"albert"})
"""Architectures whose layers share one block, so that no module stands for a layer."""

SITES = ("resid",)
"""The sites that can be captured."""


def check_site(site: str) -> str:
    """Return a site that can be captured; raise `InvalidInput` for any other."""
    if site not in SITES:
        raise InvalidInput(f"site {site!r} is not one of: {', '.join(SITES)}")
    return site


def block_list(module: torch.nn.Module) -> torch.nn.ModuleList:
    """Return the list of blocks of a model body.

    A known architecture is looked up in `BLOCKS`; any other must have exactly one `ModuleList` as
    long as its config's `num_hidden_layers`.

    Raises
    ------
    InvalidInput
        The blocks cannot be told, or are shared between layers.
    """
    from torch.nn import ModuleList

    config: Any = module.config
    kind = config.model_type
    if kind in SHARED_BLOCKS:
        raise InvalidInput(
            f"architecture {kind!r} shares one block between its layers, which are not supported; "
            "choose a model whose layers are modules of their own"
        )
    lists = {name: part for name, part in module.named_modules() if isinstance(part, ModuleList)}
    if kind in BLOCKS and BLOCKS[kind] in lists:
        return lists[BLOCKS[kind]]
    wanted = getattr(config, "num_hidden_layers", None)
    fitting = [part for part in lists.values() if len(part) == wanted]
    if len(fitting) != 1:
        seen = ", ".join(f"{name} ({len(part)})" for name, part in lists.items()) or "none"
        raise InvalidInput(
            f"cannot tell the blocks of architecture {kind!r}: its config says {wanted} layers, "
            f"and {len(fitting)} of its module lists are that long (lists: {seen})"
        )
    return fitting[0]


class _Reached(Exception):
    """The highest layer asked for is captured, so what follows need not run."""


def _ignore(layer: int, hidden: torch.Tensor) -> None:
    """Take nothing: no batch of ours is running."""


class Capture:
    """Take layers out of a running model by hooks; a context manager.

    Parameters
    ----------
    model
        The model; its hooks are in place inside the `with` block only.
    layers
        Which layers, each from 0 (what enters block 1) to the number of layers.
    site
        `resid`: the raw output of the block, before any final norm.

    Raises
    ------
    InvalidInput
        A layer or site that the model does not have.
    """

    def __init__(self, model: LoadedModel, layers: Sequence[int], site: str = "resid") -> None:
        check_site(site)
        if not len(layers):
            raise InvalidInput(f"no layers asked for; give some of 0-{model.n_layers}")
        for layer in layers:
            if not 0 <= layer <= model.n_layers:
                raise InvalidInput(
                    f"layer {layer} asked of a model with {model.n_layers} layers "
                    f"(0-{model.n_layers})"
                )
        self._model = model
        self._layers = sorted({int(layer) for layer in layers})
        self._hooks = ExitStack()
        self._take: Callable[[int, torch.Tensor], None] = _ignore
        accepted = inspect.signature(model.module.forward).parameters
        self._takes_segments = "token_type_ids" in accepted
        # A decoder would otherwise keep the keys and values of every block.
        self._options = {"use_cache": False} if "use_cache" in accepted else {}

    def __enter__(self) -> Self:
        blocks = block_list(self._model.module)
        with ExitStack() as hooks:
            for layer in self._layers:
                if layer == 0:
                    handle = blocks[0].register_forward_pre_hook(self._before, with_kwargs=True)
                else:
                    handle = blocks[layer - 1].register_forward_hook(self._after(layer))
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

    def run(
        self,
        input_ids: torch.Tensor | NDArray[Any],
        attention_mask: torch.Tensor | NDArray[Any] | None = None,
        token_type_ids: torch.Tensor | NDArray[Any] | None = None,
        *,
        on_layer: Callable[[int, torch.Tensor], None] | None = None,
    ) -> dict[int, torch.Tensor]:
        """Run one batch, up to the highest layer asked for and no further.

        Parameters
        ----------
        input_ids, attention_mask, token_type_ids
            Integers, shape (batch, sequence), padded at the right; the mask is 1 on real pieces
            (None: nothing is padded). Segments are left out where the model takes none.
        on_layer
            Called with each layer and its hidden states when they are there, still in the cache;
            nothing is kept then, nor returned.

        Returns
        -------
        The hidden states of each layer, shape (batch, sequence, hidden), in the model's dtype and
        on its device: the model's own tensors, not copies.

        Raises
        ------
        RuntimeError
            A block did not run, or the `with` block is over.
        """
        import torch

        inputs: dict[str, Any] = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids if self._takes_segments else None,
        }
        tensors = {
            name: torch.as_tensor(value, dtype=torch.int64, device=self._model.device)
            for name, value in inputs.items()
            if value is not None
        }
        taken: dict[int, torch.Tensor] = {}
        reached: set[int] = set()

        def take(layer: int, hidden: torch.Tensor) -> None:
            reached.add(layer)
            if on_layer is None:
                taken[layer] = hidden
            else:
                on_layer(layer, hidden)

        self._take = take
        try:
            with torch.inference_mode():
                self._model.module(**tensors, **self._options)
        except _Reached:
            pass
        finally:
            self._take = _ignore
        if missing := [layer for layer in self._layers if layer not in reached]:
            raise RuntimeError(
                f"layers {missing} of a {self._model.architecture} model were not reached: "
                "outside `with`, or the architecture skips blocks"
            )
        return taken

    def _keep(self, layer: int, hidden: Any) -> None:
        self._take(layer, hidden)
        if layer == self._layers[-1]:
            raise _Reached

    def _before(self, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._keep(0, args[0] if args else kwargs["hidden_states"])

    def _after(self, layer: int) -> Callable[[Any, Any, Any], None]:
        def hook(block: Any, args: Any, output: Any) -> None:
            self._keep(layer, output[0] if isinstance(output, tuple) else output)

        return hook
