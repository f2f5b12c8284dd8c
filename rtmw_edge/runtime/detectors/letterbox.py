"""A picture into the corner of a detector's input, boxes back out of it, and the better of boxes that overlap.

Coordinates are those of edges: the left edge of the first pixel is 0. Resizing keeps edges on edges, so that a box of
the input is one of the picture times the factor of its axis. The factor is what the resized picture really has, not
the wanted one before rounding: YOLOX's and rtmlib's demos divide by the latter, and lose up to half a pixel of input
at the far end.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..frames import UInt8

PAD = 114
"""The grey around the picture in both families (YOLOX, yolox/data/data_augment.py; mmdetection, configs/rtmdet)."""

Boxes = NDArray[np.float32]


def letterbox(image: UInt8, canvas: UInt8) -> NDArray[np.float64]:
    """Resize `image` (H,W,3) to fit into the top left of `canvas` (h,w,3), grey elsewhere; the factors (x, y)."""
    height, width = image.shape[:2]
    ratio = min(canvas.shape[0] / height, canvas.shape[1] / width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    canvas.fill(PAD)
    canvas[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return np.array([size[0] / width, size[1] / height])


def to_picture(boxes: Boxes, factors: NDArray[np.float64], shape: tuple[int, ...]) -> Boxes:
    """Boxes (N,4) xyxy of the canvas as boxes of a picture of `shape` (H,W,...), cut at its edges."""
    height, width = shape[:2]
    corners = boxes.reshape(-1, 2, 2) / factors
    return np.clip(corners, 0, [width, height]).reshape(-1, 4).astype(np.float32)


def suppress(boxes: Boxes, scores: NDArray[np.float32], most_iou: float) -> NDArray[np.intp]:
    """Greedy non-maximum suppression: rows of `boxes` (N,4) to keep, best score first.

    A box goes when it overlaps a better one that stays by more than `most_iou` (intersection over union, 0..1).
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    rest = np.argsort(-scores, kind="stable")
    kept = []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        rest = rest[shared <= most_iou * (areas[best] + areas[rest] - shared)]
    return np.array(kept, np.intp)
