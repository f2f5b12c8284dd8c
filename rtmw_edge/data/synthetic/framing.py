"""Framing of one person: the whole body mostly, else cut at the hips, the chest or a side, as photographs are."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from ...crops import PADDING
from .mesh import FloatArray, bounds
from .seeds import pick

_VIEWS = {"whole": 0.72, "side": 0.04, "legs": 0.07, "hips": 0.1, "chest": 0.05, "head": 0.02}
_CUT_BELOW = {"legs": (13, 14), "hips": (11, 12), "chest": (5, 6), "head": (31,)}
ASPECT = 3 / 4


@dataclass(frozen=True)
class View:
    """What of a person is in the picture, in normalized image coordinates."""

    box: NDArray[np.float64]
    """(4,) x0, y0, x1, y1 of the body inside the frame."""
    frame: NDArray[np.float64]
    """(4,) where the photograph ends; infinite where it does not."""


def draw_view(rng: np.random.Generator, outline: FloatArray, keypoints: FloatArray) -> View:
    """A view of a body from its `outline` (P,2) and `keypoints` (133,2), both normalized."""
    whole = np.concatenate(bounds(outline))
    size = whole[2:] - whole[:2]
    frame = np.array([-np.inf, -np.inf, np.inf, np.inf])
    view = pick(rng, _VIEWS)
    if view == "side":
        side = rng.integers(4)
        near, far = whole[side % 2], whole[side % 2 + 2]
        share = rng.uniform(0.1, 0.45) * (far - near)
        frame[side] = near + share if side < 2 else far - share
    elif view != "whole":
        cut = keypoints[list(_CUT_BELOW[view]), 1].mean()
        head = keypoints[0, 1]
        frame[3] = max(cut + rng.uniform(-0.05, 0.12) * size[1], head + 0.06 * size[1])
        if rng.random() < 0.4:  # the sides are often near too, and cut hands and elbows off
            trunk = keypoints[[0, 5, 6, 11, 12], 0] if view in ("legs", "hips") else keypoints[[0, 5, 6], 0]
            margin = rng.uniform(0.05, 0.25, 2) * size[1]
            frame[0], frame[2] = trunk.min() - margin[0], trunk.max() + margin[1]
    return View(box_inside(outline, frame, whole), frame)


@numba.njit(cache=True)
def box_inside(
    outline: FloatArray, frame: FloatArray | NDArray[np.float64], otherwise: FloatArray
) -> NDArray[np.float64]:
    """Box (4,) of the points (P,2) inside the frame, or `otherwise` when too few are."""
    box = np.array([np.inf, np.inf, -np.inf, -np.inf])
    count = 0
    for i in range(outline.shape[0]):
        x, y = outline[i, 0], outline[i, 1]
        if frame[0] <= x <= frame[2] and frame[1] <= y <= frame[3]:
            box[0], box[1] = min(box[0], x), min(box[1], y)
            box[2], box[3] = max(box[2], x), max(box[3], y)
            count += 1
    return box if count >= 8 else otherwise.astype(np.float64)


def jittered(rng: np.random.Generator, box: NDArray[np.float64]) -> NDArray[np.float64]:
    """The box as an annotator or a detector would draw it: a few percent off in place and size."""
    size = box[2:] - box[:2]
    centre = (box[:2] + box[2:]) / 2 + rng.normal(0, 0.025, 2) * size
    half = size / 2 * np.exp(rng.normal(0.01, 0.05, 2))
    return np.concatenate([centre - half, centre + half])


def padded(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """The box enlarged by 1.25 and to an aspect of 3:4, which is what a crop shows."""
    centre, size = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * PADDING
    width = max(size[0], size[1] * ASPECT)
    half = np.array([width, width / ASPECT]) / 2
    return np.concatenate([centre - half, centre + half])
