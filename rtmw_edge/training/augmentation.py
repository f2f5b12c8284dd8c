"""From a rendered image to a training crop: box jitter, rotation, flip, colour, blur, dropout (numpy and OpenCV)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..crops import box_to_crop, warp_matrix
from ..keypoints import FLIP
from .recipe import Augmentation


def augmented_crop(
    image: NDArray[np.uint8],
    keypoints: NDArray[np.float32],
    box: NDArray[np.float32],
    input_size: tuple[int, int],
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], bool]:
    """A random crop of `image` around `box`.

    Args:
        image: (H, W, 3) uint8 BGR.
        keypoints: (133, 2) in image pixels.
        box: (4,) xyxy of the person.
        input_size: (width, height) of the crop.

    Returns:
        crop (h, w, 3) uint8 BGR, keypoints (133, 2) in crop pixels, and whether it was mirrored (the keypoints are in
        the order of the mirrored person already; visibility has to be permuted likewise).
    """
    width, height = input_size
    a = augmentation
    centers, scales = box_to_crop(box[None], input_size)
    center, scale = centers[0].copy(), scales[0]
    scale = scale * np.exp(rng.uniform(np.log(a.scale[0]), np.log(a.scale[1])))
    center += rng.normal(0.0, a.shift, 2) * (box[2:] - box[:2])
    rotation = float(np.clip(rng.normal(0.0, 0.5), -1, 1)) * a.rotation_degrees if rng.random() < a.rotation else 0.0
    matrix = warp_matrix(center, scale, input_size, rotation)
    crop = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    points = keypoints @ matrix[:, :2].T + matrix[:, 2]
    mirrored = rng.random() < a.flip
    if mirrored:
        crop = cv2.flip(crop, 1)
        points = points[FLIP].copy()
        points[:, 0] = width - 1 - points[:, 0]
    return photometric(crop, a, rng), points.astype(np.float32), bool(mirrored)


def photometric(crop: NDArray[Any], a: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Random contrast, brightness, colour cast, saturation, grey, channel order, blur and one dropped box."""
    if rng.random() < a.colour:
        gain = rng.uniform(0.6, 1.45) * rng.uniform(0.85, 1.15, 3)
        shift = rng.uniform(-28, 28)
        levels = np.arange(256, dtype=np.float32)[:, None] * gain + shift
        if rng.random() < 0.3:
            levels = 255 * np.clip(levels / 255, 0, 1) ** rng.uniform(0.6, 1.7)
        crop = cv2.LUT(crop, np.clip(levels, 0, 255).astype(np.uint8)[None])
        if rng.random() < 0.4:
            hsv = cv2.cvtColor(crop, cv2.COLOR_BGR2HSV)
            hue, saturation = int(rng.integers(-18, 19)), float(rng.uniform(0.3, 1.6))
            table = np.stack(
                [(np.arange(256) + hue) % 180, np.clip(np.arange(256) * saturation, 0, 255), np.arange(256)], axis=-1
            )
            crop = cv2.cvtColor(cv2.LUT(hsv, table.astype(np.uint8)[None]), cv2.COLOR_HSV2BGR)
        if rng.random() < 0.15:
            crop = np.ascontiguousarray(crop[..., rng.permutation(3)])
    if rng.random() < a.grey:
        crop = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if rng.random() < a.blur:
        size = int(rng.choice([3, 5]))
        crop = cv2.medianBlur(crop, size) if rng.random() < 0.5 else cv2.blur(crop, (size, size))
    if rng.random() < a.dropout:
        height, width = crop.shape[:2]
        w, h = int(rng.uniform(0.1, 0.35) * width), int(rng.uniform(0.1, 0.35) * height)
        x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
        crop = crop.copy()
        crop[y : y + h, x : x + w] = rng.integers(0, 256, 3) if rng.random() < 0.5 else 0
    return np.asarray(crop, dtype=np.uint8)
