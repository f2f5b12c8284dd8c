"""Sample: one rendered picture and its people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ABSENT, OCCLUDED, VISIBLE = 0, 1, 2
"""Values of `Person.visible`: out of the picture, hidden behind something, seen."""


@dataclass(frozen=True)
class Person:
    """The labels of one person. Pixel coordinates are OpenCV's: an integer is the centre of a pixel."""

    keypoints: NDArray[np.float32]
    """(133,2) x, y in pixels."""
    visible: NDArray[np.uint8]
    """(133,) 0 absent or out of the picture, 1 hidden, 2 visible."""
    metres: NDArray[np.float32]
    """(133,3) x right, y down, z forward from the camera, metres."""
    box: NDArray[np.float32]
    """(4,) x0, y0, x1, y1 of the body inside the picture."""
    area: float
    """Pixels that this person covers."""


@dataclass(frozen=True)
class Sample:
    """One picture (H,W,3) uint8 BGR, the camera that took it, and its labelled people, the main one first."""

    image: NDArray[np.uint8]
    people: tuple[Person, ...]
    camera: NDArray[np.float32]
    """(3,3) intrinsic matrix: pixels = camera @ (metres / z)."""
