"""Integer arithmetic written into a float TFLite graph, with the quantization table's scales as they are.

Operators are visited in the order in which they run. A convolution of the table becomes an integer one: QUANTIZE in
front where its input is float, DEQUANTIZE behind where a float operator reads its output. The clamp of ReLU and ReLU6
is part of the operator, so the output scale stands after it; an int8 PAD pads with the zero point. On the grid `full`,
what stands between convolutions runs on integers too (`tflite_between`). Tensors are named by the table's points
("<convolution>:weight"), so that a file tells by itself which scale belongs where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rtmw_edge.quantization import GRIDS, Entry, Table
from rtmw_edge.quantization.grids import integer_bias

from rtmw_edge.errors import BadInputError

from .tflite_model import CONVOLUTIONS, OPS, GraphEditor

INT8, INT16 = np.dtype(np.int8), np.dtype(np.int16)
_ACTIVATIONS: dict[int, np.dtype[Any]] = {8: INT8, 16: INT16}
_BIASES: dict[np.dtype[Any], np.dtype[Any]] = {INT8: np.dtype(np.int32), INT16: np.dtype(np.int64)}

_VERSIONS = {
    INT8: {OPS.CONV_2D: 3, OPS.DEPTHWISE_CONV_2D: 3, OPS.QUANTIZE: 1, OPS.DEQUANTIZE: 2, OPS.RESHAPE: 1},
    INT16: {OPS.CONV_2D: 4, OPS.DEPTHWISE_CONV_2D: 5, OPS.QUANTIZE: 2, OPS.DEQUANTIZE: 3},
}
_OTHER_VERSIONS = {INT8: 2, INT16: 3}
"""The operator versions that know integer activations; every other operator here has the same two.

Source: TensorFlow Lite, `tools/versioning/op_version.cc`.
"""


def weight_axis(graph: GraphEditor, convolution: Any) -> int:
    """The axis of output channels: weights are (O,kh,kw,I), those of depthwise convolutions (1,kh,kw,C)."""
    return 3 if graph.code(convolution) == OPS.DEPTHWISE_CONV_2D else 0


def integer_weight(graph: GraphEditor, operator: Any, name: str, table: Table) -> int:
    """A new constant with the int8 weights of a convolution, its scales those of the table.

    Raises BadInputError when the table's scales do not fit.
    """
    entry = entry_of(table, f"{name}:weight")
    axis = weight_axis(graph, operator)
    values = graph.constant(int(operator.inputs[1]))
    if values is None or len(entry.scale) != values.shape[axis]:
        raise BadInputError(
            f"The quantization table's {len(entry.scale)} weight scales do not fit convolution '{name}'; "
            "make the table with the same weights and variant."
        )
    integers = GRIDS[table.grid].quantize_weight(np.moveaxis(values, axis, 0), entry.scale)
    return graph.add_constant(f"{name}:weight", np.ascontiguousarray(np.moveaxis(integers, 0, axis)), entry.scale, axis)


def entry_of(table: Table, point: str) -> Entry:
    """The table's entry of a point; BadInputError when it has none."""
    if point not in table.entries:
        raise BadInputError(
            f"The quantization table has no scale for '{point}', without which TFLite cannot run that convolution "
            "on integers; make the table again."
        )
    return table.entries[point]


