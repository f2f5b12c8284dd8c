"""Detectors small enough to write by hand: ONNX files with the graphs' marks of RTMDet and YOLOX, and known answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

KERNELS: dict[str, list[tuple[int, ...]]] = {
    "yolox": [(4, 12, 3, 3), (4, 4, 1, 1)],
    "rtmdet": [(4, 3, 3, 3), (4, 1, 5, 5)],
    "resnet": [(4, 3, 7, 7), (4, 4, 3, 3)],
}
"""Weights of the first two convolutions: YOLOX's sees 2x2 pixels as 12 channels, RTMDet's blocks are 5x5 depthwise."""


def write_detector(
    path: Path,
    family: str,
    outputs: Mapping[str, NDArray],
    size: Sequence[int | str] = (96, 64),
    *,
    exp: bool = False,
    kind: int = TensorProto.FLOAT,
) -> Path:
    """A network of `family` for inputs of `size` (width, height) whatever it sees, it answers `outputs`.

    An output that is a list of channels, int8, is instead the mean of each of those channels of its input. With `exp`
    an Exp is in the graph.
    """
    weights = [
        numpy_helper.from_array(np.zeros(shape, np.float32), f"w{index}") for index, shape in enumerate(KERNELS[family])
    ]
    channels = "x"
    nodes = [helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT)]
    if family == "yolox":
        nodes.append(helper.make_node("Concat", ["x"] * 4, ["focus"], axis=1))
        channels = "focus"
    groups = KERNELS[family][1][0] // max(KERNELS[family][1][1], 1) if family == "rtmdet" else 1
    nodes += [
        helper.make_node("Conv", [channels, "w0"], ["a"]),
        helper.make_node("Conv", ["a", "w1"], ["b"], group=groups),
        helper.make_node("ReduceMax", ["b"], ["zero"], keepdims=0),
    ]
    if exp:
        nodes += [helper.make_node("Exp", ["zero"], ["one"]), helper.make_node("Sub", ["one", "one"], ["nothing"])]
    values = []
    for name, array in outputs.items():
        weights.append(numpy_helper.from_array(array, f"{name}_is"))
        if np.issubdtype(array.dtype, np.floating):
            nodes.append(helper.make_node("Add", [f"{name}_is", "nothing" if exp else "zero"], [name]))
        else:
            nodes.append(helper.make_node("Identity", [f"{name}_is"], [name]))
        values.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
    image = helper.make_tensor_value_info("image", kind, [1, 3, *reversed(size)])
    graph = helper.make_graph(nodes, "detector", [image], values, weights)
    onnx.save(_model(graph), path)
    return path


def write_mirror(path: Path, family: str) -> Path:
    """An end-to-end network of `family` whose one box is (0, 0, 8 + mean of channel 0, 8 + mean of channel 1).

    Its score is 0.5 plus a thousandth of the mean of channel 2: the box tells which numbers went in.
    """
    write_detector(path, family, {})
    graph = onnx.load(path).graph
    pieces = {"pick": np.array([[0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0.001]]), "base": [[0, 0, 8, 8, 0.5]]}
    for name, array in pieces.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
    graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1), np.int64), "person"))
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 5], np.int64), "shape"))
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["x"], ["means"], axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", ["means", "pick"], ["picked"]),
            helper.make_node("Add", ["picked", "base"], ["row"]),
            helper.make_node("Add", ["row", "zero"], ["rows"]),
            helper.make_node("Reshape", ["rows", "shape"], ["dets"]),
            helper.make_node("Identity", ["person"], ["labels"]),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, 1, 5]))
    graph.output.append(helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 1]))
    onnx.save(_model(graph), path)
    return path


def end_to_end(rows: Sequence[Sequence[float]], labels: Sequence[int]) -> dict[str, NDArray]:
    """mmdeploy's two outputs: `rows` of x1 y1 x2 y2 score, and the class of each."""
    return {"dets": np.array([rows], np.float32).reshape(1, -1, 5), "labels": np.array([labels], np.int64)}


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
