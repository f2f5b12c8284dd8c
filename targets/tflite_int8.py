"""Int8 convolutions and half-precision weights written into a float TFLite graph.

Each convolution of the table becomes QUANTIZE -> int8 convolution -> DEQUANTIZE, with the table's scales as they are;
everything else stays float32. XNNPACK runs all three. The clamp of ReLU and ReLU6 is part of the operator, so the
output scale stands after it. Tensors are named by the table's points ("<convolution>:weight"), so that a file tells by
itself which scale belongs where.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rtmw_edge.quantization import COMMON, Table

from rtmw_edge.errors import BadInputError

from .half_precision import to_half
from .tflite_model import CONVOLUTIONS, OPS, GraphEditor

INT8, FLOAT32 = np.dtype(np.int8), np.dtype(np.float32)

_VERSIONS = {OPS.CONV_2D: 3, OPS.DEPTHWISE_CONV_2D: 3, OPS.PAD: 2}
"""The operator versions that know int8 per-channel weights."""
_DEQUANTIZE_INT8, _DEQUANTIZE_FLOAT16, _QUANTIZE = 2, 3, 1

_HAVE_WEIGHTS = (*CONVOLUTIONS, OPS.FULLY_CONNECTED, OPS.BATCH_MATMUL)


def weight_axis(graph: GraphEditor, convolution: Any) -> int:
    """The axis of output channels: weights are (O,kh,kw,I), those of depthwise convolutions (1,kh,kw,C)."""
    return 3 if graph.code(convolution) == OPS.DEPTHWISE_CONV_2D else 0


def quantize(graph: GraphEditor, names: Mapping[int, str], table: Table) -> int:
    """Put the convolutions of the table into int8, in place; returns how many.

    `names` maps the index of each convolution's weight tensor to the convolution's name.
    """
    quantizer = _Quantizer(graph, table)
    count = 0
    for operator in list(graph.operators(*CONVOLUTIONS)):
        name = names[int(operator.inputs[1])]
        if f"{name}:weight" in table.entries:
            quantizer.convolution(operator, name)
            count += 1
    graph.graph.operators = quantizer.ordered()
    return count


class _Quantizer:
    def __init__(self, graph: GraphEditor, table: Table) -> None:
        self.graph = graph
        self.table = table
        self.before: dict[int, list[Any]] = {}
        self.after: dict[int, Any] = {}
        self.quantized: dict[tuple[int, bytes], int] = {}

    def ordered(self) -> list[Any]:
        """The operators with the new ones in place."""
        operators = []
        for operator in self.graph.graph.operators:
            operators += self.before.get(id(operator), [])
            operators.append(operator)
            if id(operator) in self.after:
                operators.append(self.after[id(operator)])
        return operators

    def scale(self, name: str, kind: str) -> NDArray[np.float32]:
        entry = self.table.entries.get(f"{name}:{kind}")
        if entry is None:
            raise BadInputError(
                f"The quantization table has no scale for '{name}:{kind}', without which TFLite cannot run that "
                "convolution in int8; make the table again."
            )
        return entry.scale

    def convolution(self, operator: Any, name: str) -> None:
        scale_in, scale_w, scale_out = (self.scale(name, kind) for kind in ("input", "weight", "output"))
        source, weight, bias = (int(index) for index in operator.inputs)
        axis = weight_axis(self.graph, operator)
        values, offsets = self.graph.constant(weight), self.graph.constant(bias)
        if values is None or offsets is None or len(scale_w) != values.shape[axis]:
            raise BadInputError(
                f"The quantization table's {len(scale_w)} weight scales do not fit convolution '{name}'; "
                "make the table with the same weights and variant."
            )
        integers = np.moveaxis(COMMON.quantize_weight(np.moveaxis(values, axis, 0), scale_w), 0, axis)
        scale_bias = scale_in * scale_w
        sums = np.rint(offsets.astype(np.float64) / scale_bias.astype(np.float64)).astype(np.int64)
        if np.abs(sums).max(initial=0) >= 2**31:
            raise BadInputError(
                f"The bias of '{name}' does not fit into 32 bits at the table's scales; calibrate again."
            )
        operator.inputs = np.array(
            [
                self.input(operator, source, name, scale_in),
                self.graph.add_constant(f"{name}:weight", np.ascontiguousarray(integers), scale_w, axis),
                self.graph.add_constant(f"{name}:bias", sums.astype(np.int32), scale_bias),
            ],
            np.int32,
        )
        self.graph.require_version(operator, _VERSIONS[self.graph.code(operator)])
        target = int(operator.outputs[0])
        shape = self.graph.graph.tensors[target].shape
        output = self.graph.add_tensor(f"{name}:output", shape, INT8, scale_out)
        operator.outputs = np.array([output], np.int32)
        self.after[id(operator)] = self.graph.new_operator(OPS.DEQUANTIZE, _DEQUANTIZE_INT8, [output], [target])

    def input(self, operator: Any, source: int, name: str, scale: NDArray[np.float32]) -> int:
        """The int8 form of a convolution's input; a PAD in front of it (stride 2) moves into int8 as well."""
        producer = self.graph.producer(source)
        if producer is None or self.graph.code(producer) != OPS.PAD or len(self.graph.consumers(source)) > 1:
            return self.integers(operator, source, name, scale)
        inner = self.integers(producer, int(producer.inputs[0]), f"{name}:unpadded", scale)
        padded = self.graph.add_tensor(f"{name}:input", self.graph.graph.tensors[source].shape, INT8, scale)
        producer.inputs = np.array([inner, int(producer.inputs[1])], np.int32)
        producer.outputs = np.array([padded], np.int32)
        self.graph.require_version(producer, _VERSIONS[OPS.PAD])
        return padded

    def integers(self, operator: Any, source: int, name: str, scale: NDArray[np.float32]) -> int:
        """The int8 form of a float tensor, made once a scale, just before the first operator that needs it."""
        key = (source, scale.tobytes())
        if key not in self.quantized:
            label = name if ":" in name else f"{name}:input"
            made = self.graph.add_tensor(label, self.graph.graph.tensors[source].shape, INT8, scale)
            step = self.graph.new_operator(OPS.QUANTIZE, _QUANTIZE, [source], [made])
            self.before.setdefault(id(operator), []).append(step)
            self.quantized[key] = made
        return self.quantized[key]


