"""Int8 in ONNX: quantize and dequantize nodes around every convolution, with the table's scales; and their way back.

Every convolution node carries the name of the network's convolution, and its tensors are quantized like this:

    x -> Q -> DQ -> Conv(DQ(int8 weight), bias) -> Q -> DQ -> activation

The output is quantized before ReLU and ReLU6, where ONNX Runtime fuses it into the integer convolution: on a symmetric
grid relu(q(y)) equals q(relu(y)), and the scale of a ReLU6 output saturates at 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper
from rtmw_edge.quantization import Entry, Table
from rtmw_edge.quantization.grids import GRIDS

from rtmw_edge.errors import VerificationError


@dataclass(frozen=True)
class Spelling:
    """How activations of the symmetric grid are stored: the integer type, and what is added to the integers.

    Weights are int8 with zero point 0 in every spelling. `integer_bias` stores biases as int32 in steps of input scale
    times weight scale, as ONNX Runtime's integer convolution wants them; otherwise they stay float. `fused_silu` writes
    SiLU as ONNX Runtime's own QuickGelu: it fuses Sigmoid and Mul by itself in float graphs, but behind a
    DequantizeLinear it gives each of the two a copy instead (15 % of the time of rtmw-m on one thread).
    """

    dtype: type[np.generic]
    zero_point: int
    integer_bias: bool
    fused_silu: bool


UINT8 = Spelling(np.uint8, 128, integer_bias=True, fused_silu=True)
"""For ONNX Runtime on x86, whose convolutions with int8 activations are slower than float."""

INT8 = Spelling(np.int8, 0, integer_bias=False, fused_silu=False)
"""For converters that read QDQ: OpenVINO."""


def convolutions(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The convolution nodes of a model, in order."""
    return (node for node in model.graph.node if node.op_type == "Conv")


def quantize(model: onnx.ModelProto, table: Table, spelling: Spelling) -> onnx.ModelProto:
    """A copy of the float `model`, whose convolutions are named, with every convolution on the table's scales."""
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


def read_scales(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Scales by point, as stored beside each convolution; a convolution that lacks a quantizer lacks that point.

    Raises VerificationError when the two scales of a quantize-dequantize pair differ.
    """
    values = {item.name: item for item in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    scales: dict[str, np.ndarray] = {}
    for conv in convolutions(model):
        found = {
            "input": producers.get(conv.input[0]),
            "weight": producers.get(conv.input[1]),
            "output": next(
                (node for node in consumers.get(conv.output[0], ()) if node.op_type == "QuantizeLinear"), None
            ),
        }
        for kind, node in found.items():
            if node is None or node.op_type not in ("DequantizeLinear", "QuantizeLinear"):
                continue
            point = f"{conv.name}:{kind}"
            scales[point] = numpy_helper.to_array(values[node.input[1]])
            partner = (
                producers.get(node.input[0]) if kind == "input" else next(iter(consumers.get(node.output[0], ())), None)
            )
            if kind != "weight":
                other = None if partner is None else numpy_helper.to_array(values[partner.input[1]])
                if other is None or not np.array_equal(other, scales[point]):
                    raise VerificationError(
                        f"The written file quantizes and dequantizes '{point}' with different scales."
                    )
    return scales


class _Writer:
    """Nodes and initializers that put one graph's convolutions on integers."""

    def __init__(self, graph: onnx.GraphProto, table: Table, spelling: Spelling) -> None:
        self.graph, self.table, self.spelling = graph, table, spelling
        self.grid = GRIDS[table.grid]
        self.values = {item.name: item for item in graph.initializer}
        self.shared: dict[tuple[str, bytes], str] = {}

    def around(self, conv: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The nodes that replace `conv`, which is named by the network's convolution."""
        name = conv.name
        scale_in, scale_w, scale_out = (self.table.entries[f"{name}:{kind}"] for kind in ("input", "weight", "output"))
        nodes = self._input(conv, scale_in)
        nodes += self._weight(conv, scale_w)
        if self.spelling.integer_bias:
            nodes += self._bias(conv, scale_in, scale_w)
        output, raw = conv.output[0], f"{name}:raw"
        conv.output[0] = raw
        nodes.append(conv)
        nodes += self._pair(raw, output, f"{name}:output", scale_out)
        return nodes

    def _input(self, conv: onnx.NodeProto, entry: Entry) -> list[onnx.NodeProto]:
        """Two convolutions that read one tensor with one scale share its quantizer."""
        source = conv.input[0]
        key = (source, entry.scale.tobytes())
        nodes: list[onnx.NodeProto] = []
        if key not in self.shared:
            self.shared[key] = f"{conv.name}:input"
            nodes = self._pair(source, self.shared[key], f"{conv.name}:input", entry)
        conv.input[0] = self.shared[key]
        return nodes

    def _pair(self, source: str, output: str, point: str, entry: Entry) -> list[onnx.NodeProto]:
        scale = self._add(f"{point}:scale", entry.scale.reshape(()))
        zero = self._add(f"{point}:zero", np.array(self.spelling.zero_point, self.spelling.dtype))
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
        rounded = np.rint(bias.astype(np.float64) / steps.astype(np.float64))
        integers = self._add(f"{point}:integers", rounded.astype(np.int32))
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
