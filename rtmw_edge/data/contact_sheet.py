"""Pictures with their labels drawn, many side by side as one, to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from .instances import Instance

if TYPE_CHECKING:
    from .synthetic import Sample

COLOURS = {1: (60, 60, 235), 2: (60, 220, 60)}
"""BGR of a hidden keypoint and of a visible one."""
BOX = (235, 200, 60)
ENLARGED = 2
"""Times that a rendered picture is enlarged below its labels."""
SHEET_ASPECT = 16 / 10
MARGIN = 1.4
"""A tile shows this many times the box, so that labels outside of it are seen."""
FARTHEST = 1e6
"""Pixels from a tile; what lies farther off is not drawn: OpenCV counts in 32 bits."""
DOT = 1 / 180
"""Radius of a dot, in tiles."""


def contact_sheet(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures of one size (H,W,3) side by side, in rows that make a sheet of about 16:10."""
    height, width = images[0].shape[:2]
    columns = min(len(images), max(1, round(math.sqrt(len(images) * SHEET_ASPECT * height / width))))
    rows = math.ceil(len(images) / columns)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * height, i % columns * width
        sheet[y : y + height, x : x + width] = image
    return sheet


def draw_labels(sample: Sample) -> NDArray[np.uint8]:
    """A rendered picture, enlarged, with boxes and keypoints: green where visible, red where hidden."""
    image = cv2.resize(sample.image, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
    for person in sample.people:
        # An integer coordinate is a pixel's centre, so enlarging moves it by half of what a pixel grows.
        x0, y0, x1, y1 = np.rint((person.box + 0.5) * ENLARGED - 0.5).astype(int).tolist()
        cv2.rectangle(image, (x0, y0), (x1, y1), BOX, 1)
        points = np.rint(((person.keypoints + 0.5) * ENLARGED - 0.5) * 16)
        for (x, y), visible in zip(points, person.visible, strict=True):
            if visible:
                cv2.circle(image, (int(x), int(y)), 20 + 4 * ENLARGED, COLOURS[visible], -1, cv2.LINE_AA, shift=4)
    return np.asarray(image, np.uint8)


def tile(
    picture: NDArray[np.uint8], instance: Instance, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """The surroundings of an annotated instance as (size, size, 3), without labels.

    Also its keypoints (133, 2) in pixels of that tile, and `visible` (133,) with 0 for what lies too far off it.
    """
    x0, y0, x1, y1 = instance.box.astype(np.float64)
    zoom = size / (MARGIN * max(x1 - x0, y1 - y0))
    shift = (size - 1) / 2 - zoom * np.array([x0 + x1, y0 + y1]) / 2
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    drawn = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=(60, 60, 60))
    keypoints = (instance.keypoints * zoom + shift).astype(np.float32)
    near = (np.abs(keypoints) < FARTHEST).all(axis=1)
    return np.asarray(drawn, np.uint8), keypoints, np.where(near, instance.visible, 0).astype(np.uint8)


def mark(view: NDArray[np.uint8], keypoints: NDArray[np.float32], visible: NDArray[np.uint8]) -> None:
    """Draw a dot on every labelled keypoint (133, 2) of a tile, in place: green visible, red hidden."""
    radius = max(1, round(view.shape[0] * DOT))
    for (x, y), seen in zip(keypoints.tolist(), visible.tolist(), strict=True):
        if seen:
            cv2.circle(view, (round(x), round(y)), radius, COLOURS[seen], -1, cv2.LINE_AA)