class IntegerWriter:
    """Puts the convolutions of a table on integers, in place; a subclass may put more."""

    def __init__(self, graph: GraphEditor, names: Mapping[int, str], table: Table) -> None:
        """`names` maps the index of each convolution's weight tensor to the convolution's name."""
        self.graph, self.table = graph, table
        self.named = {
            id(operator): names[int(operator.inputs[1])]
            for operator in graph.operators(*CONVOLUTIONS)
            if f"{names[int(operator.inputs[1])]}:weight" in table.entries
        }
        self.operators: list[Any] = []
        self.integers: dict[int, int] = {}
        """Float tensors whose values an operator computes in integers, and the tensor that holds these."""
        self._rounded: dict[tuple[int, bytes, int], int] = {}
        self._widened: set[int] = set()

    def write(self) -> None:
        """Rewrite the graph."""
        for operator in list(self.graph.graph.operators):
            if id(operator) in self.named:
                self.convolution(operator, self.named[id(operator)])
            elif not self.waits(operator) and not self.rewritten(operator):
                self.floats(operator)
        self.graph.graph.operators = self.operators

    def rewritten(self, operator: Any) -> bool:
        """Put another operator than a convolution on integers; False when it stays in float."""
        return False

    def floats(self, operator: Any) -> None:
        """An operator that stays in float: what it reads is widened first."""
        for source in (int(index) for index in operator.inputs):
            if source in self.integers and source not in self._widened:
                integers = self.integers[source]
                self._append(OPS.DEQUANTIZE, integers, source, self.graph.dtype(integers))
                self._widened.add(source)
        self.operators.append(operator)

    def waits(self, operator: Any) -> bool:
        """Whether an operator is the PAD in front of an integer convolution (stride 2), which moves into integers."""
        if self.graph.code(operator) != OPS.PAD:
            return False
        readers = self.graph.consumers(int(operator.outputs[0]))
        return len(readers) == 1 and id(readers[0]) in self.named

    def convolution(self, operator: Any, name: str) -> None:
        """Put one convolution on integers."""
        source, _, bias = (int(index) for index in operator.inputs)
        read = self.input(source, name)
        scale_in = self.graph.scale(read)
        dtype = self.graph.dtype(read)
        offsets = self.graph.constant(bias)
        assert scale_in is not None and dtype is not None and offsets is not None
        weight = integer_weight(self.graph, operator, name, self.table)
        scale_bias = scale_in[0] * self.table.entries[f"{name}:weight"].scale
        sums = integer_bias(name, offsets, scale_bias).astype(_BIASES[dtype])
        operator.inputs = np.array([read, weight, self.graph.add_constant(f"{name}:bias", sums, scale_bias)], np.int32)
        self.emit(operator, dtype, self.result(operator, f"{name}:output"))

    def input(self, source: int, name: str) -> int:
        """The integers that a convolution reads, after the PAD in front of it if there is one."""
        producer = self.graph.producer(source)
        point = f"{name}:input"
        if producer is None or not self.waits(producer):
            return self.rounded(source, entry_of(self.table, point), point)
        inner = int(producer.inputs[0])
        unpadded = self.rounded(inner, entry_of(self.table, point), f"{name}:unpadded")
        return self.padded(producer, unpadded, point)

    def padded(self, pad: Any, unpadded: int, label: str) -> int:
        """A PAD moved into integers."""
        scale, dtype = self.graph.scale(unpadded), self.graph.dtype(unpadded)
        assert scale is not None and dtype is not None
        shape = self.graph.shape(int(pad.outputs[0]))
        result = self.graph.add_tensor(label, shape, dtype, scale[0], zero_point=scale[1])
        pad.inputs = np.array([unpadded, int(pad.inputs[1])], np.int32)
        self.emit(pad, dtype, result)
        return result

    def rounded(self, source: int, entry: Entry, label: str) -> int:
        """A tensor's values on the integers of `entry`, made once, just before the first operator that needs them."""
        known = self.integers.get(source)
        if known is not None and self.on_grid(known, entry):
            return known
        key = (source, entry.scale.tobytes(), entry.zero_point)
        if key not in self._rounded:
            result = self.tensor(label, self.graph.shape(source), entry)
            self._append(OPS.QUANTIZE, source if known is None else known, result, self.graph.dtype(result))
            self._rounded[key] = result
        return self._rounded[key]

    def on_grid(self, tensor: int, entry: Entry) -> bool:
        """Whether a tensor has the scale and the zero point of an entry."""
        found = self.graph.scale(tensor)
        return found is not None and found[1] == entry.zero_point and np.array_equal(found[0], entry.scale)

    def result(self, operator: Any, point: str) -> int:
        """A new integer tensor for what an operator computes, with the entry of `point`."""
        target = int(operator.outputs[0])
        self.integers[target] = self.tensor(point, self.graph.shape(target), entry_of(self.table, point))
        return self.integers[target]

    def tensor(self, name: str, shape: Sequence[int], entry: Entry) -> int:
        return self.graph.add_tensor(name, shape, _ACTIVATIONS[entry.bits], entry.scale, zero_point=entry.zero_point)

    def emit(self, operator: Any, dtype: np.dtype[Any], result: int) -> None:
        """Append an operator of the graph in its integer form, which writes `result`."""
        code = self.graph.code(operator)
        operator.outputs = np.array([result], np.int32)
        self.graph.require_version(operator, _VERSIONS[dtype].get(code, _OTHER_VERSIONS[dtype]))
        self.operators.append(operator)

    def _append(self, code: int, source: int, result: int, dtype: np.dtype[Any] | None) -> None:
        assert dtype is not None
        self.operators.append(self.graph.new_operator(code, _VERSIONS[dtype][code], [source], [result]))
