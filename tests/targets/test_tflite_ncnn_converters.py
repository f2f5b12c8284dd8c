"""What happens around the converters: failures, hangs, missing packages, weights that cannot be told apart."""

from __future__ import annotations

import errno
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openvino
import pytest
import torch
from rtmw_edge.quantization import W8
from rtmw_edge.targets import target_named
from rtmw_edge.targets.base import Precision, check_scales, installed, precisions
from rtmw_edge.targets.converter_process import run_converter
from rtmw_edge.targets.half_precision import to_half
from rtmw_edge.targets.openvino import write
from rtmw_edge.targets.tflite import converted_graph
from rtmw_edge.targets.weight_matching import check_distinct, match_convolutions
from small_deployable import SmallDeployable, absmax_table, small_deployable

from rtmw_edge.errors import BadInputError, NotAvailableError, RtmwEdgeError


def test_a_failing_converter_is_quoted(tmp_path: Path) -> None:
    script = "import sys; print('loading'); print('Segmentation fault at aten::foo', file=sys.stderr); sys.exit(7)"
    with pytest.raises(RtmwEdgeError, match=r"pnnx could not convert the network \(exit code 7\).*fault at aten::foo"):
        run_converter("pnnx", [sys.executable, "-c", script], tmp_path)


def test_a_crashing_converter_is_told_by_its_signal(tmp_path: Path) -> None:
    with pytest.raises(RtmwEdgeError, match=r"exit code -6.*Its last words: \(none\)"):
        run_converter("pnnx", [sys.executable, "-c", "import os; os.kill(os.getpid(), 6)"], tmp_path)


def test_a_hanging_converter_is_stopped(tmp_path: Path) -> None:
    script = "import time; print('step 3', flush=True); time.sleep(60)"
    with pytest.raises(RtmwEdgeError, match=r"still converting after 1 s and was stopped.*last words: step 3"):
        run_converter("pnnx", [sys.executable, "-c", script], tmp_path, timeout_s=1.0)


def test_a_working_converter_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_converter("pnnx", [sys.executable, "-c", "print('pages of chatter')"], tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("target", "package"), [("tflite", "litert-torch"), ("ncnn", "pnnx"), ("openvino", "onnxscript")]
)
def test_a_missing_package_is_named(target: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = metadata.version

    def version(name: str) -> str:
        if name == package:
            raise metadata.PackageNotFoundError(name)
        return versions(name)

    monkeypatch.setattr("rtmw_edge.targets.base.metadata.version", version)
    with pytest.raises(NotAvailableError) as caught:
        installed(target_named(target).requirements())
    assert str(caught.value) == (
        f'This export needs {package}, which is not installed. Run: pip install "rtmw-edge[export]".'
    )
    assert caught.value.exit_code == 3


def test_weights_too_large_for_half_precision_are_refused() -> None:
    with pytest.raises(
        BadInputError, match=r"Weight 'stem' reaches 1e\+05, more than float16 holds; export it in fp32"
    ):
        to_half(np.array([1e5], np.float32), "stem")


def twins() -> SmallDeployable:
    """With two convolutions of equal weights."""
    network = small_deployable()
    network.attention.conv = torch.nn.Conv2d(24, 24, 3, 1, 1)
    network.attention.conv.load_state_dict(network.down.conv.state_dict())
    return network


def found_in(network: SmallDeployable) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        f"layer {index}": (module.conv.weight.detach().numpy(), module.conv.bias.detach().numpy())
        for index, module in enumerate(network.convolutions().values())
    }


def test_convolutions_are_told_by_their_weights() -> None:
    network = small_deployable()
    matched = match_convolutions(dict(reversed(found_in(network).items())), network)
    assert [matched[f"layer {index}"] for index in range(8)] == list(network.convolutions())


def test_changed_weights_are_noticed() -> None:
    network = small_deployable()
    found = found_in(network)
    weight, bias = found["layer 3"]
    found["layer 3"] = (weight * np.float32(1.001), bias)
    with pytest.raises(RtmwEdgeError, match=r"convolution 'layer 3' with weights of shape \(24, 16, 1, 1\) that no"):
        match_convolutions(found, network)


