"""Labels of a rendered person: pixels, camera-frame metres, and what the z-buffer says is visible."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .body import FloatArray
from .camera import Camera
from .framing import box_inside
from .sample import ABSENT, OCCLUDED, VISIBLE, Person

_LOOK_AROUND = ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))  # samples beside the keypoint where its surface may show


def label_person(
    camera: Camera,
    keypoints: FloatArray,
    outline: FloatArray,
    seen_within: FloatArray,
    inverse_depth: FloatArray,
    ids: NDArray[np.int32],
    own: tuple[int, int],
    scale: int,
) -> Person:
    """The labels of one person from the finished z-buffer.

    keypoints (133,3) and outline (P,3) in the world; seen_within (133,) metres that the visible surface may lie from the
    keypoint; inverse_depth and ids (H*scale, W*scale) as `rasterize` leaves them; own: range of this person's ids.
    """
    height, width = ids.shape[0] // scale, ids.shape[1] // scale
    projected, metres = camera.project(keypoints), camera.to_camera(keypoints)
    pixels = projected[:, :2]
    inside = (pixels >= -0.5).all(1) & (pixels < (width - 0.5, height - 0.5)).all(1) & (metres[:, 2] > 0.05)
    visible = np.where(inside, OCCLUDED, ABSENT).astype(np.uint8)

    samples = np.nan_to_num((pixels + 0.5) * scale - 0.5, nan=-1.0, posinf=-1.0, neginf=-1.0)
    column = np.clip(np.rint(samples[:, 0]), 0, ids.shape[1] - 1).astype(np.int64)
    row = np.clip(np.rint(samples[:, 1]), 0, ids.shape[0] - 1).astype(np.int64)
    for dx, dy in _LOOK_AROUND:
        x, y = np.clip(column + dx, 0, ids.shape[1] - 1), np.clip(row + dy, 0, ids.shape[0] - 1)
        found = ids[y, x]
        depth = 1 / np.maximum(inverse_depth[y, x], np.float32(1e-6))
        px, py = (x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5
        surface = np.stack([(px - camera.centre[0]) / camera.focal, (py - camera.centre[1]) / camera.focal], 1)
        surface = np.concatenate([surface, np.ones((len(x), 1))], 1) * depth[:, None]
        near = np.linalg.norm(surface - metres, axis=1) < seen_within
        visible[inside & near & (found >= own[0]) & (found < own[1])] = VISIBLE
    # A keypoint behind the end of the photograph, or behind the camera, is no keypoint of this picture.
    visible[inside & (ids[row, column] == OUTSIDE)] = ABSENT

    body = camera.project(outline)[:, :2]
    limits = _inner_limits(ids, scale)
    box = box_inside(body, limits, np.clip(np.concatenate([body.min(0), body.max(0)]), limits[[0, 1, 0, 1]], limits[[2, 3, 2, 3]]))
    area = float(((ids >= own[0]) & (ids < own[1])).sum()) / scale**2
    return Person(pixels.astype(np.float32), visible, metres, box.astype(np.float32), area)


OUTSIDE = -2
"""Id of samples beyond the end of the photograph."""
OCCLUDER = -3
"""Id of samples of things before the people."""


def _inner_limits(ids: NDArray[np.int32], scale: int) -> FloatArray:
    """The rectangle (4,) of the picture that is not beyond the end of the photograph, in pixels."""
    rows = np.flatnonzero((ids != OUTSIDE).any(1))
    columns = np.flatnonzero((ids != OUTSIDE).any(0))
    if not len(rows):
        return np.zeros(4, np.float32)
    corners = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)
    return (corners + 0.5) / scale - 0.5
