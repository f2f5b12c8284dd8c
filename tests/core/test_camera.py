"""The camera against OpenCV's projection, the formulas written out, and the renderer's own pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtmw_edge.camera import ASSUMED_DEPTH, assumed_camera, root_depth, to_camera, to_pixels
from rtmw_edge.data.synthetic import Renderer
from rtmw_edge.errors import BadInputError

CAMERA = np.array([[1145.5, 0, 514.9], [0, 1144.7, 501.8], [0, 0, 1]])


def _people(count: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal((0.3, -0.2, 4.0), 0.4, (count, 133, 3))


def test_projection_is_opencvs() -> None:
    metres = _people()
    expected, _ = cv2.projectPoints(metres.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), CAMERA, None)
    assert to_pixels(metres, CAMERA).reshape(-1, 2) == pytest.approx(expected[:, 0], rel=1e-12)


def test_pixels_and_relative_depth_come_back_as_metres() -> None:
    metres = _people()
    depth = (metres[:, 11, 2] + metres[:, 12, 2]) / 2
    keypoints = np.concatenate([to_pixels(metres, CAMERA), metres[..., 2:] - depth[:, None, None]], axis=2)
    assert root_depth(metres) == pytest.approx(depth)
    assert to_camera(keypoints, CAMERA, depth) == pytest.approx(metres, abs=1e-12)


def test_formula_written_out() -> None:
    """X = (u - cx) / fx Z with Z = z + depth of the hips, which is 5.14388 m where nobody knows it."""
    found = to_camera([[[700.0, 300.0, -0.5]]], CAMERA)[0, 0]
    z = 5.14388 - 0.5
    assert found == pytest.approx([(700 - 514.9) / 1145.5 * z, (300 - 501.8) / 1144.7 * z, z])
    assert ASSUMED_DEPTH == 5.14388


def test_principal_point_of_an_image_that_is_not_square() -> None:
    """The pixel in the middle lies straight ahead; with the official code's swap it would be off to a side."""
    camera = assumed_camera((1080, 1920, 3))
    assert camera.tolist() == [[1145.04940459, 0, 960], [0, 1143.78109572, 540], [0, 0, 1]]
    assert to_camera([[[960.0, 540.0, 0.0]]], camera, 3.0).ravel().tolist() == [0, 0, 3]


def test_the_renderers_labels_agree_with_its_camera() -> None:
    sample = Renderer("val").person(0)
    person = sample.people[0]
    pixels = to_pixels(person.metres[None], sample.camera)[0]
    assert np.abs(pixels - person.keypoints)[person.visible > 0].max() < 1e-3


@pytest.mark.parametrize(
    ("keypoints", "camera", "message"),
    [
        (np.zeros((1, 133, 2)), CAMERA, r"shape \(1, 133, 2\), not \(people, keypoints, 3\): run a 3D variant"),
        (np.zeros((1, 133, 3)), np.eye(4), "is no intrinsic matrix: pass"),
        (np.zeros((1, 133, 3)), np.diag([0, 1, 1]), "is no intrinsic matrix: pass"),
        (np.zeros((1, 133, 3)), CAMERA * 2, "is no intrinsic matrix: pass"),
        (np.zeros((1, 133, 3)), np.full((3, 3), np.nan), "is no intrinsic matrix: pass"),
    ],
)
def test_refusals(keypoints: np.ndarray, camera: np.ndarray, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        to_camera(keypoints, camera)


@pytest.mark.parametrize("depth", [0, -1.0, float("nan"), None, [1.0, 2.0]])
def test_a_depth_that_is_none(depth: object) -> None:
    with pytest.raises(BadInputError, match=r"is no distance in metres: pass 3\.5, say, or one a person"):
        to_camera(np.zeros((1, 133, 3)), CAMERA, depth)  # type: ignore[arg-type]


def test_a_camera_is_assumed_for_a_shape() -> None:
    for given in (np.zeros((4, 4, 3)), None, (640,)):
        with pytest.raises(BadInputError, match=r"for a shape \(height, width, ...\): pass image.shape"):
            assumed_camera(given)  # type: ignore[arg-type]
