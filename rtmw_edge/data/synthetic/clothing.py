"""Clothes: the garment mesh cut to a neck line, sleeves, hems and shoes, pushed off the body and given materials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .colour import draw_colour, draw_trousers, unlike
from .garment import cut_garment, hide_skin, stand_off
from .identity import Identity
from .layout import Layout
from .mesh import FloatArray
from .pose import Pose
from .seeds import choose
from .surface import DRAPE, LOWER, SHOES, UPPER

PATTERNS = ("plain", "stripes across", "stripes down", "checks", "blotches", "print", "panels")
_PATTERN_SHARE = {
    UPPER: (0.4, 0.13, 0.06, 0.12, 0.11, 0.1, 0.08),
    LOWER: (0.76, 0.02, 0.04, 0.07, 0.06, 0.0, 0.05),
    SHOES: (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    DRAPE: (0.6, 0.08, 0.06, 0.1, 0.12, 0.0, 0.04),
}

# Metres that a garment stands off: tight, regular, loose, baggy; how often for upper and lower garments.
_LOOSENESS = (0.004, 0.014, 0.032, 0.05)
_LOOSENESS_SHARE = ((0.25, 0.4, 0.25, 0.1), (0.35, 0.45, 0.17, 0.03))


@dataclass(frozen=True)
class Outfit:
    """What one person wears, as fields on the mesh (V vertices)."""

    keep: FloatArray
    """(V,) 0 or more where the surface is shown; the outline is cut where it changes sign."""
    upper: FloatArray
    """(V,) positive on the upper garment, negative on the lower one."""
    offset: FloatArray
    """(V,) metres that the surface is pushed out along its normal, once posed."""
    shoes: FloatArray | None
    """(F,3) metres added at rest to the vertices `Layout.feet`, or None for bare feet."""
    materials: FloatArray
    """(4,2,3) two colours (BGR) of the upper garment, the lower one, the shoes and the drape (skirt or coat tails)."""
    patterns: FloatArray
    """(4,4) kind (index into PATTERNS), frequency, threshold and phase of each material."""
    gloves: FloatArray | None
    """Their colour (3,)."""
    socks: tuple[FloatArray, float] | None
    """Their colour (3,) and how far up the leg they begin, as `Layout.along_leg`."""


@dataclass(frozen=True)
class _Cut:
    """Where the clothes end: positions along arm and leg, as in Layout."""

    sleeve: float
    trousers: float
    drape: float | None
    waist: float
    neck: float
    neck_depth: float
    bare_chest: bool


def draw_outfit(layout: Layout, identity: Identity, pose: Pose, skin: FloatArray, rng: np.random.Generator) -> Outfit:
    """Clothes for one person in one pose; skirts and coat tails only where the legs hang down."""
    cut = _draw_cut(layout, identity, pose, rng)
    shod = rng.random() < 0.85
    keep = _keep(layout, cut, shod)
    upper = (layout.canonical[:, 2] - cut.waist).astype(np.float32)
    upper[layout.sleeves] = 1
    coat = cut.drape is not None and (not identity.female or rng.random() < 0.4)
    materials = _draw_materials(rng, skin, coat)
    return Outfit(
        keep=keep,
        upper=upper,
        offset=_offset(layout, keep, upper, rng),
        shoes=_shoe_shape(layout, rng) if shod else None,
        materials=materials,
        patterns=np.array([_draw_pattern(rng, m) for m in (UPPER, LOWER, SHOES, DRAPE)], np.float32),
        gloves=draw_colour(rng, 8, 200) if rng.random() < (0.5 if "grasp" in pose.hands.values() else 0.07) else None,
        socks=(draw_colour(rng, 15), rng.uniform(0.45, 0.95)) if shod and rng.random() < 0.6 else None,
    )


def _draw_cut(layout: Layout, identity: Identity, pose: Pose, rng: np.random.Generator) -> _Cut:
    uniform = rng.uniform
    sleeve = (-0.05, uniform(0.12, 0.42), uniform(0.5, 0.8), 0.97)[choose(rng, (0.11, 0.38, 0.1, 0.41))]
    trousers = (uniform(0.14, 0.3), uniform(0.32, 0.5), uniform(0.9, 0.98))[choose(rng, (0.12, 0.2, 0.68))]
    drape = None
    if pose.upright and rng.random() < (0.3 if identity.female else 0.12):
        drape = uniform(0.2, 0.95)
    return _Cut(
        sleeve=float(sleeve),
        trousers=float(trousers),
        drape=drape,
        waist=layout.waist_height + uniform(-0.14, 0.02),
        neck=layout.neck_height + uniform(-0.03, 0.03),
        neck_depth=uniform(0, 0.6),
        bare_chest=not identity.female and rng.random() < 0.05,
    )


def _keep(layout: Layout, cut: _Cut, shod: bool) -> FloatArray:
    """The field that cuts the garment, and hides the skin that is well under it."""
    keep = np.ones(len(layout.canonical), np.float32)
    cut_garment(
        layout.garment,
        layout.canonical,
        layout.arm,
        layout.along_arm,
        layout.along_leg,
        np.float32(cut.sleeve),
        np.float32(cut.trousers),
        np.float32(cut.neck),
        np.float32(cut.neck_depth),
        np.float32(cut.waist if cut.bare_chest else np.inf),
        shod,
        keep,
    )
    hide_skin(layout.skin, layout.covered_by, keep)
    keep[layout.skirt] = -1 if cut.drape is None else cut.drape - layout.along_leg[layout.skirt]
    return keep


def _offset(layout: Layout, keep: FloatArray, upper: FloatArray, rng: np.random.Generator) -> FloatArray:
    """How far the clothes stand off the body: from tight to baggy, uneven, and less towards a fitted hem."""
    offset = np.zeros(len(keep), np.float32)
    loose = [_LOOSENESS[choose(rng, share)] for share in _LOOSENESS_SHARE]
    scale, hem = rng.uniform(0.6, 1.2), rng.uniform(0.2, 1)
    phase, frequency = rng.uniform(0, 6, 3), rng.uniform(12, 30, 3)
    looseness = (loose[0] * scale, loose[1] * scale)
    stand_off(layout.garment, layout.canonical, upper, keep, looseness, hem, frequency, phase, offset)
    offset[layout.skirt] = rng.uniform(0, 0.03)
    return offset


def _shoe_shape(layout: Layout, rng: np.random.Generator) -> FloatArray:
    """Upper leather, a sole below and a cap before the toes, on the garment mesh of the feet."""
    normals = layout.normals[layout.feet]
    shape = normals * np.float32(rng.uniform(0.004, 0.012))
    shape[:, 2] -= np.clip(-normals[:, 2], 0, 1) * np.float32(rng.uniform(0.004, 0.028))
    shape[:, 1] -= layout.toe_cap * np.float32(rng.uniform(0, 0.018))
    return shape


def _draw_materials(rng: np.random.Generator, skin: FloatArray, coat: bool) -> FloatArray:
    """Two colours per material; the main ones differ from the wearer's skin, mostly."""
    colours = np.array([[draw_colour(rng, 8, 240), draw_colour(rng)] for _ in range(4)])
    colours[LOWER, 0] = draw_trousers(rng)
    if rng.random() < 0.9:
        for material in (UPPER, LOWER):
            colours[material, 0] = unlike(rng, colours[material, 0], skin)
    if rng.random() < 0.12:  # a uniform, an overall, a dress
        colours[LOWER] = colours[UPPER]
    if rng.random() < 0.5:
        colours[SHOES] *= 0.3
    if coat:
        colours[DRAPE] = colours[UPPER]
    return colours


def _draw_pattern(rng: np.random.Generator, material: int) -> tuple[float, ...]:
    kind = choose(rng, _PATTERN_SHARE[material])
    return kind, rng.uniform(40, 220), rng.uniform(-0.5, 0.7), rng.uniform(0, 6)
