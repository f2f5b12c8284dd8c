"""The codec against the official implementation's labels and decoded keypoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtmw_edge import simcc
from rtmw_edge.errors import BadInputError

FLOAT16_STEP = 2.0**-11
"""Labels were stored in half precision."""


@pytest.fixture(params=[(192, 256), (288, 384)], ids=str)
def case(request: pytest.FixtureRequest, reference_dir: Path) -> tuple[tuple[int, int], dict[str, np.ndarray]]:
    width, height = request.param
    with np.load(reference_dir / f"simcc2d-{height}x{width}.npz") as data:
        return request.param, dict(data)


@pytest.fixture
def case_3d(reference_dir: Path) -> dict[str, np.ndarray]:
    with np.load(reference_dir / "simcc3d-384x288.npz") as data:
        return dict(data)


def test_sigma(case: tuple) -> None:
    size, data = case
    assert simcc.sigma_of(size).tolist() == data["sigma"].tolist()


def test_encode(case: tuple) -> None:
    size, data = case
    labels = simcc.encode(data["keypoints"], data["visible"], size)
    assert np.abs(labels.x - data["labels_x"]).max() < FLOAT16_STEP
    assert np.abs(labels.y - data["labels_y"]).max() < FLOAT16_STEP
    assert np.array_equal(labels.weights, data["weights"])
    assert labels.z is None


def test_a_label_reaches_the_crop_until_its_window_ends_a_bin_before_it() -> None:
    """Three sigma are 14.7 bins, and mmpose counts one more: at bin -15 the window ends at 0.7, at -16 before 0."""
    points = np.array([[[-7.5, 100], [-8, 100], [100, 100]]])
    assert simcc.encode(points, np.ones((1, 3)), (192, 256)).weights.tolist() == [[1, 0, 1]]


def test_decode(case: tuple) -> None:
    _, data = case
    keypoints, scores = simcc.decode([data["logits_x"], data["logits_y"]])
    assert np.array_equal(keypoints, data["decoded"])
    assert np.array_equal(scores, data["scores"])
    assert (keypoints[0, :5] == -0.5).all(), "maxima below zero"
    assert keypoints.dtype == scores.dtype == np.float32


def test_encode_3d(case_3d: dict[str, np.ndarray]) -> None:
    data = case_3d
    labels = simcc.encode_3d(data["keypoints"], data["visible"], data["keypoints_3d"], (288, 384))
    assert labels.z is not None and labels.z_weights is not None
    assert np.abs(labels.z - data["labels_z"]).max() < FLOAT16_STEP
    assert np.array_equal(labels.weights, data["weights"])
    assert np.array_equal(labels.z_weights, data["weight_z"])


def test_encode_3d_without_depth(case_3d: dict[str, np.ndarray]) -> None:
    labels = simcc.encode_3d(case_3d["keypoints"], case_3d["visible"], None, (288, 384))
    flat = simcc.encode(case_3d["keypoints"], case_3d["visible"], (288, 384))
    assert np.array_equal(labels.z_weights, case_3d["no3d_weight_z"])
    assert np.array_equal(labels.x, flat.x) and np.array_equal(labels.weights, flat.weights)


def test_decode_3d(case_3d: dict[str, np.ndarray]) -> None:
    keypoints, scores = simcc.decode_3d([case_3d[f"logits_{axis}"] for axis in "xyz"])
    assert np.array_equal(keypoints[..., :2], case_3d["decoded"][..., :2])
    assert np.abs(keypoints[..., 2] - case_3d["decoded"][..., 2]).max() < 1e-6
    assert np.array_equal(scores, case_3d["scores"])


def test_decode_3d_without_confidence() -> None:
    """Minus one on every axis, before bins become pixels and metres; z does not count for the score."""
    x, y = np.full((1, 2, 576), -1.0), np.full((1, 2, 768), -1.0)
    z = np.zeros((1, 2, 576))
    z[..., 100] = 5
    x[0, 1, 50] = y[0, 1, 60] = 1
    keypoints, scores = simcc.decode_3d([x, y, z])
    assert keypoints[0, 0] == pytest.approx([-0.5, -0.5, (-0.5 / 144 - 1) * 2.1744869])
    assert keypoints[0, 1] == pytest.approx([25, 30, (50 / 144 - 1) * 2.1744869])
    assert scores.tolist() == [[-1, 1]]


def test_decode_does_not_follow_nan() -> None:
    x, y = np.ones((1, 1, 384)), np.ones((1, 1, 512))
    x[0, 0, 7] = np.nan
    keypoints, scores = simcc.decode([x, y])
    assert keypoints.tolist() == [[[-0.5, -0.5]]] and np.isnan(scores).all()


def test_decode_nobody() -> None:
    keypoints, scores = simcc.decode([np.zeros((0, 133, 384)), np.zeros((0, 133, 512))])
    assert keypoints.shape == (0, 133, 2) and scores.shape == (0, 133)


@pytest.mark.parametrize("subbin", [False, True])
def test_round_trip(subbin: bool) -> None:
    """Labels, ten times as high like trained logits, decode to the point that was encoded."""
    rng = np.random.default_rng(0)
    points = rng.uniform(10, 180, (3, 133, 2))
    labels = simcc.encode(points, np.ones((3, 133)), (192, 256))
    keypoints, scores = simcc.decode([10 * labels.x, 10 * labels.y], subbin=subbin)
    assert np.abs(keypoints - points).max() <= 0.25 + 1e-4, "half a bin"
    assert scores == pytest.approx(10)


def test_subbin_finds_a_peak_between_bins() -> None:
    rng = np.random.default_rng(1)
    bins = rng.uniform(20, 360, (1, 133, 2))
    lines = [10 * np.exp(-((np.arange(n) - bins[..., axis, None]) ** 2) / 50) for axis, n in enumerate((384, 512))]
    fine, _ = simcc.decode(lines, subbin=True)
    coarse, _ = simcc.decode(lines)
    assert np.abs(fine - bins / 2).max() < 0.02
    assert np.abs(coarse - bins / 2).max() > 0.2


def test_subbin_takes_five_bins_and_leaves_a_peak_nearer_to_the_end_as_it_is() -> None:
    bins, size = np.array([1.3, 2.3, 380.7, 381.7]), 384
    line = np.exp(-((np.arange(size) - bins[:, None]) ** 2) / 50)[None]
    keypoints, _ = simcc.decode([line, line], subbin=True)
    assert 2 * keypoints[0, :, 0] == pytest.approx([1, 2.3, 380.7, 382], abs=0.04)


def test_subbin_leaves_edges_and_flat_lines_alone() -> None:
    x, y = np.zeros((1, 2, 384)), np.ones((1, 2, 512))
    x[0, 0, 0] = x[0, 1, 383] = 1
    keypoints, _ = simcc.decode([x, y], subbin=True)
    assert keypoints.tolist() == [[[0, 0], [191.5, 0]]]


def test_wrong_logits_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"Cannot decode logits of shapes \(133, 384\), \(133, 512\): 2 arrays"):
        simcc.decode([np.zeros((133, 384)), np.zeros((133, 512))])
    with pytest.raises(BadInputError, match="3 arrays"):
        simcc.decode_3d([np.zeros((1, 133, 576)), np.zeros((1, 133, 768))])
    with pytest.raises(BadInputError, match=r"\(1, 133, 0\)"):
        simcc.decode([np.zeros((1, 133, 0)), np.zeros((1, 133, 512))])


def test_calibrated() -> None:
    scores = simcc.calibrated([-1e6, 2.0, 1e6], a=1.5, b=-3)
    assert scores.tolist() == [0, 0.5, 1]
    assert simcc.calibrated([4.0], 0.5, 0.1)[0] == pytest.approx(1 / (1 + np.exp(-2.1)))
