"""`rtmw-edge sensitivity` in front of a user: from a name to the page and the table, again, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_study
import torch
from calm_network import calm_network
from coco_files import document, write_images
from rtmw_edge.quantization import Table
from rtmw_edge.quantization.fake import weights_sha256
from small_runs import TINY

from rtmw_edge.cli import main
from rtmw_edge.errors import VerificationError
from rtmw_edge.models.checkpoints import save_safetensors
from rtmw_edge.sweep.sensitivity import show as show_module
from rtmw_edge.sweep.sensitivity import start as start_module
from rtmw_edge.sweep.sensitivity.partial_run import PartialRuns


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["sensitivity", *map(str, arguments)])
    return int(left.value.code or 0)


@pytest.fixture()
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Arguments that study the tiny network, its table and its people."""
    monkeypatch.setattr(start_module, "open_dataset", lambda _: tiny_study.clouds())
    weights, table = tmp_path / "tiny.safetensors", tmp_path / "table.json"
    save_safetensors(calm_network(TINY.name), weights, torch.float32)
    tiny_study.subject().table.save(table)
    return [TINY.name, "--weights", weights, "--table", table, "--by", "stage", "--threads", 1]


def test_a_study_a_budget_and_the_table_for_export(
    given: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run(*given, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "the 12 that move the keypoints most, of 16" in printed and "backbone.stem" in printed
    assert "rank correlation over layers with the whole AP lost: px p50" in printed
    assert sorted(path.name for path in out.iterdir()) == [
        ".rtmw-edge", "findings.jsonl", "sensitivity.csv", "sensitivity.html",
    ]  # fmt: skip

    monkeypatch.setattr(PartialRuns, "run", lambda *_: pytest.fail("measured again"))
    assert run(*given, "--out", out, "--budget", "whole<=55") == 0
    printed = capsys.readouterr().out
    assert "budget whole<=55 on clouds; Multiply-accumulates, as no target was named" in printed
    assert (
        f"rtmw-edge export {TINY.name} --weights {given[2]} --target TARGET --precision int8-mixed "
        f"--table {out / 'mixed-table.json'} --out BUNDLE"
    ) in printed
    mixed = Table.load(out / "mixed-table.json")
    assert mixed.floats and mixed.weights_sha256 == weights_sha256(tiny_study.subject().network)
    assert mixed.provenance["left_in_float"]["budget"] == "whole<=55"
    assert mixed.provenance["left_in_float"]["ap_lost"]["whole"] <= 55
    assert "Left in float by the budget whole&lt;=55" in (out / "sensitivity.html").read_text()


def test_a_budget_that_int8_keeps_leaves_nothing_in_float(
    given: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--proxy-only", "--crops", 2, "--budget", "body<=100"]
    assert run(*given, "--out", out, *options) == 0
    assert "Everything in int8 keeps the budget: export it as int8." in capsys.readouterr().out
    assert not (out / "mixed-table.json").exists()
    of_a_stricter_budget = out / "mixed-table.json"
    of_a_stricter_budget.write_bytes(Path(str(given[4])).read_bytes())
    assert run(*given, "--out", out, *options) == 0
    assert not of_a_stricter_budget.exists()
    Path(str(given[4])).rename(of_a_stricter_budget)
    given[4] = of_a_stricter_budget
    assert run(*given, "--out", out, *options) == 0
    assert of_a_stricter_budget.exists(), "what is studied stays"


def test_the_table_of_an_earlier_budget_stays_until_the_new_one_is_known(
    given: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    options = ["--proxy-only", "--crops", 2, "--budget"]
    assert run(*given, "--out", out, *options, "whole<=55") == 0
    before = (out / "mixed-table.json").read_bytes()

    def ends_with(error: BaseException) -> int:
        def choose(*_: object) -> None:
            raise error

        monkeypatch.setattr(show_module, "choose", choose)
        return run(*given, "--out", out, *options, "whole<=50")

    assert ends_with(KeyboardInterrupt()) == 130
    assert (out / "mixed-table.json").read_bytes() == before
    assert ends_with(VerificationError("Cannot keep whole<=50.")) == 1
    assert not (out / "mixed-table.json").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["rtmw-z"], "Unknown variant 'rtmw-z'"),
        ([TINY.name, "--by", "block"], "Unknown grouping 'block'"),
        ([TINY.name, "--target", "onxn"], "Unknown target 'onxn'; did you mean 'onnx'?"),
        ([TINY.name, "--data", "synthetic:train"], "Unknown split of rendered people 'train'"),
        ([TINY.name, "--budget", "hands"], "Cannot read 'hands' in the budget"),
        (["rtmw-n-256x192", "--grid", "w8", "--budget", "body<=1"], "which no target can on the grid w8; leave out"),
        (["rtmw-n-256x192", "--grid", "full", "--budget", "body<=1"], "on the grid full; leave out --budget, or take"),
        (["rtmw-n-256x192", "--grid", "octal"], "Unknown grid 'octal'"),
        (["rtmw-n-256x192", "--method", "kl"], "Unknown calibration method 'kl'"),
        (["rtmw-n-256x192", "--table", "a.json", "--method", "mse"], "not from both; leave out one of them"),
        (["rtmw-n-256x192", "--table", "none.json"], "Cannot read the quantization table none.json"),
        (
            ["rtmw-n-256x192", "--table", "a.json", "--calibration", "synthetic:9"],
            "not from both; leave out one of them",
        ),
        (["rtmw-n-256x192", "--grid", "w8", "--target", "onnx", "--weights", "no.pth"], "no.pth"),
        (["rtmw-n-256x192", "--grid", "w8", "--method", "mse"], "w8 quantizes weights alone, which needs no images"),
    ],
)
def test_refusals_are_one_line(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "--out", tmp_path / "out") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and text in lines[0]
    assert not (tmp_path / "out").exists()


def test_people_to_judge_by_are_not_calibrated_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(document(1)))
    write_images(tmp_path / "photos", 1)
    data = f"coco:{tmp_path / 'labels.json'}:{tmp_path / 'photos'}"
    options = ["--calibration", tmp_path / "photos", "--data", data]
    assert run("rtmw-n-256x192", *options, "--out", tmp_path / "out") == 2
    assert f"is the evaluation image '0.png' of {data}; calibrate on images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_else_is_refused(
    given: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*given, "--out", tmp_path) == 2  # it holds weights and a table
    assert "Refusing to overwrite" in capsys.readouterr().err


def test_a_table_for_other_weights_is_refused(
    given: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_safetensors(calm_network(TINY.name, seed=1), tmp_path / "tiny.safetensors", torch.float32)
    assert run(*given, "--out", tmp_path / "out") == 2
    assert "The quantization table was made for other weights" in capsys.readouterr().err
