"""What a job measures, on a network written by hand: the figures are those of `evaluate`, times are in turns."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_formats
import tiny_models
from coco_files import document, write_images

from rtmw_edge.camera import root_depth
from rtmw_edge.errors import RtmwEdgeError, VerificationError
from rtmw_edge.evaluation import evaluate, open_dataset
from rtmw_edge.evaluation.datasets import Dataset
from rtmw_edge.evaluation.mpjpe import HIPS
from rtmw_edge.evaluation.whole_body_ap import EVALUATED_PARTS
from rtmw_edge.poses import Poses
from rtmw_edge.runtime import load, timing
from rtmw_edge.runtime.pacing import peak_memory_mb
from rtmw_edge.sweep import bench as bench_module
from rtmw_edge.sweep.bench import Bench
from rtmw_edge.sweep.cells import Cell, Inputs, Planned
from rtmw_edge.sweep.store import Job, Store


@pytest.fixture
def data(tmp_path: Path) -> str:
    (tmp_path / "labels.json").write_text(json.dumps(document(images=8)))
    write_images(tmp_path / "images", 8)
    return f"coco:{tmp_path / 'labels.json'}:{tmp_path / 'images'}"


def bundle(folder: Path, precision: str = "fp32", **options: Any) -> Path:
    folder.mkdir()
    files = tiny_formats.onnx(folder, int8=precision == "int8", **options)
    return tiny_models.write_bundle(folder / "bundle", files, precision=precision)


def planned(cell: Cell, base: Cell | None = None) -> Planned:
    here = Path(__file__)
    inputs = Inputs(here, here, None, base, base, cell.data)
    return Planned(cell, inputs, cell.label, "t", f"a {cell.label}", f"s {cell.label}")


@pytest.fixture
def bench(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose export hands out bundles of the tiny network, and which has no PyTorch network to compare with."""
    single = Cell("tiny", "", "onnx", "fp32", data=data)
    cells = [planned(single), planned(Cell("tiny", "", "onnx", "int8", "common", table="t", data=data), single)]
    store = Store.create(tmp_path / "store")
    made = Bench(store, cells, threads=1)
    paths = {"fp32": bundle(tmp_path / "float"), "int8": bundle(tmp_path / "int8", "int8")}
    monkeypatch.setattr(Bench, "bundle", lambda self, planned, on_step: paths[planned.cell.precision])
    answers = [bench_module.answer(load(paths["fp32"], threads=1), item)[1] for item in open_dataset(data)]
    monkeypatch.setattr(Bench, "_answers", lambda self, planned, dataset, on_step: answers)
    monkeypatch.setattr(timing, "ROUNDS", 7)
    return made


def quiet(text: str) -> None:
    """Hears nothing."""


def test_accuracy_is_what_evaluate_says_with_intervals(bench: Bench, data: str) -> None:
    found, samples = bench(Job("a onnx int8 QAT common t", "accuracy"), quiet)
    with load(bench.bundle(bench._jobs["a onnx int8 QAT common t"], quiet), threads=1) as runner:
        plain = evaluate(runner, open_dataset(data), intervals=True)
    assert found["images"] == 8 == plain.images and found["people"] == plain.people
    for part in EVALUATED_PARTS:
        figure = found["ap"][part]
        assert figure["value"] == plain.parts[part].ap
        assert (figure["low"], figure["high"]) == pytest.approx(plain.ap_interval[part])
        assert samples[f"ap {part}"].shape == (1000,) and samples[f"ap {part}"].dtype == np.float32
    assert found["runs"]["int8"] == 1 and found["convolutions"]["total"] == 1
    assert found["megabytes"] > 0 and len(found["files_sha256"]) == 64 and found["golden_rms"] > 0
    assert found["px"]["whole"]["p50"]["value"] <= found["px"]["whole"]["p99"]["value"]
    json.dumps(found, allow_nan=False)


