"""Rotation matrices and small vector helpers, compiled: posing a person takes some four hundred of them.

Axes of the body at rest: x to the person's left, y to the back, z up (right-handed, metres). All angles are radians.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@numba.njit(cache=True)
def unit(vector: Vector) -> Vector:
    """The vector (3,) scaled to length 1."""
    return vector / (math.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2) + 1e-12)


@numba.njit(cache=True)
def dot(a: Vector, b: Vector) -> float:
    """Inner product of two vectors (3,)."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@numba.njit(cache=True)
def cross(a: Vector, b: Vector) -> Vector:
    """Cross product of two vectors (3,)."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


@numba.njit(cache=True)
def axis_angle(axis: Vector, angle: float) -> Matrix:
    """Rotation matrix (3,3) about `axis` (3,), which need not be of unit length (Rodrigues)."""
    n = 1.0 / (math.sqrt(axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2) + 1e-12)
    x, y, z = axis[0] * n, axis[1] * n, axis[2] * n
    c, s = math.cos(angle), math.sin(angle)
    t = 1.0 - c
    return np.array(
        [
            [t * x * x + c, t * x * y - s * z, t * x * z + s * y],
            [t * x * y + s * z, t * y * y + c, t * y * z - s * x],
            [t * x * z - s * y, t * y * z + s * x, t * z * z + c],
        ]
    )


@numba.njit(cache=True)
def rotated(matrix: Matrix, vector: Vector) -> Vector:
    """The vector (3,) turned by a matrix (3,3)."""
    return np.array([dot(matrix[0], vector), dot(matrix[1], vector), dot(matrix[2], vector)])


@numba.njit(cache=True)
def product(a: Matrix, b: Matrix) -> Matrix:
    """Matrix product of two matrices (3,3)."""
    out = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            out[i, j] = a[i, 0] * b[0, j] + a[i, 1] * b[1, j] + a[i, 2] * b[2, j]
    return out


_X, _Y, _Z = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])


def about_x(angle: float) -> Matrix:
    return axis_angle(_X, angle)


def about_y(angle: float) -> Matrix:
    return axis_angle(_Y, angle)


def about_z(angle: float) -> Matrix:
    return axis_angle(_Z, angle)


@numba.njit(cache=True)
def frame(direction: Vector, normal: Vector) -> Matrix:
    """Orthonormal frame (3,3) whose first column is `direction` and whose second lies nearest to `normal`."""
    first = unit(direction)
    second = unit(normal - first * dot(normal, first))
    third = cross(first, second)
    out = np.empty((3, 3))
    for i in range(3):
        out[i, 0], out[i, 1], out[i, 2] = first[i], second[i], third[i]
    return out
