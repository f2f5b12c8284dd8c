"""Weights stored small in a TFLite file whose arithmetic stays float32: a DEQUANTIZE widens them when it is loaded.

XNNPACK widens them once and runs the same kernels as for a float file; the interpreter's own kernels do so as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rtmw_edge.quantization import Table

from .half_precision import to_half
from .tflite_integers import integer_weight
from .tflite_model import CONVOLUTIONS, OPS, GraphEditor

FLOAT32 = np.dtype(np.float32)

_DEQUANTIZE_FLOAT16, _DEQUANTIZE_CHANNELS = 3, 5
"""Operator versions. Source: TensorFlow Lite, `tools/versioning/op_version.cc`."""

_HAVE_WEIGHTS = (*CONVOLUTIONS, OPS.FULLY_CONNECTED, OPS.BATCH_MATMUL)


def halve_weights(graph: GraphEditor) -> None:
    """Store the weights of convolutions and matrix products as float16, in place."""
    first: list[Any] = []
    widened: dict[int, int] = {}
    for operator in graph.operators(*_HAVE_WEIGHTS):
        weight = int(operator.inputs[1])
        values = graph.constant(weight)
        if values is None or values.dtype != FLOAT32:
            continue
        if weight not in widened:
            half = graph.add_constant(f"{graph.name(weight)}:half", to_half(values, graph.name(weight)))
            widened[weight] = _widen(graph, first, half, _DEQUANTIZE_FLOAT16, graph.name(weight))
        set_weight(operator, widened[weight])
    graph.graph.operators = first + graph.graph.operators


def shrink_weights(graph: GraphEditor, names: Mapping[int, str], table: Table) -> None:
    """Store the weights of the table's convolutions as int8 with its scales, in place.

    `names` maps the index of each convolution's weight tensor to the convolution's name.
    """
    first: list[Any] = []
    for operator in graph.operators(*CONVOLUTIONS):
        name = names[int(operator.inputs[1])]
        if f"{name}:weight" in table.entries:
            stored = integer_weight(graph, operator, name, table)
            set_weight(operator, _widen(graph, first, stored, _DEQUANTIZE_CHANNELS, name))
    graph.graph.operators = first + graph.graph.operators


def _widen(graph: GraphEditor, first: list[Any], stored: int, version: int, name: str) -> int:
    wide = graph.add_tensor(f"{name}:single", graph.shape(stored), FLOAT32)
    first.append(graph.new_operator(OPS.DEQUANTIZE, version, [stored], [wide]))
    return wide


def set_weight(operator: Any, weight: int) -> None:
    """Let a convolution or matrix product read the tensor `weight`."""
    operator.inputs = np.array([operator.inputs[0], weight, *operator.inputs[2:]], np.int32)
