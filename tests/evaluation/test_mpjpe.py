"""MPJPE against the official implementation's figures, the H3WB benchmark's formula, and known rotations."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtmw_edge.evaluation.mpjpe import Mpjpe, procrustes

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def case(reference_dir: Path) -> Arrays:
    with np.load(reference_dir / "mpjpe.npz") as data:
        return data["pred"], data["gt"], data["mask"]


def mpjpe(found: np.ndarray, truth: np.ndarray, labelled: np.ndarray) -> float:
    """Mean distance of `found` from `truth`, both (N,K,3), over the `labelled` (N,K) keypoints, in their unit."""
    return float(np.linalg.norm(found - truth, axis=-1)[labelled].mean())


def test_official_figures(case: Arrays, reference_dir: Path) -> None:
    found, truth, labelled = case
    expected = json.loads((reference_dir / "functions.json").read_text())["mpjpe"]
    assert mpjpe(found, truth, labelled) == pytest.approx(expected["none"], rel=1e-12)
    # mmpose fits to all keypoints, labelled or not, and averages over the labelled.
    assert mpjpe(procrustes(found, truth), truth, labelled) == pytest.approx(expected["procrustes"], rel=1e-12)


def test_whole_row_is_the_official_figure_in_millimetres(case: Arrays) -> None:
    found, truth, labelled = case
    errors = Mpjpe()
    for person in range(len(found)):
        errors.add(found[person : person + 1], truth[person : person + 1], labelled[person : person + 1])
    assert errors.result()["whole"].plain == pytest.approx(156.970056566819, rel=1e-12)
    everything = Mpjpe()
    everything.add(found, truth, np.ones_like(labelled))
    fitted = procrustes(found, truth)
    assert everything.result()["whole"].procrustes == pytest.approx(
        1000 * np.linalg.norm(fitted - truth, axis=2).mean()
    )


def test_parts_and_roots_are_the_h3wb_benchmarks(case: Arrays) -> None:
    """The benchmark's own formula, with its joint numbers."""
    found, truth, _ = case
    errors = Mpjpe()
    errors.add(found, truth, np.ones(found.shape[:2], bool))
    result = errors.result()
    difference = found - truth
    pelvis = difference - (difference[:, 11:12] + difference[:, 12:13]) / 2

    def millimetres(offsets: np.ndarray) -> float:
        return float(1000 * np.sqrt((offsets**2).sum(-1)).mean())

    assert list(result) == ["body", "face", "left_hand", "right_hand", "hands", "whole"]
    assert result["whole"].root == pytest.approx(millimetres(pelvis))
    assert result["body"].root == pytest.approx(millimetres(pelvis[:, :23]))
    assert result["face"].root == pytest.approx(millimetres(pelvis[:, 23:91]))
    assert result["hands"].root == pytest.approx(millimetres(pelvis[:, 91:]))
    assert result["face"].part_root == pytest.approx(millimetres((difference - difference[:, :1])[:, 23:91]))
    left = millimetres((difference - difference[:, 91:92])[:, 91:112])
    right = millimetres((difference - difference[:, 112:113])[:, 112:])
    assert result["left_hand"].part_root == pytest.approx(left)
    assert result["right_hand"].part_root == pytest.approx(right)
    assert result["hands"].part_root == pytest.approx((left + right) / 2)
    assert result["body"].part_root == result["body"].root


def _moved(points: np.ndarray) -> np.ndarray:
    rotation, _ = cv2.Rodrigues(np.array([0.3, -1.1, 2.0]))
    return 1.7 * points @ rotation.T + [3.0, -2.0, 0.5]


def test_procrustes_undoes_a_similarity(case: Arrays) -> None:
    _, truth, labelled = case
    assert procrustes(_moved(truth), truth) == pytest.approx(truth, abs=1e-12)
    # Keypoints without a label take no part in the fit.
    spoilt = np.where(labelled[..., None], _moved(truth), 99.0)
    assert procrustes(spoilt, truth, labelled)[labelled] == pytest.approx(truth[labelled], abs=1e-12)


def test_procrustes_turns_but_never_mirrors() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(1, 20, 3))
    mirrored = truth * [-1, 1, 1]
    assert np.linalg.norm(procrustes(mirrored, truth) - truth, axis=2).mean() > 0.3


def test_procrustes_is_the_least_squares(case: Arrays) -> None:
    """Any other small move, turn or scaling of the fitted points lies farther from the labels."""
    found, truth, _ = case
    fitted = procrustes(found, truth)
    best = ((fitted - truth) ** 2).sum()
    rng = np.random.default_rng(2)
    for _ in range(200):
        rotation, _ = cv2.Rodrigues(rng.normal(0, 0.02, 3))
        other = (1 + rng.normal(0, 0.02)) * fitted @ rotation.T + rng.normal(0, 0.02, 3)
        assert ((other - truth) ** 2).sum() > best


def test_points_that_coincide_are_put_in_the_middle() -> None:
    truth = np.random.default_rng(3).normal(size=(1, 9, 3))
    assert procrustes(np.ones((1, 9, 3)), truth)[0] == pytest.approx(np.tile(truth[0].mean(0), (9, 1)))


def test_unlabelled_keypoints_do_not_count(case: Arrays) -> None:
    """Unknown places may hold anything; without both hips nothing is aligned at them; no hand, no error of it."""
    found, truth, _ = case
    labelled = np.ones(found.shape[:2], bool)
    labelled[:, 12] = False
    labelled[:, 91:112] = False
    truth = np.where(labelled[..., None], truth, np.nan)
    errors = Mpjpe()
    errors.add(found, truth, labelled)
    result = errors.result()
    assert result["whole"].root == result["body"].root == result["face"].root == -1
    assert result["left_hand"] == type(result["whole"])(-1, -1, -1, -1)
    assert result["hands"].plain == result["right_hand"].plain > 0
    assert result["whole"].plain == pytest.approx(1000 * mpjpe(found, np.nan_to_num(truth), labelled))
    assert result["face"].part_root > 0


@pytest.mark.parametrize(("count", "fitted"), [(3, False), (4, True)])
def test_a_part_is_fitted_from_four_keypoints_on(case: Arrays, count: int, fitted: bool) -> None:
    found, truth, _ = case
    labelled = np.zeros(found.shape[:2], bool)
    labelled[:, 113 : 113 + count] = True
    errors = Mpjpe()
    errors.add(found, truth, labelled)
    right = errors.result()["right_hand"]
    assert right.plain > 0 and (0 < right.procrustes < right.plain if fitted else right.procrustes == -1)


def test_nobody() -> None:
    errors = Mpjpe()
    errors.add(np.zeros((0, 133, 3)), np.zeros((0, 133, 3)), np.zeros((0, 133), bool))
    assert {value.plain for value in errors.result().values()} == {-1}
