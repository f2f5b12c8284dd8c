"""`rtmw-edge qat`: what it refuses, in one sentence."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from coco_files import document, write_images
from rtmw_edge.quantization import Entry, Table
from rtmw_edge.targets.export import load_deployable

from rtmw_edge.cli import main
from rtmw_edge.models.weights import embedded, shipped_table


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["rtmw-q-256x192"], "Unknown variant 'rtmw-q-256x192'; did you mean 'rtmw-"),
        (["rtmw-n-256x192", "--grid", "full"], "Unknown grid to train on 'full'"),
        (["rtmw-n-256x192", "--recipe", "rtmw-n-256x192"], "The recipe has no [quantization]; choose one that has"),
        (["rtmw-n-256x192", "--table", "start.json", "--calibration", "synthetic:9"], "leave out one of them"),
        (["rtmw-n-256x192", "--table", "none.json"], "Cannot read the quantization table none.json"),
        (["rtmw-n-256x192", "--data", "none.toml"], "There is no data configuration at none.toml: check the path"),
        (["rtmw-n-256x192", "--weights", "none.pth"], "There are no weights at 'none.pth'"),
        (["rtmw-n-256x192", "--set", "quantization.scale_lr=2"], "quantization.scale_lr is 2.0; it must lie in 0..1"),
        (
            ["rtmw-n-256x192", "--set", "variant=rtmw-t-256x192"],
            "The recipe is set to rtmw-t-256x192, and VARIANT is rtmw-n-256x192; leave out --set variant.",
        ),
        (
            ["rtmw-n-256x192", "--recipe", "rtmw-t-256x192-qat", "--weights", "none.pth"],
            "the recipe rtmw-t-256x192-qat is for rtmw-t-256x192, and trains rtmw-n-256x192 here",
        ),
        (["rtmw-n-256x192", "--calibration", "synthetic:0"], "is not synthetic:N with N of 1 to 100000"),
        (
            ["rtmw-n-256x192", "--calibration", "photos", "--set", "validation=coco:labels.json:photos"],
            "'photos/0.png' is the evaluation image '0.png' of coco:labels.json:photos; calibrate on images",
        ),
        (["rtmw-n-256x192", "--table", "start.json"], "for rtmw-m-256x192, not for rtmw-n-256x192"),
        (
            ["rtmw-n-256x192", "--table", "start.json", "--grid", "affine"],
            "on the grid common, and the recipe trains on",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    arguments: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Table("rtmw-m-256x192", {"a.conv:input": Entry([0.1])}).save(tmp_path / "start.json")
    (tmp_path / "labels.json").write_text(json.dumps(document(1)))
    write_images(tmp_path / "photos", 1)
    with pytest.raises(SystemExit) as stopped:
        main(["qat", *arguments, "--out", "run"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert text in error and error.count("error:") == 1
    assert not (tmp_path / "run").exists()


def test_it_begins_with_the_table_that_the_weights_were_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a copy of the shipped weights too: the table that lies beside them, and on no other grid in silence."""
    weights, shipped = embedded("rtmw-n-256x192"), shipped_table("rtmw-n-256x192", "common")
    assert weights is not None and shipped is not None
    copied = Path(shutil.copy(weights, tmp_path / "weights.safetensors"))
    shutil.copy(shipped, tmp_path / "table.json")
    network, begun = load_deployable("rtmw-n-256x192", copied), []

    class Begun:
        is_first = False

        def __init__(self, *_: object, start_table: Any, **__: object) -> None:
            begun.append(start_table(network))

    monkeypatch.setattr("rtmw_edge.quantization.qat.QatTrainer", Begun)
    monkeypatch.setattr(import_module("rtmw_edge.cli.qat"), "follow", lambda _: None)
    given = ["qat", "rtmw-n-256x192", "--out", str(tmp_path / "run")]
    for options in ([], ["--weights", str(copied)]):
        with pytest.raises(SystemExit) as ended:
            main([*given, *options])
        assert not ended.value.code
    assert [table.sha256 for table in begun] == [Table.load(shipped).sha256] * 2
    assert "taking the scales that weights.safetensors was trained with" in capsys.readouterr().err
    with pytest.raises(SystemExit) as refused:
        main([*given, "--weights", str(copied), "--grid", "affine"])
    assert refused.value.code == 2
    assert "on the grid common, not on affine: take that grid, or calibrate anew with" in capsys.readouterr().err
