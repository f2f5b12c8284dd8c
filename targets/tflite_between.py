"""The grid `full` in TFLite: integers pass from one convolution to the next, up to the attention tail.

SiLU is LOGISTIC, whose output TFLite fixes at scale 1/256 and zero point -128, and MUL. Sums, products and means have
scales of their own; the inputs of a concatenation are moved to its scale where they differ; maxima, upsampling and
reshapes keep what they read. Operators carry no names: which one is which point of the table follows from the points
that it reads (`quantization.wiring`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rtmw_edge.quantization import Entry, Table
from rtmw_edge.quantization.table import role_of
from rtmw_edge.quantization.wiring import Sources

from rtmw_edge.errors import RtmwEdgeError

from .tflite_integers import IntegerWriter
from .tflite_model import OPS, GraphEditor

ROLES = {
    OPS.LOGISTIC: ("sigmoid",),
    OPS.MUL: ("silu", "product"),
    OPS.ADD: ("sum",),
    OPS.MEAN: ("mean",),
    OPS.CONCATENATION: ("concat",),
}
KEEP = (OPS.MAX_POOL_2D, OPS.RESIZE_NEAREST_NEIGHBOR, OPS.TRANSPOSE, OPS.RESHAPE, OPS.CONCATENATION)
"""Operators that hand on the integers that they read; a concatenation does when all its inputs are on one scale."""

INT8 = np.dtype(np.int8)


class FullWriter(IntegerWriter):
    """Puts every tensor between the first convolution and the tail on integers."""

    def __init__(
        self, graph: GraphEditor, names: Mapping[int, str], table: Table, wiring: Mapping[str, Sources]
    ) -> None:
        super().__init__(graph, names, table)
        points = {point: sources for point, sources in wiring.items() if not point.endswith(":input")}
        self._points = {(role_of(point), sources): point for point, sources in points.items()}
        self._left = set(points)
        self._above: dict[int, Sources] = {}
        """The nearest points above a float tensor."""

    def write(self) -> None:
        super().write()
        if self._left:
            raise RtmwEdgeError(
                f"The converted graph has no operator for {len(self._left)} point(s) of the grid full, the first "
                f"'{min(self._left)}'; use the converter's version that this tool was tested with."
            )

    def input(self, source: int, name: str) -> int:
        producer = self.graph.producer(source)
        if source in self.integers:
            return self.integers[source]
        if producer is not None and self.waits(producer) and int(producer.inputs[0]) in self.integers:
            return self.padded(producer, self.integers[int(producer.inputs[0])], f"{name}:padded")
        return super().input(source, name)

    def convolution(self, operator: Any, name: str) -> None:
        target = int(operator.outputs[0])
        super().convolution(operator, name)
        self._above[target] = frozenset({f"{name}:output"})

    def rewritten(self, operator: Any) -> bool:
        sources = [int(index) for index in operator.inputs]
        target, code = int(operator.outputs[0]), self.graph.code(operator)
        computed = [source for source in sources if self.graph.constant(source) is None]
        if not all(source in self.integers for source in computed):
            return False
        above: Sources = frozenset().union(*(self._above[source] for source in computed))
        point = next((self._points[role, above] for role in ROLES.get(code, ()) if (role, above) in self._points), None)
        if point is not None:
            self._place(operator, point)
            above = frozenset({point})
        elif code == OPS.MUL and len(computed) == 1 and self._feeds_a_product(above):
            self._factor(operator, *sources)
        elif code in KEEP and self._one_scale(computed):
            self._keep(operator, computed)
        else:
            return False
        self._above[target] = above
        return True

    def _place(self, operator: Any, point: str) -> None:
        """An operator whose result is a point of the table."""
        entry = self.table.entries[point]
        result = self.result(operator, point)
        sources = [int(source) for source in operator.inputs]
        if self.graph.code(operator) == OPS.CONCATENATION:
            sources = [self.rounded(source, entry, f"{point}:part") for source in sources]
        operator.inputs = np.array([self.integers.get(source, source) for source in sources], np.int32)
        self.emit(operator, INT8, result)
        self._left.discard(point)

    def _factor(self, operator: Any, source: int, constant: int) -> None:
        """A product with a positive number, such as hardsigmoid's 1/6: the same integers on another scale.

        TFLite has no operator that only says so; times 127 on the scale of number / 127 it computes just that.
        """
        number = self.graph.constant(constant)
        scale = self.graph.scale(self.integers[source])
        assert number is not None and number.size == 1 and float(number) > 0 and scale is not None
        unit = np.array([number.reshape(()) / np.float32(127)], np.float32)
        factor = self.graph.add_constant("factor", np.full(number.shape, 127, np.int8), unit)
        entry = Entry(scale[0] * unit * np.float32(127), scale[1], low=-128)
        target = int(operator.outputs[0])
        self.integers[target] = self.tensor(
            f"{self.graph.name(self.integers[source])}:scaled", self.graph.shape(target), entry
        )
        operator.inputs = np.array([self.integers[source], factor], np.int32)
        self.emit(operator, INT8, self.integers[target])

    def _keep(self, operator: Any, computed: list[int]) -> None:
        """An operator that hands on the integers that it reads."""
        scale = self.graph.scale(self.integers[computed[0]])
        assert scale is not None
        target = int(operator.outputs[0])
        name = f"{self.graph.name(self.integers[computed[0]])}:moved"
        self.integers[target] = self.tensor(name, self.graph.shape(target), Entry(scale[0], scale[1], low=-128))
        operator.inputs = np.array([self.integers.get(int(source), source) for source in operator.inputs], np.int32)
        self.emit(operator, INT8, self.integers[target])

    def _feeds_a_product(self, above: Sources) -> bool:
        return any(role == "product" and above < sources for role, sources in self._points)

    def _one_scale(self, tensors: list[int]) -> bool:
        scales = [self.graph.scale(self.integers[tensor]) for tensor in tensors]
        return len({(scale[0].tobytes(), scale[1]) for scale in scales if scale is not None}) == 1
