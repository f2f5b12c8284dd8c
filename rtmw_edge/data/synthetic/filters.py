"""Typed doors to OpenCV's filters, whose own signatures forget what kind of picture they were given."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", np.uint8, np.float32)


def resized(image: NDArray[Scalar], size: tuple[int, int], way: int | None = None) -> NDArray[Scalar]:
    """The picture at `size` (width, height); `way` is an OpenCV interpolation, None averages when it shrinks a lot."""
    if way is None:
        way = cv2.INTER_AREA if image.shape[1] > 1.5 * size[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=way), image.dtype)


def blurred(image: NDArray[Scalar], sigma: float) -> NDArray[Scalar]:
    """The picture out of focus by `sigma` pixels."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), float(sigma)), image.dtype)
