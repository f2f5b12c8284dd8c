"""Skin, hair and beard: colours of the vertices, and how far the hair stands off the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import Body, FloatArray
from .colour import draw_colour, draw_hair
from .identity import Identity
from .layout import Layout
from .pose import pick

_STYLES = {
    "woman": {"bald": 0.03, "short": 0.17, "full": 0.28, "long": 0.52},
    "man": {"bald": 0.12, "short": 0.6, "full": 0.23, "long": 0.05},
}
_VOLUME = {"bald": (0, 0), "short": (0.002, 0.012), "full": (0.012, 0.035), "long": (0.004, 0.012)}


@dataclass(frozen=True)
class Complexion:
    """Colours (V,3) of skin and hair, how far the hair stands off (V,), where long hair is shown (V,), brow colour."""

    colours: FloatArray
    offset: FloatArray
    long_hair: FloatArray | None
    brow: FloatArray


def draw_complexion(
    body: Body, layout: Layout, identity: Identity, skin: FloatArray, rng: np.random.Generator
) -> Complexion:
    """The look of one person's skin, lips, nails, hair and beard."""
    start = int(rng.integers(body.vertex_count))
    speckle = layout.speckle[start : start + body.vertex_count]
    colours = np.tile(skin, (body.vertex_count, 1))
    masks = body.masks

    def blend(amount: FloatArray, colour: FloatArray) -> None:
        where = np.flatnonzero(amount)
        colours[where] += amount[where, None] * (colour - colours[where])

    lips: FloatArray = skin * np.array([0.72, 0.66, 0.92], np.float32) * np.float32(rng.uniform(0.85, 1.05))
    if identity.female and rng.random() < 0.4:
        lips = np.array([60, 50, rng.uniform(120, 210)], np.float32)
    blend(masks["lips"] * 0.8, lips)
    nails = draw_colour(rng, 60) if identity.female and rng.random() < 0.25 else skin * np.float32(1.15)
    blend((masks["fingernails"] + masks["toenails"]) * 0.5, nails)
    blend(masks["inside_mouth"] * (1 - masks["lips"]) * 0.8, np.array([30, 25, 70], np.float32))
    blend(masks["eyelids"] * 0.25, skin * 0.7)
    for part, colour in (
        ("helper-upper-teeth", (190, 205, 210)),
        ("helper-lower-teeth", (190, 205, 210)),
        ("helper-tongue", (90, 90, 170)),
    ):
        colours[body.part_vertices(part)] = colour
    # Tan, blood and dirt: large soft patches, which differ in strength and sign from person to person.
    patches = layout.patches @ rng.normal(0, 0.035, 3).astype(np.float32)
    colours *= (1 + 0.03 * speckle + patches)[:, None]

    hair = draw_hair(rng)
    style = pick(rng, _STYLES["woman" if identity.female else "man"])
    offset = np.zeros(body.vertex_count, np.float32)
    if style != "bald":
        covered = np.clip(layout.scalp / 0.012 + 0.5 + 0.4 * speckle * (layout.scalp > -0.5), 0, 1)
        blend(covered, hair)
        colours[covered > 0.5] *= (1 + 0.15 * speckle[covered > 0.5])[:, None]
        offset += np.float32(rng.uniform(*_VOLUME[style])) * np.clip(layout.scalp / 0.03, 0, 1) * (1 + 0.12 * speckle)
    if not identity.female and identity.age > 0.6 and rng.random() < 0.4:
        stubble = np.clip(layout.beard / 0.01 + 0.3 * speckle * (layout.beard > -0.5), 0, 1)
        blend(stubble * (1 - masks["lips"]) * np.float32(rng.uniform(0.3, 0.95)), hair * 0.9)
    long_hair = None
    if style == "long":
        strands = 1 + 0.18 * np.sin(layout.canonical[layout.hair, 0] * 300 + rng.uniform(0, 6))
        colours[layout.hair] = hair * strands[:, None]
        long_hair = _long_hair(layout, rng)
    return Complexion(colours.astype(np.float32), offset, long_hair, hair * np.float32(0.7))


def _long_hair(layout: Layout, rng: np.random.Generator) -> FloatArray:
    """Where the hair mesh is shown: beside and behind the face, down to a drawn length."""
    x, y, z = layout.canonical[layout.hair].T
    above = z - layout.eye_height
    beside = np.where(np.abs(x) < 0.062, y + 0.075, 1.0)
    shown = np.where(above > 0.06, 1.0, beside)
    return np.minimum(shown, above + rng.uniform(0.12, 0.5)).astype(np.float32)
