"""Integers in ONNX: quantize and dequantize nodes around every convolution with the table's scales; and their way back.

Every convolution node carries the name of the network's convolution, and what the table has of it is quantized:

    x -> Q -> DQ -> Conv(DQ(int8 weight), bias) -> Q -> DQ -> activation

The output is quantized before ReLU and ReLU6, which comes to the same: zero is on every grid, and the scale of a ReLU6
output saturates at 6. A convolution without entries stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper
from rtmw_edge.quantization import Entry, Table
from rtmw_edge.quantization.grids import GRIDS, integer_bias

from rtmw_edge.errors import VerificationError

from .base import Stored


@dataclass(frozen=True)
class Spelling:
    """How activations are stored: the integer type, and what is added to the table's integers and zero points.

    Weights are int8 with zero point 0 in every spelling. `integer_bias` stores biases as int32 in steps of input scale
    times weight scale, as ONNX Runtime's integer convolution wants them; otherwise they stay float. `fused_silu` writes
    SiLU as ONNX Runtime's own QuickGelu: it fuses Sigmoid and Mul by itself in float graphs, but behind a
    DequantizeLinear it gives each of the two a copy instead (15 % of the time of rtmw-m on one thread).
    """

    dtype: type[np.generic]
    shift: int
    integer_bias: bool = False
    fused_silu: bool = False


UINT8 = Spelling(np.uint8, 128, integer_bias=True, fused_silu=True)
"""For ONNX Runtime on x86, whose convolutions with int8 activations are slower than float."""

INT8 = Spelling(np.int8, 0)
"""For what reads QDQ: OpenVINO's converter and TensorRT, which wants int8, zero points of 0 and float biases."""

UINT16 = Spelling(np.uint16, 32768, integer_bias=True)
"""16-bit activations, for ONNX Runtime on NPUs; its CPU computes such convolutions in float. Needs opset 21."""

SHIFTS = {np.dtype(spelling.dtype): spelling.shift for spelling in (UINT8, INT8, UINT16)}


