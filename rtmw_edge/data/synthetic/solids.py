"""Simple solids in world axes: what people wear, hold and stand on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .mesh import FloatArray
from .rotations import Vector, frame


@dataclass(frozen=True)
class Solid:
    """A mesh: vertices (V,3) metres, triangles (T,3), one colour (3,) BGR."""

    vertices: FloatArray
    triangles: NDArray[np.int32]
    colour: FloatArray


def _basis(axis: Vector) -> NDArray[np.float64]:
    """A frame (3,3) whose last column is `axis`."""
    across = np.array([1.0, 0.0, 0.0]) if abs(axis[0]) < 0.8 * np.linalg.norm(axis) else np.array([0.0, 1.0, 0.0])
    return frame(np.asarray(axis, np.float64), across)[:, [1, 2, 0]]


@lru_cache(maxsize=64)
def _lattice(rows: int, columns: int, closed: bool = True) -> NDArray[np.int32]:
    """Triangles of a grid of rows by columns of vertices, the last column joined to the first when `closed`."""
    row, column = np.mgrid[: rows - 1, : columns if closed else columns - 1]
    a, b = row * columns + column, row * columns + (column + 1) % columns
    quads = np.stack([a, b, b + columns, a + columns], -1).reshape(-1, 4)
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


def rod(start: Vector, end: Vector, radii: tuple[float, ...], colour: FloatArray, sides: int = 8) -> Solid:
    """A stick, pole, bat or sleeve from start to end (3,), with radii (m) at equal steps along it."""
    basis = _basis(end - start)
    angles = np.arange(sides) * (2 * np.pi / sides)
    ring = basis[:, 0] * np.cos(angles)[:, None] + basis[:, 1] * np.sin(angles)[:, None]
    steps = np.linspace(0, 1, len(radii))
    rings = [start + (end - start) * t + ring * r for t, r in zip(steps, radii, strict=True)]
    rings = [np.repeat(start[None], sides, 0), *rings, np.repeat(end[None], sides, 0)]
    return Solid(np.concatenate(rings).astype(np.float32), _lattice(len(rings), sides), colour)


def ellipsoid(centre: Vector, radii: Vector, basis: NDArray[np.float64], colour: FloatArray) -> Solid:
    """A ball, bag or helmet: half axes `radii` (3,) m along the columns of `basis` (3,3)."""
    polar, around = np.linspace(np.pi, 0, 9), np.arange(14) * (2 * np.pi / 14)
    sphere = np.stack(
        [
            np.outer(np.sin(polar), np.cos(around)),
            np.outer(np.sin(polar), np.sin(around)),
            np.outer(np.cos(polar), np.ones(14)),
        ],
        -1,
    ).reshape(-1, 3)
    return Solid((centre + (sphere * radii) @ basis.T).astype(np.float32), _lattice(9, 14), colour)


def box(centre: Vector, half: Vector, basis: NDArray[np.float64], colour: FloatArray) -> Solid:
    """A box with half sizes `half` (3,) m along the columns of `basis` (3,3); faces do not share vertices."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
    faces = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    vertices = centre + (corners[faces.ravel()] * half) @ basis.T
    triangles = (np.arange(6)[:, None, None] * 4 + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3).astype(np.int32)
    return Solid(vertices.astype(np.float32), triangles, colour)


def plate(
    centre: Vector,
    across: Vector,
    up: Vector,
    colour: FloatArray,
    hole: float = 0.0,
    turn: tuple[float, float] = (0, 1),
) -> Solid:
    """A flat ellipse with half axes `across` and `up` (3,): a lens, a rim, a racket, the brim of a hat.

    `hole` of it (0..1) is open; it goes round from `turn[0]` to `turn[1]` of a full turn.
    """
    angles = np.linspace(turn[0] * 2 * np.pi, turn[1] * 2 * np.pi, 17)
    rim = np.outer(np.cos(angles), across) + np.outer(np.sin(angles), up)
    vertices = np.concatenate([centre + rim * hole, centre + rim])
    return Solid(vertices.astype(np.float32), _lattice(2, 17, closed=False), colour)
