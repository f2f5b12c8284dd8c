"""Peers: NNCF and ONNX Runtime quantize the same convolutions on the same crops; what they cannot do is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from calm_network import calm_network
from rtmw_edge.targets.base import Precision
from rtmw_edge.targets.export import export
from rtmw_edge.targets.peers import PEERS, TOLERANCE, peer_named
from small_deployable import SmallDeployable, float_logits, relative_rms, smooth_crops

from rtmw_edge import bundle
from rtmw_edge.bundle.manifest import Convolutions
from rtmw_edge.errors import BadInputError, NotAvailableError
from rtmw_edge.models.checkpoints import save_safetensors
from rtmw_edge.runtime.openvino_engine import CONVOLUTIONS, FLOAT_KERNELS
from rtmw_edge.runtime.processor import int8_sums_overflow

CROPS = smooth_crops(8)


def test_onnx_runtime_quantizes_the_convolutions_alone(
    network: SmallDeployable, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from rtmw_edge.runtime.onnx_session import session_options

    steps: list[str] = []
    converted = PEERS["ort"].quantize(network, CROPS[:7], tmp_path, 2, steps.append)
    assert steps == ["tracing the network", "quantizing with ONNX Runtime"] and capfd.readouterr().out == ""
    assert converted.convolutions == {"total": 8, "int8": 8}
    options = session_options(threads=1)
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    session = ort.InferenceSession(str(converted.files["model"]), options)
    ran = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert ran["QLinearConv"] == 8 and ran["Conv"] == 0 and ran["MatMul"] + ran["FusedMatMul"] == 2
    parts = [session.run(list(converted.outputs.values()), {"image": CROPS[at : at + 2]}) for at in (0, 2, 4)]
    for axis, exact in zip(zip(*parts, strict=True), float_logits(network, CROPS[:6]), strict=True):
        assert 1e-3 < relative_rms(np.concatenate(axis), exact) < 0.05


def test_nncf_quantizes_the_convolutions_alone(
    network: SmallDeployable, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    converted = PEERS["nncf"].quantize(network, CROPS, tmp_path, 1, lambda step: None)
    assert capfd.readouterr() == ("", "")
    assert converted.convolutions == {"total": 8, "int8": 8}
    core = openvino.Core()
    model = core.read_model(converted.files["xml"])
    readers = Counter(
        target.get_node().get_type_name()
        for node in model.get_ops()
        if node.get_type_name() == "FakeQuantize"
        for target in node.output(0).get_target_inputs()
    )
    assert readers.total() == 8 and set(readers) <= set(CONVOLUTIONS)
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    integers = Counter(
        operation.get_rt_info()["runtimePrecision"].astype(str)
        for operation in core.compile_model(model, "CPU", hint).get_runtime_model().get_ops()
        if operation.get_rt_info()["layerType"].astype(str) in CONVOLUTIONS
    )
    assert integers.total() == 8 and set(integers) <= {"i8", "u8"}
    compiled = core.compile_model(model, "CPU", hint | (FLOAT_KERNELS if int8_sums_overflow() else {}))
    request = compiled.create_infer_request()
    for axis, exact in zip(converted.outputs.values(), float_logits(network, CROPS), strict=True):
        found = np.concatenate([np.array(request.infer({"image": crop[None]})[axis]) for crop in CROPS])
        assert 1e-3 < relative_rms(found, exact) < 0.05


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nnfc", "openvino", "int8"), "Unknown calibrator 'nnfc'; did you mean 'nncf'? Choose one of: ours, "),
        (("nncf", "onnx", "int8"), "The calibrator nncf writes openvino in int8, not onnx in int8."),
        (("ort", "onnx", "w8"), "The calibrator ort writes onnx in int8, not onnx in w8."),
    ],
)
def test_what_a_peer_cannot_do(arguments: tuple[str, str, str], text: str) -> None:
    name, target, precision = arguments
    with pytest.raises(BadInputError) as caught:
        peer_named(name, target, Precision(precision))
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    "options",
    [
        {"grid": "common"},
        {"table": Path("t.json")},
        {"save_table": Path("t.json")},
        {"floats": ("backbone.stem.0.conv",)},
        {"method": "mse"},
    ],
)
def test_a_peer_takes_no_table(options: dict[str, object], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(BadInputError) as caught:
        export("rtmw-n-256x192", "onnx", "int8", tmp_path / "out", calibrator="ort", **options)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "ort has its own grid and method and makes no table; leave out --grid, --method, --keep-float and tables."
    )


def test_a_peer_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from rtmw_edge.targets import base

    def without(name: str) -> str:
        raise base.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(base.metadata, "version", without)
    with pytest.raises(NotAvailableError, match=r'needs nncf, openvino, .* pip install "rtmw-edge\[peers\]"'):
        peer_named("nncf", "openvino", Precision.INT8)


@pytest.mark.slow
def test_a_bundle_says_which_peer_made_it_from_which_crops(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    weights = tmp_path / "calm.safetensors"
    save_safetensors(calm_network("rtmw-n-256x192"), weights, torch.float32)
    options = {"calibrator": "ort", "calibration": "synthetic:2", "weights": weights}
    with bundle.read(export("rtmw-n-256x192", "onnx", "int8", tmp_path / "out", **options)) as opened:  # type: ignore[arg-type]
        manifest = opened.manifest
    assert (manifest.grid, manifest.scales, manifest.table_sha256) == ("ort", "ort, 2 crops of synthetic:2", None)
    assert manifest.tools.keys() == {"torch", "safetensors", "numba", "onnx", "onnxscript", "onnxruntime"}
    assert manifest.convolutions == Convolutions(80, 80, 1.0) and manifest.tolerance == TOLERANCE
