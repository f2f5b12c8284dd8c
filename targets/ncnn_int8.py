"""The int8 convolutions of an ncnn network: scales written in, and read back out of the files.

No package carries ncnn2int8, so this is the writer. A convolution's layer gets `8=2` (a depthwise one `8=1`), its
weights as int8, and after its bias the weight multipliers (one an output channel) and the input multiplier. Outputs are
not quantized in ncnn: a convolution hands out float32, and the next one quantizes its own input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rtmw_edge.quantization import COMMON

from rtmw_edge.errors import BadInputError

from .ncnn_model import Layer, NcnnModel, Tensor

CONVOLUTIONS = {"Convolution": "2", "ConvolutionDepthWise": "1"}
"""Layer types that are quantized, with the int8 term that says: scales per output channel, none at the top."""

Scales = Mapping[str, NDArray[np.float32]]


def multiplier(scale: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """ncnn's multiplier of a scale: 1/scale, rounded once, to float32; infinite for a scale of zero."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.float32(1) / np.asarray(scale, np.float32))


def convolutions(model: NcnnModel) -> list[Layer]:
    """The convolutions, in the order in which they run."""
    return [layer for layer in model.layers if layer.type in CONVOLUTIONS]


def is_int8(layer: Layer) -> bool:
    """Whether a convolution computes in int8."""
    return layer.integer(8) != 0


def quantized(model: NcnnModel, scales: Scales) -> NcnnModel:
    """The network with every convolution in int8 for which `scales` has "<layer name>:input" and ":weight".

    Raises BadInputError when a scale cannot be used: not positive, not finite, or not one an output channel.
    """
    return NcnnModel(tuple(_quantized(layer, scales) for layer in model.layers))


def _quantized(layer: Layer, scales: Scales) -> Layer:
    point_in, point_weight = f"{layer.name}:input", f"{layer.name}:weight"
    if layer.type not in CONVOLUTIONS or point_weight not in scales:
        return layer
    channels = layer.integer(0)
    groups = layer.integer(7, 1)
    if groups not in (1, channels):
        raise BadInputError(
            f"Convolution '{layer.name}' has {groups} groups of several channels, which ncnn runs in int8 with one "
            "weight scale a group only; take it out of the quantization table."
        )
    scale_in = _usable(point_in, scales.get(point_in), 1)
    scale_weight = _usable(point_weight, scales[point_weight], channels)
    weight, *bias = layer.tensors
    integers = COMMON.quantize_weight(weight.data.reshape(channels, -1), scale_weight).reshape(-1)
    tensors = (
        Tensor(integers, tagged=True),
        *bias,
        Tensor(multiplier(scale_weight), tagged=False),
        Tensor(multiplier(scale_in), tagged=False),
    )
    return replace(layer, params={**layer.params, 8: CONVOLUTIONS[layer.type]}, tensors=tensors)


def _usable(point: str, scale: NDArray[np.float32] | None, size: int) -> NDArray[np.float32]:
    if scale is None:
        raise BadInputError(f"The quantization table has no scale for '{point}'; make the table again.")
    scale = np.asarray(scale, np.float32).reshape(-1)
    if scale.size != size or not np.all(np.isfinite(multiplier(scale))) or not np.all(scale > 0):
        raise BadInputError(
            f"The quantization table's scale for '{point}' must be {size} positive number(s), but it has {scale.size} "
            f"from {scale.min(initial=np.inf):.3g} to {scale.max(initial=-np.inf):.3g}; make the table again."
        )
    return scale


def multipliers_of(model: NcnnModel) -> dict[str, NDArray[np.float32]]:
    """The multipliers in a network: {"<layer name>:input" (1,), "<layer name>:weight" (output channels,)}."""
    found: dict[str, NDArray[np.float32]] = {}
    for layer in convolutions(model):
        if is_int8(layer):
            weight, top = (tensor.data.astype(np.float32) for tensor in layer.tensors[-2:])
            found[f"{layer.name}:weight"] = weight
            found[f"{layer.name}:input"] = top
    return found
