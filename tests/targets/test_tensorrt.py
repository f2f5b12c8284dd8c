"""ONNX for TensorRT: only what its parser takes, the table bit for bit, the answers of the fake-quantized network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from calm_network import calm_network
from rtmw_edge.quantization import COMMON, Table
from rtmw_edge.quantization.fake import fake_quantize
from small_deployable import SmallDeployable, absmax_table, float_logits, relative_rms, smooth_crops

from rtmw_edge.errors import BadInputError
from rtmw_edge.runtime.onnx_session import session_options

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, numpy_helper  # noqa: E402
from rtmw_edge.targets import target_named  # noqa: E402
from rtmw_edge.targets.base import Precision, check_scales, grid_of, precisions  # noqa: E402
from rtmw_edge.targets.onnx import float_model  # noqa: E402
from rtmw_edge.targets.rewrites import deployable  # noqa: E402

CROPS = smooth_crops(6)
TARGET = target_named("tensorrt")

SUPPORTED = {
    "Add", "Cast", "Clip", "Concat", "Constant", "Conv", "DepthToSpace", "DequantizeLinear", "Div", "Flatten", "Gemm",
    "GlobalAveragePool", "MatMul", "Max", "MaxPool", "Min", "Mul", "Pow", "QuantizeLinear", "ReduceL2", "ReduceMean",
    "ReduceSum", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Transpose",
    "Unsqueeze",
}  # fmt: skip
"""Of the operators that NVIDIA lists for TensorRT 8.6 to 10 (onnx-tensorrt, docs/operators.md), what a pose network
can have."""


@pytest.fixture(scope="module")
def table(network: SmallDeployable) -> Table:
    return absmax_table(network, CROPS, COMMON)


@pytest.fixture(scope="module")
def written(network: SmallDeployable, table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorrt")
    return TARGET.convert(network, table, Precision.INT8, folder, 1, lambda _: None).files["model"]


def test_every_operator_is_one_of_tensorrts(written: Path) -> None:
    model = onnx.load(written)
    assert {item.domain for item in model.opset_import} == {""}
    assert {node.op_type for node in model.graph.node} <= SUPPORTED


def test_so_it_is_in_the_network_that_ships() -> None:
    model = float_model(deployable(calm_network("rtmw-n-256x192")), 1, lambda _: None)
    assert {item.domain for item in model.opset_import} == {""}
    assert {node.op_type for node in model.graph.node} <= SUPPORTED


def test_integers_are_signed_with_zero_points_of_zero_and_biases_float(written: Path) -> None:
    model = onnx.load(written)
    values = {item.name: item for item in model.graph.initializer}
    quantizers = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in quantizers:
        zero = values[node.input[2]]
        assert zero.data_type == TensorProto.INT8 and not numpy_helper.to_array(zero).any()
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 8 and len(quantizers) > 2 * len(convolutions)
    assert {values[node.input[2]].data_type for node in convolutions} == {TensorProto.FLOAT}


def test_the_table_is_in_the_file_bit_for_bit(written: Path, network: SmallDeployable, table: Table) -> None:
    read = TARGET.read_scales({"model": written}, network)
    check_scales(table, read, TARGET)
    held = table.carrying(["input", "weight"]).entries
    assert len(held) == 16 and read.keys() == held.keys()
    assert all(read[point].numbers.tobytes() == entry.scale.tobytes() for point, entry in held.items())


def test_it_answers_as_the_fake_quantized_network(written: Path, network: SmallDeployable, table: Table) -> None:
    """On a CPU, by ONNX Runtime."""
    session = ort.InferenceSession(written.read_bytes(), session_options(threads=1), ["CPUExecutionProvider"])
    found = [np.concatenate(axis) for axis in zip(*(session.run(None, {"image": x[None]}) for x in CROPS), strict=True)]
    expected = float_logits(fake_quantize(network, table, TARGET.carried(table.grid)), CROPS)
    for one, other in zip(found, expected, strict=True):
        assert relative_rms(one, other) < 0.02


def test_only_symmetric_grids() -> None:
    assert set(precisions(TARGET)) == {"fp32", "fp16", "int8", "int8-mixed"}
    with pytest.raises(BadInputError, match=r"^tensorrt cannot honour the grid affine in int8: it has common\.$"):
        grid_of(TARGET, Precision.INT8, "affine")
