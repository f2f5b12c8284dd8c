"""From the deployable network back to the official one: the same function under the official names and shapes."""

from __future__ import annotations

import torch
from rtmw_edge.targets.rewrites import ActConv, Deployable, RankThreeAttention
from torch import Tensor

from rtmw_edge.models.layers import BATCH_NORM_EPS

NEUTRAL_VARIANCE = 1.0 - BATCH_NORM_EPS
"""Running variance of a batch norm that does nothing: 1 / sqrt(variance + eps) is 1 to 2e-8.

Folding multiplies float32 weights by that in float64 and rounds: a float32 is at least 3e-8 of itself away from the
next midpoint, so every weight comes back to the last bit.
"""


@torch.no_grad()
def official_state(network: Deployable) -> dict[str, Tensor]:
    """The state dict of `models.build(network.variant)` that `targets.rewrites.deployable` turns into `network` again.

    Batch norms are left that only add a bias. Weights and biases of the convolutions with batch norm come back to the
    last bit; attention's vectors and the biases of channel attention to float32's rounding.
    """
    state: dict[str, Tensor] = {}
    inside = tuple(f"{path}." for path, module in network.named_modules() if isinstance(module, ActConv))
    attentions = {path: module for path, module in network.named_modules() if isinstance(module, RankThreeAttention)}
    for number, (name, convolution) in enumerate(network.convolutions().items()):
        weight, bias = convolution.conv.weight, convolution.conv.bias
        assert bias is not None
        state[f"{name}.weight"] = weight.flip(1) if number == 0 else weight
        if name.endswith(".fc"):
            state[f"{name}.bias"] = bias - 3.0  # hardsigmoid's, see ReLU6ChannelAttention
        else:
            state.update(_neutral_batch_norm(f"{name.removesuffix('.conv')}.bn", bias))
    for path, attention in attentions.items():
        half = attention.q_scale.shape[-1] ** -0.25
        state[f"{path}.gamma"] = torch.cat((attention.q_scale, attention.k_scale)).reshape(2, -1) / half
        state[f"{path}.beta"] = torch.cat((attention.q_shift, attention.k_shift)).reshape(2, -1) / half
    own = tuple(f"{path}.{part}" for path in attentions for part in ("q_scale", "k_scale", "q_shift", "k_shift"))
    for path, parameter in network.named_parameters():
        if not path.startswith(inside) and path not in own:
            state[path] = parameter
    return {path: value.detach().clone() for path, value in state.items()}


def _neutral_batch_norm(path: str, bias: Tensor) -> dict[str, Tensor]:
    return {
        f"{path}.weight": torch.ones_like(bias),
        f"{path}.bias": bias,
        f"{path}.running_mean": torch.zeros_like(bias),
        f"{path}.running_var": torch.full_like(bias, NEUTRAL_VARIANCE),
        f"{path}.num_batches_tracked": torch.zeros((), dtype=torch.int64),
    }
