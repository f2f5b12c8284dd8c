"""Boards: every file is read, every name in it exists, every claim has its source; export picks from them."""

from __future__ import annotations

import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from rtmw_edge.targets import target_named
from rtmw_edge.targets.base import Precision, grid_of
from rtmw_edge.targets.boards import FOLDER, board_named, board_names, parse_board
from typer.testing import CliRunner

from rtmw_edge.cli import app
from rtmw_edge.errors import BadInputError, RtmwEdgeError
from rtmw_edge.runtime.devices import engine_class

WANTED = {"pi4", "pi5", "pi-zero-2w", "orin-nano", "orin-nx", "android", "android-gpu", "x86", "x86-vnni"}
OWN_PACKAGES = {"tensorrt", "onnxruntime-gpu"}
"""Runtimes that come with the board's system, and not by an extra of ours."""


def test_all_boards_are_there() -> None:
    assert set(board_names()) == WANTED


@pytest.mark.parametrize("name", sorted(WANTED))
def test_every_name_in_a_board_exists_and_every_claim_has_a_source(name: str) -> None:
    board = board_named(name)
    assert board.title and board.processor and board.threads and board.choices
    assert all(1 <= threads <= 64 for threads in board.threads)
    for choice in board.choices:
        grid = grid_of(target_named(choice.target), Precision(choice.precision), choice.grid)
        assert choice.grid == (grid.name if grid else None), "a choice names its grid, so that it stays what it was"
        assert choice.device in engine_class(choice.target).devices
    ours = {Requirement(text).name for text in requires("rtmw-edge") or []} | OWN_PACKAGES
    assert {minimum.runtime for minimum in board.minimums} <= ours
    claims = [*board.traps, *(choice.why for choice in board.choices), *(minimum.why for minimum in board.minimums)]
    assert all(claim.text.endswith(".") and claim.source and claim.measured for claim in claims)
    words = [choice.words + choice.device for choice in board.choices]
    assert len(words) == len(set(words))


def test_the_first_choice_that_fits_is_picked() -> None:
    board = board_named("pi4")
    assert board.pick().words == "ncnn int8 common"
    assert board.pick("onnx").words == "onnx fp32" and board.pick(precision="fp32").words == "onnx fp32"
    assert board.pick("tflite", grid="common").words == "tflite int8 common"
    with pytest.raises(BadInputError, match="Nothing is known of openvino int8 on pi4; it has ncnn int8 common;"):
        board.pick("openvino", "int8")


def test_wrong_names_are_refused() -> None:
    with pytest.raises(BadInputError, match="Unknown board 'pi6'; did you mean 'pi5'"):
        board_named("pi6")
    claim = {"text": "It works.", "source": "somewhere", "measured": "nobody"}
    choice = {"target": "onnx", "precision": "fp32", **claim}
    good = {"title": "A", "processor": "B", "threads": [1], "choice": [choice]}
    assert parse_board("a", good).pick().threads == 1
    for change, words in (
        ({"tittle": "A"}, "Unknown key of the board a 'tittle'; did you mean 'title'"),
        ({"choice": [{**choice, "target": "onxn"}]}, "Unknown target 'onxn'"),
        ({"choice": [{**choice, "grid": "common"}]}, "onnx cannot honour the grid common in fp32"),
        ({"choice": [{**choice, "device": "cdua"}]}, "Unknown device 'cdua'"),
        ({"choice": [{**choice, "source": " "}]}, "A claim about a lacks its source"),
        ({"trap": [{**claim, "measured": "me"}]}, "Unknown measurer of a claim about a 'me'"),
    ):
        with pytest.raises(RtmwEdgeError) as caught:
            parse_board("a", {**good, **change})
        assert words in str(caught.value)


def test_the_files_are_in_the_package() -> None:
    listed = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '"rtmw_edge.targets" = ["devices/*.toml"]' in listed
    assert {path.stem for path in FOLDER.glob("*.toml")} == WANTED


def test_boards_are_listed_and_described() -> None:
    done = CliRunner().invoke(app, ["boards"])
    assert done.exit_code == 0 and all(name in done.output for name in WANTED)
    done = CliRunner().invoke(app, ["boards", "x86"])
    assert done.exit_code == 0, done.output
    assert "int8 may be no faster than float" in done.output and "measured by us" in done.output


def test_export_says_what_it_picked_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtmw_edge.targets import export as export_module

    seen: dict[str, object] = {}

    def noted(variant: str, target: str, precision: str, out: Path, **options: object) -> Path:
        seen.update(variant=variant, target=target, precision=precision, grid=options["grid"])
        return out

    monkeypatch.setattr(export_module, "export", noted)
    monkeypatch.setattr(sys.modules["rtmw_edge.cli.export"], "_report", lambda out: None)
    runner = CliRunner()
    done = runner.invoke(app, ["export", "rtmw-n-256x192", "--board", "pi4", "--out", str(tmp_path / "b")])
    assert done.exit_code == 0, done.output
    assert seen == {"variant": "rtmw-n-256x192", "target": "ncnn", "precision": "int8", "grid": "common"}
    assert (
        "pi4 (Raspberry Pi 4 Model B, 64-bit system): ncnn int8 common, run with --device cpu --threads 4"
        in done.output
    )
    assert "measured by others" in done.output and "Beware: " in done.output
    done = runner.invoke(
        app, ["export", "rtmw-n-256x192", "--board", "x86", "--target", "onnx", "--out", str(tmp_path / "b")]
    )
    assert seen["target"] == "onnx" and seen["precision"] == "fp32" and seen["grid"] is None
    done = runner.invoke(app, ["export", "rtmw-n-256x192", "--out", str(tmp_path / "b")])
    assert isinstance(done.exception, BadInputError)
    names = "onnx, openvino, tflite, ncnn, tensorrt"
    assert str(done.exception) == f"Name what to export for: --target {names}, or --board pi5."
    runner.invoke(app, ["export", "rtmw-n-256x192", "--target", "tflite", "--out", str(tmp_path / "b")])
    assert (seen["target"], seen["precision"]) == ("tflite", "fp32")
