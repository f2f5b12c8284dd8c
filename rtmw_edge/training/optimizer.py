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


def _is_matrix(name: str, module: nn.Module) -> bool:
    """Whether a layer mixes channels: not a depthwise convolution, not the first layer, not a SimCC classifier."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.in_channels > 3
    return isinstance(module, nn.Linear) and "cls_" not in name


def as_matrix(tensor: Tensor, weight: Tensor) -> Tensor:
    """A weight (O, I[, H, W]), or its gradient, as (O, I*H*W) with columns in the order of the weight's memory.

    Of the weight itself it is a view that shares its storage.
    """
    if weight.ndim == 4 and not weight.is_contiguous():
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(weight.shape[0], -1)


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
            layers = [module for name, module in network.named_modules() if _is_matrix(name, module)]
            matrices = {id(layer.weight) for layer in layers}
            self._views = [(w, nn.Parameter(as_matrix(w.data, w))) for w in rest if id(w) in matrices]
            rest = [parameter for parameter in rest if id(parameter) not in matrices]
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
            view.grad = None if weight.grad is None else as_matrix(weight.grad, weight)
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
