"""`rtmw-edge export --gate`: the bundle is judged against its own float network, kept, and says how it went."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from coco_files import document, write_images

from rtmw_edge import bundle
from rtmw_edge.cli import main
from rtmw_edge.runtime import builtin_path

NAME = "rtmw-n-256x192"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """The conversion, which other tests watch, gives the ready bundle at once."""

    def export(variant: str, target: str, precision: str, out: Path, **_: Any) -> Path:
        shutil.copytree(builtin_path(), out)
        return out

    monkeypatch.setattr("rtmw_edge.targets.export.export", export)


@pytest.mark.usefixtures("ready")
def test_a_broken_limit_exits_one_and_the_bundle_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text("[body]\nap_drop = 100\n[whole]\npx_p99 = 0\n")
    options = ["--target", "onnx", "--precision", "int8", "--gate", tmp_path / "mine.toml", "--gate-data"]
    out = tmp_path / "out"
    assert run("export", NAME, *options, "synthetic:val:2", "--out", out) == 1
    printed = capsys.readouterr()
    last = printed.err.strip().splitlines()[-1]
    assert last.startswith("error: The gate 'mine' failed against torch:cpu on synthetic:val:2, 2 images. whole: ")
    assert last.endswith(f"The bundle is kept at {out}, and its manifest says so.") and "verified: " in printed.out
    with bundle.read(out) as opened:
        gates = opened.manifest.gates
    assert gates is not None and not gates.passed
    assert [(check.part, check.measure, check.passed) for check in gates.checks] == [
        ("body", "ap_drop", True),
        ("whole", "px_p99", False),
    ]
    assert gates.checks[1].value is not None and gates.checks[1].value > 0
    assert run("inspect", out) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "gate The gate 'mine' failed against torch:cpu on synthetic:val:2, 2 images. whole: " in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gate", "none.toml"], "There is no gate at none.toml"),
        (["--gate", "default", "--gate-data", "synthetic:train"], "Unknown split of rendered people 'train'"),
    ],
)
def test_a_gate_that_cannot_be_applied_stops_before_the_work(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", NAME, "--target", "onnx", *options, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_gate_is_not_applied_on_what_int8_is_calibrated_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(document(1)))
    write_images(tmp_path / "photos", 1)
    options = ["--target", "onnx", "--precision", "int8", "--calibration", tmp_path / "photos", "--gate", "default"]
    data = f"coco:{tmp_path / 'labels.json'}:{tmp_path / 'photos'}"
    assert run("export", NAME, *options, "--gate-data", data, "--out", tmp_path / "out") == 2
    assert f"is the evaluation image '0.png' of {data}; calibrate on images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
