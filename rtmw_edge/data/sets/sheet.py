"""Tiles of instances with room around their boxes and their labels as dots, to look at."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..instances import Instance

MARGIN = 1.4
"""A tile shows this many times the box, so that labels outside of it are seen."""
COLOURS = {1: (60, 60, 235), 2: (60, 220, 60)}
"""BGR of a hidden keypoint and of a visible one."""
FARTHEST = 1e6
DOT = 1 / 180
"""Radius of a dot, in tiles."""


def tile(picture: NDArray[np.uint8], instance: Instance, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The instance's surroundings as (size, size, 3), and its keypoints (133, 2) in pixels of that tile."""
    x0, y0, x1, y1 = instance.box.astype(np.float64)
    zoom = size / (MARGIN * max(x1 - x0, y1 - y0))
    middle = np.array([x0 + x1, y0 + y1]) / 2
    shift = (size - 1) / 2 - zoom * middle
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    drawn = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=(60, 60, 60))
    return np.asarray(drawn, np.uint8), (instance.keypoints * zoom + shift).astype(np.float32)


def drawable(keypoints: NDArray[np.float32], visible: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`visible` (133,), with 0 for what lies too far off the tile to be drawn: OpenCV counts pixels in 32 bits."""
    near = (np.abs(keypoints) < FARTHEST).all(axis=1)
    return np.where(near, visible, 0).astype(np.uint8)


def mark(view: NDArray[np.uint8], keypoints: NDArray[np.float32], visible: NDArray[np.uint8]) -> None:
    """Draw a dot on every labelled keypoint (133, 2) of a tile, in place: green visible, red hidden."""
    radius = max(1, round(view.shape[0] * DOT))
    for (x, y), seen in zip(keypoints.tolist(), visible.tolist(), strict=True):
        if seen:
            cv2.circle(view, (round(x), round(y)), radius, COLOURS[seen], -1, cv2.LINE_AA)
