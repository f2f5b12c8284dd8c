"""Textures (H,W) or (H,W,3) float32: noise of every scale, the stuff of scenery."""

from __future__ import annotations

import cv2
import numpy as np

from .body import FloatArray


def noise(rng: np.random.Generator, height: int, width: int, octaves: int = 5, base: int = 3, falloff: float = 0.5) -> FloatArray:
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
