"""The optimisers of a recipe: AdamW as RTMW's recipe has it, or Muon for the matrices and AdamW for the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def parameter_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weights that decay, and norms, biases, gains and other vectors that do not."""
    decay = [p for p in parameters if p.ndim > 1]
    keep = [p for p in parameters if p.ndim <= 1]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": keep, "weight_decay": 0.0}]


def _is_matrix(module: nn.Module) -> bool:
    """Whether a layer mixes channels: not a depthwise convolution, not the first layer, not a SimCC classifier."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.in_channels > 3
    return isinstance(module, nn.Linear)


def as_matrix(weight: Tensor) -> Tensor:
    """A view of a weight (O, I[, H, W]) as (O, I*H*W) (the columns in the order of memory), sharing its storage."""
    if weight.ndim == 4 and not weight.is_contiguous():
        weight = weight.permute(0, 2, 3, 1)
    return weight.view(weight.shape[0], -1)


class Optimizer:
    """Steps the parameters of a network that are not frozen; `kind` is "adamw" or "muon".

    "muon" (https://kellerjordan.github.io/posts/muon/) orthogonalises the momentum of every layer that mixes channels
    and scales it to AdamW's usual update size, so one learning rate serves both kinds. It learns more from a sample,
    which is what counts where samples are slow. Norms, biases, depthwise kernels, the first layer and the SimCC
    classifiers stay with AdamW.
    """

    def __init__(self, network: nn.Module, kind: str, lr: float, weight_decay: float) -> None:
        self._views: list[tuple[nn.Parameter, nn.Parameter]] = []
        rest = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if kind == "muon":
            matrices = [m.weight for name, m in network.named_modules() if _is_matrix(m) and "cls_" not in name]
            chosen = {id(weight) for weight in matrices if weight.requires_grad}
            matrices = [weight for weight in matrices if id(weight) in chosen]
            rest = [p for p in rest if id(p) not in chosen]
            self._views = [(w, nn.Parameter(as_matrix(w.data))) for w in matrices if isinstance(w, nn.Parameter)]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(parameter_groups(rest, weight_decay), lr=lr, fused=True)
        ]
        if self._views:
            matrices_2d = [view for _, view in self._views]
            self._parts.append(
                torch.optim.Muon(matrices_2d, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            )

    def set_lr(self, lr: float) -> None:
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = lr

    def step(self) -> None:
        """One update from the gradients of the network's parameters."""
        for weight, view in self._views:
            gradient = weight.grad
            if gradient is not None and weight.ndim == 4 and not weight.is_contiguous():
                gradient = gradient.permute(0, 2, 3, 1)
            view.grad = None if gradient is None else gradient.reshape(view.shape)
        for part in self._parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Raises ValueError when the state belongs to another optimiser."""
        if len(state) != len(self._parts):
            raise ValueError("the state is of another kind of optimiser")
        for part, saved in zip(self._parts, state, strict=True):
            part.load_state_dict(saved)
