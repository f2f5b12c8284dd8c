"""Shadows: the person as the sun sees it, a depth map that tells which points of body and ground the sun reaches."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from .camera import Camera
from .mesh import FloatArray, bounds, moved
from .rotations import cross, unit
from .surface import Surface

F = np.float32
_SIDE = 144  # of the depth map
_BIAS = F(0.03)  # metres that a surface may lie behind itself


class Shadow(NamedTuple):
    """A depth map seen along the sun's rays."""

    nearest: FloatArray  # (S,S) 1/(metres behind the first point that the sun reaches, plus 1); 0 where it reaches all
    rotation: FloatArray  # (3,3) world to map: across, down, along the rays
    origin: FloatArray  # (3,) of the map, in its own axes
    scale: np.float32  # texels per metre
    strength: np.float32  # share of the sun that a shadow takes, 0..1


@numba.njit(fastmath=True, cache=True)
def _to_map(points: FloatArray, origin: FloatArray, scale: F) -> None:
    """Points (N,3) along the rays, in place: to texels and metres behind the origin."""
    for i in range(points.shape[0]):
        points[i, 0] = (points[i, 0] - origin[0]) * scale
        points[i, 1] = (points[i, 1] - origin[1]) * scale
        points[i, 2] -= origin[2]


@numba.njit(fastmath=True, cache=True)
def _splat(points: FloatArray, triangles: NDArray[np.int32], keep: FloatArray, nearest: FloatArray) -> None:
    """Into `nearest` (S,S) the nearest middle of a triangle per texel, as 1/depth; points (V,3) as `_to_map` leaves."""
    third = F(1) / F(3)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if keep[a] + keep[b] + keep[c] < 0:
            continue
        column = int((points[a, 0] + points[b, 0] + points[c, 0]) * third + F(0.5))
        row = int((points[a, 1] + points[b, 1] + points[c, 1]) * third + F(0.5))
        if column < 1 or row < 1 or column >= _SIDE - 1 or row >= _SIDE - 1:
            continue
        nearest[row, column] = max(nearest[row, column], F(3) / (points[a, 2] + points[b, 2] + points[c, 2]))


NO_SHADOW = Shadow(np.zeros((2, 2), np.float32), np.eye(3, dtype=np.float32), np.full(3, 1e6, np.float32), F(1), F(0))
"""The shadow of nobody: the sun reaches everything."""


def cast_shadow(surface: Surface, direction: FloatArray, strength: float) -> Shadow:
    """The shadow of one person in the light of a sun towards `direction` (3,)."""
    along = -direction.astype(np.float64)
    across = unit(cross(along, np.array([0.13, 0.99, 0.05])))
    rotation = np.stack([across, cross(along, across), along]).astype(np.float32)
    seen = moved(surface.vertices, rotation, np.zeros(3, np.float32))
    low, high = bounds(seen[::11])
    low, high = low - F(0.03), high + F(0.03)
    scale = F((_SIDE - 4) / max(high[0] - low[0], high[1] - low[1], 1e-3))
    origin = low - np.array([2 / scale, 2 / scale, 1], np.float32)
    _to_map(seen, origin, scale)
    nearest = np.zeros((_SIDE, _SIDE), np.float32)
    _splat(seen, surface.triangles, surface.keep, nearest)
    # The triangles of a person are about as large as three texels: marking those around each middle leaves no holes.
    nearest = np.asarray(cv2.dilate(nearest, np.ones((3, 3), np.uint8)), np.float32)
    return Shadow(nearest, rotation, origin.astype(np.float32), scale, F(strength))


@numba.njit(fastmath=True, cache=True)
def sunlit(nearest: FloatArray, rays: FloatArray, origin: FloatArray, scale: F, strength: F, x: F, y: F, z: F) -> F:
    """Share of the sun that reaches a point of the world, from 1 - strength to 1, softened over 2x2 texels.

    nearest (S,S), rays (3,3), origin (3,), scale and strength: the fields of a Shadow, in its order.
    """
    u = (rays[0, 0] * x + rays[0, 1] * y + rays[0, 2] * z - origin[0]) * scale
    v = (rays[1, 0] * x + rays[1, 1] * y + rays[1, 2] * z - origin[1]) * scale
    depth = rays[2, 0] * x + rays[2, 1] * y + rays[2, 2] * z - origin[2]
    column, row = int(u), int(v)
    if column < 0 or row < 0 or column >= _SIDE - 1 or row >= _SIDE - 1:
        return F(1)
    limit = F(1) / max(F(1e-3), depth - _BIAS)
    fu, fv = u - F(column), v - F(row)
    dark = F(0)
    if nearest[row, column] > limit:
        dark += (F(1) - fu) * (F(1) - fv)
    if nearest[row, column + 1] > limit:
        dark += fu * (F(1) - fv)
    if nearest[row + 1, column] > limit:
        dark += (F(1) - fu) * fv
    if nearest[row + 1, column + 1] > limit:
        dark += fu * fv
    return F(1) - strength * dark


@numba.njit(fastmath=True, cache=True)
def _darken(image: FloatArray, shadow: Shadow, rotation: FloatArray, eye: FloatArray, focal: F, cx: F, cy: F) -> None:
    nearest, rays, origin, scale, strength = shadow
    for y in range(image.shape[0]):
        down = (F(y) - cy) / focal
        for x in range(image.shape[1]):
            across = (F(x) - cx) / focal
            dz = rotation[0, 2] * across + rotation[1, 2] * down + rotation[2, 2]
            if dz > F(-0.02):
                continue
            t = -eye[2] / dz
            if t > 30 or t < 0:
                continue
            px = eye[0] + t * (rotation[0, 0] * across + rotation[1, 0] * down + rotation[2, 0])
            py = eye[1] + t * (rotation[0, 1] * across + rotation[1, 1] * down + rotation[2, 1])
            lit = sunlit(nearest, rays, origin, scale, strength, px, py, F(0))
            if lit < 1:
                for k in range(3):
                    image[y, x, k] *= lit


def shade_ground(image: FloatArray, shadow: Shadow, camera: Camera) -> None:
    """Darken the picture (H,W,3) where the ground z = 0 lies in the shadow."""
    rotation, eye = camera.rotation.astype(np.float32), camera.position.astype(np.float32)
    _darken(image, shadow, rotation, eye, F(camera.focal), F(camera.centre[0]), F(camera.centre[1]))
