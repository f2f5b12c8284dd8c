"""Colours (BGR, 0..255): natural palettes for cloth, skin, hair and scenery."""

from __future__ import annotations

import numpy as np

from .mesh import FloatArray
from .seeds import choose

_HAIR = np.array(
    [[20, 20, 22], [30, 40, 60], [45, 75, 110], [90, 150, 190], [150, 150, 150], [30, 60, 130]], np.float32
)
_HAIR_SHARE = (0.36, 0.26, 0.15, 0.08, 0.1, 0.05)
_IRIS = np.array([[40, 60, 90], [120, 100, 60], [60, 110, 90], [25, 35, 50]], np.float32)
_TROUSERS = np.array(
    [[90, 55, 40], [40, 40, 42], [60, 80, 95], [120, 140, 150], [25, 25, 25], [110, 75, 50], [150, 150, 150]],
    np.float32,
)


def from_hsv(hue: float, saturation: float, value: float) -> FloatArray:
    """BGR (3,) of hue 0..6, saturation 0..1 and value 0..1."""
    sector, part = int(hue) % 6, hue - int(hue)
    p, q, t = (value * (1 - saturation * share) for share in (1, part, 1 - part))
    red, green, blue = ((value, t, p), (q, value, p), (p, value, t), (p, q, value), (t, p, value), (value, p, q))[
        sector
    ]
    return np.array([blue, green, red], np.float32) * np.float32(255)


def draw_colour(rng: np.random.Generator, low: float = 8, high: float = 255) -> FloatArray:
    """A natural colour (3,) of brightness `low`..`high`: mostly of low saturation, sometimes vivid."""
    saturation = rng.beta(1.2, 3.2) if rng.random() < 0.75 else rng.uniform(0.5, 1)
    return from_hsv(rng.uniform(0, 6), saturation, rng.uniform(low, high) / 255)


def draw_scenery_colour(rng: np.random.Generator, low: float = 8, high: float = 255) -> FloatArray:
    """A colour (3,) of things that are no person: mostly grey, wood, earth, skin-like beige, green and blue."""
    value = rng.uniform(low, high) / 255
    kind = choose(rng, (0.33, 0.28, 0.15, 0.1, 0.14))
    if kind == 0:
        return from_hsv(rng.uniform(0, 6), rng.beta(1, 8), value)
    if kind == 1:
        return from_hsv(rng.uniform(0.1, 1.0), rng.uniform(0.1, 0.65), value)
    if kind == 2:
        return from_hsv(rng.uniform(1.1, 2.3), rng.uniform(0.1, 0.6), value * 0.8)
    if kind == 3:
        return from_hsv(rng.uniform(3.0, 3.8), rng.uniform(0.1, 0.6), value)
    return draw_colour(rng, low, high)


def draw_skin(rng: np.random.Generator, darkness: float) -> FloatArray:
    """A skin colour (3,) between pale (0) and dark (1)."""
    pale, dark = np.array([150, 175, 225], np.float32), np.array([35, 50, 80], np.float32)
    colour = (pale * (1 - darkness) + dark * darkness) * rng.uniform(0.9, 1.1) + rng.normal(0, 6, 3)
    return np.clip(colour, 10, 255).astype(np.float32)


def draw_hair(rng: np.random.Generator) -> FloatArray:
    """A hair colour (3,); one in thirty is dyed."""
    natural = _HAIR[choose(rng, _HAIR_SHARE)]
    return (draw_colour(rng) if rng.random() < 0.03 else natural) * np.float32(rng.uniform(0.7, 1.2))


def draw_iris(rng: np.random.Generator) -> FloatArray:
    return _IRIS[rng.integers(len(_IRIS))]


def draw_trousers(rng: np.random.Generator) -> FloatArray:
    """Half of all trousers are denim, black, khaki or grey."""
    return _TROUSERS[rng.integers(len(_TROUSERS))] if rng.random() < 0.5 else draw_colour(rng, 8, 235)


def unlike(rng: np.random.Generator, colour: FloatArray, other: FloatArray) -> FloatArray:
    """`colour`, drawn again until it differs from `other` by 110, summed over the channels."""
    while np.abs(colour - other).sum() < 110:
        colour = draw_colour(rng, 8, 235)
    return colour
