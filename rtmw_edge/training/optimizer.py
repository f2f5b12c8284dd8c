"""The optimisers of a recipe: AdamW as RTMW's recipe has it, or Muon for the matrices and AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .ranks import has_bfloat16


def parameter_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weights that decay, and norms, biases, gains and other vectors that do not."""
    decay = [p for p in parameters if p.ndim > 1]
    keep = [p for p in parameters if p.ndim <= 1]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": keep, "weight_decay": 0.0}]


NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def orthogonal(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """The orthogonal factors of matrices (N, O, I), roughly (singular values 0.7 to 1.2), by Newton-Schulz steps."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for 2D parameters, its steps as large as AdamW's (Moonshot's 0.2 sqrt(max(O, I))).

    The arithmetic of torch.optim.Muon, which is fixed to bfloat16: on a CPU without bfloat16 instructions that takes
    three times as long as all the rest of a training step. There this one computes in float32. Matrices of one shape
    are computed together: what takes a GPU's time is the number of operations.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients = [weight.grad for weight in weights]
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
            torch._foreach_lerp_(buffers, gradients, 1 - momentum)
            updates = torch._foreach_lerp(gradients, buffers, momentum)
            torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
            dtype = torch.bfloat16 if has_bfloat16(weights[0].device) else torch.float32
            shapes: dict[torch.Size, list[int]] = {}
            for index, weight in enumerate(weights):
                shapes.setdefault(weight.shape, []).append(index)
            for shape, indices in shapes.items():
                steps = orthogonal(torch.stack([updates[index] for index in indices]), dtype)
                torch._foreach_add_(
                    [weights[index] for index in indices],
                    list(steps.to(weights[0].dtype).unbind()),
                    alpha=-lr * 0.2 * math.sqrt(max(shape)),
                )


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

    `scales` are quantizers' parameters: AdamW's without decay, with the rate `scale_lr` where the others have `lr`.
    """

    def __init__(
        self,
        network: nn.Module,
        kind: str,
        lr: float,
        weight_decay: float,
        *,
        scales: Sequence[nn.Parameter] = (),
        scale_lr: float = 0.0,
    ) -> None:
        self._views: list[tuple[nn.Parameter, nn.Parameter]] = []
        apart = {id(parameter) for parameter in scales}
        rest = [
            parameter for parameter in network.parameters() if parameter.requires_grad and id(parameter) not in apart
        ]
        if kind == "muon":
            layers = [module for name, module in network.named_modules() if _is_matrix(name, module)]
            matrices = {id(layer.weight) for layer in layers}
            self._views = [(w, nn.Parameter(as_matrix(w.data, w))) for w in rest if id(w) in matrices]
            rest = [parameter for parameter in rest if id(parameter) not in matrices]
        groups = parameter_groups(rest, weight_decay)
        if scales:
            groups.append({"params": list(scales), "weight_decay": 0.0, "share": scale_lr / lr})
        self._parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=lr, fused=True)]
        if self._views:
            matrices_2d = [view for _, view in self._views]
            self._parts.append(Muon(matrices_2d, lr=lr, weight_decay=weight_decay))

    def set_lr(self, lr: float) -> None:
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = lr * group.get("share", 1.0)

    def step(self) -> None:
        """One update from the gradients of the network's parameters."""
        for weight, view in self._views:
            view.grad = None if weight.grad is None else as_matrix(weight.grad, weight)
        for part in self._parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Go on from `state` with the rates and the decay of this optimiser, not with those it was saved with.

        Raises ValueError when the state belongs to another optimiser.
        """
        for part, saved in zip(self._parts, state, strict=True):
            groups = zip(part.state_dict()["param_groups"], saved["param_groups"], strict=True)
            part.load_state_dict({**saved, "param_groups": [{**ours, "params": old["params"]} for ours, old in groups]})
