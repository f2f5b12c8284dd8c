"""One picture: people drawn into a z-buffer over a background, with their shadows and with things before them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from .camera import Camera
from .labels import OCCLUDER, OUTSIDE, Samples, label_person
from .light import draw_light
from .mesh import FloatArray
from .person import Actor
from .raster import ZOOM, rasterize
from .sample import Person
from .shade import shade
from .shadow import NO_SHADOW, cast_shadow, shade_ground

_FRONT = np.float32(50.0)  # inverse depth of what lies before everybody

_SMALL = 0.3  # share of the picture's height below which nobody would miss a shadow

DrawBackground = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Picture:
    """A finished picture, BGR (H,W,3) of nominally 0..255, with what is needed to label its people."""

    image: FloatArray
    samples: Samples
    camera: Camera
    owned: tuple[tuple[int, int], ...]
    """For each actor the range of its ids in the z-buffer."""
    limits: FloatArray
    """(4,) x0, y0, x1, y1 of the photograph within the picture, pixels."""
    inside: tuple[slice, slice] | None
    """Rows and columns of the photograph within the picture; None where it fills it."""

    def label(self, actor: Actor, which: int, seen_within: FloatArray) -> Person:
        """The labels of the actor that was drawn as number `which`."""
        return label_person(self.camera, actor, seen_within, self.samples, self.owned[which], self.limits)


def draw_picture(
    rng: np.random.Generator,
    camera: Camera,
    size: tuple[int, int],
    actors: Sequence[Actor],
    background: DrawBackground,
    frame: NDArray[np.float64],
) -> Picture:
    """Draw `actors` before a background; the photograph ends at `frame` (4,) pixels, which may be infinite."""
    width, height = size
    shape = (height * ZOOM, width * ZOOM)
    samples = Samples(np.zeros(shape, np.float32), np.full(shape, -1, np.int32), ZOOM)
    dense = camera.zoomed(ZOOM)
    screens = [dense.project(actor.surface.vertices) for actor in actors]
    starts = np.cumsum([0, *[len(actor.surface.triangles) for actor in actors]]).tolist()
    owned = tuple(pairwise(starts))
    boxes = [
        rasterize(screen, actor.surface, samples.inverse_depth, samples.ids, own[0])
        for actor, screen, own in zip(actors, screens, owned, strict=True)
    ]

    image = background(rng, size).astype(np.float32)
    light = draw_light(rng, -camera.forward)
    strength = rng.uniform(0.3, 0.95)
    on_ground = rng.random() < 0.6
    painted = np.zeros((height, width, 4), np.float32)
    for actor, screen, own, box in zip(actors, screens, owned, boxes, strict=True):
        tall = np.ptp(screen[::97, 1]) / shape[0]
        shadow = cast_shadow(actor.surface, light.direction, strength) if tall > _SMALL else NO_SHADOW
        if on_ground:
            shade_ground(image, shadow._replace(strength=np.float32(strength * 0.7)), camera)
        shade(screen, actor.surface, light, shadow, samples.ids, own[0], box, painted)
    _lay_over(image, painted)

    if rng.random() < 0.15:
        _occlude(rng, image, samples, background)
    limits = np.concatenate([np.maximum([0, 0], frame[:2]), np.minimum([width - 1, height - 1], frame[2:])])
    inside = _inside(size, frame)
    if inside is not None:
        outside = np.ones((height, width), bool)
        outside[inside] = False
        samples.cover(outside, OUTSIDE, _FRONT)
    return Picture(image, samples, camera, owned, limits.astype(np.float32), inside)


@numba.njit(fastmath=True, cache=True)
def _lay_over(image: FloatArray, painted: FloatArray) -> None:
    """Premultiplied `painted` (H,W,4) over `image` (H,W,3), in place."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if painted[y, x, 3] > 0:
                rest = np.float32(1) - painted[y, x, 3]
                for k in range(3):
                    image[y, x, k] = image[y, x, k] * rest + painted[y, x, k]


@numba.njit(cache=True)
def _paste(image: FloatArray, other: NDArray[np.uint8], mask: NDArray[np.uint8], share: np.float32) -> None:
    """Put `other` (H,W,3) times `share` over `image` (H,W,3) where `mask` (H,W) is not 0, in place."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if mask[y, x]:
                for k in range(3):
                    image[y, x, k] = other[y, x, k] * share


def _occlude(rng: np.random.Generator, image: FloatArray, samples: Samples, background: DrawBackground) -> None:
    """Things before the people: pieces of another background in rough shapes, or a rail across."""
    height, width = image.shape[:2]
    other = background(rng, (width, height))
    for _ in range(int(rng.integers(1, 3))):
        mask = np.zeros((height, width), np.uint8)
        at = (int(rng.integers(width)), int(rng.integers(height)))
        reach = int(min(height, width) * rng.uniform(0.08, 0.32))
        kind = rng.integers(3)
        if kind == 0:
            axes = (reach, max(3, int(reach * rng.uniform(0.2, 1))))
            cv2.ellipse(mask, at, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        elif kind == 1:
            corners = np.array(at) + rng.integers(-reach, reach + 1, (int(rng.integers(3, 6)), 2))
            cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
        else:
            angle = rng.uniform(0, np.pi)
            step = np.array([np.cos(angle), np.sin(angle)]) * (width + height)
            start, end = (np.array(at) - step).astype(int), (np.array(at) + step).astype(int)
            cv2.line(mask, start.tolist(), end.tolist(), 1, int(rng.integers(2, max(3, reach // 2))))
        _paste(image, other, mask, np.float32(rng.uniform(0.5, 1.1)))
        samples.cover(mask > 0, OCCLUDER, _FRONT)


def _inside(size: tuple[int, int], frame: NDArray[np.float64]) -> tuple[slice, slice] | None:
    """The rows and columns of the photograph, or None where it ends nowhere in the picture."""
    width, height = size
    x0, y0, x1, y1 = np.clip(np.rint(frame), -1, max(size)).astype(int)
    if x0 <= 0 and y0 <= 0 and x1 >= width - 1 and y1 >= height - 1:
        return None
    return slice(max(y0, 0), max(y1 + 1, 0)), slice(max(x0, 0), max(x1 + 1, 0))
