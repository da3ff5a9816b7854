"""PEFT adapters: LoRA and its kin, merged into the model that they were trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlake.engine.models.checkpoints import Checkpoint, explained, locate
from layerlake.store.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    import torch

WEIGHTS = "adapter_model.safetensors"

_PREFIX = "base_model.model."
"""Begins the names of all weights in an adapter's file."""


def base_of(adapter: Checkpoint, given: str | None) -> Checkpoint:
    """Return the model that an adapter belongs to: the one given, else the one that it names.

    Raises
    ------
    InvalidInput
        It names none, or the one it names is not here.
    """
    settings = _settings(adapter)
    named = settings.get("base_model_name_or_path")
    source = given or named
    if not isinstance(source, str) or not source:
        raise InvalidInput(f"adapter {adapter.given} does not name its base; give it with --base")
    if given is None:
        beside = adapter.folder / source
        if not Path(source).exists() and beside.is_dir():
            source = str(beside)
        revision = settings.get("revision")
        if isinstance(revision, str) and revision and not Path(source).is_dir():
            source = f"{source}@{revision}"
    try:
        found = locate(source, adapter.trust_remote_code, weights=True)
    except InvalidInput as error:
        raise InvalidInput(
            f"the base of adapter {adapter.given} cannot be had ({error}); give it with --base"
        ) from error
    if found.is_adapter:
        raise InvalidInput(
            f"the base of adapter {adapter.given}, {source}, is an adapter itself; merge the two "
            "with peft and give the result"
        )
    return found


def merge_adapter(module: torch.nn.Module, adapter: Checkpoint) -> torch.nn.Module:
    """Merge an adapter into a body, in float32.

    Heads that were trained beside it are left out; every weight for the body must find its place.

    Parameters
    ----------
    module
        The body of the base, without a head; it is changed.
    adapter
        The folder of the adapter.

    Returns
    -------
    The body with the adapter in its weights.

    Raises
    ------
    InvalidInput
        The adapter belongs to another base, or changes inputs instead of weights.
    MissingExtra
        `peft` is not installed.
    """
    try:
        import peft
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtra("an adapter needs peft: pip install 'layerlake[adapters]'") from error
    name = adapter.given
    if not (adapter.folder / WEIGHTS).is_file():
        raise InvalidInput(f"adapter {name} holds no {WEIGHTS}; save it with save_pretrained")
    foreign = f"adapter {name} does not fit this base"
    advice = "give the base that it was trained on with --base"
    with explained(f"the settings of adapter {name} are not understood", "check the file"):
        settings: Any = peft.PeftConfig.from_pretrained(str(adapter.folder))
    if getattr(settings, "is_prompt_learning", False):
        raise InvalidInput(
            f"adapter {name} of type {settings.peft_type} changes inputs, not weights, so that it "
            "cannot be merged; give a LoRA adapter or its kin"
        )
    with explained(f"the weights of adapter {name} cannot be loaded", "restore or re-save it"):
        stored = load_file(adapter.folder / WEIGHTS)
    place = _place_of_body(module, stored)
    weights = _for_body(module, stored, place)
    if not weights:
        raise InvalidInput(f"{foreign}: none of its {len(stored)} weights is for it; {advice}")
    module = module.float()
    whole = _under(module, place) if place else module
    settings.task_type = None
    settings.modules_to_save = _saved_in(whole, getattr(settings, "modules_to_save", None))
    with explained(foreign, advice):
        wrapped: Any = peft.get_peft_model(whole, settings)
        expected = set(peft.get_peft_model_state_dict(wrapped))
        if expected != weights.keys():
            odd = sorted(expected ^ weights.keys())
            raise InvalidInput(
                f"{foreign}: {len(odd)} weights are on one side only, such as {odd[0]}; {advice}"
            )
        peft.set_peft_model_state_dict(wrapped, weights)
        merged: torch.nn.Module = wrapped.merge_and_unload()
    return merged.get_submodule(place)


def _settings(adapter: Checkpoint) -> dict[str, Any]:
    with explained(f"adapter_config.json of {adapter.given} is not JSON", "restore the file"):
        text = (adapter.folder / "adapter_config.json").read_text(encoding="utf-8")
        settings = json.loads(text)
    if not isinstance(settings, dict):
        raise InvalidInput(
            f"adapter_config.json of {adapter.given} is not a JSON object; restore the file"
        )
    return settings


def _place_of_body(module: Any, stored: dict[str, Any]) -> str:
    """Return the path that the body had in the model that was adapted; empty where it was that."""
    own = str(module.base_model_prefix or "")
    return own if own and any(key.startswith(f"{_PREFIX}{own}.") for key in stored) else ""


def _under(module: Any, place: str) -> torch.nn.Module:
    """Return a model without a head that has the body at a path.

    The settings of an adapter name modules as they were called when it was trained, in lists,
    patterns and ranks; so all of them hold.
    """
    from torch.nn import Module

    whole: Any = Module()
    whole.config = module.config
    whole.get_input_embeddings = module.get_input_embeddings
    whole.get_output_embeddings = lambda: None
    whole.add_module(place, module)
    found: Module = whole
    return found


def _for_body(module: Any, stored: dict[str, Any], place: str) -> dict[str, Any]:
    """Return the weights that are for the body.

    An adapter of a model with a head has its head beside, and may have the pooler, which is left
    out of bodies since no site reads it.
    """
    start = f"{_PREFIX}{place}." if place else _PREFIX
    children = {name for name, _ in module.named_children()}
    unread = {"pooler"} - children
    return {
        key: value
        for key, value in stored.items()
        if key.startswith(start)
        and (child := key.removeprefix(start).split(".")[0]) not in unread
        and (place or child in children)
    }


def _saved_in(module: torch.nn.Module, names: Any) -> list[str] | None:
    """Return which of the modules that were trained whole are there, by the end of their paths."""
    present = [path for path, _ in module.named_modules()]
    return [name for name in names or [] if any(path.endswith(name) for path in present)] or None
