"""`rtmw-edge export`: what it prints, and the exit codes of its refusals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from calm_network import calm_network

from rtmw_edge.cli import main
from rtmw_edge.models.checkpoints import save_safetensors

NAME = "rtmw-n-256x192"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["export", *arguments])
    return int(left.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("rtmw-z", "--target", "onnx"), "error: Unknown variant 'rtmw-z'"),
        ((NAME, "--target", "tensorflow"), "error: Unknown target 'tensorflow'"),
        ((NAME, "--target", "onnx", "--precision", "fp8"), "error: Unknown precision 'fp8'; did you mean 'fp"),
        ((NAME, "--target", "onnx", "--batch", "0"), "error: Batch 0 is not between 1 and 64"),
        ((NAME, "--target", "onnx", "--save-table", "/dev/null/t.json"), "error: Cannot write '/dev/null/t.json'"),
        ((NAME, "--target", "onnx", "--method", "mse"), "error: fp32 needs no calibration and no table"),
        ((NAME, "--target", "onnx", "--boxes", "boxes.json"), "error: fp32 needs no calibration and no table"),
        ((NAME, "--target", "onnx", "--gate-data", "synthetic:val"), "error: --gate-data synthetic:val is for --gate"),
    ],
)
def test_refusals_are_one_line_and_exit_two(
    arguments: tuple[str, ...], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "--out", str(tmp_path / "out")) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(text)
    assert not (tmp_path / "out").exists()


def test_a_table_is_written_over_nobody_else_s_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    thesis = tmp_path / "thesis.json"
    thesis.write_text("[1]")
    options = ["--target", "onnx", "--precision", "int8", "--save-table", str(thesis)]
    assert run(NAME, *options, "--out", str(tmp_path / "out")) == 2
    assert f"error: Refusing to overwrite '{thesis}': this command did not write it" in capsys.readouterr().err
    assert thesis.read_text() == "[1]" and not (tmp_path / "out").exists()


def test_an_empty_calibration_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, empty = tmp_path / "calm.safetensors", tmp_path / "photos"
    save_safetensors(calm_network(NAME), weights, torch.float32)
    empty.mkdir()
    options = ["--target", "onnx", "--precision", "int8", "--calibration", str(empty), "--weights", str(weights)]
    assert run(NAME, *options, "--out", str(tmp_path / "out")) == 2
    assert f"error: There is no image in the folder '{empty}'" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calm.safetensors", "photos"]


@pytest.mark.slow
def test_what_was_written_and_verified_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript")
    weights, out, table = tmp_path / "calm.safetensors", tmp_path / "bundle", tmp_path / "table.json"
    save_safetensors(calm_network(NAME), weights, torch.float32)
    options = ["--target", "onnx", "--precision", "fp32", "--weights", str(weights), "--out", str(out)]
    assert run(NAME, *options) == 0
    printed = capsys.readouterr()
    size, share, tools, verdict = printed.out.strip().splitlines()
    assert size == f"{out}: {NAME} onnx fp32, 23.4 MB"
    assert share == "convolutions in int8: 0 of 80"
    assert "torch 2." in tools and "onnx 1." in tools
    pattern = (
        r"verified: logits within 0\.000\d* \(relative rms\), 2\d\d sure keypoints within 0 px \(99th percentile\)"
    )
    assert re.fullmatch(pattern, verdict)
    steps = printed.err.strip().splitlines()
    assert steps[0] == "loading calm.safetensors" and steps[-1] == "packing the bundle"
    assert not any("torchvision" in step or "Warning" in step for step in steps)
    assert run(NAME, *options, "--save-table", str(table)) == 2
    assert "fp32 needs no calibration and no table" in capsys.readouterr().err
