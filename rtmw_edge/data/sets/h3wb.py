"""H3WB: Human3.6M with 133 keypoints in 3D; h3wb_train_bbox.npz and the frames of the videos (spec 2.5)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInputError
from .coco_files import BAD_VALUES
from .object_arrays import load_objects
from .table import Collector

TRAIN_SUBJECTS = ("S1", "S5", "S6")
"""RTMW3D trains on these and validates on S7."""
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
PIXELS = 1000.0
"""The file gives intrinsics in pixels / 1000; Human3.6M's images are about 1000 wide."""
MILLIMETRES = 1000.0


def read_h3wb(path: Path, collector: Collector, frames: str, subjects: tuple[str, ...]) -> None:
    """Read h3wb_train_bbox.npz into the collector, of each view of an action every n-th frame.

    `frames` is the pattern of a frame's file with {subject}, {action}, {camera} and {frame}. Raises BadInputError for a
    damaged file, a pickle that holds more than data, or a subject that the file lacks.
    """
    _check_pattern(frames)
    people, metadata, boxes = load_objects(path, ("train_data", "metadata", "bbox"))
    if not all(isinstance(part, dict) for part in (people, metadata, boxes)):
        raise BadInputError(f"{path} is not H3WB's h3wb_train_bbox.npz: its parts must be dictionaries.")
    for subject in subjects:
        actions = people.get(subject)
        if not isinstance(actions, dict):
            raise BadInputError(f"{path} has no subject {subject}; it has {', '.join(map(str, people))}.")
        for action, views in actions.items():
            for camera in CAMERAS:
                if not isinstance(views, dict) or camera in views:
                    try:
                        intrinsics = _intrinsics(metadata[subject][camera])
                        for frame, points, millimetres in list(_frames(views, camera))[:: collector.every]:
                            collector.add(
                                frames.format(subject=subject, action=action, camera=camera, frame=frame),
                                _box(boxes.get((subject, action, camera, frame))),
                                points,
                                np.full(collector.mapping.joints, 2, np.uint8),
                                metres=millimetres / MILLIMETRES,
                                camera=intrinsics,
                            )
                    except BAD_VALUES as error:
                        collector.skip_malformed(f"{subject} {action} {camera}", error)


def _check_pattern(frames: str) -> None:
    """Each of the four must be in it, or many frames would be one file."""
    one: dict[str, Any] = {"subject": "S1", "action": "A", "camera": "C", "frame": 1}
    try:
        complete = all(frames.format(**{**one, key: 2}) != frames.format(**one) for key in one)
    except (LookupError, ValueError, AttributeError):
        complete = False
    if not complete:
        raise BadInputError(
            f"images = '{frames}' is no pattern of H3WB's frames: write the file of a frame with "
            "{subject}, {action}, {camera} and {frame} in it."
        )


def _intrinsics(camera: dict[str, Any]) -> NDArray[np.float64]:
    """fx, fy, cx, cy in pixels. The lens's distortion is left out, as in RTMW3D."""
    matrix = np.asarray(camera["K"], np.float64).reshape(-1, 3)[:2]
    return np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]]) * PIXELS


def _box(box: dict[str, Any] | None) -> list[float]:
    """x0, y0, x1, y1; not finite, and so counted as bad, when the file has no box for a frame."""
    return [float((box or {}).get(side, np.nan)) for side in ("x_min", "y_min", "x_max", "y_max")]


def _frames(views: dict[str, Any], camera: str) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    numbers = np.asarray(views["frame_id"]).ravel().tolist()
    yield from zip(numbers, views[camera]["pose_2d"], views[camera]["camera_3d"], strict=True)
