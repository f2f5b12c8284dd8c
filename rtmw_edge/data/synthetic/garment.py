"""Compiled kernels on the garment mesh: where it is cut, what skin it hides, and how far it stands off the body.

Exact float32 and float64 arithmetic, without `fastmath`: shoes carry keypoints, which are the same on every machine.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from .mesh import FloatArray

F = np.float32
ANKLE_HEIGHT = F(-0.70)
"""Height (m, at rest) below which the garment mesh is a shoe."""


@numba.njit(cache=True)
def _within(value: F, low: F, high: F) -> F:
    return min(max(value, low), high)


@numba.njit(cache=True)
def cut_garment(
    garment: NDArray[np.int64],
    points: FloatArray,
    arm: FloatArray,
    along_arm: FloatArray,
    along_leg: FloatArray,
    sleeve: F,
    trousers: F,
    neck: F,
    neck_depth: F,
    bare: F,
    shod: bool,
    keep: FloatArray,
) -> None:
    """Write into `keep` (V,), at the ids `garment`, how far each vertex is inside what is worn.

    points (V,3), arm, along_arm and along_leg (V,): as in Layout. sleeve, trousers, neck and neck_depth: as in
    clothing's cut; bare: the height over which the chest is bare, or infinity.
    """
    for i in garment:
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        leg = (trousers - along_leg[i]) * F(0.75)
        if arm[i] > F(0.5):
            field = (sleeve - along_arm[i]) * F(0.45)
        elif along_leg[i] > F(0.1):
            field = leg
        else:
            opening = neck_depth * _within(F(0.06) - abs(x), F(0), F(0.06)) if y < F(-0.02) else F(0)
            field = neck - z + F(0.35) * _within(y + F(0.02), F(0), F(0.1)) - opening
            field = _within(field, F(-1), F(1))
        if z > bare:
            field = F(-0.5)
        if z < ANKLE_HEIGHT:
            field = F(1) if shod else min(field, leg)
        keep[i] = field


@numba.njit(cache=True)
def hide_skin(skin: NDArray[np.int64], covered_by: NDArray[np.int64], keep: FloatArray) -> None:
    """Lower `keep` (V,) to -1 at the ids `skin` (S,) where the garment vertex `covered_by` (S,) is well inside."""
    for i in range(skin.shape[0]):
        over = covered_by[i]
        if over >= 0 and keep[over] > F(0.025):
            keep[skin[i]] = F(-1)


@numba.njit(cache=True)
def stand_off(
    garment: NDArray[np.int64],
    points: FloatArray,
    upper: FloatArray,
    keep: FloatArray,
    looseness: tuple[float, float],
    hem: float,
    frequency: NDArray[np.float64],
    phase: NDArray[np.float64],
    offset: FloatArray,
) -> None:
    """Write into `offset` (V,), at the ids `garment`, the metres that cloth stands off the body.

    looseness: metres of the upper and the lower garment; hem: share of it that is left at an edge, where `keep` (V,) is
    0; frequency and phase of its waves, first along z, then along x; upper (V,): positive on the upper garment.
    """
    edge, inner = F(hem), F(1 - hem)
    for i in garment:
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        if z < ANKLE_HEIGHT:
            offset[i] = F(0.002)
            continue
        loose = looseness[0] if upper[i] > 0 else looseness[1]
        loose *= edge + inner * _within(keep[i] / F(0.05), F(0), F(1))
        waves = math.sin(z * frequency[0] + x * F(18) + phase[0])
        waves += math.sin(x * frequency[1] - y * F(22) + z * F(9) + phase[1])
        offset[i] = max(loose * (1 + 0.25 * waves), 0.001)
