"""Labels of a rendered person: pixels, camera-frame metres, and what the z-buffer says is visible."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from .body import FloatArray
from .camera import Camera
from .framing import box_inside
from .person import Actor
from .sample import ABSENT, OCCLUDED, VISIBLE, Person

OUTSIDE = -2
"""Id of samples beyond the end of the photograph."""
OCCLUDER = -3
"""Id of samples of things before the people."""
_LOOK_AROUND = np.array([[0, 0], [2, 0], [-2, 0], [0, 2], [0, -2]])  # samples beside a keypoint where it may show


@dataclass(frozen=True)
class Samples:
    """The z-buffer of one picture, `zoom` samples per pixel in each direction."""

    inverse_depth: FloatArray
    """(H*zoom, W*zoom) 1/m, 0 where nothing is."""
    ids: NDArray[np.int32]
    """(H*zoom, W*zoom) triangle, or -1, OUTSIDE or OCCLUDER."""
    zoom: int

    def cover(self, pixels: NDArray[np.bool_], identity: int, inverse_depth: np.float32) -> None:
        """Put something before everybody in `pixels` (H,W)."""
        dense = pixels.repeat(self.zoom, 0).repeat(self.zoom, 1)
        self.ids[dense], self.inverse_depth[dense] = identity, inverse_depth

    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.ids.shape[1] // self.zoom, self.ids.shape[0] // self.zoom


@numba.njit(cache=True)
def _count(ids, low, high):  # type: ignore[no-untyped-def]
    """How many samples have an id of low..high-1."""
    total = 0
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            total += low <= ids[y, x] < high
    return total


@numba.njit(cache=True)
def _look(ids, inverse_depth, at, metres, view, seen_within, own, visible):  # type: ignore[no-untyped-def]
    """Raise hidden keypoints in `visible` (K,) to VISIBLE where their surface shows, or lower them to ABSENT.

    at (K,2): samples of the keypoints; metres (K,3): camera axes; view: focal, cx, cy in samples; own: range of ids.
    """
    focal, cx, cy = view
    height, width = ids.shape
    for k in range(at.shape[0]):
        if visible[k] != OCCLUDED:
            continue
        if ids[at[k, 1], at[k, 0]] == OUTSIDE:  # beyond the end of the photograph: no keypoint of this picture
            visible[k] = ABSENT
            continue
        for step in _LOOK_AROUND:
            x, y = min(max(at[k, 0] + step[0], 0), width - 1), min(max(at[k, 1] + step[1], 0), height - 1)
            depth = 1 / max(inverse_depth[y, x], np.float32(1e-6))
            dx = (x - cx) / focal * depth - metres[k, 0]
            dy = (y - cy) / focal * depth - metres[k, 1]
            dz = depth - metres[k, 2]
            near = dx * dx + dy * dy + dz * dz < seen_within[k] * seen_within[k]
            if near and own[0] <= ids[y, x] < own[1]:
                visible[k] = VISIBLE
                break


def label_person(
    camera: Camera, actor: Actor, seen_within: FloatArray, samples: Samples, own: tuple[int, int], limits: FloatArray
) -> Person:
    """The labels of one person from the finished z-buffer.

    seen_within (133,): metres that the visible surface may lie from a keypoint of an adult that counts as seen; own:
    range of this person's ids; limits (4,): x0, y0, x1, y1 of the photograph in pixels.
    """
    width, height = samples.size()
    metres, pixels = camera.to_camera(actor.keypoints), camera.project(actor.keypoints)[:, :2]
    inside = (pixels >= -0.5).all(1) & (pixels < (width - 0.5, height - 0.5)).all(1) & (metres[:, 2] > 0.05)
    visible = np.where(inside, OCCLUDED, ABSENT).astype(np.uint8)

    dense = camera.zoomed(samples.zoom)
    last = np.array(samples.ids.shape[::-1]) - 1
    at = np.clip(np.rint((pixels + 0.5) * samples.zoom - 0.5), 0, last).astype(np.int64)
    near_enough = seen_within * np.float32(max(0.75, actor.scale))
    view = (dense.focal, *dense.centre)
    _look(samples.ids, samples.inverse_depth, at, metres, view, near_enough, own, visible)

    body = camera.project(actor.outline)[:, :2]
    low, high = limits[:2], limits[2:]
    clipped = np.concatenate([np.clip(body.min(0), low, high), np.clip(body.max(0), low, high)])
    box = box_inside(body, limits, clipped)
    area = _count(samples.ids, own[0], own[1]) / samples.zoom**2
    return Person(pixels.astype(np.float32), visible, metres, box.astype(np.float32), float(area))
