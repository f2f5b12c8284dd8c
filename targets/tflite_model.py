"""The TFLite format: a flatbuffer of operators, tensors and buffers, edited in place through its own schema.

One subgraph, as the converter writes. `GraphEditor` adds constants, tensors and operators; saving drops what nothing
uses any more, so that replaced float weights do not stay in the file.
Source: `schema.fbs` of LiteRT, whose generated object API comes with ai-edge-litert.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError, VerificationError

FILE_IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16
"""The schema's `force_align` of weight data, which the plain Python builder would not keep."""

OPS: Any = schema.BuiltinOperator
CONVOLUTIONS = (OPS.CONV_2D, OPS.DEPTHWISE_CONV_2D)

_DTYPES: dict[Any, np.dtype[Any]] = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.FLOAT16: np.dtype("<f2"),
    schema.TensorType.INT8: np.dtype("i1"),
    schema.TensorType.INT16: np.dtype("<i2"),
    schema.TensorType.INT32: np.dtype("<i4"),
    schema.TensorType.INT64: np.dtype("<i8"),
}
_TYPES = {dtype: kind for kind, dtype in _DTYPES.items()}


class _Builder(flatbuffers.Builder):
    """A builder that aligns vectors of numpy data."""

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:
        data = np.ascontiguousarray(x).view(np.uint8) if x.size else x.astype(np.uint8)
        self.StartVector(x.itemsize, x.size, max(BUFFER_ALIGNMENT, x.itemsize))
        self.head -= data.size
        self.Bytes[self.head : self.head + data.size] = data.tobytes()
        self.vectorNumElems = x.size
        return int(self.EndVector())


