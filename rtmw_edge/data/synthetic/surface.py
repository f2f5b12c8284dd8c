"""Surface: one dressed person as the compiled kernels take it, and the kinds of material they know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .mesh import FloatArray, moved, vertex_normals
from .solids import Solid

SKIN, LEFT_EYE, RIGHT_EYE, PAINTED, CLOTH, DRAPERY = range(6)
"""Kinds of triangle: skin with brows, eyeballs, plain vertex colours (hair, teeth, things), garment, skirt or coat."""
UPPER, LOWER, SHOES, DRAPE = range(4)
"""Rows of materials and patterns."""
WRINKLES = 256
"""Side of the texture of wrinkles, texels."""


class Surface(NamedTuple):
    """V vertices and T triangles of one person, in world axes (z up, metres)."""

    vertices: FloatArray  # (V,3)
    normals: FloatArray  # (V,3) unit
    triangles: NDArray[np.int32]  # (T,3)
    kinds: NDArray[np.uint8]  # (T,)
    keep: FloatArray  # (V,) the surface is cut away where this is negative
    canonical: FloatArray  # (V,3) the same points on the average adult at rest: where patterns are drawn
    colours: FloatArray  # (V,3) BGR 0..255
    upper: FloatArray  # (V,) positive on the upper garment
    materials: FloatArray  # (4,2,3) see clothing.Outfit
    patterns: FloatArray  # (4,4)
    wrinkles: FloatArray  # (WRINKLES,WRINKLES,2) slopes of folded cloth, tiling
    brow: FloatArray  # (5,3) canonical points of the left brow
    eyes: FloatArray  # (2,3) canonical centres of the eyeballs
    brow_colour: FloatArray  # (3,)
    iris: FloatArray  # (3,)
    brow_width: np.float32  # metres
    gloss: np.float32  # strength of highlights on skin, 0..1
    fold: np.float32  # depth of the wrinkles
    cloth_lead: np.float32  # metres that cloth is drawn nearer, so that it wins against the skin that it touches

    def with_solids(self, solids: Sequence[Solid]) -> Surface:
        """The same person with what they wear and hold."""
        if not solids:
            return self
        vertices = np.concatenate([solid.vertices for solid in solids])
        starts = np.cumsum([0, *[len(solid.vertices) for solid in solids[:-1]]]).tolist()
        triangles = np.concatenate([solid.triangles + s for solid, s in zip(solids, starts, strict=True)])
        colours = np.concatenate([np.repeat(s.colour[None], len(s.vertices), 0) for s in solids])
        count = len(vertices)
        added = len(self.vertices)
        return self._replace(
            vertices=np.concatenate([self.vertices, vertices]),
            normals=np.concatenate([self.normals, vertex_normals(vertices, triangles)]),
            triangles=np.concatenate([self.triangles, triangles + added]),
            kinds=np.concatenate([self.kinds, np.full(len(triangles), PAINTED, np.uint8)]),
            keep=np.concatenate([self.keep, np.ones(count, np.float32)]),
            canonical=np.concatenate([self.canonical, np.zeros((count, 3), np.float32)]),
            colours=np.concatenate([self.colours, colours.astype(np.float32)]),
            upper=np.concatenate([self.upper, np.zeros(count, np.float32)]),
        )

    def moved(self, rotation: FloatArray, offset: FloatArray) -> Surface:
        """The same person turned by `rotation` (3,3) and shifted by `offset` (3,)."""
        return self._replace(
            vertices=moved(self.vertices, rotation, offset),
            normals=moved(self.normals, rotation, np.zeros(3, np.float32)),
        )