def scales_of(graph: GraphEditor) -> dict[str, NDArray[np.float32]]:
    """Scales of the int8 convolutions: "<name>:input" (1,), "<name>:weight" (channels,), "<name>:output" (1,)."""
    found: dict[str, NDArray[np.float32]] = {}
    for operator in graph.operators(*CONVOLUTIONS):
        name, _, kind = graph.name(int(operator.inputs[1])).rpartition(":")
        if kind != "weight" or not is_int8(graph, operator):
            continue
        tensors = {"input": operator.inputs[0], "weight": operator.inputs[1], "output": operator.outputs[0]}
        for point, tensor in tensors.items():
            found[f"{name}:{point}"] = np.asarray(graph.graph.tensors[int(tensor)].quantization.scale, np.float32)
    return found


def is_int8(graph: GraphEditor, convolution: Any) -> bool:
    """Whether input, weight and output of a convolution are int8 with zero point 0."""
    for index in (*convolution.inputs[:2], *convolution.outputs):
        tensor = graph.graph.tensors[int(index)]
        if graph.dtype(int(index)) != INT8 or np.any(tensor.quantization.zeroPoint):
            return False
    return True


def halve_weights(graph: GraphEditor) -> None:
    """Store the weights of convolutions and matrix products as float16, in place; a DEQUANTIZE widens them at load."""
    first: list[Any] = []
    widened: dict[int, int] = {}
    for operator in graph.operators(*_HAVE_WEIGHTS):
        inputs = [int(index) for index in operator.inputs]
        values = graph.constant(inputs[1])
        if values is None or values.dtype != FLOAT32:
            continue
        if inputs[1] not in widened:
            half = graph.add_constant(f"{graph.name(inputs[1])}:half", to_half(values, graph.name(inputs[1])))
            wide = graph.add_tensor(f"{graph.name(inputs[1])}:single", values.shape, FLOAT32)
            first.append(graph.new_operator(OPS.DEQUANTIZE, _DEQUANTIZE_FLOAT16, [half], [wide]))
            widened[inputs[1]] = wide
        operator.inputs = np.array([inputs[0], widened[inputs[1]], *inputs[2:]], np.int32)
    graph.graph.operators = first + graph.graph.operators
