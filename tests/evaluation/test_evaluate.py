"""A whole evaluation with runners that know the answer, on photographs and on noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from coco_files import document, write_images
from numpy.typing import NDArray

from rtmw_edge.crops import check_boxes
from rtmw_edge.errors import BadInputError
from rtmw_edge.evaluation import evaluate, read_detections
from rtmw_edge.evaluation.datasets import CocoWholeBody, Dataset, Item
from rtmw_edge.evaluation.evaluate import boxes_to_run, clipped_boxes, labelled_people
from rtmw_edge.evaluation.whole_body_ap import People
from rtmw_edge.poses import Poses
from rtmw_edge.runtime.detection import Detections

PARTS = ("body", "foot", "face", "left_hand", "right_hand", "whole")


class Oracle:
    """Answers a labelled person's box with the labels, moved by `offset` (pixels); what has no label scores 0."""

    def __init__(self, dataset: Dataset, offset: float = 0.0) -> None:
        self._answers: dict[bytes, tuple[NDArray[np.float64], NDArray[np.bool_]]] = {}
        for item in dataset:
            chosen = labelled_people(item)
            for box, person in zip(clipped_boxes(item, chosen), chosen, strict=True):
                answer = item.people.keypoints[person] + offset, item.people.visible[person] > 0
                self._answers[box.tobytes()] = answer

    def __call__(self, image: NDArray[np.uint8], boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Poses:
        keypoints, confidence = zip(*(self._answers[box.tobytes()] for box in boxes), strict=True)
        return Poses(np.stack(keypoints), np.stack(confidence), boxes, scores)


@pytest.fixture
def noise(tmp_path: Path) -> CocoWholeBody:
    (tmp_path / "labels.json").write_text(json.dumps(document(images=8)))
    write_images(tmp_path, 8)
    return CocoWholeBody(tmp_path / "labels.json", tmp_path)


def test_labels_of_real_photographs_score_one(samples_dir: Path) -> None:
    dataset = CocoWholeBody(samples_dir / "coco" / "test_coco_wholebody.json", samples_dir / "coco")
    steps: list[tuple[int, int]] = []
    result = evaluate(Oracle(dataset), dataset, on_progress=lambda done, total: steps.append((done, total)))
    assert tuple(result.parts) == PARTS
    assert [result.parts[part].ap for part in PARTS] == pytest.approx([1] * 6)
    assert [result.parts[part].ar for part in PARTS] == pytest.approx([1] * 6)
    assert list(result.pck.values()) == [1] * 6
    assert (result.images, result.people, result.boxes) == (4, 12, "ground truth")
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_offset_costs_small_parts_most(noise: CocoWholeBody) -> None:
    result = evaluate(Oracle(noise, offset=2.0), noise)
    assert 0 < result.parts["face"].ap < result.parts["left_hand"].ap < result.parts["body"].ap < 1
    assert evaluate(Oracle(noise, offset=500.0), noise).pck == dict.fromkeys(PARTS, 0.0)


def test_detected_boxes(noise: CocoWholeBody) -> None:
    """Given the labelled boxes as detections the figures are the same; without any, nobody is found."""
    oracle = Oracle(noise, offset=2.0)
    found = {item.image_id: boxes_to_run(item, None) for item in noise}
    detected, labelled = evaluate(oracle, noise, detections=found), evaluate(oracle, noise)
    assert detected.parts == labelled.parts and detected.people == labelled.people
    assert detected.pck == {} and detected.boxes == "detected"
    nobody = evaluate(oracle, noise, detections={})
    assert nobody.people == 0 and nobody.parts["whole"].ar == 0


def test_detections_that_nobody_could_run_are_left_out_and_counted(noise: CocoWholeBody) -> None:
    oracle = Oracle(noise, offset=2.0)
    found = {item.image_id: boxes_to_run(item, None) for item in noise}
    bad = [[900, 0, 950, 50], [-50, 9, -1, 60], [9, 9, 9, 60], [9, 320, 60, 400]]
    # In front, so that a box and its score would part if only one were left out.
    boxes, scores = np.array(bad, np.float32), np.full(4, 0.5, np.float32)
    third = Detections(np.concatenate([boxes, found[3].boxes]), np.concatenate([scores, found[3].scores]))
    mixed = {**found, 3: third}
    plain, left = evaluate(oracle, noise, detections=found), evaluate(oracle, noise, detections=mixed)
    assert left.parts == plain.parts and left.people == plain.people and (left.left_out, plain.left_out) == (4, 0)
    assert left.left_out_sentence() == (
        f"4 of {plain.people + 4} detections lie outside their image or are empty, and were left out."
    )
    assert plain.left_out_sentence() == ""


def test_a_detection_that_begins_on_the_last_pixel_is_run() -> None:
    nobody = People(np.zeros((0, 133, 2)), np.zeros((0, 133)), np.zeros((0, 4)), np.zeros(0), np.zeros(0, bool))
    item = Item(0, np.zeros((100, 80, 3), np.uint8), nobody)
    boxes = np.array([[79, 10, 90, 50], [10, 99, 20, 120], [80, 10, 90, 50], [10, 100, 20, 120]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    run, kept = boxes_to_run(item, {0: Detections(boxes, scores)})
    assert np.array_equal(run, boxes[:2]) and np.array_equal(kept, scores[:2])


def test_json_is_plain(noise: CocoWholeBody) -> None:
    result = json.loads(json.dumps(evaluate(Oracle(noise), noise).to_dict()))
    assert result["parts"]["whole"]["ap"] == pytest.approx(1) and result["dataset"].startswith("coco:")


def test_people_that_are_run() -> None:
    """Not the crowd, not the one without labels, not the box under a pixel in all or in the image; no box leaves it."""
    visible = np.ones((6, 133))
    visible[1] = 0
    boxes = [[0, 0, 50, 50], [0, 0, 50, 50], [9, 9, 9.5, 30], [-5, 20, 90, 150], [79, 10, 81, 50], [-9, -9, 0, 50]]
    crowd = np.arange(6) == 0
    people = People(np.zeros((6, 133, 2)), visible, np.array(boxes, np.float64), np.full(6, 100.0), crowd)
    item = Item(0, np.zeros((100, 80, 3), np.uint8), people)
    chosen = labelled_people(item)
    assert chosen.tolist() == [3]
    assert clipped_boxes(item, chosen).tolist() == [[0, 20, 79, 99]]


def test_official_detections_file(samples_dir: Path) -> None:
    folder = samples_dir / "coco"
    dataset = CocoWholeBody(folder / "test_coco_wholebody.json", folder)
    detections = read_detections(folder / "test_coco_det_AP_H_56.json", dataset)
    boxes, scores = detections[785]
    assert boxes[0] == pytest.approx([277.118, 45.6997, 502.21, 379.26], abs=0.01) and scores[0] > 0.999
    assert -1 not in detections


def test_what_a_runner_refuses_is_named_with_its_image(noise: CocoWholeBody) -> None:
    def strict(image: NDArray[np.uint8], boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Poses:
        check_boxes(boxes, image.shape)
        raise BadInputError("It has had enough.")

    boxes = np.array([[0, 0, 2**25, 50], [0, 0, 30, 40]], np.float32)
    with pytest.raises(
        BadInputError, match=r"^Image 3: It has had enough\.$"
    ):  # and no word of the box that is too far
        evaluate(strict, noise, detections={3: Detections(boxes, np.ones(2, np.float32))})
