"""ncnn: pnnx converts the float network; names, normalization, scales and half-precision weights are ours.

Each convolution's layer gets the name of the network's convolution, so that a file tells by itself which scale belongs
where. An int8 convolution quantizes its input and hands out float32, so outputs are not among the points that ncnn
carries. A convolution with int8 weights always computes in int8 (with int8 inference switched off it answers NaN), so
that there is no weight-only form (`w8`); nor are there zero points or 16-bit activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rtmw_edge.quantization import Entry, Table

from rtmw_edge.models.variants import MEAN_RGB, STD_RGB

from .base import INPUT, Converted, OnStep, Precision, Stored, output_names
from .half_precision import to_half
from .ncnn_int8 import convolutions, is_int8, multiplier, multipliers_of, quantized
from .ncnn_model import Layer, NcnnModel, Tensor
from .weight_matching import check_distinct, match_convolutions

if TYPE_CHECKING:
    from .rewrites import Deployable

NORMALIZED = "normalized"


class Ncnn:
    """The target `ncnn`: one float32 CHW BGR crop of 0..255 in, as `Mat.from_pixels` makes it, float32 logits out."""

    name = "ncnn"
    grids = ("common",)
    max_batch = 1

    def carried(self, grid: str) -> tuple[str, ...]:
        return ("input", "weight")

    def requirements(self) -> list[str]:
        return ["torch", "pnnx"]

    def convert(
        self, network: Deployable, table: Table | None, precision: Precision, out_dir: Path, batch: int, on_step: OnStep
    ) -> Converted:
        """Write `model.param` and `model.bin` into `out_dir`; see `Target.convert`."""
        from .ncnn_pnnx import converted

        outputs = output_names(network)
        model = with_convolution_names(converted(network, network.variant.input_size, on_step), network)
        model = with_blob_names(normalizing(model), {f"out{i}": name for i, name in enumerate(outputs.values())})
        if table is not None:
            check_distinct(network, table)
            on_step("writing int8 convolutions")
            model = quantized(model, {point: entry.scale for point, entry in table.entries.items()})
        elif precision is Precision.FP16:
            on_step("halving the weights")
            model = NcnnModel(tuple(halved(layer) for layer in model.layers))
        files = {"param": out_dir / "model.param", "bin": out_dir / "model.bin"}
        model.save(files["param"], files["bin"])
        found = convolutions(model)
        counts = {"total": len(found), "int8": sum(is_int8(layer) for layer in found)}
        return Converted(files, outputs, counts, dtype="float32", layout="CHW")

    def spell(self, entry: Entry) -> np.ndarray:
        """ncnn stores multipliers: 1/scale."""
        return multiplier(entry.scale)

    def read_scales(self, files: Mapping[str, Path], network: Deployable) -> dict[str, Stored]:
        """The multipliers of every int8 convolution in the files, whose layers carry the convolutions' names."""
        read = multipliers_of(NcnnModel.load(files["param"], files["bin"]))
        return {point: Stored(numbers) for point, numbers in read.items()}


def with_convolution_names(model: NcnnModel, network: Deployable) -> NcnnModel:
    """Call every convolution's layer by the path that the convolution has in the network."""
    found = {}
    for layer in convolutions(model):
        weight, bias = (tensor.data.astype(np.float32) for tensor in layer.tensors)
        kernel = (layer.integer(11, layer.integer(1)), layer.integer(1))
        found[layer.name] = (weight.reshape(layer.integer(0), -1, *kernel), bias)
    names = match_convolutions(found, network)
    return NcnnModel(tuple(replace(layer, name=names.get(layer.name, layer.name)) for layer in model.layers))


def normalizing(model: NcnnModel) -> NcnnModel:
    """Put (pixel - mean) / std in front, as one Scale layer: pixel * (1/std) + (-mean/std), BGR."""
    mean, std = (np.array(rgb[::-1], np.float64) for rgb in (MEAN_RGB, STD_RGB))
    weights = tuple(Tensor(values.astype(np.float32), tagged=False) for values in (1 / std, -mean / std))
    first, *rest = with_blob_names(model, {"in0": NORMALIZED}).layers
    scale = Layer("Scale", "normalize", (INPUT,), (NORMALIZED,), {0: "3", 1: "1"}, weights)
    return NcnnModel((replace(first, name=INPUT, tops=(INPUT,)), scale, *rest))


def with_blob_names(model: NcnnModel, names: Mapping[str, str]) -> NcnnModel:
    """Rename blobs."""
    return NcnnModel(
        tuple(
            replace(
                layer,
                bottoms=tuple(names.get(blob, blob) for blob in layer.bottoms),
                tops=tuple(names.get(blob, blob) for blob in layer.tops),
            )
            for layer in model.layers
        )
    )


def halved(layer: Layer) -> Layer:
    """A layer with its weights, the tagged tensors, in float16; biases and constants stay float32."""
    tensors = [
        replace(tensor, data=to_half(tensor.data.astype(np.float32), layer.name)) if tensor.tagged else tensor
        for tensor in layer.tensors
    ]
    return replace(layer, tensors=tuple(tensors))


TARGET = Ncnn()
