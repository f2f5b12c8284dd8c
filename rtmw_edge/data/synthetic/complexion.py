"""Skin, hair and beard: colours of the vertices, and how far the hair stands off the head."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from .body import Body
from .colour import draw_colour, draw_hair
from .identity import Identity
from .layout import Layout
from .mesh import FloatArray
from .seeds import pick

_STYLES = {
    "woman": {"bald": 0.03, "short": 0.17, "full": 0.28, "long": 0.52},
    "man": {"bald": 0.12, "short": 0.6, "full": 0.23, "long": 0.05},
}
_VOLUME = {"bald": (0, 0), "short": (0.002, 0.012), "full": (0.012, 0.035), "long": (0.004, 0.012)}


@dataclass(frozen=True)
class Complexion:
    """Colours (V,3) of skin and hair, how far the hair stands off (V,), where long hair is shown, brow colour."""

    colours: FloatArray
    offset: FloatArray
    long_hair: FloatArray | None
    brow: FloatArray


@numba.njit(cache=True)
def lay_on(colours: FloatArray, ids: NDArray[np.int64], amount: FloatArray, colour: FloatArray) -> None:
    """Turn the colours (V,3) of the vertices `ids` (I,) into `colour` (3,) by `amount` (I,) 0..1, in place."""
    for i in range(ids.shape[0]):
        for k in range(3):
            colours[ids[i], k] += amount[i] * (colour[k] - colours[ids[i], k])


@numba.njit(cache=True)
def _dim(colours: FloatArray, share: FloatArray) -> None:
    """Multiply the colours (V,3) by `share` (V,), in place."""
    for i in range(colours.shape[0]):
        for k in range(3):
            colours[i, k] *= share[i]


def draw_complexion(
    body: Body, layout: Layout, identity: Identity, skin: FloatArray, rng: np.random.Generator
) -> Complexion:
    """The look of one person's skin, lips, nails, hair and beard."""
    start = int(rng.integers(body.vertex_count))
    speckle = layout.speckle[start : start + body.vertex_count]
    colours = np.tile(skin, (body.vertex_count, 1))

    lips: FloatArray = skin * np.array([0.72, 0.66, 0.92], np.float32) * np.float32(rng.uniform(0.85, 1.05))
    if identity.female and rng.random() < 0.4:
        lips = np.array([60, 50, rng.uniform(120, 210)], np.float32)
    lay_on(colours, layout.lips.ids, layout.lips.amount, lips)
    nails = draw_colour(rng, 60) if identity.female and rng.random() < 0.25 else skin * np.float32(1.15)
    lay_on(colours, layout.nails.ids, layout.nails.amount, nails)
    lay_on(colours, layout.mouth.ids, layout.mouth.amount, np.array([30, 25, 70], np.float32))
    lay_on(colours, layout.eyelids.ids, layout.eyelids.amount, skin * 0.7)
    colours[layout.teeth] = (190, 205, 210)
    colours[layout.tongue] = (90, 90, 170)
    # Tan, blood and dirt: large soft patches, which differ in strength and sign from person to person.
    patches = layout.patches @ rng.normal(0, 0.035, 3).astype(np.float32)
    _dim(colours, 1 + 0.03 * speckle + patches)

    hair = draw_hair(rng)
    style = pick(rng, _STYLES["woman" if identity.female else "man"])
    head, speckle = layout.head, speckle[layout.head]
    offset = np.zeros(body.vertex_count, np.float32)
    if style != "bald":
        covered = np.clip(layout.scalp / 0.012 + 0.5 + 0.4 * speckle, 0, 1)
        lay_on(colours, head, covered, hair)
        colours[head[covered > 0.5]] *= (1 + 0.15 * speckle[covered > 0.5])[:, None]
        volume = np.float32(rng.uniform(*_VOLUME[style]))
        offset[head] = volume * np.clip(layout.scalp / 0.03, 0, 1) * (1 + 0.12 * speckle)
    if not identity.female and identity.age > 0.6 and rng.random() < 0.4:
        stubble = np.clip(layout.beard / 0.01 + 0.3 * speckle, 0, 1)
        lay_on(colours, head, stubble * layout.shaven * np.float32(rng.uniform(0.3, 0.95)), hair * 0.9)
    long_hair = None
    if style == "long":
        strands = 1 + 0.18 * np.sin(layout.canonical[layout.hair, 0] * 300 + rng.uniform(0, 6))
        colours[layout.hair] = hair * strands[:, None]
        long_hair = _long_hair(layout, rng)
    return Complexion(colours, offset, long_hair, hair * np.float32(0.7))


def _long_hair(layout: Layout, rng: np.random.Generator) -> FloatArray:
    """Where the hair mesh is shown: beside and behind the face, down to a drawn length."""
    x, y, z = layout.canonical[layout.hair].T
    above = z - layout.eye_height
    beside = np.where(np.abs(x) < 0.062, y + 0.075, 1.0)
    shown = np.where(above > 0.06, 1.0, beside)
    return np.minimum(shown, above + rng.uniform(0.12, 0.5)).astype(np.float32)
