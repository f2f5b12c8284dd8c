"""Hats: the scalp pushed out and painted, with a brim or a peak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .colour import draw_colour
from .layout import Layout
from .mesh import FloatArray
from .rotations import Vector, cross, unit
from .seeds import pick
from .solids import Solid, plate

_KINDS = {"none": 0.72, "cap": 0.1, "helmet": 0.09, "beanie": 0.05, "brimmed": 0.04}
# Thickness (m) of the dome, and how low (m over the eyes) it comes.
_DOMES = {
    "cap": ((0.006, 0.016), (0.04, 0.06)),
    "helmet": ((0.02, 0.04), (0.02, 0.05)),
    "beanie": ((0.008, 0.02), (0.02, 0.045)),
    "brimmed": ((0.01, 0.025), (0.045, 0.06)),
}


@dataclass(frozen=True)
class Headwear:
    """A hat as fields on the vertices (H,) of `Layout.head`, and its brim."""

    kind: str
    covers: FloatArray
    """(H,) 0..1."""
    offset: FloatArray
    """(H,) metres."""
    colour: FloatArray
    line: float
    """Height of its edge over the eyes, metres at adult size."""

    def brim(self, points: FloatArray, size: float, rng: np.random.Generator) -> list[Solid]:
        """The peak or brim on a posed head with keypoints (133,3)."""
        if self.kind not in ("cap", "brimmed"):
            return []
        eyes, ears = points[[1, 2]].mean(0).astype(np.float64), points[[3, 4]].mean(0).astype(np.float64)
        across = unit(points[3].astype(np.float64) - points[4])
        ahead: Vector = unit(eyes - ears)
        ahead = unit(ahead - across * (ahead @ across))
        up = cross(ahead, across)
        up = up if up @ (points[27 + 23] - points[8 + 23]) > 0 else -up
        depth = float(np.linalg.norm(eyes - ears))
        centre = ears + up * (self.line + 0.025) * size + ahead * depth * 0.35
        half = 0.088 * size
        if self.kind == "brimmed":
            reach = rng.uniform(1.5, 2.2)
            return [plate(centre, across * half * reach, ahead * half * reach * 1.1, self.colour)]
        if rng.random() < 0.2:  # worn backwards
            ahead = -ahead
        tilt = unit(ahead - up * rng.uniform(0.1, 0.5))
        return [plate(centre, across * half, tilt * (depth * 0.75 + 0.07 * size), self.colour, turn=(0.02, 0.48))]


def draw_headwear(layout: Layout, rng: np.random.Generator) -> Headwear | None:
    """A hat for one person, or None."""
    kind = pick(rng, _KINDS)
    if kind == "none":
        return None
    thickness, low = _DOMES[kind]
    line = rng.uniform(*low)
    _, y, z = layout.canonical[layout.head].T
    # The edge runs lower at the back of the head than over the brows.
    edge = line - np.clip(y + 0.06, 0, 0.12) * rng.uniform(0.2, 0.9)
    over = z - layout.eye_height - edge
    covers = np.clip(over / 0.004, 0, 1).astype(np.float32)
    offset = np.float32(rng.uniform(*thickness)) * np.clip(over / 0.02, 0, 1).astype(np.float32)
    return Headwear(kind, covers, offset, draw_colour(rng), line)
