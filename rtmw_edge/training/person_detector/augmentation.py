"""Pictures to learn from, put together from rendered scenes: letterboxed, cropped, several in one, covered, spoiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...runtime.detectors.letterbox import PAD
from .scenes import Float, Pool, Scene

UInt8 = NDArray[np.uint8]

HIDDEN = 0.08
"""Of whom less than this share of the box shows, nobody asks: neither found nor missed is wrong. Somebody upright who
is whole covers .25 to .5."""
CUT_OFF = 0.15
"""The same for whom less than this share of the box is left in the picture."""
COVERED = 0.6
"""And for whom one thing covers more than this share of the box."""
SMALLEST = 8.0
"""And for boxes whose shorter side has fewer pixels of the input."""


@dataclass(frozen=True)
class Picture:
    """Pixels (H,W,3) uint8 BGR, the `boxes` (P,4) xyxy of people, and who of them does not count, `ignored` (P,)."""

    image: UInt8
    boxes: Float
    ignored: NDArray[np.bool_]


def compose(pool: Pool | Sequence[Scene], rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """A picture of `size` (width, height) from scenes of the pool, other ones at every call."""
    canvas = np.full((size[1], size[0], 3), PAD, np.uint8)
    boxes: list[Float] = []
    ignored: list[NDArray[np.bool_]] = []
    kind = rng.random()
    for window in _windows(rng, kind, size):
        scene = pool[int(rng.integers(len(pool)))]
        found, not_counted = _place(canvas, window, scene, rng, letterboxed=kind < 0.45)
        boxes.append(found)
        ignored.append(not_counted)
    people, out = np.concatenate(boxes), np.concatenate(ignored)
    if rng.random() < 0.25:
        out |= _cover(canvas, people, pool, rng)
    return Picture(_spoil(canvas, rng), people, out)


def _windows(rng: np.random.Generator, kind: float, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Where scenes go, x0, y0, x1, y1: one, two side by side, four, or nine small ones."""
    width, height = size
    if kind < 0.65:
        columns, rows = 1, 1
    elif kind < 0.75:
        columns, rows = (2, 1) if rng.random() < 0.7 else (1, 2)
    elif kind < 0.93:
        columns, rows = 2, 2
    else:
        columns, rows = 3, 3
    across, down = _cuts(rng, width, columns), _cuts(rng, height, rows)
    return [(across[i], down[j], across[i + 1], down[j + 1]) for i in range(columns) for j in range(rows)]


def _cuts(rng: np.random.Generator, length: int, parts: int) -> list[int]:
    inner = [round(length * (k + rng.uniform(-0.22, 0.22)) / parts) for k in range(1, parts)]
    return [0, *inner, length]


def _place(
    canvas: UInt8, window: tuple[int, int, int, int], scene: Scene, rng: np.random.Generator, *, letterboxed: bool
) -> tuple[Float, NDArray[np.bool_]]:
    """Draw a scene into a window, whole on grey or filling it; its people there, and who of them does not count."""
    x0, y0, x1, y1 = window
    room = np.array([x1 - x0, y1 - y0])
    extent = np.array(scene.image.shape[1::-1])
    if letterboxed:  # half of them as large as can be, most of them in the corner: what a detector is shown
        scale = (room / extent).min() * (1.0 if rng.random() < 0.5 else rng.uniform(0.35, 1.0))
        factors = np.array([scale, scale])
        shift = np.zeros(2) if rng.random() < 0.6 else rng.uniform(0, np.maximum(room - factors * extent, 0))
    else:
        scale = (room / extent).max() * (rng.uniform(1.0, 1.4) if rng.random() < 0.6 else rng.uniform(1, 3))
        stretch = np.exp(rng.normal(0, 0.08))
        factors = scale * np.maximum(1, [stretch, 1 / stretch])
        shift = rng.uniform(np.minimum(room - factors * extent, 0), 0)
    if rng.random() < 0.5:
        factors[0], shift[0] = -factors[0], shift[0] + factors[0] * extent[0]
    canvas[y0:y1, x0:x1] = _warped(scene.image, factors, shift, (x1 - x0, y1 - y0))

    corners = scene.boxes.reshape(-1, 2, 2) * factors + shift
    whole = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    boxes = np.clip(whole, 0, np.tile(room, 2)).astype(np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    left = sides.prod(axis=1) / np.maximum((whole[:, 2:] - whole[:, :2]).prod(axis=1), 1e-6)
    ignored = (scene.seen < HIDDEN) | (left < CUT_OFF) | (sides.min(axis=1) < SMALLEST)
    there = left > 0
    return boxes[there] + np.array([x0, y0, x0, y0], np.float32), ignored[there]


def _warped(image: UInt8, factors: NDArray[np.float64], shift: NDArray[np.float64], size: tuple[int, int]) -> UInt8:
    """`image` with edges at x, y moved to factors * (x, y) + shift, in a picture of `size`, grey where it is not."""
    height, width = image.shape[:2]
    scale = np.abs(factors)
    if scale.max() < 0.6:  # a warp reads single pixels, and would see noise instead of their mean
        small = max(1, round(width * scale[0])), max(1, round(height * scale[1]))
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
        factors = factors * (width / small[0], height / small[1])
    # The middle of the first pixel is half a pixel from the edges.
    matrix = np.column_stack([np.diag(factors), factors / 2 + shift - 0.5])
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(PAD,) * 3), np.uint8)


