"""Whole bodies drawn on an image: body, feet, face and every finger, from people of 100 px to full screens.

Line widths and dots follow each person's size; a keypoint's confidence is its opacity. numpy and OpenCV only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from ..crops import check_image
from ..keypoints import FACE_CONTOURS, LIMBS, NAMES, PARTS
from ..poses import Poses

Colour = tuple[int, int, int]

LEFT: Colour = (60, 150, 255)
RIGHT: Colour = (255, 160, 40)
MIDDLE: Colour = (90, 220, 120)
FACE: Colour = (235, 245, 250)
FINGER_COLOURS: tuple[Colour, ...] = ((60, 60, 255), (0, 200, 255), (70, 230, 60), (255, 190, 30), (255, 80, 220))
"""BGR of thumb, forefinger, middle, ring and little finger, the same on both hands."""
OUTLINE: Colour = (20, 20, 20)

SMALL_IMAGE = 384
"""Images whose longer side is below this many pixels are enlarged, to UPSCALED_TO or by MAX_FACTOR, before drawing."""
UPSCALED_TO = 768
MAX_FACTOR = 8

HEAD_END = 5
"""Nose, eyes and ears come first; their lines are thin, for the face is drawn over them."""
OUTLINED_FROM, DOTTED_FROM = 40, 90
"""A face or a hand this many pixels large has outlined lines, and dots on its joints; a smaller one would fill up."""

FAINTEST = 0.4
"""Opacity of a keypoint right at the threshold; full opacity is reached at twice the threshold."""
LEVELS = 4
"""Opacities are drawn in this many steps, one blend each."""

FONT = cv2.FONT_HERSHEY_SIMPLEX

FRACTION_BITS = 4
"""OpenCV draws with coordinates in 1/16 pixel."""


@dataclass(frozen=True)
class Stroke:
    """A line between two keypoints, as wide as lines of `group` are: "body", "head", "face" or one of the hands."""

    start: int
    end: int
    group: str
    colour: Colour


@dataclass(frozen=True)
class Pen:
    """How the lines of one group are drawn on one person: widths and radius in pixels, 0 for none."""

    line: int
    outline: int
    dot: float


@cache
def _group(keypoint: int) -> str:
    part = next(name for name, rows in PARTS.items() if rows.start <= keypoint < rows.stop)
    return "head" if keypoint < HEAD_END else "body" if part == "foot" else part


@cache
def _colour(keypoint: int) -> Colour:
    group = _group(keypoint)
    if group == "face":
        return FACE
    if group in ("left_hand", "right_hand"):
        joint = keypoint - PARTS[group].start
        return FINGER_COLOURS[(joint - 1) // 4] if joint else FACE
    return {"left": LEFT, "right": RIGHT}.get(NAMES[keypoint].split("_")[0], MIDDLE)


def _limb(start: int, end: int) -> Stroke:
    """A limb has its side's colour, or the middle's where it joins the two sides."""
    outer = max(start, end)
    crosses = start < PARTS["face"].start and _colour(start) != _colour(end)
    return Stroke(start, end, _group(outer), MIDDLE if crosses else _colour(outer))


STROKES: tuple[Stroke, ...] = (
    *(_limb(*limb) for limb in LIMBS if max(limb) < PARTS["face"].start),
    *(Stroke(*pair, "face", FACE) for contour in FACE_CONTOURS for pair in pairwise(contour)),
    *(_limb(*limb) for limb in LIMBS if max(limb) >= PARTS["face"].start),
)
ENDS = np.array([(stroke.start, stroke.end) for stroke in STROKES])


def draw(
    image: NDArray[np.uint8],
    poses: Poses,
    *,
    threshold: float,
    scale: int | None = None,
    boxes: bool = False,
    labels: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """A copy of `image` (H,W,3) BGR with the people of `poses` drawn on it, with their `boxes` and `labels` if wanted.

    Keypoints that score below `threshold` (in the units of `poses.scores`) or not above zero are left out. The copy is
    `scale` times as large; by default 1, and more for images under 384 pixels, where fingers would not be readable.
    """
    check_image(image)
    height, width = image.shape[:2]
    longest = max(height, width)
    if scale is None:
        scale = min(-(-UPSCALED_TO // longest), MAX_FACTOR) if longest < SMALL_IMAGE else 1
    canvas = image.copy()
    if scale != 1:
        canvas = cv2.resize(image, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC)
    for person in range(len(poses)):
        points = _enlarged(poses.keypoints[person, :, :2], scale)
        if boxes:
            _draw_box(canvas, _enlarged(poses.boxes[person].reshape(2, 2), scale))
        _draw_person(canvas, points, _opacity(poses.scores[person], threshold))
    for person, label in enumerate(labels):
        _draw_label(canvas, label, _enlarged(poses.boxes[person, :2], scale))
    return canvas


def _enlarged(points: NDArray[np.float32], scale: int) -> NDArray[np.float64]:
    """Pixel coordinates in the enlarged image: pixel centres are integers before and after."""
    return (points.astype(np.float64) + 0.5) * scale - 0.5


def _opacity(scores: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """0 for a keypoint that is not drawn, else FAINTEST..1 rising from the threshold to twice it."""
    shown = (scores >= threshold) & (scores > 0)
    surplus = (scores - threshold) / threshold if threshold > 0 else np.ones_like(scores)
    return np.where(shown, FAINTEST + (1 - FAINTEST) * np.clip(surplus, 0, 1), 0.0)


def _draw_box(canvas: NDArray[np.uint8], corners: NDArray[np.float64]) -> None:
    (x1, y1), (x2, y2) = _fixed(corners)
    line = max(1, round(_size(canvas)))
    cv2.rectangle(canvas, (x1, y1), (x2, y2), OUTLINE, 2 * line, cv2.LINE_AA, FRACTION_BITS)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), FACE, line, cv2.LINE_AA, FRACTION_BITS)


def _size(canvas: NDArray[np.uint8]) -> float:
    """How large letters and lines are: 1 in a picture of 900 pixels."""
    return max(0.5, min(canvas.shape[:2]) / 900)


def _draw_label(canvas: NDArray[np.uint8], text: str, corner: NDArray[np.float64]) -> None:
    """Text on the upper left corner of a box, kept inside the picture."""
    height, width = canvas.shape[:2]
    size = _size(canvas)
    stroke = max(1, round(2 * size))
    (wide, high), below = cv2.getTextSize(text, FONT, size, stroke)
    x = int(np.clip(corner[0], 0, max(width - wide, 0)))
    y = int(np.clip(corner[1] - below, high + 2, max(height - below, high)))
    # OpenCV 5 has letters of its own, which grow no outline with their stroke.
    cv2.rectangle(canvas, (x, y - high), (x + wide, y + below), OUTLINE, -1)
    cv2.putText(canvas, text, (x, y), FONT, size, FACE, stroke, cv2.LINE_AA)


def _draw_person(canvas: NDArray[np.uint8], points: NDArray[np.float64], opacity: NDArray[np.float64]) -> None:
    shown = opacity > 0
    if not shown.any():
        return
    pens = _pens(points, shown)
    low, high = points[shown].min(axis=0), points[shown].max(axis=0)
    margin = 2 * pens["body"].outline + 2
    limits = canvas.shape[1::-1]
    x1, y1 = (int(v) for v in np.clip(low - margin, 0, limits))
    x2, y2 = (int(v) for v in np.clip(np.ceil(high + margin), 0, limits))
    view = canvas[y1:y2, x1:x2]
    if view.size == 0:
        return
    local: list[list[int]] = _fixed(points - (x1, y1)).tolist()
    steps = np.ceil(opacity * LEVELS).astype(int)
    stroke_steps = steps[ENDS].min(axis=1)
    for level in range(1, LEVELS + 1):
        strokes = [STROKES[index] for index in np.flatnonzero(stroke_steps == level)]
        dots: list[int] = np.flatnonzero(steps == level).tolist()
        if strokes or dots:
            layer = view.copy()
            _draw_layer(layer, strokes, dots, local, pens)
            cv2.addWeighted(layer, level / LEVELS, view, 1 - level / LEVELS, 0, dst=view)


def _pens(points: NDArray[np.float64], shown: NDArray[np.bool_]) -> dict[str, Pen]:
    """Widths for this person: limbs grow with the root of its size; the face and each hand go by their own size."""
    limb = max(1.0, 0.14 * float(np.sqrt(_extent(points, shown))))
    pens = {"body": Pen(round(limb), round(limb) + 2, limb), "head": Pen(max(1, round(limb / 2)), 0, limb / 2)}
    for part in ("face", "left_hand", "right_hand"):
        extent = _extent(points[PARTS[part]], shown[PARTS[part]])
        ratio, widest = (80, 0.5 * limb) if part == "face" else (40, 0.7 * limb)
        line = max(1.0, min(extent / ratio, widest))
        outline = round(line) + 2 if extent >= OUTLINED_FROM else 0
        pens[part] = Pen(max(1, round(line)), outline, line if extent >= DOTTED_FROM else 0)
    return pens


def _extent(points: NDArray[np.float64], shown: NDArray[np.bool_]) -> float:
    return float(np.ptp(points[shown], axis=0).max()) if shown.any() else 0.0


def _draw_layer(
    layer: NDArray[np.uint8],
    strokes: list[Stroke],
    dots: list[int],
    points: list[list[int]],
    pens: dict[str, Pen],
) -> None:
    """Body, face, then hands, each on top of its outlines."""
    for groups in (("body", "head"), ("face",), ("left_hand", "right_hand")):
        chosen = [stroke for stroke in strokes if stroke.group in groups]
        for stroke in chosen:
            _line(layer, points, stroke, OUTLINE, pens[stroke.group].outline)
        for stroke in chosen:
            _line(layer, points, stroke, stroke.colour, pens[stroke.group].line)
        for keypoint in dots:
            radius = round(pens[_group(keypoint)].dot * (1 << FRACTION_BITS)) if _group(keypoint) in groups else 0
            if radius:
                cv2.circle(layer, points[keypoint], radius, _colour(keypoint), -1, cv2.LINE_AA, FRACTION_BITS)


def _line(layer: NDArray[np.uint8], points: list[list[int]], stroke: Stroke, colour: Colour, width: int) -> None:
    if width:
        cv2.line(layer, points[stroke.start], points[stroke.end], colour, width, cv2.LINE_AA, FRACTION_BITS)


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Coordinates in OpenCV's fixed point, kept within what it can hold."""
    limit = 1 << 24
    return np.clip(np.round(points * (1 << FRACTION_BITS)), -limit, limit).astype(np.int32)
