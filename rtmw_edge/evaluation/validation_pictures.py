"""The worst crops of a validation as pictures: the reference's keypoints on the left, the device's on the right."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..poses import Poses
from ..runtime.drawing import draw
from .validation import WorstCrop

SCALE = 2
GAP = 8
MOVED_PX = 2.0
"""Keypoints that lie farther than this many crop pixels apart get a line from where the reference has them."""
MOVED_COLOUR = (255, 0, 255)
JPEG_QUALITY = 85


def side_by_side(crop: WorstCrop) -> NDArray[np.uint8]:
    """Both crops in one picture (SCALE H, 2 SCALE W + GAP, 3) BGR, with the keypoints that the reference is sure of."""
    left, right = (_drawn(crop, keypoints) for keypoints in (crop.reference, crop.device))
    moved = crop.sure & (np.linalg.norm(crop.reference - crop.device, axis=1) > MOVED_PX)
    for start, end in zip(_enlarged(crop.reference[moved]), _enlarged(crop.device[moved]), strict=True):
        cv2.line(right, start.tolist(), end.tolist(), MOVED_COLOUR, 1, cv2.LINE_AA)
        cv2.circle(right, start.tolist(), 3, MOVED_COLOUR, 1, cv2.LINE_AA)
    gap = np.full((len(left), GAP, 3), 128, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """The picture as a JPEG file."""
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def _drawn(crop: WorstCrop, keypoints: NDArray[np.float32]) -> NDArray[np.uint8]:
    nowhere = np.zeros((1, 4), np.float32)
    poses = Poses(keypoints[None], crop.sure[None].astype(np.float32), nowhere, np.ones(1, np.float32))
    return draw(crop.crop, poses, threshold=0.5, scale=SCALE)


def _enlarged(points: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.round((points.astype(np.float64) + 0.5) * SCALE - 0.5).astype(np.int64)