def _cover(canvas: UInt8, people: Float, pool: Pool | Sequence[Scene], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Put pieces of an empty scene before some people; who is mostly covered does not count any more (P,)."""
    gone = np.zeros(len(people), bool)
    tries = (pool[int(rng.integers(len(pool)))] for _ in range(30))
    empty = next((scene.image for scene in tries if not len(scene.boxes)), None)
    if empty is None:
        return gone
    limits = np.array(canvas.shape[1::-1])
    for row in np.flatnonzero(rng.random(len(people)) < 0.5):
        low, extent = people[row, :2], people[row, 2:] - people[row, :2]
        size = np.minimum(np.maximum(2, extent * rng.uniform(0.2, 0.7, 2)).astype(int), empty.shape[1::-1])
        start = np.round(low + rng.uniform(-0.2, 1.2, 2) * extent - size / 2).astype(int)
        start, end = np.clip(start, 0, limits), np.clip(start + size, 0, limits)
        cut = end - start
        if cut.min() < 1:
            continue
        x, y = rng.integers(np.array(empty.shape[1::-1]) - cut + 1)
        canvas[start[1] : end[1], start[0] : end[0]] = empty[y : y + cut[1], x : x + cut[0]]
        shared = np.clip(np.minimum(people[:, 2:], end) - np.maximum(people[:, :2], start), 0, None).prod(axis=1)
        gone |= shared > COVERED * (people[:, 2:] - people[:, :2]).prod(axis=1)
    return gone


_NOISE = np.random.default_rng(0).normal(0, 1, 1 << 20).astype(np.float32)


def _spoil(image: UInt8, rng: np.random.Generator) -> UInt8:
    """Other light, colour, sharpness and noise."""
    if rng.random() < 0.15:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.6))), np.uint8)
    if rng.random() < 0.12:
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None]
        share = rng.choice([1.0, rng.uniform(0.3, 0.9)])
        image = np.asarray(image * (1 - share) + grey * share, np.float32).astype(np.uint8)
    if rng.random() < 0.7:
        levels = np.linspace(0, 1, 256)[:, None]
        contrast, gamma = rng.uniform(0.6, 1.4), np.exp(rng.normal(0, 0.25))
        gains = np.exp(rng.normal(0, 0.1, 3)) if rng.random() < 0.6 else np.ones(3)
        table = ((levels**gamma - 0.5) * contrast + 0.5 + rng.normal(0, 0.08)) * gains
        image = np.asarray(cv2.LUT(image, np.clip(255 * table, 0, 255).astype(np.uint8)[:, None]), np.uint8)
    if rng.random() < 0.08:
        image = image[..., rng.permutation(3)]
    if rng.random() < 0.2:
        at = int(rng.integers(len(_NOISE) - image.size))
        noise = _NOISE[at : at + image.size].reshape(image.shape) * np.float32(rng.uniform(2, 12))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.12:
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))])[1]
        image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    return image
