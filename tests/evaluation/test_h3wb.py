"""H3WB's official file as a data set to evaluate on: made up people here, the real file's subset where it lies."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError
from rtmw_edge.evaluation import evaluate, open_dataset
from rtmw_edge.evaluation.datasets import dataset_named
from rtmw_edge.poses import Poses

CAMERA = "54138969"
MATRIX = np.array([[1145.0, 0, 512.5], [0, 1143.8, 515.4], [0, 0, 1]])
FRAMES = (1, 6, 11)
HEIGHT, WIDTH = 1002, 1000


def _people() -> NDArray[np.float64]:
    """Millimetres (3,133,3) in the camera's frame, 4 to 6 m away."""
    rng = np.random.default_rng(0)
    depth = np.array([4000.0, 5000, 6000])[:, None, None] * [0, 0, 1]
    return rng.normal(0, 250, (len(FRAMES), 133, 3)) + depth


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Human3.6M's folder as the official preparation leaves it, with one subject, action and camera."""
    millimetres = _people()
    pixels, _ = cv2.projectPoints(millimetres.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), MATRIX, None)
    pixels = pixels.reshape(len(FRAMES), 133, 2)
    views = {
        "global_3d": millimetres,
        "frame_id": np.array(FRAMES),
        CAMERA: {"camera_3d": millimetres, "pose_2d": pixels, "sample_id": 0},
    }
    intrinsics = MATRIX / [[1000], [1000], [1]]
    boxes = {}
    for frame, points in zip(FRAMES, pixels, strict=True):
        (left, top), (right, bottom) = points.min(0).astype(int), points.max(0).astype(int) + 1
        sides = {"x_min": left, "y_min": top, "x_max": right, "y_max": bottom}
        boxes["S7", "Walking", CAMERA, frame] = {side: int(value) for side, value in sides.items()}
    (tmp_path / "annotation_body3d").mkdir()
    np.savez(
        tmp_path / "annotation_body3d" / "h3wb_train_bbox.npz",
        train_data=np.array({"S7": {"Walking": views}}, object),
        metadata=np.array({"S7": {CAMERA: {"K": intrinsics[None].astype(np.float32)}}}, object),
        bbox=np.array(boxes, object),
    )
    folder = tmp_path / "original" / "S7" / "Images" / f"Walking.{CAMERA}"
    folder.mkdir(parents=True)
    for frame in FRAMES:
        cv2.imwrite(str(folder / f"frame_{frame:06d}.jpg"), np.full((HEIGHT, WIDTH, 3), 100, np.uint8))
        cv2.imwrite(str(folder / f"frame_{frame}.jpg"), np.full((HEIGHT, WIDTH, 3), 100, np.uint8))
    return tmp_path


def test_labels_in_metres_with_their_camera(root: Path) -> None:
    dataset = open_dataset(f"h3wb:{root}/annotation_body3d/h3wb_train_bbox.npz")
    items = list(dataset)
    assert len(dataset) == len(items) == 3 and items[0].image.shape == (HEIGHT, WIDTH, 3)
    for item, millimetres in zip(items, _people(), strict=True):
        assert item.labels_3d is not None
        assert item.labels_3d.metres[0] == pytest.approx(millimetres / 1000, abs=1e-5)
        assert item.labels_3d.camera == pytest.approx(MATRIX, abs=1e-3)
        assert (item.people.visible > 0).all()
        x0, y0, x1, y1 = item.people.boxes[0]
        assert item.people.areas[0] == pytest.approx((x1 - x0) * (y1 - y0))
    assert len(open_dataset(f"h3wb:{root}/annotation_body3d/h3wb_train_bbox.npz:{root}:S7", limit=2)) == 2


def test_evaluation_on_h3wb(root: Path) -> None:
    """Pixels of the labels and flat depth: the error is the depth that is missing."""
    dataset = open_dataset(f"h3wb:{root}/annotation_body3d/h3wb_train_bbox.npz")
    answers = {tuple(item.people.boxes[0].tolist()): item.people.keypoints[0] for item in dataset}

    def flat(image: NDArray[np.uint8], boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Poses:
        points = answers[tuple(boxes[0].tolist())]
        return Poses(np.concatenate([points, np.zeros((133, 1))], axis=1)[None], np.ones((1, 133)), boxes, scores)

    metres = _people() / 1000
    relative = metres[..., 2] - metres[:, [11, 12], 2].mean(axis=1, keepdims=True)
    expected = 1000 * np.linalg.norm(metres / metres[..., 2:], axis=2) * np.abs(relative)
    result = evaluate(flat, dataset)
    assert result.mpjpe["whole"].plain == pytest.approx(expected.mean(), abs=0.05)
    assert result.mpjpe["hands"].plain == pytest.approx(expected[:, 91:].mean(), abs=0.05)
    assert result.parts["whole"].ap == pytest.approx(1)


def test_missing_subject_and_frame_are_named(root: Path) -> None:
    file = root / "annotation_body3d" / "h3wb_train_bbox.npz"
    with pytest.raises(BadInputError, match=r"h3wb_train_bbox\.npz has no subject S8; it has S7"):
        open_dataset(f"h3wb:{file}:{root}:S8")
    with pytest.raises(BadInputError, match=r"There is no image .*S7/Images/Walking\.54138969/frame_"):
        list(open_dataset(f"h3wb:{file}:{root / 'elsewhere'}"))


def test_frames_of_other_names_are_found_by_their_pattern(root: Path) -> None:
    (root / "walk").mkdir()
    (root / "original" / "S7" / "Images" / f"Walking.{CAMERA}").rename(root / "walk" / f"S7-Walking-{CAMERA}")
    pattern = "walk/{subject}-{action}-{camera}/frame_{frame:06d}.jpg"
    dataset = open_dataset(f"h3wb:{root}/annotation_body3d/h3wb_train_bbox.npz:::{pattern}")
    dataset.check_images()
    assert [item.image.shape for item in dataset] == [(HEIGHT, WIDTH, 3)] * 3
    with pytest.raises(
        BadInputError, match=r"There is no image .*walk/S7_Walking_\d+_\d+\.png and 2 more, of 3 in h3wb:"
    ):
        open_dataset(
            f"h3wb:{root}/annotation_body3d/h3wb_train_bbox.npz:{root}:S7:walk/{{subject}}_{{action}}_{{camera}}_{{frame}}.png"
        ).check_images()


def test_the_real_files_subset(samples_dir: Path) -> None:
    # Not by open_dataset, which asks for the photographs.
    dataset = dataset_named(f"h3wb:{samples_dir}/h3wb/h3wb_train_bbox_subset.npz:.:S5")
    assert len(dataset) == 1
