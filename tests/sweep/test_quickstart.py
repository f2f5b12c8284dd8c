"""The main job: a small run from weights to the report, a second one that reuses it, and one without converters."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtmw_edge.cli.console import Console
from rtmw_edge.errors import BadInputError, VerificationError
from rtmw_edge.evaluation import evaluate, open_dataset
from rtmw_edge.runtime import load
from rtmw_edge.sweep import quickstart
from rtmw_edge.sweep.quickstart import Quickstart
from rtmw_edge.sweep.rows import PART_ORDER, Row, rows_of, run_of
from rtmw_edge.sweep.store import Store


def run(out: Path, image: Path | None = None) -> str:
    console = Console(record=True, width=100, force_terminal=False)
    Quickstart(out, image, 4, 4, 2, console).run()
    return console.export_text()


def rows(out: Path) -> list[Row]:
    with Store.open(out) as store:
        return rows_of(store, run_of(store))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "someone.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (120, 90, 3), np.uint8))
    return path


@pytest.mark.slow
def test_exports_measures_and_reuses(tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickstart, "installed_targets", lambda: (["onnx"], {"ncnn": "ncnn is not here [export]"}))
    out = tmp_path / "out"
    text = run(out, photo)
    found = rows(out)
    assert [(row.cell.target, row.cell.precision) for row in found] == [
        ("torch", "fp32"),
        ("onnx", "fp32"),
        ("onnx", "int8"),
    ]
    torch, single, integer = found
    assert all(set(row.accuracy["ap"]) == set(PART_ORDER) for row in found)
    for part in PART_ORDER:
        assert single.ap(part).value == pytest.approx(torch.ap(part).value, abs=1e-4)  # type: ignore[union-attr]
    assert single.accuracy["px"]["whole"]["p99"]["value"] == 0 < integer.accuracy["px"]["whole"]["p50"]["value"] + 1
    assert integer.accuracy["runs"]["int8"] == 80 and single.accuracy["runs"]["int8"] == 0
    assert integer.accuracy["megabytes"] < 0.4 * single.accuracy["megabytes"]
    assert integer.speed["paced_by"]["precision"] == "fp32" and single.speed["paced_by"] is None
    with load(out / "bundles" / integer.accuracy["bundle"], threads=2) as runner:
        plain = evaluate(runner, open_dataset("synthetic:val:4"))
    assert {part: scores.ap for part, scores in plain.parts.items()} == {
        part: figure["value"] for part, figure in integer.accuracy["ap"].items()
    }
    assert 0 < integer.speed["memory_mb"] < 1000 and integer.speed["ratio_low"] <= integer.speed["ratio_high"]
    assert "px from torch (p99)" in " ".join(text.split())
    table = text[text.index("left and right hand") :]
    distances = table[table.index("onnx ") :].split("\n")[2].split()
    assert distances == ["0.0"] * len(PART_ORDER)
    assert "onnx int8" in text and "ncnn is not here [export]" in text and str(out / "report.html") in text
    page = (out / "report.html").read_text()
    assert "onnx int8" in page and page.count("<img") == 4
    assert (out / "pictures" / "someone-onnx-int8.jpg").is_file()
    run(out, photo)
    with Store.open(out) as store:
        assert len(store.runs()) == 2 and store.last_record() == 6  # nothing was done again
    assert [row.accuracy for row in rows(out)] == [row.accuracy for row in found]
    shutil.rmtree(out / "bundles")
    console = Console(record=True, width=100, force_terminal=False)
    assert not list(Quickstart(out, None, 4, 4, 2, console)._drawn(integer))
    told = " ".join(console.export_text().split())
    assert f"its bundle is gone, so there are no pictures of it; remove {out} to begin anew." in told


@pytest.mark.slow
def test_a_target_that_fails_is_a_row_and_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unusable folder in the place of the bundles makes every export fail."""
    monkeypatch.setattr(quickstart, "installed_targets", lambda: (["onnx"], {}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".rtmw-edge").write_text("ours")
    (tmp_path / "out" / "bundles").write_text("not a folder")
    with pytest.raises(VerificationError, match="These did not work: onnx fp32, onnx int8"):
        run(tmp_path / "out")
    assert "Cannot write" in (tmp_path / "out" / "report.html").read_text()


def test_without_converters_the_ready_bundle_runs(tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    why = 'This export needs onnx. Run: pip install "rtmw-edge[export]".'
    monkeypatch.setattr(quickstart, "installed_targets", lambda: ([], {"onnx": why}))
    text = " ".join(run(tmp_path / "out", photo).split())
    assert "runs the ready bundle" in text and "80 of 80 convolutions in int8" in text and why in text
    assert (tmp_path / "out" / "pictures" / "someone-onnx-int8.jpg").is_file()


def test_the_people_in_a_photograph_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickstart, "installed_targets", lambda: ([], {}))
    one = list(open_dataset("synthetic:val:4"))[3].image
    image = np.concatenate([one, one[:, ::-1]], axis=1)
    cv2.imwrite(str(tmp_path / "two.png"), image)
    text = run(tmp_path / "out", tmp_path / "two.png")
    assert "In two: 2 people." in text
    drawn = cv2.imread(str(tmp_path / "out" / "pictures" / "two-onnx-int8.jpg"))
    painted = np.abs(drawn.astype(int) - image).max(axis=2) > 100
    halves = np.split(painted, [image.shape[1] // 2], axis=1)
    assert all(half.sum() > 200 for half in halves)
    cv2.imwrite(str(tmp_path / "fog.png"), np.full((120, 90, 3), 128, np.uint8))
    assert "In fog: no people." in run(tmp_path / "out", tmp_path / "fog.png")
    assert (tmp_path / "out" / "pictures" / "fog-onnx-int8.jpg").is_file()  # the whole image is one


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInputError, match="Refusing to overwrite"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
