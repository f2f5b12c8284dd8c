"""Textures: noise of every scale and the patterns of built and grown things, square and float32."""

from __future__ import annotations

import string
from collections.abc import Callable

import cv2
import numpy as np

from .colour import draw_scenery_colour as draw_colour
from .mesh import FloatArray
from .seeds import pick

SIDE = 128
"""Width and height of a texture, texels."""
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_PLAIN)


def noise(
    rng: np.random.Generator, height: int, width: int, octaves: int = 5, base: int = 3, falloff: float = 0.5
) -> FloatArray:
    """Smooth noise (H,W) in 0..1: `octaves` grids of twice the cells each, every one weaker by `falloff`.

    A falloff of 0.5 has the 1/f amplitudes of natural scenes.
    """
    out = np.zeros((height, width), np.float32)
    amplitude = 1.0
    for octave in range(octaves):
        cells = base * 2**octave
        if cells > max(height, width):
            break
        rows = max(2, round(cells * height / max(height, width))) + 1
        grid = rng.random((rows, cells + 1), dtype=np.float32)
        out += np.float32(amplitude) * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        amplitude *= falloff
    low, high = float(out.min()), float(out.max())
    return (out - np.float32(low)) * np.float32(1 / (high - low + 1e-6))


def _canvas(colour: FloatArray) -> FloatArray:
    return np.tile(colour.astype(np.float32), (SIDE, SIDE, 1))


def plain(rng: np.random.Generator) -> FloatArray:
    """One colour with stains."""
    return _canvas(draw_colour(rng, 20)) * (0.85 + 0.3 * noise(rng, SIDE, SIDE, 5, 2))[..., None]


def mottled(rng: np.random.Generator) -> FloatArray:
    """Two colours mixed by noise: stone, earth, grass, carpets."""
    mix = noise(rng, SIDE, SIDE, 6, int(rng.integers(2, 20)), rng.uniform(0.5, 0.9))[..., None]
    first = draw_colour(rng, 20)
    second = draw_colour(rng, 20) if rng.random() < 0.3 else first * np.float32(rng.uniform(0.4, 1.5))
    return first * mix + second * (1 - mix)


def bricks(rng: np.random.Generator) -> FloatArray:
    """Courses of bricks or tiles, each a little different, with joints."""
    joint, brick = draw_colour(rng, 40), draw_colour(rng, 30)
    image = _canvas(joint)
    tall = int(rng.integers(5, 43))
    wide = int(tall * rng.uniform(0.8, 4)) + 2
    offset = wide // 2 if rng.random() < 0.6 else 0
    spread = rng.uniform(0, 0.25)
    for row, y in enumerate(range(0, SIDE, tall)):
        for x in range(-(offset if row % 2 else 0), SIDE, wide):
            colour = brick * np.float32(1 + rng.normal(0, spread))
            image[y + 1 : y + tall, max(x + 1, 0) : max(x + wide, 0)] = colour
    return image


def planks(rng: np.random.Generator) -> FloatArray:
    """Boards or slats, with grain along them."""
    wide = int(rng.integers(5, 40))
    grain = cv2.resize(rng.random((SIDE, 4), dtype=np.float32), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    image = _canvas(draw_colour(rng, 40)) * (0.75 + 0.5 * grain)[..., None]
    for y in range(0, SIDE, wide):
        image[y : y + wide] *= np.float32(rng.uniform(0.75, 1.2))
        image[y : y + 1 + wide // 20] *= 0.4
    return image if rng.random() < 0.5 else np.ascontiguousarray(image.transpose(1, 0, 2))


def windows(rng: np.random.Generator) -> FloatArray:
    """A wall with a grid of windows, shelves or lockers, some of them lit."""
    image = plain(rng)
    columns, rows = (int(n) for n in rng.integers(2, 7, 2))
    dark, frame = draw_colour(rng, 8, 120), draw_colour(rng, 60)
    wide, tall = SIDE / columns, SIDE / rows
    inset = rng.uniform(0.08, 0.3)
    for row in range(rows):
        for column in range(columns):
            colour = draw_colour(rng, 90) if rng.random() < 0.25 else dark * np.float32(rng.uniform(0.6, 1.6))
            low = (int((column + inset) * wide), int((row + inset) * tall))
            high = (int((column + 1 - inset) * wide), int((row + 1 - inset) * tall))
            cv2.rectangle(image, low, high, colour.tolist(), -1)
            cv2.rectangle(image, low, high, frame.tolist(), 1)
    return image


def writing(rng: np.random.Generator) -> FloatArray:
    """Signs, posters and banners: lines of letters, sometimes with a picture of blots."""
    image = np.clip(plain(rng), 0, 255).astype(np.uint8)
    ink = draw_colour(rng)
    letters = np.array(list(string.ascii_uppercase + string.ascii_lowercase + string.digits))
    y = float(rng.uniform(8, 40))
    while y < SIDE:
        size = rng.uniform(0.3, 2.2)
        text = "".join(rng.choice(letters, int(rng.integers(2, 12))))
        font, thickness = _FONTS[rng.integers(len(_FONTS))], int(rng.integers(1, 4))
        cv2.putText(image, text, (int(rng.integers(-10, 30)), int(y)), font, size, ink.tolist(), thickness, cv2.LINE_AA)
        y += 26 * size
    return image.astype(np.float32)


def stripes(rng: np.random.Generator) -> FloatArray:
    """Straight stripes at any angle: crossings, blinds, radiators, cloth."""
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(0.08, 0.8)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * frequency) > rng.uniform(-0.7, 0.7)
    return np.where(wave[..., None], draw_colour(rng), draw_colour(rng)).astype(np.float32)


def blots(rng: np.random.Generator) -> FloatArray:
    """Many spots of a few colours: pebbles, flowers, fruit, leaves, gravel."""
    palette = [draw_colour(rng) for _ in range(4)]
    image = _canvas(palette[0] * 0.5)
    largest = rng.uniform(2, 14)
    for _ in range(int(1200 / largest)):
        at = (int(rng.integers(SIDE)), int(rng.integers(SIDE)))
        axes = (1 + int(rng.uniform(0.3, 1) * largest), 1 + int(rng.uniform(0.2, 0.8) * largest))
        colour = palette[rng.integers(4)] * np.float32(rng.uniform(0.5, 1.3))
        cv2.ellipse(image, at, axes, float(rng.uniform(0, 180)), 0, 360, colour.tolist(), -1)
    return image


TEXTURES: dict[Callable[[np.random.Generator], FloatArray], float] = {
    plain: 0.2,
    mottled: 0.22,
    bricks: 0.12,
    planks: 0.11,
    windows: 0.12,
    writing: 0.08,
    stripes: 0.06,
    blots: 0.09,
}
"""Textures and how often each is drawn."""


def draw_textures(rng: np.random.Generator, count: int) -> FloatArray:
    """`count` textures (count, SIDE, SIDE, 3), BGR 0..255."""
    makers = [pick(rng, TEXTURES) for _ in range(count)]
    return np.clip(np.stack([make(rng) for make in makers]), 0, 255).astype(np.float32)
