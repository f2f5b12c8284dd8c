"""Rooms and streets: a ray caster for a floor, walls or a sky, and textured boxes, in perspective."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from .colour import draw_scenery_colour as draw_colour
from .mesh import FloatArray
from .texture import SIDE, draw_textures

F = np.float32
_FAR = F(1e9)


@numba.njit(fastmath=True, cache=True)
def _slab(origin: FloatArray, inverse: FloatArray, low: FloatArray, high: FloatArray) -> tuple[F, F, int, int]:
    """Distances at which a ray enters and leaves a box, and through which axis it does each.

    origin (3,) and 1/direction (3,) of the ray, low and high corner (3,) of the box.
    """
    enter, leave, axis_in, axis_out = -_FAR, _FAR, 0, 0
    for k in range(3):
        near, far = (low[k] - origin[k]) * inverse[k], (high[k] - origin[k]) * inverse[k]
        if near > far:
            near, far = far, near
        if near > enter:
            enter, axis_in = near, k
        if far < leave:
            leave, axis_out = far, k
    return enter, leave, axis_in, axis_out


@numba.njit(fastmath=True, cache=True)
def _texel(textures: FloatArray, means: FloatArray, which: int, u: F, v: F, footprint: F, out: FloatArray) -> None:
    """Look up texture `which` at u, v (in texels); far away it fades to its mean, so that it does not flicker."""
    column, row = int(np.floor(u)) % SIDE, int(np.floor(v)) % SIDE
    fade = min(F(1), max(F(0), footprint * F(0.35)))
    for k in range(3):
        out[k] = textures[which, row, column, k] * (F(1) - fade) + means[which, k] * fade


@numba.njit(fastmath=True, cache=True)
def _cast(
    rotation: FloatArray,
    focal: F,
    eye: FloatArray,
    room: FloatArray,
    boxes: FloatArray,
    faces: NDArray[np.int64],
    scales: FloatArray,
    textures: FloatArray,
    means: FloatArray,
    sky: FloatArray,
    haze: F,
    sun: FloatArray,
    out: FloatArray,
) -> None:
    """Fill `out` (H,W,3) with what a camera at `eye` (3,) sees; its rows of `rotation` (3,3): right, down, forward.

    room (2,3) and boxes (B,2,3): low and high corners; a high z of 0 or less means the open air. Of the room, then of
    each box: faces (B+1,6) which texture, scales (B+1,3) its copies a metre on the faces across each axis. textures
    (T,SIDE,SIDE,3) and their means (T,3); sky (2,3): colours at the horizon and above; haze: 1/m; sun (3,): light on
    faces across each axis.
    """
    height, width = out.shape[0], out.shape[1]
    colour = np.empty(3, np.float32)
    direction, inverse = np.empty(3, np.float32), np.empty(3, np.float32)
    indoors = room[1, 2] > 0
    texels = F(SIDE)
    for y in range(height):
        for x in range(width):
            across, down = (F(x) - F(0.5) * width) / focal, (F(y) - F(0.5) * height) / focal
            for k in range(3):
                direction[k] = rotation[0, k] * across + rotation[1, k] * down + rotation[2, k]
                step = direction[k] if abs(direction[k]) > 1e-6 else F(1e-6)
                inverse[k] = F(1) / step
            nearest, surface, axis, hit = _FAR, 0, 0, -1
            if indoors:
                _, leave, _, axis_out = _slab(eye, inverse, room[0], room[1])
                nearest, axis, hit = leave, axis_out, 0
                surface = 2 * axis + (1 if direction[axis] > 0 else 0)
            elif direction[2] < 0:
                nearest, axis, hit, surface = -eye[2] * inverse[2], 2, 0, 4
            for b in range(boxes.shape[0]):
                enter, leave, axis_in, _ = _slab(eye, inverse, boxes[b, 0], boxes[b, 1])
                if F(0.1) < enter < leave and enter < nearest:
                    nearest, axis, hit = enter, axis_in, b + 1
                    surface = 2 * axis + (1 if direction[axis] > 0 else 0)
            if hit < 0 or nearest > 300:
                t = min(F(1), max(F(0), direction[2] * F(1.2)))
                for k in range(3):
                    out[y, x, k] = sky[0, k] * (F(1) - t) + sky[1, k] * t
                continue
            px, py, pz = (
                eye[0] + nearest * direction[0],
                eye[1] + nearest * direction[1],
                eye[2] + nearest * direction[2],
            )
            u, v = (py, pz) if axis == 0 else (px, pz) if axis == 1 else (px, py)
            density = scales[hit, axis] * texels
            _texel(textures, means, faces[hit, surface], u * density, -v * density, nearest * density / focal, colour)
            lit = sun[axis] * (F(1) if direction[axis] < 0 or hit == 0 else F(0.7))
            # Corners receive less light from the room: darken near the ground and near the walls.
            corner = pz if hit > 0 or axis != 2 else F(1)
            if indoors and hit == 0:
                corner = F(1)
                for k in range(3):
                    if k != axis:
                        place = px if k == 0 else py if k == 1 else pz
                        corner = min(corner, place - room[0, k], room[1, k] - place)
            lit *= F(0.6) + F(0.4) * min(F(1), max(F(0), corner * F(2.5)))
            far = F(1) - np.exp(-nearest * haze)
            for k in range(3):
                out[y, x, k] = colour[k] * lit * (F(1) - far) + sky[0, k] * far


@dataclass(frozen=True)
class _Layout:
    """The room (2,3), or the open air, and the boxes (B,2,3) in it; metres, z up, the camera looks along +y."""

    room: FloatArray
    boxes: FloatArray


def _indoors(rng: np.random.Generator) -> _Layout:
    half_width, depth, height = rng.uniform(1.5, 6), rng.uniform(2.5, 12), rng.uniform(2.2, 5)
    room = np.array([[-half_width, -3, 0], [half_width, depth, height]])
    boxes = []
    for _ in range(int(rng.integers(2, 12))):  # furniture, doors, pictures, lamps
        size = np.exp(rng.normal(np.log(0.5), 0.6, 3))
        place = np.array([rng.uniform(-half_width, half_width), rng.uniform(0.8, depth), 0])
        if rng.random() < 0.4:  # something flat on the far wall
            size, place = np.array([size[0], 0.03, size[2]]), np.array([place[0], depth - 0.03, rng.uniform(0.3, 2.2)])
        elif rng.random() < 0.2:  # a shelf or a beam
            place[2] = rng.uniform(0.5, height)
        elif rng.random() < 0.3:  # legs, poles, pillars
            size = np.array([0.06, 0.06, rng.uniform(0.4, height)]) * rng.uniform(0.7, 3)
        boxes.append([place - size * (0.5, 0.5, 0), place + size * (0.5, 0.5, 1)])
    return _Layout(room.astype(np.float32), np.array(boxes, np.float32))


def _outdoors(rng: np.random.Generator) -> _Layout:
    boxes = []
    for _ in range(int(rng.integers(1, 7))):  # buildings, walls, hedges
        size = np.array([rng.uniform(2, 14), rng.uniform(2, 14), np.exp(rng.uniform(0, 3.2))])
        place = np.array([rng.uniform(-16, 16), rng.uniform(6, 45), 0])
        boxes.append([place - size * (0.5, 0, 0), place + size * (0.5, 1, 1)])
    for _ in range(int(rng.integers(2, 14))):  # cars, bins, benches, posts, signs, fences
        size = np.exp(rng.normal(np.log(0.7), 0.7, 3))
        if rng.random() < 0.4:
            size = np.array([0.1, 0.1, rng.uniform(1, 6)]) * rng.uniform(0.6, 2)
        place = np.array([rng.uniform(-7, 7), rng.uniform(1.5, 18), 0])
        if rng.random() < 0.15:
            place[2] = rng.uniform(0.5, 3)
        boxes.append([place - size * (0.5, 0.5, 0), place + size * (0.5, 0.5, 1)])
    return _Layout(np.zeros((2, 3), np.float32), np.array(boxes, np.float32))


def draw_scenery(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """A room or a street (height, width, 3) BGR, about 0..255."""
    layout = _indoors(rng) if rng.random() < 0.5 else _outdoors(rng)
    textures = draw_textures(rng, 10)
    count = len(layout.boxes) + 1
    faces = np.repeat(rng.integers(0, len(textures), (count, 1)), 6, 1)
    faces[0] = rng.integers(0, len(textures), 6)  # each wall of a room is another
    scales = np.repeat(np.exp(rng.uniform(math.log(0.25), math.log(1.5), (count, 1))), 3, 1)
    yaw, pitch, roll = rng.normal(0, 0.35), rng.normal(-0.08, 0.12), rng.normal(0, 0.04)
    forward = np.array([math.sin(yaw) * math.cos(pitch), math.cos(yaw) * math.cos(pitch), math.sin(pitch)])
    right = np.array([math.cos(yaw), -math.sin(yaw), 0.0])
    down = np.cross(forward, right)
    right, down = right * math.cos(roll) + down * math.sin(roll), down * math.cos(roll) - right * math.sin(roll)
    eye = np.array([0.0, 0.0, rng.uniform(0.6, 2.1)])
    horizon = draw_colour(rng, 130)
    out = np.empty((height, width, 3), np.float32)
    _cast(
        np.stack([right, down, forward]).astype(np.float32),
        F(width * np.exp(rng.uniform(math.log(0.6), math.log(2.0)))),
        eye.astype(np.float32),
        layout.room,
        layout.boxes,
        faces.astype(np.int64),
        scales.astype(np.float32),
        textures,
        textures.mean((1, 2)),
        np.stack([horizon, draw_colour(rng, 60)]),
        F(rng.uniform(0, 0.05) if rng.random() < 0.5 else 0),
        rng.uniform(0.45, 1.15, 3).astype(np.float32),
        out,
    )
    return out
