"""Backgrounds: pictures without people, as cluttered and as varied as photographs are."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .body import FloatArray
from .colour import draw_colour
from .texture import noise

HEIGHT, WIDTH = 480, 640


def _leaves(rng: np.random.Generator) -> FloatArray:
    """Dead leaves: overlapping shapes whose sizes follow a power law, which gives the statistics of photographs."""
    image = np.empty((HEIGHT, WIDTH, 3), np.float32)
    image[:] = draw_colour(rng)
    palette = [draw_colour(rng) for _ in range(int(rng.integers(3, 9)))]
    smallest, largest = rng.uniform(3, 10), rng.uniform(80, 320)
    count = int(rng.integers(120, 420))
    radii = 1 / np.sqrt(rng.uniform(1 / largest**2, 1 / smallest**2, count))
    for radius in radii:
        colour = palette[rng.integers(len(palette))] * np.float32(rng.uniform(0.6, 1.3)) + rng.normal(0, 8, 3)
        x, y = rng.uniform(-20, WIDTH + 20), rng.uniform(-20, HEIGHT + 20)
        _shape(rng, image, (x, y), float(radius), tuple(map(float, np.clip(colour, 0, 255))))
    return image


def _shape(
    rng: np.random.Generator, image: FloatArray, at: tuple[float, float], radius: float, colour: tuple[float, ...]
) -> None:
    x, y = at
    kind = rng.integers(4)
    if kind == 0:
        axes = (max(1, int(radius)), max(1, int(radius * rng.uniform(0.15, 1))))
        cv2.ellipse(image, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
        return
    if kind == 1:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        corners = np.stack([np.cos(angles), np.sin(angles)], 1) * radius * rng.uniform(0.6, 1.2, (len(angles), 1))
    else:
        turn = rng.uniform(0, np.pi) if kind == 2 else rng.normal(0, 0.05)
        half = np.array([radius, radius * rng.uniform(0.05, 1)])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
        corners = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points = (corners + (x, y)).astype(np.int32)
    cv2.fillPoly(image, [points], colour, cv2.LINE_AA)


def _fields(rng: np.random.Generator) -> FloatArray:
    """Ground, horizon and sky with noise."""
    horizon = int(HEIGHT * rng.uniform(0.1, 0.8))
    image = np.empty((HEIGHT, WIDTH, 3), np.float32)
    image[:horizon] = draw_colour(rng, 60)
    image[horizon:] = draw_colour(rng, 30, 230)
    return image * (0.6 + 0.8 * noise(rng, HEIGHT, WIDTH, 7, int(rng.integers(2, 9))))[..., None]


def draw_background(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A background (480,640,3) uint8 BGR."""
    image = _leaves(rng) if rng.random() < 0.6 else _fields(rng)
    image = image * (0.75 + 0.5 * noise(rng, HEIGHT, WIDTH, 7, 4, 0.7))[..., None]
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 4)))
    return np.clip(image, 0, 255).astype(np.uint8)
