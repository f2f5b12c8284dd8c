"""Rendered people with their labels drawn, to look at."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .sample import OCCLUDED, VISIBLE, Sample

_COLOURS = {VISIBLE: (60, 220, 60), OCCLUDED: (60, 60, 235)}
_BOX = (235, 200, 60)


def draw_labels(sample: Sample, enlarged: int = 2) -> NDArray[np.uint8]:
    """The picture, `enlarged` times, with boxes and keypoints: green where visible, red where hidden."""
    image = cv2.resize(sample.image, None, fx=enlarged, fy=enlarged, interpolation=cv2.INTER_CUBIC)
    for person in sample.people:
        # An integer coordinate is a pixel's centre, so enlarging moves it by half of what a pixel grows.
        x0, y0, x1, y1 = np.rint((person.box + 0.5) * enlarged - 0.5).astype(int).tolist()
        cv2.rectangle(image, (x0, y0), (x1, y1), _BOX, 1)
        points = np.rint(((person.keypoints + 0.5) * enlarged - 0.5) * 16)
        for (x, y), visible in zip(points, person.visible, strict=True):
            if visible in _COLOURS:
                cv2.circle(image, (int(x), int(y)), 20 + 4 * enlarged, _COLOURS[visible], -1, cv2.LINE_AA, shift=4)
    return np.asarray(image, np.uint8)