def test_weights_in_another_shape_are_changed_weights() -> None:
    network = small_deployable()
    found = found_in(network)
    weight, bias = found["layer 3"]
    found["layer 3"] = (weight.reshape(24, 1, 4, 4), bias)
    with pytest.raises(RtmwEdgeError, match=r"convolution 'layer 3' with weights of shape \(24, 1, 4, 4\) that no"):
        match_convolutions(found, network)


def test_equal_weights_are_told_apart_by_their_biases() -> None:
    network = twins()
    with torch.no_grad():
        network.attention.conv.bias.add_(1.0)
    matched = match_convolutions(dict(reversed(found_in(network).items())), network)
    assert [matched[f"layer {index}"] for index in range(8)] == list(network.convolutions())


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_zero_may_change_its_sign(sign: float) -> None:
    """A network that was pruned has zeros of both signs, and a converter may write them alike."""
    network = small_deployable()
    with torch.no_grad():
        network.down.conv.weight[0] = -0.0 * sign
        network.down.conv.bias[0] = -0.0 * sign
    found = {key: (weight.copy(), bias.copy()) for key, (weight, bias) in found_in(network).items()}
    for values in found["layer 4"]:
        values[0] = 0.0 * sign
    assert list(match_convolutions(found, network).values()) == list(network.convolutions())


def test_a_lost_convolution_is_noticed() -> None:
    network = small_deployable()
    found = found_in(network)
    del found["layer 0"]
    with pytest.raises(RtmwEdgeError, match=r"lost 1 convolution\(s\), the first of them 'stem'"):
        match_convolutions(found, network)


def test_equal_convolutions_are_refused_where_scales_depend_on_which_is_which(crops: np.ndarray) -> None:
    network = twins()
    assert list(match_convolutions(found_in(network), network).values()) == list(network.convolutions())
    check_distinct(network, absmax_table(network, crops, W8))
    common = absmax_table(network, crops)
    check_distinct(network, common.leaving_in_float(["attention", "down"]))
    for table in (common, common.leaving_in_float(["down"])):
        with pytest.raises(RtmwEdgeError, match="Convolutions 'down' and 'attention' have the same weights"):
            check_distinct(network, table)


@pytest.mark.parametrize(("target", "package"), [("tflite", "litert_torch"), ("ncnn", "pnnx")])
def test_equal_convolutions_are_written_in_float(target: str, package: str, crops: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip(package)
    network, writer = twins(), target_named(target)
    for precision, table in ((Precision.FP32, None), (Precision.W8, absmax_table(network, crops, W8))):
        if precision in precisions(writer):
            converted = writer.convert(network, table, precision, tmp_path, 1, lambda step: None)
            assert converted.convolutions == {"total": 8, "int8": 0}
            if table is not None:
                check_scales(table, writer.read_scales(converted.files, network), writer)
    with pytest.raises(RtmwEdgeError, match="Convolutions 'down' and 'attention' have the same weights"):
        writer.convert(network, absmax_table(network, crops), Precision.INT8, tmp_path, 1, lambda step: None)


@pytest.mark.parametrize("code", [0, 7])
def test_a_disk_that_a_converter_left_full_is_told(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pnnx cuts its files off there and ends with 0."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=1 << 30, free=4096))
    with pytest.raises(BadInputError, match=rf"^The disk is full while writing {tmp_path}, which was not kept; free"):
        run_converter("pnnx", [sys.executable, "-c", f"raise SystemExit({code})"], tmp_path)


def test_a_disk_that_does_not_tell_its_size_is_not_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=0, free=0))
    run_converter("pnnx", [sys.executable, "-c", "open('done', 'w')"], tmp_path)
    assert (tmp_path / "done").exists()


def test_a_disk_that_is_full_before_tflite_is_converted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch would end the process."""

    def full(path: Path, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BadInputError, match=r"^The disk is full while writing \S+network\.pt2, which was not kept"):
        converted_graph(torch.nn.ReLU(), torch.zeros(1, 3), ["out"], lambda _: None)


def test_a_disk_that_openvino_left_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO says "iostream error"."""
    parameter = openvino.opset13.parameter([1], openvino.Type.f32)
    model = openvino.Model([openvino.opset13.relu(parameter)], [parameter])
    (tmp_path / "model.bin").mkdir()  # it cannot write its file here
    with pytest.raises(RuntimeError):
        write(model, tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=1 << 30, free=0))
    with pytest.raises(BadInputError, match=r"^The disk is full while writing \S+model\.xml, which was not kept"):
        write(model, tmp_path)