def test_the_float_network_is_no_pixel_from_itself(bench: Bench) -> None:
    found, _ = bench(Job("a onnx fp32", "accuracy"), quiet)
    assert found["px"]["whole"]["p99"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_a_bundle_that_computes_something_else_has_no_accuracy(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = bundle(tmp_path / "wrong", gain=2.0)
    monkeypatch.setattr(Bench, "bundle", lambda self, planned, on_step: wrong)
    with pytest.raises(VerificationError, match=r"computes .* wrong"):
        bench(Job("a onnx fp32", "accuracy"), quiet)


def test_speed_is_against_the_float_cell_and_memory_is_a_process_s_own(bench: Bench) -> None:
    found, _ = bench(Job("s onnx int8 QAT common t", "speed"), quiet)
    assert found["paced_by"]["precision"] == "fp32" and found["rounds"] == 7 and found["threads"] >= 1
    assert 0 < found["ratio_low"] <= found["ratio"] <= found["ratio_high"] and found["ms_p50"] > 0
    assert 20 < found["memory_mb"] < 500  # numpy, OpenCV and ONNX Runtime, and no PyTorch
    found, _ = bench(Job("s onnx fp32", "speed"), quiet)
    assert found["paced_by"] is None and found["ratio"] == pytest.approx(1, abs=0.5)


def test_int8_is_not_timed_without_its_float_cell(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Bench.bundle

    def broken(self: Bench, planned: Planned, on_step: Any) -> Path:
        if planned.cell.precision == "fp32":
            raise RtmwEdgeError("The converter broke.")
        return there(self, planned, on_step)

    monkeypatch.setattr(Bench, "bundle", broken)
    with pytest.raises(RtmwEdgeError, match=r"The converter broke\."):
        bench(Job("s onnx int8 QAT common t", "speed"), quiet)


def test_what_cannot_be_opened_alone_is_told(tmp_path: Path) -> None:
    with pytest.raises(RtmwEdgeError, match="A process of its own could not run the bundle"):
        peak_memory_mb(tmp_path / "nothing", "cpu", 1)


class Deep:
    """Finds rendered people where they are, and everything but their hips 30 mm too far away."""

    def __init__(self, dataset: Dataset) -> None:
        self._items = {id(item.image): item for item in dataset}
        self.engine = self

    def __call__(self, image: Any, boxes: Any, scores: Any) -> Poses:
        item = self._items[id(image)]
        assert item.labels_3d is not None
        depth = item.labels_3d.metres[..., 2] - root_depth(item.labels_3d.metres)[:, None]
        depth[:, [joint for joint in range(133) if joint not in HIPS]] += 0.03
        keypoints = np.concatenate([item.people.keypoints, depth[..., None]], axis=2).astype(np.float32)
        return Poses(keypoints, np.ones((1, 133), np.float32), boxes, scores)

    def cut(self, image: Any, boxes: Any, scores: Any) -> Any:
        return SimpleNamespace(crops=(image, boxes, scores))

    def infer(self, crops: Any) -> Any:
        return crops

    def poses(self, logits: Any, cut: Any) -> Poses:
        return self(*logits)


def test_mpjpe_comes_with_its_resamples(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset("synthetic:val:5")
    runner: Any = Deep(dataset)
    monkeypatch.setattr(Bench, "_dataset", lambda self, planned: dataset)
    monkeypatch.setattr(Bench, "_answers", lambda self, planned, dataset, on_step: [])
    found, samples = bench._evaluated(bench._jobs["a onnx fp32"], runner, quiet)
    plain = evaluate(runner, dataset).mpjpe
    assert {row: figure["value"] for row, figure in found["mpjpe"].items()} == {
        row: errors.root for row, errors in plain.items() if row != "hands"
    }
    assert found["mpjpe"]["whole"]["value"] == pytest.approx(30, rel=0.1)
    drawn = samples["mpjpe whole"]
    assert drawn.shape == (1000,) and drawn.mean() == pytest.approx(plain["whole"].root, rel=0.02)
