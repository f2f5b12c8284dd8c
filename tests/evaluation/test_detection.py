"""Recall, precision and AP50 of a detector, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError
from rtmw_edge.evaluation.detection import Labelled, best_score, evaluate_detector
from rtmw_edge.runtime.detection import Detections, Detector

IMAGE = np.zeros((100, 200, 3), np.uint8)
PEOPLE = np.array([[0, 0, 50, 100], [100, 0, 150, 100]], np.float32)


def answering(*rows: tuple[float, ...]) -> Detector:
    array = np.array(rows, np.float32).reshape(-1, 5)
    return lambda image: Detections(array[:, :4], array[:, 4])


def labelled(ignored: list[bool], boxes: NDArray[np.float32] = PEOPLE) -> list[Labelled]:
    return [Labelled(IMAGE, boxes, np.array(ignored, bool))]


def test_by_hand() -> None:
    """One of two found at 0.9 with IoU 0.8, one ghost at 0.5, the other found at 0.2 only."""
    detector = answering((0, 0, 50, 80, 0.9), (160, 0, 190, 50, 0.5), (100, 0, 150, 100, 0.2))
    found = evaluate_detector(detector, labelled([False, False]), 0.3)
    assert (found.people, found.pictures, found.recall, found.precision) == (2, 1, 0.5, 0.5)
    # Precision 1 up to recall 0.5, then 2/3: 51 and 50 of COCO's 101 recall points.
    assert found.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert str(found) == "2 people in 1 pictures: recall 0.500, precision 0.500 from score 0.3 on, AP50 0.835"


def test_a_second_box_on_somebody_is_wrong_and_a_loose_one_too() -> None:
    twice = answering((0, 0, 50, 100, 0.9), (0, 0, 50, 98, 0.8), (100, 0, 150, 49, 0.7))
    found = evaluate_detector(twice, labelled([False, False]), 0.3)
    assert (found.recall, found.precision) == (0.5, pytest.approx(1 / 3))


def test_the_ignored_count_neither_way() -> None:
    detector = answering((0, 0, 50, 100, 0.9), (100, 0, 150, 100, 0.8), (100, 0, 150, 98, 0.7))
    found = evaluate_detector(detector, labelled([False, True]), 0.3)
    assert (found.people, found.recall, found.precision, found.ap50) == (1, 1.0, 1.0, pytest.approx(1))


def test_a_score_of_just_the_threshold_is_a_detection() -> None:
    found = evaluate_detector(answering((0, 0, 50, 100, 0.25)), labelled([False, False]), 0.25)
    assert (found.recall, found.precision) == (0.5, 1.0)


def test_nobody_to_find_has_no_recall() -> None:
    none = np.zeros((0, 4), np.float32)
    found = evaluate_detector(answering((0, 0, 50, 100, 0.9)), labelled([], none), 0.3)
    assert math.isnan(found.recall) and math.isnan(found.ap50) and found.precision == 0
    assert math.isnan(evaluate_detector(answering(), labelled([False, False]), 0.3).precision)


def test_the_score_of_the_best_f2_by_hand() -> None:
    """F2 is 5/9 from 0.9 on (1 of 2 found) and 10/13 from 0.2 on (both, and three ghosts); F1 would be 2/3 and 4/7."""
    ghosts = [(160, 0, 190, 50, 0.5), (160, 60, 190, 90, 0.4), (60, 60, 90, 90, 0.3)]
    detector = answering((0, 0, 50, 80, 0.9), *ghosts, (100, 0, 150, 100, 0.2))
    assert best_score(detector, labelled([False, False])) == pytest.approx(0.2)
    # Who is ignored is neither right nor wrong: found, they would make two of one.
    crowd = answering((0, 0, 50, 80, 0.9), *ghosts, (100, 0, 150, 100, 0.2))
    assert best_score(crowd, labelled([False, True])) == pytest.approx(0.9)
    with pytest.raises(BadInputError, match=r"finds nobody in these pictures: train it longer\."):
        best_score(answering((160, 0, 190, 50, 0.5)), labelled([False, False]))
