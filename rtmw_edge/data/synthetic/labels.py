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
_LOOK_AROUND = ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))  # samples beside the keypoint where its surface may show


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
    # A keypoint beyond the end of the photograph is no keypoint of this picture.
    visible[inside & (samples.ids[at[:, 1], at[:, 0]] == OUTSIDE)] = ABSENT
    candidates = np.flatnonzero(visible == OCCLUDED)
    near_enough = seen_within[candidates] * np.float32(max(0.75, actor.scale))
    for step in _LOOK_AROUND:
        x, y = np.clip(at[candidates] + step, 0, last).T
        depth = 1 / np.maximum(samples.inverse_depth[y, x], np.float32(1e-6))
        rays = np.stack([(x - dense.centre[0]) / dense.focal, (y - dense.centre[1]) / dense.focal, np.ones(len(x))], 1)
        near = np.linalg.norm(rays * depth[:, None] - metres[candidates], axis=1) < near_enough
        found = samples.ids[y, x]
        visible[candidates[near & (found >= own[0]) & (found < own[1])]] = VISIBLE

    body = camera.project(actor.outline)[:, :2]
    low, high = limits[:2], limits[2:]
    clipped = np.concatenate([np.clip(body.min(0), low, high), np.clip(body.max(0), low, high)])
    box = box_inside(body, limits, clipped)
    area = _count(samples.ids, own[0], own[1]) / samples.zoom**2
    return Person(pixels.astype(np.float32), visible, metres, box.astype(np.float32), float(area))
