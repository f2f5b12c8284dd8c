"""People in 3D beside their picture: skeletons in metres, seen from a camera that stands or walks around them."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..keypoints import PARTS
from .drawing import FRACTION_BITS, STROKES

PITCH_DEG: Final = 12.0
"""How far the view looks down."""
FIXED_TURN_DEG: Final = 30.0
"""The view from which a single image is seen: not from its camera, where depth does not show."""
TURN_DEG_S: Final = 30.0
SMALLEST_RADIUS: Final = 1.1
"""Metres from the middle to the edge of the view; it grows with the people, and shrinks again slowly."""
SHRINK: Final = 0.02

BACKGROUND: Final = (28, 24, 22)
FLOOR: Final = (70, 64, 60)
HIPS: Final = [11, 12]
FEET: Final = PARTS["foot"]
BODY: Final = PARTS["body"]
_STARTS = np.array([stroke.start for stroke in STROKES])
_ENDS = np.array([stroke.end for stroke in STROKES])
_COLOURS = np.array([stroke.colour for stroke in STROKES], np.float64)
_WIDE = np.array([stroke.group == "body" for stroke in STROKES])


class SkeletonView:
    """Draws the people of one source after another frame; `turn_deg_s` is how fast the view walks around them.

    >>> view = SkeletonView(turn_deg_s=0)
    >>> view(np.zeros((0, 133, 3)), np.zeros((0, 133)), size=64).shape
    (64, 64, 3)
    """

    def __init__(self, turn_deg_s: float = TURN_DEG_S) -> None:
        self._turn_deg_s = turn_deg_s
        self._radius = SMALLEST_RADIUS

    def __call__(
        self, metres: NDArray, confidence: NDArray, *, size: int, threshold: float = 0.0, time_s: float = 0.0
    ) -> NDArray[np.uint8]:
        """A square picture of `size` pixels of `metres` (N,133,3), x right, y down, z away from the camera.

        Limbs whose ends have less `confidence` (N,133) than `threshold` are left out; far ones are darker.
        """
        canvas = np.full((size, size, 3), BACKGROUND, np.uint8)
        shown = confidence >= threshold
        if not shown[:, BODY].any():
            return canvas
        middle, floor, reach = _stage(np.asarray(metres, np.float64), shown)
        self._radius = max(SMALLEST_RADIUS, reach, self._radius * (1 - SHRINK))
        turn = self._turned(time_s)
        zoom = size / 2 / self._radius
        self._draw_floor(canvas, turn, floor - middle[1], zoom)
        points = (np.asarray(metres, np.float64) - middle) @ turn.T
        lines, depths, colours, widths = [], [], [], []
        for person in range(len(points)):
            drawn = shown[person][_STARTS] & shown[person][_ENDS]
            ends = points[person][np.stack([_STARTS[drawn], _ENDS[drawn]], axis=1)]
            lines.append(ends[..., :2] * zoom + size / 2)
            depths.append(ends[..., 2].mean(axis=1))
            colours.append(_COLOURS[drawn])
            widths.append(np.where(_WIDE[drawn], max(2, size // 160), max(1, size // 400)))
        depth = np.concatenate(depths)
        shade = np.clip(0.8 - 0.35 * depth / self._radius, 0.35, 1.0)
        tinted = np.concatenate(colours) * shade[:, None]
        fixed = np.clip(np.concatenate(lines) * (1 << FRACTION_BITS), -(1 << 24), 1 << 24).astype(np.int32)
        width = np.concatenate(widths)
        for line in np.argsort(-depth):
            start, end = fixed[line].tolist()
            cv2.line(canvas, start, end, tinted[line].tolist(), int(width[line]), cv2.LINE_AA, FRACTION_BITS)
        return canvas

    def _turned(self, time_s: float) -> NDArray[np.float64]:
        """The rotation from the camera's frame to the view's: around the vertical, then looking down."""
        angle = np.deg2rad(FIXED_TURN_DEG + self._turn_deg_s * time_s)
        pitch = np.deg2rad(PITCH_DEG)
        around = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        down = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        turned: NDArray[np.float64] = down @ around
        return turned

    def _draw_floor(self, canvas: NDArray[np.uint8], turn: NDArray[np.float64], height: float, zoom: float) -> None:
        """A grid of half metres under the feet, which shows how the view turns."""
        marks = np.arange(-1.0, 1.01, 0.5)
        ends = [((a, -1.0), (a, 1.0)) for a in marks] + [((-1.0, a), (1.0, a)) for a in marks]
        points = np.array([[(x, height, z) for x, z in line] for line in ends]) @ turn.T
        pixels = points[..., :2] * zoom + canvas.shape[0] / 2
        fixed = np.clip(pixels * (1 << FRACTION_BITS), -(1 << 24), 1 << 24).astype(np.int32)
        for start, end in fixed.tolist():
            cv2.line(canvas, start, end, FLOOR, 1, cv2.LINE_AA, FRACTION_BITS)


def _stage(metres: NDArray[np.float64], shown: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float, float]:
    """The middle (3,) of the people, the height of the floor, and how far the furthest body keypoint is from there."""
    middle = np.median(metres[:, HIPS].mean(axis=1), axis=0)
    body = metres[:, : FEET.stop][shown[:, : FEET.stop]]
    away = np.linalg.norm(body - middle, axis=1)
    return middle, float(np.quantile(body[:, 1], 0.98)), 1.15 * float(np.quantile(away, 0.98))
