"""PCK counted by hand, and the logistic fit against scipy's optimiser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from coco_files import document, write_images
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError
from rtmw_edge.evaluation.datasets import CocoWholeBody
from rtmw_edge.evaluation.evaluate import clipped_boxes, labelled_people
from rtmw_edge.evaluation.pck import Pck
from rtmw_edge.evaluation.score_calibration import collect, fit
from rtmw_edge.keypoints import PARTS, SIGMAS
from rtmw_edge.poses import Poses


@pytest.mark.parametrize("box", [[0, 50, 10, 150], [0, 50, 300, 150]])
def test_pck_by_hand(box: list[int]) -> None:
    """A box 100 px high, upright or lying: 4.9 px is right and 5.1 px wrong; what is not labelled does not count."""
    labels, visible = np.zeros((1, 133, 2)), np.ones((1, 133))
    found = labels.copy()
    found[0, :17] = 4.9, 0
    found[0, 17:23] = 0, 5.1
    found[0, 23:57] = 80
    visible[0, 91:112] = 0
    pck = Pck()
    pck.add(found, labels, visible, np.array([box]))
    expected = {"body": 1, "foot": 0, "face": 0.5, "left_hand": -1, "right_hand": 1, "whole": (17 + 34 + 21) / 112}
    assert pck.result() == pytest.approx(expected)


@pytest.mark.parametrize("box", [[0, 50, 10, 150], [0, 50, 100, 60]])
def test_coarse_pck_goes_by_the_longer_side(box: list[int]) -> None:
    """A longer side of 100 px, upright or lying: 9.9 px is right and 10.1 px wrong."""
    labels = np.zeros((1, 133, 2))
    found = np.full((1, 133, 2), [9.9, 0])
    found[0, 91:112] = 10.1, 0
    pck = Pck(coarse=True)
    pck.add(found, labels, np.ones((1, 133)), np.array([box]))
    assert pck.result()["left_hand"] == 0 and pck.result()["body"] == pck.result()["right_hand"] == 1


def _sampled(a: float, b: float, count: int = 20000) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    scores = rng.gamma(4, 1.5, count)
    return scores, rng.random(count) < 1 / (1 + np.exp(-(a * scores + b)))


def test_fit_is_the_most_likely_curve() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    scores, right = _sampled(1.3, -6)

    def loss(parameters: NDArray[np.float64]) -> float:
        z = parameters[0] * scores + parameters[1]
        return float(np.logaddexp(0, np.where(right, -z, z)).mean())

    best = optimize.minimize(loss, [1, 0], method="BFGS", options={"gtol": 1e-8}).x
    assert fit(scores, right) == pytest.approx(best, rel=1e-3)
    assert fit(scores, right) == pytest.approx((1.3, -6), rel=0.05)


def test_fit_of_separable_scores_is_finite_and_steep() -> None:
    scores = np.linspace(0, 10, 100)
    a, b = fit(scores, scores > 4)
    assert np.isfinite([a, b]).all() and a > 5 and -b / a == pytest.approx(4, abs=0.2)


def test_fit_refuses_what_tells_nothing() -> None:
    with pytest.raises(BadInputError, match="Cannot fit scores: all 3 keypoints are right"):
        fit([1, 2, 3], [True] * 3)
    with pytest.raises(BadInputError, match="higher scores are not more often right"):
        fit(*(lambda scores, right: (-scores, right))(*_sampled(1.3, -6)))


def test_collect(tmp_path: Path) -> None:
    """Half of the keypoints are put on their labels with score 5, half far away with score 1."""
    (tmp_path / "labels.json").write_text(json.dumps(document(images=3)))
    write_images(tmp_path, 3)
    dataset = CocoWholeBody(tmp_path / "labels.json", tmp_path)
    labels = {
        box.tobytes(): item.people.keypoints[person]
        for item in dataset
        for box, person in zip(clipped_boxes(item, labelled_people(item)), labelled_people(item), strict=True)
    }

    def runner(image: NDArray[np.uint8], boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Poses:
        keypoints = np.stack([labels[box.tobytes()] for box in boxes])
        confidence = np.full((len(boxes), 133), 5.0)
        keypoints[:, PARTS["face"]] += 300
        confidence[:, PARTS["face"]] = 1
        return Poses(keypoints, confidence, boxes, scores)

    scores, correct = collect(runner, dataset)
    assert set(scores) == {1, 5} and not correct[scores == 1].any()
    visible = np.concatenate(
        [item.people.visible[labelled_people(item)] for item in dataset]
    )  # an unlabelled keypoint is never right
    others = np.delete(visible, np.r_[PARTS["face"]], axis=1)
    assert correct.sum() == (others > 0).sum()
    a, b = fit(scores, correct)
    assert a > 0 and 1 < -b / a < 5


@pytest.mark.parametrize(("similarity", "right"), [(0.51, True), (0.49, False)])
def test_right_is_who_is_half_as_similar_as_can_be(tmp_path: Path, similarity: float, right: bool) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(document(images=1)))
    write_images(tmp_path, 1)
    dataset = CocoWholeBody(tmp_path / "labels.json", tmp_path)
    people = next(iter(dataset)).people
    chosen = labelled_people(next(iter(dataset)))

    def runner(image: NDArray[np.uint8], boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Poses:
        keypoints = people.keypoints[chosen].copy()
        keypoints[..., 1] += 2 * SIGMAS * np.sqrt(-2 * np.log(similarity) * people.areas[chosen, None])
        return Poses(keypoints, np.ones((len(boxes), 133)), boxes, scores)

    _, correct = collect(runner, dataset)
    assert correct.sum() == right * (people.visible[chosen] > 0).sum()
