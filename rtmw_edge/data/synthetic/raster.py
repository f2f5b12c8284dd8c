"""The z-buffer: which triangle is seen at each sample. Samples lie at integer coordinates, as pixel centres do."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from .mesh import FloatArray
from .surface import CLOTH, PAINTED, Surface

ZOOM = 2
"""Samples per pixel in each direction."""
_F0, _F1 = np.float32(0), np.float32(1)
_EDGE = np.float32(1e-5)  # samples on a shared edge belong to one of its triangles at least
_NEAREST = np.float32(0.05)  # metres before the camera


@numba.njit(fastmath=True, cache=True)
def rasterize(
    screen: FloatArray, surface: Surface, inverse_depth: FloatArray, ids: NDArray[np.int32], first: int
) -> tuple[int, int, int, int]:
    """Draw a surface into `inverse_depth` (H,W) (1/m, 0 = nothing) and `ids` (H,W).

    screen (V,3): x and y in samples, depth in metres. Triangle t is written as `first + t`. Skin is one-sided; hair and
    cloth are two-sided, so that the inside of a sleeve can be seen. Returns the box x0, y0, x1, y1 of samples, both
    ends included, beyond which it wrote nothing.
    """
    height, width = ids.shape
    left, top, right, bottom = width, height, -1, -1
    triangles, keep, kinds = surface.triangles, surface.keep, surface.kinds
    for t in range(triangles.shape[0]):
        a, b, c = np.uintp(triangles[t, 0]), np.uintp(triangles[t, 1]), np.uintp(triangles[t, 2])
        xa, ya, xb, yb, xc, yc = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
        if area > -1e-9 and (kinds[t] < PAINTED or area < 1e-9):
            continue
        x0, x1 = max(0, int(np.ceil(min(xa, xb, xc)))), min(width - 1, int(np.floor(max(xa, xb, xc))))
        y0, y1 = max(0, int(np.ceil(min(ya, yb, yc)))), min(height - 1, int(np.floor(max(ya, yb, yc))))
        if x0 > x1 or y0 > y1:
            continue
        za, zb, zc = screen[a, 2], screen[b, 2], screen[c, 2]
        keep_a, keep_b, keep_c = keep[a], keep[b], keep[c]
        if za < _NEAREST or zb < _NEAREST or zc < _NEAREST or (keep_a < 0 and keep_b < 0 and keep_c < 0):
            continue
        left, top, right, bottom = min(left, x0), min(top, y0), max(right, x1), max(bottom, y1)
        lead = surface.cloth_lead if kinds[t] >= CLOTH else _F0
        inverse = _F1 / area
        near_a, near_b, near_c = _F1 / (za - lead), _F1 / (zb - lead), _F1 / (zc - lead)
        cut = keep_a < 0 or keep_b < 0 or keep_c < 0
        # Barycentric weights are linear in x and y: step them along the row, until it has left the triangle.
        step_a, step_b = (yb - yc) * inverse, (yc - ya) * inverse
        px = np.float32(x0)
        for y in range(y0, y1 + 1):
            py = np.float32(y)
            wa = ((xb - px) * (yc - py) - (yb - py) * (xc - px)) * inverse
            wb = ((xc - px) * (ya - py) - (yc - py) * (xa - px)) * inverse
            entered = False
            for x in range(x0, x1 + 1):
                wc = _F1 - wa - wb
                if min(wa, wb, wc) >= -_EDGE:
                    entered = True
                    near = wa * near_a + wb * near_b + wc * near_c
                    if near > inverse_depth[y, x] and not (cut and wa * keep_a + wb * keep_b + wc * keep_c < 0):
                        inverse_depth[y, x] = near
                        ids[y, x] = first + t
                elif entered:
                    break
                wa += step_a
                wb += step_b
    return left, top, right, bottom
