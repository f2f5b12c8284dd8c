"""Real variants with weights under which small differences stay small, as they do in a trained network.

With weights drawn at random, CSPNeXt is chaotic: rounding errors of 1e-6 grow to 1e-3, and int8 decorrelates. Here
batch norm shifts its outputs to where SiLU is nearly straight, and its statistics are those of real activations.
"""

from __future__ import annotations

import numpy as np
import torch
from small_deployable import smooth_crops
from torch import nn

from rtmw_edge.models import MEAN_RGB, STD_RGB, build
from rtmw_edge.models.rtmw import RTMW


def calm_network(variant: str, seed: int = 0) -> RTMW:
    """The network of `variant`, in evaluation mode."""
    torch.manual_seed(seed)
    network = build(variant)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # plain averages instead of running ones
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, 2.0, 0.2)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, module.in_features**-0.5)
    crops = smooth_crops(16, network.variant.input_size, seed=99)[..., ::-1].astype(np.float32)
    normalized = (crops - np.float32(MEAN_RGB)) / np.float32(STD_RGB)
    with torch.no_grad():
        network.train()(torch.from_numpy(normalized).permute(0, 3, 1, 2))
    return network.eval()
