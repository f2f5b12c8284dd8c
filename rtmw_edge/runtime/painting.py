"""How a result is drawn: people, their boxes and numbers, and in 3D the view beside the picture."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from .drawing import draw
from .frames import Result, UInt8
from .view3d import TURN_DEG_S, SkeletonView

VIEWS = ("rotate", "fixed", "none")


class Painter:
    """Draws results. `threshold` in 0..1 is the confidence from which a keypoint is drawn.

    `boxes` adds person boxes and `ids` the people's numbers, both with the person's mean confidence. `view3d` is
    one of VIEWS; it shows 3D variants only, and single images do not rotate.
    """

    def __init__(self, threshold: float, *, boxes: bool = False, ids: bool = False, view3d: str = "rotate") -> None:
        self._threshold, self._boxes, self._ids = threshold, boxes, ids
        self._view = None if view3d == "none" else SkeletonView(TURN_DEG_S if view3d == "rotate" else 0.0)

    def __call__(self, result: Result) -> UInt8:
        """The frame of `result` (H,W,3) with its people; small images are enlarged, see `drawing.draw`."""
        shown = replace(result.poses, scores=result.confidence)
        labels = self._labels(result) if self._boxes or self._ids else ()
        picture = draw(result.frame.image, shown, threshold=self._threshold, boxes=self._boxes, labels=labels)
        if result.metres is None or self._view is None:
            return picture
        size = picture.shape[0]
        beside = self._view(
            result.metres, result.confidence, size=size, threshold=self._threshold, time_s=result.frame.time_s
        )
        return np.asarray(cv2.hconcat([picture, beside]), np.uint8)

    def _labels(self, result: Result) -> list[str]:
        numbers = [f"#{number} " for number in result.ids] if self._ids and result.ids else [""] * len(result.poses)
        return [
            f"{number}{score:.2f}" for number, score in zip(numbers, np.mean(result.confidence, axis=1), strict=True)
        ]
