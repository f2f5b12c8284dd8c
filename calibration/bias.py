"""Bias correction: the mean shift that integers give each output channel, taken out of the bias.

Empirical and from the first convolution to the last, as Nagel et al. describe it (Data-Free Quantization Through Weight
Equalization and Bias Correction, 2019, section 4.2 and appendix D): each convolution is corrected before its output is
used by the next, so that none makes up for a shift that another has already.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from rtmw_edge.quantization import Table
from rtmw_edge.quantization.fake import fake_quantize
from rtmw_edge.quantization.inference import for_inference
from torch import Tensor, nn

from .observing import normalized

if TYPE_CHECKING:
    from rtmw_edge.targets.rewrites import Deployable

SPACE_AND_CROPS = (0, 2, 3)


def bias_corrections(deployable: Deployable, table: Table, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """By convolution, what to add to its bias (C,): mean over `crops` and cells of float minus fake-quantized results.

    `crops` uint8 (N,H,W,3) go through both networks in one batch each, because a convolution's correction must be known
    before the next one runs. Results are those of the convolution with its bias, before any activation.
    """
    batch = normalized(crops, deployable.variant)
    expected: dict[str, Tensor] = {}
    corrections: dict[str, Tensor] = {}

    def expect(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            expected[name] = output.double().mean(SPACE_AND_CROPS)

        return hook

    def correct(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            corrections[name] = (expected[name] - output.double().mean(SPACE_AND_CROPS)).float()
            return output + corrections[name][:, None, None]

        return hook

    # For inference: without a quantizer of its weight a convolution runs as a module, hooks and all.
    exact, quantized = copy.deepcopy(deployable), for_inference(fake_quantize(deployable, table))
    with torch.inference_mode():
        for name, convolution in exact.convolutions().items():
            convolution.conv.register_forward_hook(expect(name))
        exact(batch)
        for name, convolution in quantized.convolutions().items():
            if name not in table.floats:
                convolution.conv.register_forward_hook(correct(name))
        quantized(batch)
    return {name: correction.numpy() for name, correction in corrections.items()}
