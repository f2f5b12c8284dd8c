"""`rtmw-edge verify`, `inspect` and `doctor` in front of a user."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import tiny_formats
import tiny_models

from rtmw_edge.runtime import machine, processor
from rtmw_edge.runtime.openvino_engine import WITHOUT_DOT_PRODUCT, WITHOUT_VNNI, why_in_float


def test_verify_prints_a_row_for_each_golden_crop(cli: Callable[..., Any], tiny_bundle: Path) -> None:
    done = cli("verify", tiny_bundle, "--threads", 1)
    assert done.code == 0 and done.err == ""
    lines = done.out.splitlines()
    assert lines[0].strip() == f"tiny onnx fp32 in ONNX Runtime {onnxruntime.__version__} on cpu"
    assert [line.split()[-1] for line in lines[2:5]] == ["good", "good", "good"]
    assert lines[2].split()[-3:] == ["0.00", "133", "good"]
    assert lines[5].split() == ["at", "most", "2.00e-03", "0.50"]
    assert lines[6] == "Verified: 2 files by size and sha256, 3 golden crops, 0 of 1 convolutions in int8."


def test_verify_exits_1_beyond_the_tolerance(cli: Callable[..., Any], tmp_path: Path) -> None:
    wrong = tiny_models.write_bundle(tmp_path / "wrong", tiny_formats.onnx(tmp_path, gain=1.1))
    done = cli("verify", wrong)
    assert done.code == 1 and done.out.count("WRONG") == 3
    assert "on golden crop 0 the logits are 0.1 off (relative rms, at most 0.002)" in done.err


def test_verify_refuses_a_changed_byte(cli: Callable[..., Any], tiny_bundle: Path) -> None:
    content = bytearray((tiny_bundle / "model.onnx").read_bytes())
    content[99] ^= 1
    (tiny_bundle / "model.onnx").write_bytes(content)
    done = cli("verify", tiny_bundle)
    assert done.code == 2 and "model.onnx in" in done.err and "is damaged: its sha256 is" in done.err


def test_inspect_says_what_it_is_and_what_runs(cli: Callable[..., Any], tmp_path: Path) -> None:
    written = tiny_models.write_bundle(
        tmp_path / "tiny.zip",
        tiny_formats.onnx(tmp_path, int8=True),
        precision="int8",
        grid="common",
    )
    done = cli("inspect", written)
    assert done.code == 0
    for text in (
        "variant      tiny",
        "precision    int8, grid 'common'",
        "'image' 1 x 64 x 48 x 3 BGR uint8 NHWC",
        "x 'x' 96 bins, y 'y' 128 bins",
        "1 / (1 + exp(-(2 s + -1)))",
        "in the file  1 of 1 convolutions in int8, 100.0 % of their multiply-accumulates",
        "model.onnx  0.05 MB  sha256 ",
        "hand 1",
        "runs here    1 of 1 convolutions in int8, 100.0 % of their multiply-accumulates",
        f" ONNX Runtime {onnxruntime.__version__} on cpu",
        "1  QLinearConv (CPU)",
    ):
        assert text in done.out


def test_inspect_without_the_runtime(
    cli: Callable[..., Any], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = cli("inspect", tiny_bundle)
    assert done.code == 0 and "runs here    This needs ONNX Runtime, which is not installed." in done.out


def test_inspect_of_a_device_that_is_not_there_exits_with_three(cli: Callable[..., Any], tiny_bundle: Path) -> None:
    done = cli("inspect", tiny_bundle, "--device", "npu")
    assert done.code == 3 and "runs here" in done.out and "error: " in done.err


def test_inspect_a_newer_format(cli: Callable[..., Any], tiny_bundle: Path) -> None:
    manifest = tiny_bundle / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 2}))
    done = cli("inspect", tiny_bundle)
    assert done.code == 2
    assert "was written by a newer rtmw-edge (format 2); this one reads up to 1. Upgrade with: pip install" in done.err


def test_doctor(cli: Callable[..., Any]) -> None:
    done = cli("doctor")
    assert done.code == 0
    assert f"ONNX Runtime  onnx       {onnxruntime.__version__}" in done.out
    for word in (
        "Python 3.",
        "int8 instructions: ",
        "numpy ",
        "OpenVINO",
        "LiteRT",
        "ncnn",
        "PyTorch",
        "builtin bundle: ",
    ):
        assert word in done.out


def test_every_extra_that_doctor_names_is_one(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(machine.EXTRAS) <= set(metadata("rtmw-edge").get_all("Provides-Extra") or ())
    monkeypatch.setattr(machine, "_version", lambda name: None)
    done = cli("doctor")
    for extra, (_, distributions) in machine.EXTRAS.items():
        assert f'pip install "rtmw-edge[{extra}]"' in done.out
        assert all(name in done.out for name in distributions)


def test_an_engine_that_is_missing_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_version", lambda name: None)
    states = {state.name: state for state in machine.engine_states()}
    assert states["OpenVINO"].version is None and states["OpenVINO"].install == 'pip install "rtmw-edge[openvino]"'
    assert states["LiteRT"].devices == () and states["ncnn"].install == 'pip install "rtmw-edge[ncnn]"'


def test_an_engine_that_is_broken_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("libcudart.so.12:\n cannot open shared object file")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    state = machine.engine_states()[0]
    assert state.devices == () and state.failed["cpu"] == "libcudart.so.12: cannot open shared object file"


def test_every_installed_engine_opens_on_the_cpu() -> None:
    for state in machine.engine_states():
        if state.version is not None:
            assert "cpu" in state.devices, (state.name, state.failed)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni\n", ["avx2", "avx512_vnni"]),
        ("Features\t: fp asimd asimddp\nCPU part\t: 0xd0b\n", ["asimddp"]),
        ("model name: avx2\n", []),
    ],
)
def test_int8_instructions(tmp_path: Path, text: str, flags: list[str]) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert processor.int8_flags(tmp_path / "cpuinfo") == flags
    assert processor.int8_flags(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("architecture", "flags", "vnni", "overflow", "in_float"),
    [
        ("x86_64", ["avx2", "avx_vnni"], True, False, ""),
        ("AMD64", ["avx2"], False, True, WITHOUT_VNNI),
        ("x86_64", [], False, True, WITHOUT_VNNI),  # nothing is known of it: better slow than wrong
        ("aarch64", ["asimddp"], False, False, ""),
        ("aarch64", [], False, False, WITHOUT_DOT_PRODUCT),
    ],
)
def test_who_sums_int8_in_32_bits(
    monkeypatch: pytest.MonkeyPatch, architecture: str, flags: list[str], vnni: bool, overflow: bool, in_float: str
) -> None:
    monkeypatch.setattr(processor.platform, "machine", lambda: architecture)
    monkeypatch.setattr(processor, "int8_flags", lambda: flags)
    assert (processor.has_vnni(), processor.int8_sums_overflow()) == (vnni, overflow)
    assert why_in_float() == in_float
