"""The main job: a small run from weights to the report, a second one that reuses it, and one without converters."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console
from rtmw_edge.targets import export as export_module

from rtmw_edge.errors import BadInputError, VerificationError
from rtmw_edge.sweep import quickstart
from rtmw_edge.sweep.quickstart import Quickstart
from rtmw_edge.sweep.result import PART_ORDER, load_results


def run(out: Path, image: Path | None = None) -> str:
    console = Console(record=True, width=100, force_terminal=False)
    Quickstart(out, image, 4, 4, 2, console).run()
    return console.export_text()


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
    rows = load_results(out / "results.json")
    assert [row.label for row in rows] == ["torch fp32", "onnx fp32", "onnx int8"]
    torch, single, integer = rows
    assert all(set(row.ap) == set(row.difference_px) == set(PART_ORDER) for row in rows)
    assert single.ap == pytest.approx(torch.ap, abs=1e-6) and max(single.difference_px.values()) == 0
    assert integer.convolutions == {"int8": 80, "total": 80} and single.convolutions == {"int8": 0, "total": 80}
    assert integer.megabytes < 0.4 * single.megabytes
    assert "onnx int8" in text and "ncnn is not here [export]" in text and str(out / "report.html") in text
    page = (out / "report.html").read_text()
    assert "onnx int8" in page and page.count("<img") == 8
    assert (out / "pictures" / "someone-onnx-int8.jpg").is_file()

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("a second run must not export again")

    monkeypatch.setattr(export_module, "export", never)
    run(out, photo)
    assert [row.ap for row in load_results(out / "results.json")] == [row.ap for row in rows]


@pytest.mark.slow
def test_a_target_that_fails_is_a_row_and_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise BadInputError("The converter broke.")

    monkeypatch.setattr(quickstart, "installed_targets", lambda: (["onnx"], {}))
    monkeypatch.setattr(export_module, "export", broken)
    with pytest.raises(VerificationError, match="These did not work: onnx fp32, onnx int8; the report says why"):
        run(tmp_path / "out")
    assert "The converter broke." in (tmp_path / "out" / "report.html").read_text()


def test_without_converters_the_ready_bundle_runs(tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    why = 'This export needs onnx. Run: pip install "rtmw-edge[export]".'
    monkeypatch.setattr(quickstart, "installed_targets", lambda: ([], {"onnx": why}))
    text = " ".join(run(tmp_path / "out", photo).split())
    assert "runs the ready bundle" in text and "80 of 80 convolutions in int8" in text and why in text
    assert (tmp_path / "out" / "pictures" / "someone-onnx-int8.jpg").is_file()


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInputError, match="Refusing to overwrite"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
