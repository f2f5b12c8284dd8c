"""Labels of a rendered person: pixels, camera-frame metres, and what the z-buffer says is visible."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from .camera import Camera
from .framing import box_inside
from .mesh import FloatArray, bounds
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
        _cover(self.ids, self.inverse_depth, self.zoom, pixels.view(np.uint8), identity, inverse_depth)


@numba.njit(cache=True)
def _cover(
    ids: NDArray[np.int32],
    inverse_depth: FloatArray,
    zoom: int,
    pixels: NDArray[np.uint8],
    identity: int,
    depth: np.float32,
) -> None:
    """Write `identity` and the inverse `depth` into the samples of those `pixels` (H,W) that are not 0, in place."""
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            if pixels[y, x]:
                for row in range(y * zoom, (y + 1) * zoom):
                    for column in range(x * zoom, (x + 1) * zoom):
                        ids[row, column], inverse_depth[row, column] = identity, depth


@numba.njit(cache=True)
def _count(ids: NDArray[np.int32], low: int, high: int) -> int:
    """How many samples have an id of low..high-1."""
    total = 0
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            total += low <= ids[y, x] < high
    return total


@numba.njit(cache=True)
def _look(
    ids: NDArray[np.int32],
    inverse_depth: FloatArray,
    zoom: int,
    pixels: FloatArray,
    metres: FloatArray,
    view: tuple[float, float, float],
    seen_within: FloatArray,
    own: tuple[int, int],
) -> NDArray[np.uint8]:
    """Of keypoints, which are ABSENT, OCCLUDED or VISIBLE, (K,).

    pixels (K,2) and metres (K,3) in camera axes: where they are; view: focal, cx, cy in samples;
    seen_within (K,): as for `label_person`, metres; own: range of ids.
    """
    focal, cx, cy = view
    height, width = ids.shape
    half = np.float32(0.5)
    visible = np.full(pixels.shape[0], ABSENT, np.uint8)
    for k in range(pixels.shape[0]):
        u, v = pixels[k, 0], pixels[k, 1]
        if u < -half or v < -half or u >= width / zoom - 0.5 or v >= height / zoom - 0.5:
            continue
        column = min(max(int(np.rint((u + half) * np.float32(zoom) - half)), 0), width - 1)
        row = min(max(int(np.rint((v + half) * np.float32(zoom) - half)), 0), height - 1)
        # Behind the camera, or beyond the end of the photograph: no keypoint of this picture.
        if metres[k, 2] <= np.float32(0.05) or ids[row, column] == OUTSIDE:
            continue
        visible[k] = OCCLUDED
        for step in range(_LOOK_AROUND.shape[0]):
            x = min(max(column + _LOOK_AROUND[step, 0], 0), width - 1)
            y = min(max(row + _LOOK_AROUND[step, 1], 0), height - 1)
            depth = 1 / max(inverse_depth[y, x], np.float32(1e-6))
            dx = (x - cx) / focal * depth - metres[k, 0]
            dy = (y - cy) / focal * depth - metres[k, 1]
            dz = depth - metres[k, 2]
            near = dx * dx + dy * dy + dz * dz < seen_within[k] * seen_within[k]
            if near and own[0] <= ids[y, x] < own[1]:
                visible[k] = VISIBLE
                break
    return visible


def label_person(
    camera: Camera, actor: Actor, seen_within: FloatArray, samples: Samples, own: tuple[int, int], limits: FloatArray
) -> Person:
    """The labels of one person from the finished z-buffer.

    seen_within (133,): metres that the visible surface may lie from a keypoint of an adult that counts as seen; own:
    range of this person's ids; limits (4,): x0, y0, x1, y1 of the photograph in pixels.
    """
    metres, pixels = camera.to_camera(actor.keypoints), camera.project(actor.keypoints)[:, :2]
    dense = camera.zoomed(samples.zoom)
    near_enough = seen_within * np.float32(max(0.75, actor.scale))
    view = (dense.focal, *dense.centre)
    visible = _look(samples.ids, samples.inverse_depth, samples.zoom, pixels, metres, view, near_enough, own)

    body = camera.project(actor.outline)[:, :2]
    low, high = limits[:2], limits[2:]
    clipped = np.concatenate([np.clip(end, low, high) for end in bounds(body)])
    box = box_inside(body, limits, clipped)
    area = _count(samples.ids, own[0], own[1]) / samples.zoom**2
    return Person(pixels.astype(np.float32), visible, metres, box.astype(np.float32), float(area))
