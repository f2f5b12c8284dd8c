"""Light: one sun (or lamp) and a sky, of drawn direction, strength and colour."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .mesh import FloatArray


class Light(NamedTuple):
    """One sun and a sky, in world axes (z up)."""

    direction: FloatArray  # (3,) unit, towards the sun
    sun: FloatArray  # (3,) BGR strength, about 1
    sky: FloatArray  # (3,) BGR strength from above
    ground: FloatArray  # (3,) BGR strength from below
    eye: FloatArray  # (3,) unit, towards the camera


def draw_light(rng: np.random.Generator, view: NDArray[np.float64]) -> Light:
    """A light for one picture, mostly from the camera's side; `view` (3,) points towards the camera."""
    azimuth, height = rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 1.3)
    behind = -1 if rng.random() < 0.2 else 1
    direction = (
        math.cos(azimuth) * math.cos(height),
        -abs(math.sin(azimuth)) * math.cos(height) * behind,
        math.sin(height),
    )
    warmth = np.array([rng.uniform(0.85, 1.05), 1, rng.uniform(0.95, 1.15)])
    return Light(
        np.array(direction, np.float32),
        (rng.uniform(0.4, 1.05) * warmth).astype(np.float32),
        (rng.uniform(0.35, 0.75) * rng.uniform(0.9, 1.1, 3)).astype(np.float32),
        (rng.uniform(0.2, 0.5) * rng.uniform(0.85, 1.15, 3)).astype(np.float32),
        view.astype(np.float32),
    )