def convolutions(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The convolution nodes of a model, in order."""
    return (node for node in model.graph.node if node.op_type == "Conv")


def quantize(model: onnx.ModelProto, table: Table, spelling: Spelling) -> onnx.ModelProto:
    """A copy of the float `model`, whose convolutions are named, with what the table has of them on its scales."""
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    writer = _Writer(quantized.graph, table, spelling)
    nodes: list[onnx.NodeProto] = []
    for node in list(quantized.graph.node):
        nodes.extend(writer.around(node) if node.op_type == "Conv" else [node])
    del quantized.graph.node[:]
    quantized.graph.node.extend(nodes)
    if spelling.fused_silu:
        _fuse_silu(quantized)
    _drop_unused_initializers(quantized.graph)
    return quantized


def read_scales(model: onnx.ModelProto) -> dict[str, Stored]:
    """Scales and zero points by point, as stored beside each convolution; what has no quantizer lacks that point.

    Raises VerificationError when a tensor is quantized with other numbers than it is dequantized with.
    """
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def after(name: str, operator: str) -> list[onnx.NodeProto]:
        return [node for node in readers.get(name, ()) if node.op_type == operator][:1]

    def before(name: str, operator: str) -> list[onnx.NodeProto]:
        node = producers.get(name)
        return [] if node is None or node.op_type != operator else [node]

    stored: dict[str, Stored] = {}
    for conv in convolutions(model):
        dequantizers = before(conv.input[0], "DequantizeLinear")
        quantizers = after(conv.output[0], "QuantizeLinear")
        pairs = {
            "input": [
                *dequantizers,
                *(node for one in dequantizers for node in before(one.input[0], "QuantizeLinear")),
            ],
            "weight": before(conv.input[1], "DequantizeLinear") * 2,
            "output": [*quantizers, *(node for one in quantizers for node in after(one.output[0], "DequantizeLinear"))],
        }
        for kind, pair in pairs.items():
            if not pair:
                continue
            point = f"{conv.name}:{kind}"
            numbers = {tuple(values[name].tobytes() for name in node.input[1:3]) for node in pair}
            if len(pair) != 2 or len(numbers) != 1:
                raise VerificationError(f"The written file quantizes and dequantizes '{point}' with different scales.")
            scale, zero = (values[name] for name in pair[0].input[1:3])
            zeros = np.unique(zero.astype(np.int64)) - SHIFTS[zero.dtype]
            if zeros.size != 1:
                raise VerificationError(f"The written file has several zero points for '{point}'.")
            stored[point] = Stored(scale, int(zeros[0]))
    return stored


class _Writer:
    """Nodes and initializers that put one graph's convolutions on integers."""

    def __init__(self, graph: onnx.GraphProto, table: Table, spelling: Spelling) -> None:
        self.graph, self.table, self.spelling = graph, table, spelling
        self.grid = GRIDS[table.grid]
        self.values = {item.name: item for item in graph.initializer}
        self.shared: dict[tuple[str, bytes, int], str] = {}

    def around(self, conv: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The nodes that replace `conv`, which is named by the network's convolution."""
        name = conv.name
        entries = {kind: self.table.entries.get(f"{name}:{kind}") for kind in ("input", "weight", "output")}
        scale_in, scale_w, scale_out = entries.values()
        nodes: list[onnx.NodeProto] = []
        if scale_in is not None:
            nodes += self._input(conv, scale_in)
        if scale_w is not None:
            nodes += self._weight(conv, scale_w)
        if scale_in is not None and scale_w is not None and self.spelling.integer_bias:
            nodes += self._bias(conv, scale_in, scale_w)
        nodes.append(conv)
        if scale_out is not None:
            output, raw = conv.output[0], f"{name}:raw"
            conv.output[0] = raw
            nodes += self._pair(raw, output, f"{name}:output", scale_out)
        return nodes

    def _input(self, conv: onnx.NodeProto, entry: Entry) -> list[onnx.NodeProto]:
        """Two convolutions that read one tensor with one scale and zero point share its quantizer."""
        source = conv.input[0]
        key = (source, entry.scale.tobytes(), entry.zero_point)
        nodes: list[onnx.NodeProto] = []
        if key not in self.shared:
            self.shared[key] = f"{conv.name}:input"
            nodes = self._pair(source, self.shared[key], f"{conv.name}:input", entry)
        conv.input[0] = self.shared[key]
        return nodes

    def _pair(self, source: str, output: str, point: str, entry: Entry) -> list[onnx.NodeProto]:
        scale = self._add(f"{point}:scale", entry.scale.reshape(()))
        zero = self._add(f"{point}:zero", np.array(self.spelling.shift + entry.zero_point, self.spelling.dtype))
        integers = f"{point}:integers"
        return [
            helper.make_node("QuantizeLinear", [source, scale, zero], [integers], f"{point}:quantize"),
            helper.make_node("DequantizeLinear", [integers, scale, zero], [output], f"{point}:dequantize"),
        ]

    def _weight(self, conv: onnx.NodeProto, entry: Entry) -> list[onnx.NodeProto]:
        point = f"{conv.name}:weight"
        weight = numpy_helper.to_array(self.values[conv.input[1]])
        integers = self._add(f"{point}:integers", self.grid.quantize_weight(weight, entry.scale))
        scale = self._add(f"{point}:scale", entry.scale)
        zero = self._add(f"{point}:zero", np.zeros(entry.scale.size, np.int8))
        conv.input[1] = point
        return [helper.make_node("DequantizeLinear", [integers, scale, zero], [point], f"{point}:dequantize", axis=0)]

    def _bias(self, conv: onnx.NodeProto, scale_in: Entry, scale_w: Entry) -> list[onnx.NodeProto]:
        point = f"{conv.name}:bias"
        bias = numpy_helper.to_array(self.values[conv.input[2]])
        steps = (scale_in.scale * scale_w.scale).astype(np.float32)
        integers = self._add(f"{point}:integers", integer_bias(conv.name, bias, steps).astype(np.int32))
        scale = self._add(f"{point}:scale", steps)
        zero = self._add(f"{point}:zero", np.zeros(steps.size, np.int32))
        conv.input[2] = point
        return [helper.make_node("DequantizeLinear", [integers, scale, zero], [point], f"{point}:dequantize", axis=0)]

    def _add(self, name: str, array: np.ndarray) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def _fuse_silu(model: onnx.ModelProto) -> None:
    """Replace x * sigmoid(x) by QuickGelu(x), alpha 1, of ONNX Runtime's operator set."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    fused: dict[str, onnx.NodeProto] = {}
    replaced = set()
    for node in model.graph.node:
        product = readers.get(node.output[0], [])
        if (
            node.op_type == "Sigmoid"
            and len(product) == 1
            and product[0].op_type == "Mul"
            and node.input[0] in product[0].input
        ):
            output = product[0].output[0]
            fused[output] = helper.make_node(
                "QuickGelu", [node.input[0]], [output], product[0].name, domain="com.microsoft", alpha=1.0
            )
            replaced.add(node.output[0])
    nodes = [fused.get(node.output[0], node) for node in model.graph.node if node.output[0] not in replaced]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _drop_unused_initializers(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
