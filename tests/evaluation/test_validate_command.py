"""`rtmw-edge validate` from its arguments to its tables, files, verdicts and refusals."""

from __future__ import annotations

import importlib.util
import json
from io import StringIO
from pathlib import Path

import onnxruntime
import pytest
import tiny_formats
import tiny_models
import torch
from coco_files import document, write_images
from rich.console import Console
from rtmw_edge.targets.export import export

from rtmw_edge.cli import main
from rtmw_edge.cli.validate import _table
from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import save_safetensors
from rtmw_edge.models.variants import variant_named
from rtmw_edge.models.weights import find
from rtmw_edge.runtime import builtin_path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A bundle whose network follows the brightest row and column."""
    return tiny_models.write_bundle(tmp_path / "tiny", tiny_formats.onnx(tmp_path))


@pytest.fixture
def data(tmp_path: Path) -> str:
    (tmp_path / "labels.json").write_text(json.dumps(document(images=3)))
    write_images(tmp_path, 3)
    return f"coco:{tmp_path / 'labels.json'}:{tmp_path}"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["validate", *(str(argument) for argument in arguments)])
    return int(left.value.code or 0)


def test_a_bundle_against_itself(tiny: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without PyTorch, with both files; nothing moved, and the report says so."""
    (tmp_path / "mine.toml").write_text("[whole]\npx_p99 = 0\n")
    files = ["--report", tmp_path / "page.html", "--json", tmp_path / "figures.json"]
    assert run(tiny, "--reference", tiny, "--data", data, "--threads", 1, "--gate", tmp_path / "mine.toml", *files) == 0
    printed = capsys.readouterr().out
    assert "The gate 'mine' passed against tiny on coco:labels.json:" in printed
    assert "tiny was not checked against float64: it is not in float32, or its weights are not here." in printed
    assert all(word in printed for word in ("AP, points", "lost (95 %)", "apart, px", "by more than one", "left hand"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["gate"]["passed"] and figures["ap"]["whole"]["drop"] == {"value": 0, "low": 0, "high": 0}
    assert figures["environment"]["rtmw-edge"] and figures["notes"][0].startswith("tiny was not checked")
    assert "put every keypoint that the reference is sure of on the same pixel" in (tmp_path / "page.html").read_text()


def test_detections_that_lie_outside_are_left_out_and_said(
    tiny: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = {"image_id": 1, "category_id": 1, "bbox": [900, 0, 50, 50], "score": 0.9}
    (tmp_path / "boxes.json").write_text(json.dumps([box, {**box, "bbox": [9, 9, 50, 50]}]))
    (tmp_path / "mine.toml").write_text("[whole]\npx_p99 = 0\n")
    arguments = ["--reference", tiny, "--data", data, "--detections", tmp_path / "boxes.json"]
    assert run(tiny, *arguments, "--gate", tmp_path / "mine.toml") == 0
    assert "1 of 2 detections lie outside their image or are empty, and were left out." in capsys.readouterr().out


def test_a_network_of_another_size_is_refused(tiny: Path, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("builtin", "--reference", tiny, "--data", data) == 2
    told = capsys.readouterr().err
    assert "The reference tiny takes 48x64 crops" in told and "one input size, both in 2D or both in 3D." in told


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["builtin", "--reference", "torch:gpu"], 2, "error: Unknown reference 'torch:gpu'; did you mean 'torch:cpu'?"),
        (["builtin", "--reference", "torhc:cpu"], 2, "error: Unknown reference 'torhc:cpu'; did you mean 'torch:cpu'?"),
        (["builtin", "--json", "/dev/null/x.json"], 2, "error: Cannot write '/dev/null/x.json': /dev/null is a file,"),
        (["builtin", "--reference", "./nowhere"], 2, "error: There is no bundle at nowhere: check the path"),
        (["./nowhere"], 2, "error: There is no bundle at nowhere: check the path"),
        (["builtin", "--gate", "none.toml"], 2, "error: There is no gate at none.toml: check the path, or take"),
        (["builtin", "--data", "synthetic:test"], 2, "error: Unknown split of rendered people 'test'"),
        (
            ["builtin", "--reference", "builtin", "--weights", "w.pth"],
            2,
            "error: --weights goes with torch:cpu, torch:",
        ),
        (["builtin", "--weights", "none.pth"], 2, "error: There are no weights at 'none.pth'. Pass --weights"),
        (["builtin", "--device", "npu"], 3, "error: ONNX Runtime has no device 'npu': onnx bundles run on cpu"),
        (["builtin", "--report", "/tmp"], 2, "error: Cannot write '/tmp': it is a folder. Name a file."),
    ],
)
def test_refusals(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments, "--limit", 2) == code
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_a_reference_on_a_gpu_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("builtin", "--reference", "torch:cuda", "--limit", 2) == 3
    assert "error: There is no device 'cuda' for PyTorch here (it has cpu)" in capsys.readouterr().err


def test_a_reference_that_is_off_float64_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An export that came out in int8 poses as the float reference."""
    monkeypatch.setattr("rtmw_edge.targets.export.export", lambda *_, **__: builtin_path())
    page = tmp_path / "page.html"
    assert run("builtin", "--reference", "onnx:cpu", "--data", "synthetic:val:1", "--report", page) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: The reference onnx:cpu is no reference: its logits are 0.") and not page.exists()
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert run("builtin", "--reference", "onnx:cuda", "--data", "synthetic:val:1") == 3
        assert "error: There is no device 'cuda' for ONNX Runtime here" in capsys.readouterr().err


def test_a_board_without_pytorch_judges_by_another_bundle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "float"
    export("rtmw-n-256x192", "onnx", "fp32", out, weights=find(variant_named("rtmw-n-256x192")))
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else real(name))
    (tmp_path / "mine.toml").write_text("[body]\nap_drop = 100\n")
    assert run("builtin", "--reference", out, "--data", "synthetic:val:2", "--gate", tmp_path / "mine.toml") == 0
    note = 'float was not checked against float64, for want of PyTorch: pip install "rtmw-edge[torch]".'
    assert note in capsys.readouterr().out


def test_other_weights_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    save_safetensors(build("rtmw-n-256x192"), tmp_path / "other.safetensors")
    assert run("builtin", "--weights", tmp_path / "other.safetensors", "--limit", 2) == 2
    error = capsys.readouterr().err
    assert "error: builtin was exported from other weights (sha256 " in error and "than torch:cpu would run" in error
    assert "Pass the file that it was exported from with --weights." in error and len(error.splitlines()) == 1


def test_the_ready_bundle_against_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real thing on five people, with a limit that nothing can break and one that int8 must break."""
    (tmp_path / "mine.toml").write_text("[body]\nap_drop = 100\n[whole]\npx_p99 = 0\n")
    common = ["builtin", "--data", "synthetic:val:5", "--threads", 1, "--strict"]
    assert run(*common, "--gate", tmp_path / "mine.toml", "--report", tmp_path / "page.html") == 1
    printed = capsys.readouterr()
    assert "torch:cpu is " in printed.out and "off float64." in printed.out and "100 kept" in printed.out
    start = "error: The gate 'mine' (strict) failed against torch:cpu on synthetic:val:5, 5 images. whole: "
    assert printed.err.startswith(start) and "px off (99th percentile) (at most 0; 95 % " in printed.err
    assert "body" not in printed.err and len(printed.err.splitlines()) == 1
    assert (tmp_path / "page.html").read_text().count("data:image/jpeg") == 5


def test_a_verdict_is_folded_and_not_cut_off() -> None:
    row = ["right_hand", "60.0", "50.0", "10.00 (-10.00 to 10.00)", "0.5 BROKEN: not measurable"]
    written = StringIO()
    console = Console(width=80, file=written)
    console.print(_table("", ["AP, points", "reference", "device", "lost (95 %)", "at most"], [row]))
    printed = written.getvalue()
    assert "BROKEN: not" in printed and "measurable" in printed and "…" not in printed
