"""The person detector in the package: what it finds, what it weighs, and that its card says what its file says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import rtmw_edge
from rtmw_edge.data.synthetic import Renderer
from rtmw_edge.evaluation.detection import Labelled, evaluate_detector
from rtmw_edge.runtime.detectors import BUILTIN_FILE, SCORE, OnnxDetector, open_detector
from rtmw_edge.runtime.detectors.detector import SCORES_KEY
from rtmw_edge.runtime.tracking import iou

EMPTY = np.full((120, 160, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def detector() -> OnnxDetector:
    return open_detector("builtin", threads=1)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer("val")


def labelled(renderer: Renderer, index: int, people: int | None = None) -> Labelled:
    sample = renderer.scene(index, people=people)
    boxes = np.stack([person.box for person in sample.people]) + np.float32(0.5)
    return Labelled(sample.image, boxes, np.zeros(len(boxes), bool))


def test_it_finds_rendered_people(detector: OnnxDetector, renderer: Renderer) -> None:
    found = evaluate_detector(detector, [labelled(renderer, index) for index in range(12)], SCORE)
    assert found.people > 20 and found.recall >= 0.8 and found.precision >= 0.8, str(found)


def test_it_is_small_and_alone(detector: OnnxDetector) -> None:
    assert BUILTIN_FILE.stat().st_size < 3e6
    assert re.fullmatch(r"builtin person detector, \d+x\d+, ONNX Runtime, cpu", detector.about)


def test_its_card_has_the_figures_of_its_file(detector: OnnxDetector) -> None:
    card = BUILTIN_FILE.with_suffix(".md").read_text(encoding="utf-8")
    scores = json.loads(detector.metadata[SCORES_KEY])
    assert len(scores) >= 2
    for name, one in scores.items():
        row = f"| {name} | {one['people']} | {one['recall']:.3f} | {one['precision']:.3f} | {one['ap50']:.3f} |"
        assert row in card, row
    assert f"fp16 weights, {BUILTIN_FILE.stat().st_size / 1e6:.2f} MB" in card
    assert f"at least\n{SCORE:g}," in card


def test_nobody_is_found_in_nothing(detector: OnnxDetector) -> None:
    boxes, scores = detector(EMPTY)
    assert boxes.shape == (0, 4) and scores.shape == (0,)


def picture_of_two(renderer: Renderer, path: Path) -> Labelled:
    scene = labelled(renderer, 3, people=2)
    cv2.imwrite(str(path), scene.image)
    return scene


def test_run_finds_two_people_by_itself(
    cli: Callable[..., Any], tiny_bundle: Path, renderer: Renderer, tmp_path: Path
) -> None:
    scene = picture_of_two(renderer, tmp_path / "two.png")
    cv2.imwrite(str(tmp_path / "empty.png"), EMPTY)
    done = cli("run", tiny_bundle, tmp_path / "two.png", tmp_path / "empty.png", "--json", tmp_path / "p.json")
    assert done.code == 0 and "detector: builtin person detector, " in done.out
    assert "two.png  2 people" in done.out and "empty.png  0 people" in done.out
    two, nobody = json.loads((tmp_path / "p.json").read_text())["images"]
    boxes = np.array([person["box"] for person in two["people"]], np.float32)
    assert (iou(boxes, scene.boxes).max(axis=0) > 0.5).all() and nobody["people"] == []


def test_the_whole_image_is_still_there(cli: Callable[..., Any], tiny_bundle: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "empty.png"), EMPTY)
    done = cli("run", tiny_bundle, tmp_path / "empty.png", "--detector", "none")
    assert done.code == 0 and "empty.png  1 person" in done.out and "detector" not in done.out


def test_wholebody_takes_it_by_name_and_by_file(tiny_bundle: Path, renderer: Renderer, tmp_path: Path) -> None:
    scene = picture_of_two(renderer, tmp_path / "two.png")
    for det in ("builtin", BUILTIN_FILE):
        keypoints, _ = rtmw_edge.Wholebody(det, pose=tiny_bundle)(scene.image)
        assert keypoints.shape == (2, 133, 2)


def test_boxes_take_its_place(cli: Callable[..., Any], tiny_bundle: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "empty.png"), EMPTY)
    (tmp_path / "b.json").write_text('{"empty.png": [[10, 10, 60, 100]]}')
    done = cli("run", tiny_bundle, tmp_path / "empty.png", "--boxes", tmp_path / "b.json")
    assert done.code == 0 and "empty.png  1 person" in done.out and "detector" not in done.out
