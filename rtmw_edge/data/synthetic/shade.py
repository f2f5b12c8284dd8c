"""Deferred shading: the colour of every sample that the z-buffer gave to one person, averaged into pixels."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from .garment import ANKLE_HEIGHT
from .light import Light
from .mesh import FloatArray
from .raster import ZOOM
from .shadow import Shadow, sunlit
from .surface import CLOTH, DRAPE, DRAPERY, LEFT_EYE, LOWER, PAINTED, SHOES, SKIN, UPPER, WRINKLES, Surface

F = np.float32


@numba.njit(fastmath=True, cache=True)
def _brow(x: F, y: F, z: F, points: FloatArray, thickness: F) -> F:
    """How much of a brow along `points` (5,3) covers a canonical point of the skin, 0..0.85; thickness in metres."""
    if y > F(-0.09) or abs(z - points[2, 2]) > F(0.03):
        return F(0)
    x = abs(x)
    nearest = F(9)
    for k in range(4):
        ux, uz = points[k + 1, 0] - points[k, 0], points[k + 1, 2] - points[k, 2]
        q = min(F(1), max(F(0), ((x - points[k, 0]) * ux + (z - points[k, 2]) * uz) / (ux * ux + uz * uz)))
        dx, dz = x - points[k, 0] - q * ux, z - points[k, 2] - q * uz
        width = thickness * (F(1.15) - F(0.2) * abs(F(k) + q - F(2)))
        nearest = min(nearest, np.sqrt(dx * dx + dz * dz) / width)
    return min(F(1), max(F(0), (F(1.3) - nearest) / F(0.6))) * F(0.85)


@numba.njit(fastmath=True, cache=True)
def _pattern(x: F, y: F, z: F, kind: F, frequency: F, threshold: F) -> F:
    """Share of the second colour at a canonical point of a garment, 0..1; kinds as in clothing.PATTERNS."""
    if kind == 1:
        return F(1) if np.sin(z * frequency) > threshold else F(0)
    if kind == 2:
        return F(1) if np.sin((x + y) * frequency) > threshold else F(0)
    if kind == 3:
        across = F(0.5) if np.sin(z * frequency) > 0.3 else F(0)
        return across + (F(0.5) if np.sin((x + y * F(0.7)) * frequency) > 0.3 else F(0))
    if kind == 4:
        a = np.sin(z * frequency + F(2) * np.sin(x * frequency * F(0.7)))
        b = np.sin(x * frequency - y * frequency * F(0.5) + F(1.5) * np.sin(z * frequency * F(0.6)))
        return F(1) if a * b > threshold else F(0)
    if kind == 5:
        inside = abs(x) < 0.10 and 0.42 < z < 0.60 and y < 0
        return F(1) if inside and np.sin(z * frequency) * np.sin(x * frequency * F(1.3)) > F(-0.2) else F(0)
    if kind == 6:
        return F(1) if abs(x) > F(0.09) + F(0.05) * threshold else F(0)
    return F(0)


@numba.njit(fastmath=True, cache=True)
def _mixed(field: FloatArray, k: int, a: np.uintp, b: np.uintp, c: np.uintp, wa: F, wb: F, wc: F) -> F:
    """Column k of `field` (V,C) at the place on a triangle a, b, c that has these weights."""
    return wa * field[a, k] + wb * field[b, k] + wc * field[c, k]


@numba.njit(fastmath=True, cache=True)
def shade(
    screen: FloatArray,
    surface: Surface,
    light: Light,
    shadow: Shadow,
    ids: NDArray[np.int32],
    first: int,
    box: tuple[int, int, int, int],
    out: FloatArray,
) -> None:
    """Add colour and coverage of one surface to `out` (H,W,4), premultiplied; ids is (H*ZOOM, W*ZOOM).

    screen (V,3) in samples and `first`: as for `rasterize`, of which `ids` and `box` come. shadow: see shadow.py.
    """
    # Fields by names of their own: taking one out of a tuple for every sample would cost as much as using it.
    triangles, kinds, normals, canonical = surface.triangles, surface.kinds, surface.normals, surface.canonical
    vertices, colours, upper, eyes, iris = (
        surface.vertices,
        surface.colours,
        surface.upper,
        surface.eyes,
        surface.iris,
    )
    brow, brow_colour, materials, patterns = surface.brow, surface.brow_colour, surface.materials, surface.patterns
    wrinkles, towards, sun, sky, ground = surface.wrinkles, light.direction, light.sun, light.sky, light.ground
    nearest, rays, origin = shadow.nearest, shadow.rotation, shadow.origin
    count, samples, middle = triangles.shape[0], ZOOM * ZOOM, F(0.5) * F(ZOOM - 1)
    half = light.direction + light.eye
    half = half / (np.sqrt((half * half).sum()) + F(1e-6))
    for row in range(box[1] // ZOOM, box[3] // ZOOM + 1):
        for column in range(box[0] // ZOOM, box[2] // ZOOM + 1):
            owned = 0
            for k in range(samples):
                owned += 0 <= ids[row * ZOOM + k // ZOOM, column * ZOOM + k % ZOOM] - first < count
            whole = owned == samples  # away from outlines the middle of the pixel will do
            for k in range(1 if whole else samples if owned > 0 else 0):
                y, x = row * ZOOM + k // ZOOM, column * ZOOM + k % ZOOM
                t = ids[y, x] - first
                if t < 0 or t >= count:
                    continue
                weight, px, py = F(1) / F(samples), F(x), F(y)
                if whole:
                    weight, px, py = F(1), px + middle, py + middle
                a, b, c = np.uintp(triangles[t, 0]), np.uintp(triangles[t, 1]), np.uintp(triangles[t, 2])
                xa, ya, xb, yb, xc, yc = (
                    screen[a, 0],
                    screen[a, 1],
                    screen[b, 0],
                    screen[b, 1],
                    screen[c, 0],
                    screen[c, 1],
                )
                # Perspective-correct weights; their sign tells which side of the triangle is seen.
                wa = ((xb - px) * (yc - py) - (yb - py) * (xc - px)) / screen[a, 2]
                wb = ((xc - px) * (ya - py) - (yc - py) * (xa - px)) / screen[b, 2]
                wc = ((xa - px) * (yb - py) - (ya - py) * (xb - px)) / screen[c, 2]
                total = wa + wb + wc
                back = total > 0
                total = F(1) / total
                wa, wb, wc = wa * total, wb * total, wc * total
                if whole:  # the middle may lie just outside this sample's triangle
                    wa, wb, wc = max(F(0), wa), max(F(0), wb), max(F(0), wc)
                    total = F(1) / (wa + wb + wc)
                    wa, wb, wc = wa * total, wb * total, wc * total
                nx = _mixed(normals, 0, a, b, c, wa, wb, wc)
                ny = _mixed(normals, 1, a, b, c, wa, wb, wc)
                nz = _mixed(normals, 2, a, b, c, wa, wb, wc)
                kind, gloss, wrap = kinds[t], surface.gloss, F(0)
                cx = cy = cz = blue = green = red = F(0)
                if kind != PAINTED:
                    cx = _mixed(canonical, 0, a, b, c, wa, wb, wc)
                    cy = _mixed(canonical, 1, a, b, c, wa, wb, wc)
                    cz = _mixed(canonical, 2, a, b, c, wa, wb, wc)
                if kind in (SKIN, PAINTED):
                    blue = _mixed(colours, 0, a, b, c, wa, wb, wc)
                    green = _mixed(colours, 1, a, b, c, wa, wb, wc)
                    red = _mixed(colours, 2, a, b, c, wa, wb, wc)
                if kind == SKIN:
                    wrap = F(0.25)  # light bleeds around the terminator of skin
                    m = _brow(cx, cy, cz, brow, surface.brow_width)
                    if m > 0:
                        blue += m * (brow_colour[0] - blue)
                        green += m * (brow_colour[1] - green)
                        red += m * (brow_colour[2] - red)
                elif kind >= CLOTH:
                    gloss = F(0.02)
                    material = DRAPE
                    if kind != DRAPERY:
                        material = UPPER if wa * upper[a] + wb * upper[b] + wc * upper[c] > 0 else LOWER
                        if cz < ANKLE_HEIGHT:
                            material = SHOES
                    m = _pattern(cx, cy, cz, patterns[material, 0], patterns[material, 1], patterns[material, 2])
                    blue = materials[material, 0, 0] + m * (materials[material, 1, 0] - materials[material, 0, 0])
                    green = materials[material, 0, 1] + m * (materials[material, 1, 1] - materials[material, 0, 1])
                    red = materials[material, 0, 2] + m * (materials[material, 1, 2] - materials[material, 0, 2])
                    # Wrinkles bend the normal.
                    shift = patterns[material, 3]
                    u = int((cx + cy * F(0.7)) * F(330) + shift * F(40) + F(4096)) % WRINKLES
                    v = int(cz * F(210) + shift * F(70) + F(4096)) % WRINKLES
                    fold = surface.fold * wrinkles[v, u, 0]
                    nx, ny, nz = nx + fold, ny + F(0.5) * fold, nz + surface.fold * wrinkles[v, u, 1]
                elif kind != PAINTED:
                    gloss = F(0.5)
                    eye = kind - LEFT_EYE
                    dx, dy, dz = cx - eyes[eye, 0], cy - eyes[eye, 1], cz - eyes[eye, 2]
                    angle = np.sqrt(dx * dx + dz * dz) / max(F(1e-4), -dy) if dy < 0 else F(9)
                    blue, green, red = F(205), F(212), F(218)
                    if angle < 0.22:
                        blue = green = red = F(12)
                    elif angle < 0.55:
                        blue, green, red = iris[0], iris[1], iris[2]
                length = F(1) / (np.sqrt(nx * nx + ny * ny + nz * nz) + F(1e-9))
                nx, ny, nz = nx * length, ny * length, nz * length
                dim = F(1)
                if back:  # the inside of a garment
                    nx, ny, nz = -nx, -ny, -nz
                    dim = F(0.45) if kind >= CLOTH else F(0.8)
                facing = nx * towards[0] + ny * towards[1] + nz * towards[2]
                diffuse = max(F(0), (facing + wrap) / (F(1) + wrap))
                if diffuse > 0:
                    diffuse *= sunlit(
                        nearest,
                        rays,
                        origin,
                        shadow.scale,
                        shadow.strength,
                        _mixed(vertices, 0, a, b, c, wa, wb, wc),
                        _mixed(vertices, 1, a, b, c, wa, wb, wc),
                        _mixed(vertices, 2, a, b, c, wa, wb, wc),
                    )
                up = F(0.5) + F(0.5) * nz
                shine = max(F(0), nx * half[0] + ny * half[1] + nz * half[2])
                highlight = gloss * shine**24 * F(255)
                weight_of_light = weight * dim
                for i, albedo in ((0, blue), (1, green), (2, red)):
                    received = diffuse * sun[i] + up * sky[i] + (F(1) - up) * ground[i]
                    out[row, column, i] += (albedo * received + highlight * sun[i]) * weight_of_light
                out[row, column, 3] += weight