class GraphEditor:
    """One TFLite file's graph. Tensors are named by index, operators are the schema's `OperatorT` objects."""

    def __init__(self, path: Path) -> None:
        """Read a file; raises BadInputError when it is not a TFLite model of one subgraph."""
        data = Path(path).read_bytes()
        if data[4:8] != FILE_IDENTIFIER:
            raise BadInputError(f"{path} is not a TFLite model: it lacks the mark {FILE_IDENTIFIER.decode()}.")
        self.model = schema.ModelT.InitFromPackedBuf(bytearray(data))
        if len(self.model.subgraphs) != 1:
            raise BadInputError(f"{path} has {len(self.model.subgraphs)} subgraphs; only models of one can be read.")
        self.graph = self.model.subgraphs[0]

    def save(self, path: Path) -> None:
        """Write the graph without unused tensors, buffers and operator codes."""
        self._drop_unused()
        builder = _Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), FILE_IDENTIFIER)
        Path(path).write_bytes(builder.Output())

    def code(self, operator: Any) -> int:
        """The builtin operator code."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        return int(max(code.builtinCode, code.deprecatedBuiltinCode))

    def operators(self, *codes: int) -> Iterator[Any]:
        """The operators with one of `codes`, in the order in which they run."""
        return (operator for operator in self.graph.operators if self.code(operator) in codes)

    def consumers(self, tensor: int) -> list[Any]:
        """The operators that read a tensor."""
        return [operator for operator in self.graph.operators if tensor in list(operator.inputs)]

    def producer(self, tensor: int) -> Any | None:
        """The operator that writes a tensor; None for a constant or an input."""
        return next((op for op in self.graph.operators if tensor in list(op.outputs)), None)

    def name(self, tensor: int) -> str:
        """A tensor's name."""
        raw = self.graph.tensors[tensor].name
        return raw.decode() if isinstance(raw, bytes) else str(raw or "")

    def dtype(self, tensor: int) -> np.dtype[Any] | None:
        """A tensor's element type, None for one that is not read here."""
        return _DTYPES.get(self.graph.tensors[tensor].type)

    def constant(self, tensor: int) -> NDArray[Any] | None:
        """A constant tensor's value, None when it is computed or of a type that is not read here."""
        described = self.graph.tensors[tensor]
        data = self.model.buffers[described.buffer].data
        dtype = self.dtype(tensor)
        if described.buffer == 0 or data is None or len(data) == 0 or dtype is None:
            return None
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype).reshape(self.shape(tensor))

    def add_constant(
        self, name: str, value: NDArray[Any], scale: NDArray[np.float32] | None = None, axis: int = 0
    ) -> int:
        """A new constant tensor, quantized with zero point 0 where a scale is given."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(value.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        tensor = self.add_tensor(name, value.shape, value.dtype, scale, axis)
        self.graph.tensors[tensor].buffer = len(self.model.buffers) - 1
        return tensor

    def add_tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: np.dtype[Any],
        scale: NDArray[np.float32] | None = None,
        axis: int = 0,
        zero_point: int = 0,
    ) -> int:
        """A new tensor that an operator will write, quantized where a scale is given; returns its index."""
        tensor = schema.TensorT()
        tensor.name = name
        tensor.shape = np.asarray(shape, np.int32)
        tensor.type = _TYPES[np.dtype(dtype)]
        tensor.hasRank = True
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.asarray(scale, np.float32)
            tensor.quantization.zeroPoint = np.full(len(scale), zero_point, np.int64)
            tensor.quantization.quantizedDimension = axis
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def shape(self, tensor: int) -> tuple[int, ...]:
        """A tensor's shape."""
        shape = self.graph.tensors[tensor].shape
        return () if shape is None else tuple(int(size) for size in shape)

    def scale(self, tensor: int) -> tuple[NDArray[np.float32], int] | None:
        """A tensor's scales (1,) or (C,) and its zero point, None where it is not quantized.

        Raises VerificationError for several zero points, which no tensor of ours has.
        """
        described = self.graph.tensors[tensor].quantization
        if described is None or described.scale is None or not len(described.scale):
            return None
        zero_points = {int(value) for value in described.zeroPoint} if described.zeroPoint is not None else {0}
        if len(zero_points) != 1:
            raise VerificationError(
                f"The tensor '{self.name(tensor)}' has {len(zero_points)} zero points; ours have one."
            )
        return np.asarray(described.scale, np.float32), zero_points.pop()

    def new_operator(self, code: int, version: int, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
        """An operator without options that is not in the graph yet."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._opcode(code, version)
        operator.inputs = np.asarray(inputs, np.int32)
        operator.outputs = np.asarray(outputs, np.int32)
        return operator

    def require_version(self, operator: Any, version: int) -> None:
        """State that an operator needs at least `version`, as its int8 form does."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        code.version = max(code.version, version)

    def _opcode(self, builtin: int, version: int) -> int:
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin and code.version == version:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def rename_signature(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Name the graph's inputs and outputs, in the order of the signature, for both ways in which runtimes ask."""
        signature = self.model.signatureDefs[0]
        for maps, names in ((signature.inputs, inputs), (signature.outputs, outputs)):
            if len(maps) != len(names):
                raise BadInputError(f"The converted graph has {len(maps)} tensors where {', '.join(names)} belong.")
            ordered = sorted(maps, key=lambda entry: _trailing_number(entry.name))
            for entry, name in zip(ordered, names, strict=True):
                entry.name = name
                self.graph.tensors[entry.tensorIndex].name = name

    def _drop_unused(self) -> None:
        graph, model = self.graph, self.model
        signatures = model.signatureDefs or []
        maps = [entry for signature in signatures for entry in (*signature.inputs, *signature.outputs)]
        used = {int(i) for op in graph.operators for i in (*op.inputs, *op.outputs) if i >= 0}
        used |= {int(i) for i in (*graph.inputs, *graph.outputs)} | {int(entry.tensorIndex) for entry in maps}
        kept = sorted(used)
        position = {old: new for new, old in enumerate(kept)} | {-1: -1}
        graph.tensors = [graph.tensors[i] for i in kept]
        for holder, key in [(graph, "inputs"), (graph, "outputs")] + [
            (op, key) for op in graph.operators for key in ("inputs", "outputs")
        ]:
            setattr(holder, key, np.array([position[int(i)] for i in getattr(holder, key)], np.int32))
        for entry in maps:
            entry.tensorIndex = position[int(entry.tensorIndex)]
        holders = [*graph.tensors, *(model.metadata or [])]
        buffers = sorted({0} | {int(holder.buffer) for holder in holders})
        moved = {old: new for new, old in enumerate(buffers)}
        model.buffers = [model.buffers[i] for i in buffers]
        for holder in holders:
            holder.buffer = moved[int(holder.buffer)]
        codes = sorted({int(op.opcodeIndex) for op in graph.operators})
        model.operatorCodes = [model.operatorCodes[i] for i in codes]
        for op in graph.operators:
            op.opcodeIndex = codes.index(int(op.opcodeIndex))


def _trailing_number(name: bytes | str) -> int:
    text = name.decode() if isinstance(name, bytes) else name
    digits = text.rpartition("_")[2]
    return int(digits) if digits.isdigit() else 0
