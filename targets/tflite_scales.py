"""Read-back: which scale a TFLite file holds for which point of the quantization table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rtmw_edge.quantization.table import BETWEEN, role_of

from .base import Stored
from .tflite_model import CONVOLUTIONS, OPS, GraphEditor

INTEGERS = (np.dtype(np.int8), np.dtype(np.int16))


def stored_in(graph: GraphEditor) -> dict[str, Stored]:
    """Scales and zero points by point.

    Those of a convolution are read from the tensors that its operator really takes and gives, those of what stands
    between convolutions from the tensor of that name.
    """
    return {point: stored for point, tensor in _points(graph) if (stored := _stored(graph, tensor)) is not None}


def computes_int8(graph: GraphEditor) -> int:
    """How many convolutions multiply int8 by int8."""
    return sum(
        all(graph.dtype(int(index)) == np.int8 for index in operator.inputs[:2])
        for operator in graph.operators(*CONVOLUTIONS)
    )


def _points(graph: GraphEditor) -> Iterator[tuple[str, int]]:
    for operator in graph.operators(*CONVOLUTIONS):
        source, weight = (int(index) for index in operator.inputs[:2])
        widened = graph.producer(weight)
        if widened is not None and graph.code(widened) == OPS.DEQUANTIZE:
            weight = int(widened.inputs[0])
        name, _, role = graph.name(weight).rpartition(":")
        if role != "weight":
            continue
        yield f"{name}:weight", weight
        yield f"{name}:output", int(operator.outputs[0])
        if graph.name(source).endswith(":input"):  # on the grid `full` it is another operator's point
            yield f"{name}:input", source
    for tensor in range(len(graph.graph.tensors)):
        if role_of(graph.name(tensor)) in BETWEEN:
            yield graph.name(tensor), tensor


def _stored(graph: GraphEditor, tensor: int) -> Stored | None:
    scale = graph.scale(tensor) if graph.dtype(tensor) in INTEGERS else None
    return None if scale is None else Stored(*scale)
