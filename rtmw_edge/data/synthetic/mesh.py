"""Compiled kernels on meshes: rigid motion, bone transforms, linear blend skinning, normals, bounds, selection."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@numba.njit(fastmath=True, cache=True)
def moved(points: FloatArray, rotation: FloatArray, offset: FloatArray) -> FloatArray:
    """Points (N,3) turned by `rotation` (3,3), then shifted by `offset` (3,)."""
    out = np.empty_like(points)
    for k in range(3):
        # Read once: within the loop they would be read for every point, as `out` might be the same memory.
        a, b, c, shift = rotation[k, 0], rotation[k, 1], rotation[k, 2], offset[k]
        for i in range(points.shape[0]):
            out[i, k] = a * points[i, 0] + b * points[i, 1] + c * points[i, 2] + shift
    return out


@numba.njit(fastmath=True, cache=True)
def bone_transforms(
    heads: NDArray[np.float64], rotations: NDArray[np.float64], parents: NDArray[np.int32], root: NDArray[np.float64]
) -> FloatArray:
    """World transforms (B,3,4) of bones that turn by `rotations` (B,3,3) about their `heads` (B,3) at rest.

    `parents` (B,) lists a parent before its children, -1 for the root, which gets the transform `root` (3,4).
    """
    count = heads.shape[0]
    out = np.empty((count, 3, 4), np.float32)
    for i in range(count):
        p = parents[i]
        for r in range(3):
            for c in range(3):
                total = 0.0
                for k in range(3):
                    upper = root[r, k] if p < 0 else out[p, r, k]
                    total += upper * rotations[i, k, c]
                out[i, r, c] = total
        for r in range(3):
            total = root[r, 3] if p < 0 else out[p, r, 3]
            for k in range(3):
                upper = root[r, k] if p < 0 else out[p, r, k]
                total += upper * heads[i, k] - out[i, r, k] * heads[i, k]
            out[i, r, 3] = total
    return out


@numba.njit(fastmath=True, cache=True)
def skin(rest: FloatArray, weights: FloatArray, bones: NDArray[np.int32], transforms: FloatArray) -> FloatArray:
    """Linear blend skinning: rest (V,3), weights and bones (V,K) sorted by falling weight -> (V,3)."""
    out = np.empty_like(rest)
    for i in range(rest.shape[0]):
        x, y, z = rest[i, 0], rest[i, 1], rest[i, 2]
        a = b = c = np.float32(0)
        for k in range(weights.shape[1]):
            w = weights[i, k]
            if w <= 0:
                break
            g = transforms[bones[i, k]]
            a += w * (g[0, 0] * x + g[0, 1] * y + g[0, 2] * z + g[0, 3])
            b += w * (g[1, 0] * x + g[1, 1] * y + g[1, 2] * z + g[1, 3])
            c += w * (g[2, 0] * x + g[2, 1] * y + g[2, 2] * z + g[2, 3])
        out[i, 0], out[i, 1], out[i, 2] = a, b, c
    return out


@numba.njit(fastmath=True, cache=True)
def vertex_normals(vertices: FloatArray, triangles: NDArray[np.int32]) -> FloatArray:
    """Unit normals (V,3), averaged over the triangles (T,3) of each vertex by their area."""
    out = np.zeros_like(vertices)
    for t in range(triangles.shape[0]):
        a, b, c = np.uintp(triangles[t, 0]), np.uintp(triangles[t, 1]), np.uintp(triangles[t, 2])
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (a, b, c):
            out[corner, 0] += nx
            out[corner, 1] += ny
            out[corner, 2] += nz
    for i in range(out.shape[0]):
        n = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + np.float32(1e-12)
        for k in range(3):
            out[i, k] /= n
    return out


@numba.njit(cache=True)
def add_at(points: FloatArray, ids: NDArray[np.int64], moves: FloatArray) -> None:
    """Move the points (V,3) at the distinct `ids` (I,) by `moves` (I,3), in place."""
    for i in range(ids.shape[0]):
        for k in range(3):
            points[ids[i], k] += moves[i, k]


@numba.njit(cache=True)
def push_out(vertices: FloatArray, normals: FloatArray, distance: FloatArray) -> None:
    """Move vertices (V,3) along their normals (V,3) by `distance` (V,), in place."""
    for i in range(vertices.shape[0]):
        for k in range(3):
            vertices[i, k] += normals[i, k] * distance[i]


@numba.njit(cache=True)
def bounds(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The lowest and the highest value of each column of points (N,C), two (C,)."""
    low, high = points[0].copy(), points[0].copy()
    for i in range(points.shape[0]):
        for k in range(points.shape[1]):
            low[k], high[k] = min(low[k], points[i, k]), max(high[k], points[i, k])
    return low, high


@numba.njit(cache=True)
def shown_triangles(
    triangles: NDArray[np.int32], kinds: NDArray[np.uint8], keep: FloatArray
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Those of the triangles (T,3), with their kinds (T,), that have a vertex where `keep` (V,) is not negative."""
    out, out_kinds = np.empty_like(triangles), np.empty_like(kinds)
    count = 0
    for t in range(triangles.shape[0]):
        if keep[triangles[t, 0]] >= 0 or keep[triangles[t, 1]] >= 0 or keep[triangles[t, 2]] >= 0:
            for k in range(3):
                out[count, k] = triangles[t, k]
            out_kinds[count] = kinds[t]
            count += 1
    return out[:count], out_kinds[:count]
