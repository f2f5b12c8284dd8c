"""`rtmw-edge evaluate` from its arguments to its table, its file and its refusals."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest
from coco_files import document, write_images
from numpy.typing import NDArray

from rtmw_edge.cli import main
from rtmw_edge.evaluation.datasets import CocoWholeBody
from rtmw_edge.poses import Poses
from rtmw_edge.runtime import Description


class Stub:
    """A runner that puts every keypoint in the middle of its box."""

    def __call__(self, image: NDArray[np.uint8], boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Poses:
        middle = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        return Poses(np.repeat(middle, 133, axis=1), np.ones((len(boxes), 133)), boxes, scores)

    def describe(self) -> Description:
        return Description("stub", "1", "cpu", 1, {"float": 3}, 0)

    def __enter__(self) -> Stub:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("rtmw_edge.runtime.load", lambda bundle, device, threads: Stub())
    (tmp_path / "labels.json").write_text(json.dumps(document(images=4)))
    write_images(tmp_path, 4)
    return f"coco:{tmp_path / 'labels.json'}:{tmp_path}"


def _run(*arguments: str) -> int:
    try:
        main(["evaluate", *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_table_and_file(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("builtin", "--data", data, "--limit", "3", "--json", str(tmp_path / "out.json")) == 0
    printed = capsys.readouterr().out
    assert all(part in printed for part in ("body", "foot", "face", "left hand", "right hand", "whole", "PCK@5%"))
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["images"] == 3 and written["runs"]["runtime"] == "stub" and written["model"] == "builtin"
    assert set(written["parts"]["whole"]) >= {"ap", "ap50", "ap75", "ar"} and set(written["pck"]) >= {"left_hand"}


def test_detections(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = {item.image_id: item.people for item in CocoWholeBody(tmp_path / "labels.json", tmp_path)}
    rows = [
        {"image_id": image, "category_id": 1, "bbox": [x, y, x2 - x, y2 - y], "score": 0.9}
        for image, labels in people.items()
        for x, y, x2, y2 in labels.boxes.tolist()
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    assert _run("builtin", "--data", data, "--detections", str(tmp_path / "boxes.json")) == 0
    printed = capsys.readouterr().out
    assert "detected boxes" in " ".join(printed.split()) and "PCK" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rtmw-q-256x192"], "Unknown bundle or variant 'rtmw-q-256x192'; did you mean"),
        (["./nowhere"], "There is no bundle at ./nowhere: check the path."),
        (["builtin", "--weights", "w.pth"], "--weights goes with a variant, and builtin is a bundle"),
        (["builtin", "--data", "synthetic:test"], "Unknown split of rendered people 'test'"),
        (["builtin", "--detections", "nowhere.json"], "There are no detections at nowhere.json: check the path."),
    ],
)
def test_refusals(data: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(*arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "boxes.json holds no detections (TypeError: a dict is no list)"),
        ("[]", "None of the detections in boxes.json is on one of the 4 images of coco:"),
        (
            '[{"image_id": 77, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.9}]',
            "is on one of the 4 images of coco:",
        ),
    ],
)
def test_detections_of_something_else(
    data: str,
    content: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("boxes.json").write_text(content)
    assert _run("builtin", "--data", data, "--detections", "boxes.json") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (".", "Cannot write '.': it is a folder. Name a file."),
        ("thesis.json", "Refusing to overwrite 'thesis.json': this command did not write it; name another."),
        ("thesis.json/x.json", "thesis.json is a file, not a folder. Choose another place."),
    ],
)
def test_where_figures_cannot_go_is_said_first(
    data: str,
    place: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("thesis.json").write_text("[1]")
    assert _run("builtin", "--data", data, "--json", place) == 2
    said = capsys.readouterr()
    assert message in said.err and said.out == "" and Path("thesis.json").read_text() == "[1]"
    assert (
        _run("builtin", "--data", data, "--json", "new.json")
        == _run("builtin", "--data", data, "--json", "new.json")
        == 0
    )


def test_intervals_hold_the_figures(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("builtin", "--data", data, "--json", str(tmp_path / "out.json")) == 0
    written = json.loads((tmp_path / "out.json").read_text())
    low, high = written["ap_interval"]["body"]
    assert 0 <= low <= written["parts"]["body"]["ap"] <= high <= 1
    assert "95 %" in capsys.readouterr().out


def test_two_flips_are_refused(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("builtin", "--data", data, "--flip", "--flip-aligned") == 2
    assert "--flip and --flip-aligned are two ways to do one thing" in capsys.readouterr().err
