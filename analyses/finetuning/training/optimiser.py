"""The optimiser of a recipe: groups of parameters, and the learning rate of every update."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from layerlake.analyses.finetuning.recipes import Recipe

_FAR = math.inf
"""Updates after which bias corrections are exactly 1, whatever the constants."""


def learning_rate(recipe: Recipe, step: int, n_steps: int) -> float:
    """Return the factor of the highest learning rate at an update, from 0 (Devlin et al., code).

    Parameters
    ----------
    recipe
        Its warm-up and schedule.
    step
        The update, counted from 0.
    n_steps
        All updates of the training.
    """
    rise = int(recipe.warmup * n_steps)
    if step < rise:
        return step / rise
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "bert":
        return 1.0 - step / n_steps
    return (n_steps - step) / (n_steps - rise)


class Optimiser:
    """Adam in one of three forms, over named parameters.

    AdamW of torch stands behind all three: with no decay it is Adam, and with its counter of
    updates set far ahead its bias corrections are 1, which is AdamW as released with BERT.
    """

    def __init__(
        self, parts: Iterable[tuple[nn.Module, str, float]], recipe: Recipe, n_steps: int
    ) -> None:
        """Take the parameters that require a gradient.

        Parameters
        ----------
        parts
            Modules, what the names of their parameters begin with, and their learning rates.
        recipe
            The form and its constants.
        n_steps
            All updates of the training.
        """
        self._recipe, self._n_steps = recipe, n_steps
        self.names: list[str] = []
        self.parameters: list[nn.Parameter] = []
        self._rates: list[float] = []
        groups = []
        for module, prefix, rate in parts:
            undecayed = set(_undecayed(module))
            for decays in (True, False):
                chosen = [
                    (f"{prefix}{name}", parameter)
                    for name, parameter in module.named_parameters()
                    if parameter.requires_grad and (name not in undecayed) == decays
                ]
                if not chosen:
                    continue
                self.names += [name for name, _ in chosen]
                self.parameters += [parameter for _, parameter in chosen]
                self._rates.append(rate)
                decay = recipe.weight_decay if decays and recipe.optimiser != "adam" else 0.0
                groups.append({"params": [p for _, p in chosen], "lr": 0.0, "weight_decay": decay})
        self._adam = torch.optim.AdamW(
            groups, betas=(recipe.beta1, recipe.beta2), eps=recipe.epsilon, fused=True
        )

    def update(self, step: int) -> float:
        """Change the parameters by their gradients; return the factor of the learning rate."""
        factor = learning_rate(self._recipe, step, self._n_steps)
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        if not self._adam.state:
            self._begin(step)
        self._adam.step()
        return factor

    def clear(self) -> None:
        """Forget the gradients."""
        self._adam.zero_grad(set_to_none=True)

    def moments(self) -> dict[str, torch.Tensor]:
        """Return the state by name, shared, not copied: `first/NAME` and `second/NAME`."""
        found = {}
        for name, parameter in zip(self.names, self.parameters, strict=True):
            state = self._adam.state.get(parameter)
            if state:
                found[f"first/{name}"] = state["exp_avg"]
                found[f"second/{name}"] = state["exp_avg_sq"]
        return found

    def restore(self, moments: dict[str, torch.Tensor], step: int) -> None:
        """Take up the state that `moments` returned after so many updates."""
        self._begin(step)
        for name, parameter in zip(self.names, self.parameters, strict=True):
            state = self._adam.state[parameter]
            state["exp_avg"].copy_(moments[f"first/{name}"])
            state["exp_avg_sq"].copy_(moments[f"second/{name}"])

    def _begin(self, step: int) -> None:
        done = _FAR if self._recipe.optimiser == "bert-adamw" else float(step)
        for parameter in self.parameters:
            self._adam.state[parameter] = {
                # The fused kernel reads it where the parameter lies.
                "step": torch.tensor(done, dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


def _undecayed(module: nn.Module) -> Iterator[str]:
    """Yield the names of biases and of what norm layers have."""
    for prefix, part in module.named_modules():
        norm = "norm" in type(part).__name__.lower()
        for name, _ in part.named_parameters(recurse=False):
            if norm or name.endswith("bias"):
                yield f"{prefix}.{name}" if prefix else name
