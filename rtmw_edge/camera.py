"""From image pixels and depth relative to the hips to metres in the camera's frame, and back.

Axes: x right, y down, z away from the camera. A camera is its intrinsic matrix (3,3) in pixels of the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BadInputError
from .simcc import LEFT_HIP, RIGHT_HIP

Float = NDArray[np.float64]

ASSUMED_FOCAL = (1145.04940459, 1143.78109572)
"""Focal lengths in pixels that RTMW3D assumes without calibration: those of a Human3.6M camera."""

ASSUMED_DEPTH = 5.14388
"""Metres to the hip middle that RTMW3D assumes where it is not known: the mean of its training set."""


def assumed_camera(image_shape: tuple[int, ...]) -> Float:
    """The camera that RTMW3D assumes for an image of `image_shape` (height, width, ...).

    The principal point is the middle of the image (width / 2, height / 2). The official code takes (height / 2,
    width / 2), which moves everybody sideways and up in an image that is not square.

    >>> assumed_camera((480, 640, 3))[:2, 2].tolist()
    [320.0, 240.0]
    """
    if not isinstance(image_shape, tuple) or len(image_shape) < 2:
        raise BadInputError("The camera is assumed for a shape (height, width, ...): pass image.shape.")
    height, width = image_shape[:2]
    return np.array([[ASSUMED_FOCAL[0], 0, width / 2], [0, ASSUMED_FOCAL[1], height / 2], [0, 0, 1]])


def root_depth(metres: ArrayLike) -> Float:
    """Depth (N,) of the hip middle of people with camera-frame keypoints `metres` (N,133,3)."""
    depth: Float = np.asarray(metres, np.float64)[:, [LEFT_HIP, RIGHT_HIP], 2].mean(axis=1)
    return depth


def to_camera(keypoints: ArrayLike, camera: ArrayLike, depth: ArrayLike = ASSUMED_DEPTH) -> Float:
    """Camera-frame metres (N,K,3) of `keypoints` (N,K,3), as `Poses` has them in 3D.

    `keypoints` are x and y in image pixels and z in metres relative to the hip middle, which is `depth` metres away:
    one number, or one a person (N,). Z = z + depth, and X and Y follow from the pinhole `camera` (3,3):
    (X, Y, Z) = Z inverse(camera) (x, y, 1). Raises BadInputError for keypoints without depth, for no camera, and for a
    depth that is none.
    """
    points = np.asarray(keypoints, np.float64)
    if points.ndim != 3 or points.shape[2] != 3:
        raise BadInputError(
            f"The keypoints have shape {points.shape}, not (people, keypoints, 3): run a 3D variant such as rtmw3d-l."
        )
    away = np.asarray(depth, np.float64)
    if away.shape not in ((), (len(points),)) or not (np.isfinite(away) & (away > 0)).all():
        raise BadInputError(f"The depth {depth!r} is no distance in metres: pass 3.5, say, or one a person.")
    z = points[..., 2] + np.broadcast_to(away, len(points))[:, None]
    rays = np.concatenate([points[..., :2], np.ones((*z.shape, 1))], axis=2) @ np.linalg.inv(_checked(camera)).T
    metres: Float = rays * z[..., None]
    return metres


def to_pixels(metres: ArrayLike, camera: ArrayLike) -> Float:
    """Image pixels (N,K,2) of camera-frame `metres` (N,K,3); not finite for a point in the plane of the camera."""
    points = np.asarray(metres, np.float64) @ _checked(camera).T
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels: Float = points[..., :2] / points[..., 2:]
    return pixels


def _checked(camera: ArrayLike) -> Float:
    matrix = np.asarray(camera, np.float64)
    usable = matrix.shape == (3, 3) and bool(np.isfinite(matrix).all()) and matrix[2].tolist() == [0, 0, 1]
    if not usable or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise BadInputError(
            f"The camera {matrix.tolist()} is no intrinsic matrix: pass [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] (pixels)."
        )
    return matrix
