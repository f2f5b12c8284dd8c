"""Deferred shading: the colour of every sample that the z-buffer gave to one person, averaged into pixels."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from .body import FloatArray
from .shadow import sunlit
from .surface import CLOTH, DRAPERY, LEFT_EYE, RIGHT_EYE, SKIN

F = np.float32


class Light(NamedTuple):
    """One sun and a sky, in world axes (z up)."""

    direction: FloatArray  # (3,) unit, towards the sun
    sun: FloatArray  # (3,) BGR strength, about 1
    sky: FloatArray  # (3,) BGR strength from above
    ground: FloatArray  # (3,) BGR strength from below
    eye: FloatArray  # (3,) unit, towards the camera


@numba.njit(fastmath=True, cache=True)
def _brow(x, y, z, surface):  # type: ignore[no-untyped-def]
    """How much of a brow covers a canonical point of the skin, 0..0.85."""
    points = surface.brow
    if y > F(-0.09) or abs(z - points[2, 2]) > F(0.03):
        return F(0)
    x = abs(x)
    nearest = F(9)
    for k in range(4):
        ux, uz = points[k + 1, 0] - points[k, 0], points[k + 1, 2] - points[k, 2]
        q = min(F(1), max(F(0), ((x - points[k, 0]) * ux + (z - points[k, 2]) * uz) / (ux * ux + uz * uz)))
        dx, dz = x - points[k, 0] - q * ux, z - points[k, 2] - q * uz
        width = surface.brow_width * (F(1.15) - F(0.2) * abs(F(k) + q - F(2)))
        nearest = min(nearest, np.sqrt(dx * dx + dz * dz) / width)
    return min(F(1), max(F(0), (F(1.3) - nearest) / F(0.6))) * F(0.85)


@numba.njit(fastmath=True, cache=True)
def _pattern(x, y, z, pattern):  # type: ignore[no-untyped-def]
    """Share of the second colour at a canonical point of a garment, 0..1; kinds as in clothing.PATTERNS."""
    kind, frequency, threshold = pattern[0], pattern[1], pattern[2]
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
def _covered(ids, first, count, scale):  # type: ignore[no-untyped-def]
    """The pixels (H,W) whose samples all belong to the surface."""
    out = np.zeros((ids.shape[0] // scale, ids.shape[1] // scale), np.bool_)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            whole = True
            for k in range(scale * scale):
                t = ids[y * scale + k // scale, x * scale + k % scale] - first
                whole = whole and 0 <= t < count
            out[y, x] = whole
    return out


@numba.njit(fastmath=True, cache=True)
def shade(screen, surface, light, shadow, ids, first, scale, out):  # type: ignore[no-untyped-def]
    """Add colour and coverage of one surface to `out` (H,W,4) float32, premultiplied; ids is (H*scale, W*scale).

    screen (V,3) in samples, as for `rasterize`, of which `ids` and `first` come. shadow: see shadow.py.
    """
    height, width = ids.shape
    triangles, normals, canonical, colours = surface.triangles, surface.normals, surface.canonical, surface.colours
    count, wrinkles = triangles.shape[0], surface.wrinkles
    share, middle = F(1) / F(scale * scale), F(0.5) * F(scale - 1)
    inside = _covered(ids, first, count, scale)
    half = light.direction + light.eye
    half = half / (np.sqrt((half * half).sum()) + F(1e-6))
    for y in range(height):
        for x in range(width):
            t = ids[y, x] - first
            if t < 0 or t >= count:
                continue
            weight, px, py = share, F(x), F(y)
            whole = inside[y // scale, x // scale]
            if whole:  # away from outlines the middle of the pixel will do
                if x % scale > 0 or y % scale > 0:
                    continue
                weight, px, py = F(1), px + middle, py + middle
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            xa, ya, xb, yb, xc, yc = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
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
            nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
            ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
            nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
            cx = wa * canonical[a, 0] + wb * canonical[b, 0] + wc * canonical[c, 0]
            cy = wa * canonical[a, 1] + wb * canonical[b, 1] + wc * canonical[c, 1]
            cz = wa * canonical[a, 2] + wb * canonical[b, 2] + wc * canonical[c, 2]
            blue = wa * colours[a, 0] + wb * colours[b, 0] + wc * colours[c, 0]
            green = wa * colours[a, 1] + wb * colours[b, 1] + wc * colours[c, 1]
            red = wa * colours[a, 2] + wb * colours[b, 2] + wc * colours[c, 2]
            kind = surface.kinds[t]
            gloss = surface.gloss
            wrap = F(0)
            if kind == SKIN:
                wrap = F(0.25)  # light bleeds around the terminator of skin
                m = _brow(cx, cy, cz, surface)
                if m > 0:
                    blue += m * (surface.brow_colour[0] - blue)
                    green += m * (surface.brow_colour[1] - green)
                    red += m * (surface.brow_colour[2] - red)
            elif kind in (LEFT_EYE, RIGHT_EYE):
                centre = surface.eyes[kind - LEFT_EYE]
                dx, dy, dz = cx - centre[0], cy - centre[1], cz - centre[2]
                angle = np.sqrt(dx * dx + dz * dz) / max(F(1e-4), -dy) if dy < 0 else F(9)
                blue, green, red = F(205), F(212), F(218)
                if angle < 0.22:
                    blue = green = red = F(12)
                elif angle < 0.55:
                    blue, green, red = surface.iris[0], surface.iris[1], surface.iris[2]
                gloss = F(0.5)
            elif kind >= CLOTH:
                gloss = F(0.02)
                row = 3
                if kind != DRAPERY:
                    row = 0 if wa * surface.upper[a] + wb * surface.upper[b] + wc * surface.upper[c] > 0 else 1
                    if cz < F(-0.70):
                        row = 2
                colour = surface.materials[row]
                m = _pattern(cx, cy, cz, surface.patterns[row])
                blue = colour[0, 0] + m * (colour[1, 0] - colour[0, 0])
                green = colour[0, 1] + m * (colour[1, 1] - colour[0, 1])
                red = colour[0, 2] + m * (colour[1, 2] - colour[0, 2])
                # Wrinkles bend the normal.
                shift = surface.patterns[row, 3]
                column = int((cx + cy * F(0.7)) * F(330) + shift * F(40) + F(4096)) % wrinkles.shape[1]
                line = int(cz * F(210) + shift * F(70) + F(4096)) % wrinkles.shape[0]
                fold = surface.fold * wrinkles[line, column, 0]
                nx, ny, nz = nx + fold, ny + F(0.5) * fold, nz + surface.fold * wrinkles[line, column, 1]
            length = F(1) / (np.sqrt(nx * nx + ny * ny + nz * nz) + F(1e-9))
            nx, ny, nz = nx * length, ny * length, nz * length
            dim = F(1)
            if back:  # the inside of a garment
                nx, ny, nz = -nx, -ny, -nz
                dim = F(0.45) if kind >= CLOTH else F(0.8)
            facing = nx * light.direction[0] + ny * light.direction[1] + nz * light.direction[2]
            diffuse = max(F(0), (facing + wrap) / (F(1) + wrap))
            if diffuse > 0:
                vertices = surface.vertices
                diffuse *= sunlit(
                    shadow,
                    wa * vertices[a, 0] + wb * vertices[b, 0] + wc * vertices[c, 0],
                    wa * vertices[a, 1] + wb * vertices[b, 1] + wc * vertices[c, 1],
                    wa * vertices[a, 2] + wb * vertices[b, 2] + wc * vertices[c, 2],
                )
            up = F(0.5) + F(0.5) * nz
            shine = max(F(0), nx * half[0] + ny * half[1] + nz * half[2])
            highlight = gloss * shine**24 * F(255)
            weight_of_light = weight * dim
            for k, albedo in ((0, blue), (1, green), (2, red)):
                received = diffuse * light.sun[k] + up * light.sky[k] + (F(1) - up) * light.ground[k]
                out[y // scale, x // scale, k] += (albedo * received + highlight * light.sun[k]) * weight_of_light
            out[y // scale, x // scale, 3] += weight
