"""What an ONNX file says of its operators and of the weights of its convolutions, read without the onnx package.

RTMDet and YOLOX have the same inputs and outputs in mmdeploy's export, but want other pixels, so that the network
itself must tell which it is. ONNX Runtime does not show a graph, and boards do not have the onnx package: this reads
just these fields of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) in protobuf's wire format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR = 1, 2, 4
TENSOR_DIMS, TENSOR_NAME = 1, 8


class Graph(NamedTuple):
    """The `operators` of a network, and the weight shapes (out, in, h, w) of its convolutions in their order.

    Weights that are cast (half precision in the file) count as they are stored; convolutions whose weights are computed
    in the graph otherwise (8-bit ones, say) are left out.
    """

    operators: frozenset[str]
    kernels: tuple[tuple[int, ...], ...]


def read_graph(model: bytes) -> Graph:
    """The graph in the bytes of an ONNX file. Raises ValueError for what is none."""
    shapes: dict[bytes, tuple[int, ...]] = {}
    nodes: list[tuple[str, list[bytes], list[bytes]]] = []
    for part in _parts(memoryview(model), MODEL_GRAPH):
        for number, value in _fields(part):
            if number == GRAPH_INITIALIZER and isinstance(value, memoryview):
                name, shape = _tensor(value)
                shapes[name] = shape
            elif number == GRAPH_NODE and isinstance(value, memoryview):
                operator = b"".join(bytes(text) for text in _parts(value, NODE_OPERATOR)).decode()
                inputs, outputs = (
                    [bytes(text) for text in _parts(value, which)] for which in (NODE_INPUT, NODE_OUTPUT)
                )
                nodes.append((operator, inputs, outputs))
    kernels = []
    for operator, inputs, outputs in nodes:
        if operator == "Cast" and inputs[0] in shapes:
            shapes[outputs[0]] = shapes[inputs[0]]
        elif operator == "Conv" and len(inputs) > 1 and inputs[1] in shapes:
            kernels.append(shapes[inputs[1]])
    return Graph(frozenset(name for name, _, _ in nodes), tuple(kernels))


def _tensor(data: memoryview) -> tuple[bytes, tuple[int, ...]]:
    name, dims = b"", []
    for number, value in _fields(data):
        if number == TENSOR_NAME and isinstance(value, memoryview):
            name = bytes(value)
        elif number == TENSOR_DIMS and isinstance(value, int):
            dims.append(value)
        elif number == TENSOR_DIMS and isinstance(value, memoryview):  # packed: all in one field
            at = 0
            while at < len(value):
                one, at = _varint(value, at)
                dims.append(one)
    return name, tuple(dims)


def _parts(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """The values of the field `wanted` that have a length: messages and strings."""
    for number, value in _fields(data):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of every field of a message: integers as they are, everything else as its bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            number, at = _varint(data, at)
            yield key >> 3, number
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} is not protobuf's")
        if at + size > len(data):
            raise ValueError("a field is longer than its message")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The integer at `at` in groups of seven bits, lowest first, and where it ends."""
    value = shift = 0
    while shift < 70:
        if at >= len(data):
            raise ValueError("the file ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number is longer than 64 bits")
