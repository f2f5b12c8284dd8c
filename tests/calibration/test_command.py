"""`rtmw-edge calibrate`: the table that it writes, what it prints, and its refusals in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from rtmw_edge.quantization import Table
from rtmw_edge.quantization.fake import check_table
from rtmw_edge.targets.export import load_deployable
from small_deployable import smooth_crops
from small_runs import TINY, forget, register

from rtmw_edge.cli import main
from rtmw_edge.cli.calibrate import FOUND_HEAD
from rtmw_edge.errors import BadInputError
from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import save_safetensors


@pytest.fixture(autouse=True)
def tiny_variant() -> Iterator[None]:
    register()
    yield
    forget()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights of the tiny variant and six photographs, and the working directory."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_safetensors(build(TINY), tmp_path / "tiny.safetensors", torch.float32)
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(smooth_crops(6, (80, 120))):
        cv2.imwrite(f"photos/{number}.png", image)
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["calibrate", TINY.name, "--weights", "tiny.safetensors", *arguments])
    return int(left.value.code or 0)


def test_the_table_is_for_these_weights_and_the_same_each_time(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--images", "photos", "--method", "best", "--bias-correction"]
    assert run(*options, "--out", "table.json") == 0
    first = Path("table.json").read_bytes()
    assert run(*options, "--out", "table.json") == 0, "it may write over its own"
    assert Path("table.json").read_bytes() == first
    table = Table.load(Path("table.json"))
    check_table(load_deployable(TINY, Path("tiny.safetensors")), table)
    assert table.grid == "common" and table.provenance["source"] == "folder" and table.provenance["crops"] == 6
    lines = capsys.readouterr().out.splitlines()
    quantized = [entry for entry in table.entries.values() if entry.axis is None and entry.source != "fixed"]
    assert lines[0] == f"table.json: {TINY.name}, grid common, {len(quantized)} tensors, best"
    assert lines[1] == f"calibrated on 6 people of 6; sha256 {table.sha256[:12]}"
    assert lines[2] == f"biases corrected at {len(table.bias_corrections)} convolutions"
    words = lines[3].removeprefix("best: ").replace(",", "").split()
    assert sum(int(word) for word in words if word.isdigit()) == len(quantized)


def test_a_count_is_chosen(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--count", "3", "--seed", "5", "--grid", "affine", "--percentile", "99.9"]
    assert run("--images", "photos", *options, "--out", "table.json") == 0
    assert "calibrated on 3 people of 6" in capsys.readouterr().out
    table = Table.load(Path("table.json"))
    assert table.grid == "affine" and table.provenance["method"] == "percentile 99.9"
    selection = table.provenance["selection"]
    assert (selection["taken"], selection["of"], selection["seed"]) == (3, 6, 5)


def test_a_count_of_more_than_there_are_takes_all_and_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--images", "photos", "--count", "7", "--out", "table.json") == 0
    said = capsys.readouterr()
    assert "--count 7 asks for more people than photos has: all 6 are taken" in said.err
    assert "calibrated on 6 people of 6" in said.out


def test_sets_in_3d_may_be_judged_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no images that a source could hold, and are no reason to refuse one."""
    asked = []

    def opened(text: str, **options: Any) -> None:
        asked.append(options["evaluation"])
        raise BadInputError("Enough.")

    monkeypatch.setattr("rtmw_edge.calibration.open_source", opened)
    monkeypatch.setattr("rtmw_edge.evaluation.open_dataset", lambda text: None)
    options = ["--images", "photos", "--evaluation", "val", "--out", "table.json", "--stability", "--data"]
    assert [run(*options, data) for data in ("h3wb:a.npz", "coco:a.json:b")] == [2, 2]
    assert asked == [["val"], ["val", "coco:a.json:b"]]


@pytest.mark.slow
def test_stability_is_printed_and_written(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    monkeypatch.setenv("COLUMNS", "70")
    options = ["--images", "photos", "--stability", "--data", "synthetic:val:3", "--json", "found.json"]
    assert run(*options, "--out", "table.json") == 0
    printed = capsys.readouterr().out
    found = json.loads(Path("found.json").read_text())
    assert Path("found.json").read_bytes().startswith(FOUND_HEAD)
    assert f"{len(found['moved'])} of {found['points']} ranges differ by more than 20 % between two halves" in printed
    assert "AP on synthetic:val:3, %" in printed and "left hand" in printed
    assert found["moved"] and all(moved["point"] in printed for moved in found["moved"][:20]), "names on one line"
    assert found["dataset"] == "synthetic:val:3" and set(found["ap"]) >= {"body", "left_hand", "whole"}
    for moved in found["moved"]:
        assert moved["change"] > 0.2 and moved["first"] != moved["second"]
    assert run("--images", "photos", "--out", "plain.json") == 0
    assert Path("plain.json").read_bytes() == Path("table.json").read_bytes(), "stability changes no table"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--images", "photos", "--grid", "afine"], "Unknown grid 'afine'; did you mean 'affine'?"),
        (["--images", "photos", "--grid", "w8"], "w8 quantizes weights alone, which needs no images: export it"),
        (["--images", "photos", "--method", "kl"], "Unknown calibration method 'kl'"),
        (["--images", "photos", "--percentile", "30"], "Percentile 30 is not above 50 and at most 100; try "),
        (["--images", "photos", "--method", "mse", "--percentile", "99"], "--percentile 99 goes with the method"),
        (["--images", "photos", "--json", "x.json"], "--json x.json is for what --stability finds: pass both"),
        (["--images", "photos", "--data", "synthetic:val"], "--data synthetic:val is for what --stability finds"),
        (["--images", "photos", "--stability", "--json", "photos"], "Cannot write 'photos': it is a folder"),
        (["--images", "photos", "--stability", "--data", "synthetic:train"], "Unknown split of rendered people"),
        (["--images", "synthetic:val:9"], "'synthetic:val:9' holds the people that accuracy is measured on"),
        (["--images", "photos", "--evaluation", "photos"], "'photos/0.png' is the evaluation image '0.png' of photos"),
        (["--images", ""], "What to calibrate on is empty: name a folder of images, or synthetic:200."),
        (["--images", "absent"], "There is no folder 'absent' to calibrate on"),
        (["--images", "photos", "--boxes", "none.json"], "There is no boxes file none.json"),
    ],
)
def test_refusals_are_one_line_and_exit_two(
    arguments: list[str], text: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "--out", "table.json") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"error: {text}")
    assert not Path("table.json").exists()


def test_somebody_else_s_files_stay(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("thesis.json").write_text("[1]")
    for options in (["--out", "thesis.json"], ["--out", "table.json", "--stability", "--json", "thesis.json"]):
        assert run("--images", "photos", *options) == 2
        assert "Refusing to overwrite 'thesis.json': this command did not write it" in capsys.readouterr().err
    assert Path("thesis.json").read_text() == "[1]" and not Path("table.json").exists()


def test_one_image_has_no_halves(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--images", "photos", "--count", "1", "--stability", "--data", "synthetic:val:1", "--out", "t.json") == 2
    assert "error: One image cannot be split in two; give more images, or leave out" in capsys.readouterr().err
