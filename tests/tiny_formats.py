"""The tiny network of `tiny_models` written by hand in every format, without any of the product's converters."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny_models import COLOURS, HEIGHT, KEYPOINTS, WIDTH, doubling

INPUT_SCALE, SEEN_SCALE = 255 / 127, 30 / 127
"""Symmetric int8 scales of what the convolution reads and writes."""


def onnx(folder: Path, *, batch: int = 1, int8: bool = False, gain: float = 1.0) -> dict[str, Path]:
    """model.onnx; `int8` puts Q/DQ around the convolution; a `gain` other than 1 makes every answer wrong."""
    from onnx import TensorProto, helper, numpy_helper

    node, constant = helper.make_node, numpy_helper.from_array
    weights = (COLOURS / 255 * gain).reshape(KEYPOINTS, 3, 1, 1).astype(np.float32)
    nodes = [
        node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    constants = [constant(doubling(WIDTH), "wide"), constant(doubling(HEIGHT), "high")]
    if int8:
        quantized, scales = quantized_weights(weights)
        constants += [
            constant(quantized, "w8"),
            constant(scales, "ws"),
            constant(np.zeros(KEYPOINTS, np.int8), "w0"),
            constant(np.float32(INPUT_SCALE), "is"),
            constant(np.float32(SEEN_SCALE), "os"),
            constant(np.uint8(128), "zero"),
        ]
        nodes += [
            node("QuantizeLinear", ["planes", "is", "zero"], ["planes8"]),
            node("DequantizeLinear", ["planes8", "is", "zero"], ["conv_in"]),
            node("DequantizeLinear", ["w8", "ws", "w0"], ["w"], axis=0),
            node("Conv", ["conv_in", "w"], ["conv_out"]),
            node("QuantizeLinear", ["conv_out", "os", "zero"], ["seen8"]),
            node("DequantizeLinear", ["seen8", "os", "zero"], ["seen"]),
        ]
    else:
        constants.append(constant(weights, "w"))
        nodes.append(node("Conv", ["planes", "w"], ["seen"]))
    nodes += [
        node("ReduceMean", ["seen"], ["columns"], axes=[2], keepdims=0),
        node("ReduceMean", ["seen"], ["rows"], axes=[3], keepdims=0),
        node("MatMul", ["columns", "wide"], ["x"]),
        node("MatMul", ["rows", "high"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [value("image", TensorProto.UINT8, [batch, HEIGHT, WIDTH, 3])],
        [
            value("x", TensorProto.FLOAT, [batch, KEYPOINTS, 2 * WIDTH]),
            value("y", TensorProto.FLOAT, [batch, KEYPOINTS, 2 * HEIGHT]),
        ],
        constants,
    )
    path = folder / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return {"model": path}


def openvino(folder: Path, *, batch: int = 1, int8: bool = False) -> dict[str, Path]:
    """model.xml and model.bin, by OpenVINO's own ONNX reader."""
    import openvino

    model = openvino.Core().read_model(onnx(folder, batch=batch, int8=int8)["model"])
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return {"xml": folder / "model.xml", "bin": folder / "model.bin"}


def ncnn(folder: Path, *, int8: bool = False) -> dict[str, Path]:
    """model.param and model.bin."""
    weights = (COLOURS / 255).astype(np.float32)
    scale_term = " 8=2" if int8 else ""
    layers = [
        "Input in0 0 1 in0",
        f"Convolution conv 1 1 in0 seen 0={KEYPOINTS} 1=1 5=0 6={weights.size}{scale_term}",
        "Split split 1 2 seen seen_a seen_b",
        "Reduction columns 1 1 seen_a columns 0=3 1=0 -23303=1,1 4=0 5=1",
        "Reduction rows 1 1 seen_b rows 0=3 1=0 -23303=1,2 4=0 5=1",
        f"InnerProduct wide 1 1 columns out0 0={2 * WIDTH} 1=0 2={2 * WIDTH * WIDTH}",
        f"InnerProduct high 1 1 rows out1 0={2 * HEIGHT} 1=0 2={2 * HEIGHT * HEIGHT}",
    ]
    (folder / "model.param").write_text("\n".join(["7767517", "7 8", *layers]) + "\n")
    if int8:
        quantized, scales = quantized_weights(weights)
        padding = bytes(-quantized.size % 4)
        convolution = struct.pack("<I", 0x000D4B38) + quantized.tobytes() + padding
        convolution += (1 / scales).astype("<f4").tobytes() + struct.pack("<f", 1 / INPUT_SCALE)
    else:
        convolution = bytes(4) + weights.astype("<f4").tobytes()
    lines = [bytes(4) + doubling(size).T.astype("<f4").tobytes() for size in (WIDTH, HEIGHT)]
    (folder / "model.bin").write_bytes(convolution + b"".join(lines))
    return {"param": folder / "model.param", "bin": folder / "model.bin"}


