"""Dead leaves: overlapping textured shapes whose sizes follow a power law, as the edges of photographs do.

After Lee, Mumford and Huang, "Occlusion models for natural images" (2001): sizes drawn with density r^-3 between two
cutoffs give images the scale invariance of natural ones.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from .colour import draw_scenery_colour as draw_colour
from .mesh import FloatArray
from .texture import SIDE, draw_textures

F = np.float32
_ELLIPSE, _BLOCK, _LEAF, _CAPSULE = range(4)


@numba.njit(fastmath=True, cache=True)
def _stamp(
    image: FloatArray,
    shapes: FloatArray,
    kinds: NDArray[np.int64],
    colours: FloatArray,
    textures: FloatArray,
    which: NDArray[np.int64],
    contrast: F,
) -> None:
    """Paint shapes (N,6: x, y, half length, half width, cosine, sine) over `image` (H,W,3), the first one first.

    kinds (N,) and colours (N,3) of the shapes; which (N,): their textures, of those (T,SIDE,SIDE,3), or -1 for none;
    contrast: share of the texture in the colour, 0..1.
    """
    height, width = image.shape[0], image.shape[1]
    for i in range(shapes.shape[0]):
        cx, cy, a, b, c, s = shapes[i]
        reach = a + b if kinds[i] != _ELLIPSE else max(a, b)
        x0, x1 = max(0, int(cx - reach)), min(width - 1, int(cx + reach) + 1)
        y0, y1 = max(0, int(cy - reach)), min(height - 1, int(cy + reach) + 1)
        inverse_a, inverse_b = F(1) / a, F(1) / b
        round_ = kinds[i] == _CAPSULE
        texture = which[i]
        density = F(SIDE) / (F(2.5) * max(a, F(20)))
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                dx, dy = F(x) - cx, F(y) - cy
                u, v = (c * dx + s * dy) * inverse_a, (c * dy - s * dx) * inverse_b
                au, av = abs(u), abs(v)
                if kinds[i] == _ELLIPSE:
                    outside = u * u + v * v > 1
                elif kinds[i] == _BLOCK:
                    outside = au > 1 or av > 1
                elif kinds[i] == _LEAF:
                    outside = au > 1 or av > (F(1) - au) * (F(0.4) + F(1.6) * au)
                else:
                    end = max(F(0), (au - F(1)) * a * inverse_b)
                    outside = v * v + end * end > 1
                if outside:
                    continue
                light = F(1) + F(0.22) * u - F(0.15) * v
                if round_:  # a lit cylinder
                    light = F(0.45) + F(0.75) * np.sqrt(max(F(0), F(1) - (v + F(0.35)) ** 2 * F(0.55)))
                if texture >= 0:
                    row, column = int(v * b * density + F(999)) % SIDE, int(u * a * density + F(999)) % SIDE
                    grain = textures[texture, row, column]
                    for k in range(3):
                        image[y, x, k] = (colours[i, k] * (F(1) - contrast) + grain[k] * contrast) * light
                else:
                    for k in range(3):
                        image[y, x, k] = colours[i, k] * light


def paint_leaves(rng: np.random.Generator, image: FloatArray, count: int, foliage: bool = False) -> None:
    """Paint `count` leaves over an image (H,W,3); `foliage` makes them slender, small and of one family of colours."""
    height, width = image.shape[:2]
    smallest = rng.uniform(2, 5 if foliage else 8)
    largest = rng.uniform(8, 50) if foliage else rng.uniform(90, 360)
    radii = 1 / np.sqrt(rng.uniform(1 / largest**2, 1 / smallest**2, count))
    large = int(count * 0.04)
    radii[:large] = rng.uniform(0.2, 1, large) * largest  # the power law alone seldom draws a large one
    slender = rng.uniform(0.15, 0.5, count) if foliage else np.exp(rng.uniform(np.log(0.05), 0, count))
    angle = rng.uniform(0, np.pi, count)
    if not foliage and rng.random() < 0.5:  # things built stand upright
        angle = np.where(rng.random(count) < 0.7, rng.choice([0, np.pi / 2], count) + rng.normal(0, 0.03, count), angle)
    shapes = np.stack(
        [
            rng.uniform(-20, width + 20, count),
            rng.uniform(-20, height + 20, count),
            radii,
            np.maximum(radii * slender, 0.8),
            np.cos(angle),
            np.sin(angle),
        ],
        1,
    )
    if foliage:
        base, other = draw_colour(rng, 40), draw_colour(rng, 30)
        share = rng.beta(0.5, 0.5, (count, 1))
        colours = (base * share + other * (1 - share)) * rng.uniform(0.25, 1.25, (count, 1))
        kinds = np.full(count, _LEAF if rng.random() < 0.7 else _ELLIPSE)
    else:
        palette = np.stack([draw_colour(rng) for _ in range(int(rng.integers(4, 14)))])
        colours = palette[rng.integers(len(palette), size=count)] * rng.uniform(0.6, 1.25, (count, 1))
        kinds = rng.choice(4, count, p=(0.25, 0.4, 0.1, 0.25))
    textures = draw_textures(rng, 6)
    which = np.where((radii > 8) & (rng.random(count) < 0.7), rng.integers(0, 6, count), -1)
    _stamp(
        image,
        shapes.astype(np.float32),
        kinds.astype(np.int64),
        colours.astype(np.float32),
        textures,
        which.astype(np.int64),
        F(rng.uniform(0.3, 1)),
    )


def paint_limbs(rng: np.random.Generator, image: FloatArray, count: int, colours: FloatArray) -> None:
    """Paint `count` chains of shaded capsules in some of `colours` (C,3): arms and legs that belong to nobody."""
    height, width = image.shape[:2]
    shapes, tints = [], []
    for _ in range(count):
        at = np.array([rng.uniform(0, width), rng.uniform(0, height)])
        angle, half = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(np.log(0.03), np.log(0.16))) * height
        thick = half * rng.uniform(0.15, 0.4)
        tint = colours[rng.integers(len(colours))]
        for _ in range(int(rng.integers(1, 5))):
            along = np.array([np.cos(angle), np.sin(angle)])
            middle = at + along * half
            shapes.append([*middle, half, thick, *along])
            tints.append(tint)
            at, angle = at + along * 2 * half, angle + rng.normal(0, 0.9)
            half, thick = half * rng.uniform(0.6, 1.1), thick * rng.uniform(0.6, 1)
            if rng.random() < 0.3:
                tint = colours[rng.integers(len(colours))]
    _stamp(
        image,
        np.array(shapes, np.float32),
        np.full(len(shapes), _CAPSULE),
        np.array(tints, np.float32),
        np.zeros((1, SIDE, SIDE, 3), np.float32),
        np.full(len(shapes), -1),
        F(0),
    )