def tflite(folder: Path, *, batch: int = 1, int8: bool = False) -> dict[str, Path]:
    """model.tflite, through the schema's object API."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    graph = _Graph(schema)
    kind = schema.TensorType
    image = graph.tensor("image", (batch, HEIGHT, WIDTH, 3), kind.UINT8)
    pixels = graph.tensor("pixels", (batch, HEIGHT, WIDTH, 3))
    seen = graph.tensor("seen", (batch, HEIGHT, WIDTH, KEYPOINTS))
    graph.operator("CAST", [image], [pixels], options=schema.CastOptionsT())
    weights = (COLOURS / 255).reshape(KEYPOINTS, 1, 1, 3).astype(np.float32)
    bias = graph.constant("bias", np.zeros(KEYPOINTS, np.int32 if int8 else np.float32))
    convolution = schema.Conv2DOptionsT()
    convolution.strideW = convolution.strideH = convolution.dilationWFactor = convolution.dilationHFactor = 1
    if int8:
        quantized, scales = quantized_weights(weights)
        pixels8 = graph.tensor("pixels8", (batch, HEIGHT, WIDTH, 3), kind.INT8, [INPUT_SCALE])
        seen8 = graph.tensor("seen8", (batch, HEIGHT, WIDTH, KEYPOINTS), kind.INT8, [SEEN_SCALE])
        graph.quantize(bias, scales * INPUT_SCALE)
        kernel = graph.constant("kernel", quantized)
        graph.quantize(kernel, scales)
        graph.operator("QUANTIZE", [pixels], [pixels8])
        graph.operator("CONV_2D", [pixels8, kernel, bias], [seen8], options=convolution, version=3)
        graph.operator("DEQUANTIZE", [seen8], [seen], version=2)
    else:
        graph.operator("CONV_2D", [pixels, graph.constant("kernel", weights), bias], [seen], options=convolution)
    outputs = []
    for name, axis, size in (("x", 1, WIDTH), ("y", 2, HEIGHT)):
        mean, turned = (
            graph.tensor(f"{name}m", (batch, size, KEYPOINTS)),
            graph.tensor(f"{name}t", (batch, KEYPOINTS, size)),
        )
        outputs.append(graph.tensor(name, (batch, KEYPOINTS, 2 * size)))
        graph.operator("MEAN", [seen, graph.constant(f"{name}a", np.array([axis], np.int32))], [mean])
        graph.operator("TRANSPOSE", [mean, graph.constant(f"{name}p", np.array([0, 2, 1], np.int32))], [turned])
        dense = schema.FullyConnectedOptionsT()
        dense.keepNumDims = True
        lines = graph.constant(f"{name}w", np.ascontiguousarray(doubling(size).T))
        graph.operator("FULLY_CONNECTED", [turned, lines, -1], [outputs[-1]], options=dense)
    builder = flatbuffers.Builder(1 << 18)
    builder.Finish(graph.model([image], outputs).Pack(builder), b"TFL3")
    (folder / "model.tflite").write_bytes(builder.Output())
    return {"model": folder / "model.tflite"}


def quantized_weights(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 weights and their scale (outputs,): absmax / 127 of each output channel."""
    rows = weights.reshape(len(weights), -1)
    scales = (np.abs(rows).max(axis=1) / 127).astype(np.float32)
    return np.round(rows / scales[:, None]).astype(np.int8).reshape(weights.shape), scales


class _Graph:
    """One TFLite subgraph being put together."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]

    def tensor(self, name: str, shape: tuple[int, ...], kind: int = 0, scales: list[float] | None = None) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, 0
        self.tensors.append(tensor)
        if scales is not None:
            self.quantize(len(self.tensors) - 1, np.array(scales))
        return len(self.tensors) - 1

    def constant(self, name: str, values: NDArray) -> int:
        kinds = {"float32": self.schema.TensorType.FLOAT32, "int32": self.schema.TensorType.INT32}
        index = self.tensor(name, values.shape, kinds.get(values.dtype.name, self.schema.TensorType.INT8))
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.buffers.append(buffer)
        self.tensors[index].buffer = len(self.buffers) - 1
        return index

    def quantize(self, tensor: int, scales: NDArray) -> None:
        parameters = self.schema.QuantizationParametersT()
        parameters.scale, parameters.zeroPoint = scales.astype(np.float32), np.zeros(len(scales), np.int64)
        self.tensors[tensor].quantization = parameters

    def operator(self, name: str, inputs: list[int], outputs: list[int], options: Any = None, version: int = 1) -> None:
        operator, code = self.schema.OperatorT(), self.schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(self.schema.BuiltinOperator, name)
        code.version = version
        self.codes.append(code)
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self.codes) - 1, inputs, outputs
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(options).__name__[:-1])
        self.operators.append(operator)

    def model(self, inputs: list[int], outputs: list[int]) -> Any:
        graph, model = self.schema.SubGraphT(), self.schema.ModelT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self.tensors, self.operators, inputs, outputs
        model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, self.codes, [graph], self.buffers
        return model
