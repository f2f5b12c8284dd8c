"""Fields on the mesh that clothes, hair and colours are drawn along, measured once on an average adult at rest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from .body import Body, RestBodies, load_body
from .garment import ANKLE_HEIGHT
from .identity import average_adult
from .keypoint_table import FACE, KeypointTable
from .mesh import FloatArray, vertex_normals
from .surface import CLOTH, DRAPERY, LEFT_EYE, PAINTED, RIGHT_EYE, SKIN, WRINKLES

SKIN_PARTS = ("body", "helper-l-eye", "helper-r-eye", "helper-tongue", "helper-upper-teeth", "helper-lower-teeth")
GARMENT, SKIRT, HAIR = "helper-tights", "helper-skirt", "helper-hair"
_KINDS = dict(zip(SKIN_PARTS, (SKIN, LEFT_EYE, RIGHT_EYE, PAINTED, PAINTED, PAINTED), strict=True))
_KINDS |= {GARMENT: CLOTH, SKIRT: DRAPERY, HAIR: PAINTED}


@dataclass(frozen=True)
class Patch:
    """Some vertices, and how thickly a colour is laid on each."""

    ids: NDArray[np.int64]
    amount: FloatArray

    @classmethod
    def of(cls, mask: FloatArray) -> Patch:
        """Where a mask (V,) is not 0."""
        ids = np.flatnonzero(mask)
        return cls(ids, mask[ids])


@dataclass(frozen=True)
class Layout:
    """Per-vertex fields (V,) of the average adult; heights in metres, positions along limbs in 0..1."""

    canonical: FloatArray
    """Vertices (V,3) at rest."""
    normals: FloatArray
    """Unit normals (V,3) at rest."""
    arm: FloatArray
    """Weight of arm and hand bones."""
    along_arm: FloatArray
    """0 at the shoulder, 1 at the wrist."""
    along_leg: FloatArray
    """0 at the hip, 1 at the ankle; negative above."""
    head: NDArray[np.int64]
    """The vertices (H,) of head and neck."""
    scalp: FloatArray
    """For each vertex of `head`, its height over the hair line; -1 on the ears."""
    beard: FloatArray
    """For each vertex of `head`, positive where a beard grows; -1 behind the jaw and below it."""
    shaven: FloatArray
    """For each vertex of `head`, 1 but on the lips, where no beard grows."""
    lips: Patch
    nails: Patch
    mouth: Patch
    """The inside of the mouth."""
    eyelids: Patch
    teeth: NDArray[np.int64]
    tongue: NDArray[np.int64]
    patches: FloatArray
    """Three smooth fields (V,3) in -1..1."""
    garment: NDArray[np.int64]
    sleeves: NDArray[np.int64]
    """The part of `garment` on the arms."""
    feet: NDArray[np.int64]
    """The part of `garment` that is a shoe."""
    toe_cap: FloatArray
    """For each vertex of `feet`, how far in front it is, 0..1."""
    skirt: NDArray[np.int64]
    hair: NDArray[np.int64]
    skin: NDArray[np.int64]
    covered_by: NDArray[np.int64]
    """For each vertex of `skin`, the garment vertex that lies over it, or -1."""
    neck_height: float
    waist_height: float
    eye_height: float
    speckle: FloatArray
    """(2V,) normal noise: any V of it in a row are one person's."""
    wrinkles: FloatArray
    """Slopes (S,S,2) of folded cloth, a tiling texture."""
    brow: FloatArray
    """The five points (5,3) of the left brow."""
    eyes: FloatArray
    """Centres (2,3) of the left and the right eyeball."""


@dataclass(frozen=True)
class Figure:
    """What all people share: the body, its layout and its keypoints."""

    body: Body
    layout: Layout
    keypoints: KeypointTable
    triangles: NDArray[np.int32]
    """(T,3) of everything that can be worn and shown at once."""
    kinds: NDArray[np.uint8]
    """(T,) their kinds, see surface.py."""
    height: float
    """Distance from head to foot bone of the average adult, metres."""


@lru_cache(maxsize=1)
def load_figure() -> Figure:
    """The one figure of this process."""
    body = load_body()
    rest = body.rest(average_adult(body))
    table = KeypointTable(body, rest)
    height = np.linalg.norm(rest.heads[0, body.bone["head"]] - rest.heads[0, body.bone["foot.L"]])
    triangles = np.concatenate([body.part[name] for name in _KINDS])
    kinds = np.concatenate([np.full(len(body.part[name]), kind, np.uint8) for name, kind in _KINDS.items()])
    return Figure(body, _measure(body, rest, table), table, triangles, kinds, float(height))


def _measure(body: Body, rest: RestBodies, table: KeypointTable) -> Layout:
    v, heads, masks = np.ascontiguousarray(rest.vertices[0]), rest.heads[0], body.masks
    head_of = {name: heads[i] for name, i in body.bone.items()}
    arms = [
        _along([head_of[f"{name}.{side}"] for name in ("upperarm01", "lowerarm01", "wrist")], v) for side in ("L", "R")
    ]
    hip, foot = head_of["upperleg01.L"][2], head_of["foot.L"][2]
    eye_height = float(head_of["eye.L"][2])
    head = np.flatnonzero(body.region("head", "neck", "eye") > 0.5)
    relative = v[head] - np.array([0, 0, eye_height], np.float32)
    hair_line = np.interp(
        relative[:, 1], [-0.14, -0.10, -0.06, -0.03, 0, 0.05], [0.075, 0.07, 0.045, -0.005, -0.05, -0.075]
    )
    scalp = np.where(masks["ears"][head] <= 0.3, relative[:, 2] - hair_line, -1)
    beard_line = np.interp(relative[:, 1], [-0.2, -0.15, -0.10, -0.05, -0.03], [-0.045, -0.045, -0.055, -0.02, -0.01])
    jaw = (relative[:, 1] < -0.02) & (relative[:, 2] > -0.135)
    skin, garment = body.part_vertices("body"), body.part_vertices(GARMENT)
    arm = body.region("upperarm", "lowerarm", "wrist", "finger", "metac").astype(np.float32)
    feet = garment[v[garment, 2] < ANKLE_HEIGHT]
    eyes = [v[body.part_vertices(part)].mean(0) for part in ("helper-l-eye", "helper-r-eye")]
    return Layout(
        canonical=v,
        normals=vertex_normals(v, np.concatenate([body.part[part] for part in (*SKIN_PARTS, GARMENT, SKIRT, HAIR)])),
        arm=arm,
        along_arm=np.where(v[:, 0] > 0, *arms).astype(np.float32),
        along_leg=((hip - v[:, 2]) / (hip - foot)).astype(np.float32),
        head=head,
        scalp=scalp.astype(np.float32),
        beard=np.where(jaw, beard_line - relative[:, 2], -1).astype(np.float32),
        shaven=1 - masks["lips"][head],
        lips=Patch.of(masks["lips"] * 0.8),
        nails=Patch.of((masks["fingernails"] + masks["toenails"]) * 0.5),
        mouth=Patch.of(masks["inside_mouth"] * (1 - masks["lips"]) * 0.8),
        eyelids=Patch.of(masks["eyelids"] * 0.25),
        teeth=np.concatenate([body.part_vertices(f"helper-{row}-teeth") for row in ("upper", "lower")]),
        tongue=body.part_vertices("helper-tongue"),
        patches=np.sin(v @ np.array([[23, 7, -31], [29, -13, 11], [5, 17, 37]], np.float32)),
        garment=garment,
        sleeves=garment[arm[garment] > 0.5],
        feet=feet,
        toe_cap=np.clip((v[feet, 1].min() + 0.06 - v[feet, 1]) / 0.06, 0, 1),
        skirt=body.part_vertices(SKIRT),
        hair=body.part_vertices(HAIR),
        skin=skin,
        covered_by=_nearest(v[skin], v[garment], 0.04, garment),
        neck_height=float(head_of["neck01"][2]),
        waist_height=float(head_of["spine03"][2] + head_of["spine04"][2]) / 2,
        eye_height=eye_height,
        speckle=np.random.default_rng(1).standard_normal(2 * len(v), dtype=np.float32),
        wrinkles=_wrinkles(),
        brow=table(v, heads)[FACE + 22 : FACE + 27],
        eyes=np.stack(eyes).astype(np.float32),
    )


def _along(chain: list[FloatArray], points: FloatArray) -> NDArray[np.float64]:
    """Position 0..1 along a chain of joints of the place nearest to each point, (V,)."""
    joints = np.stack(chain)
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(joints, axis=0), axis=1))]
    nearest, out = np.full(len(points), np.inf), np.zeros(len(points))
    for i, (start, end) in enumerate(pairwise(joints)):
        step = end - start
        t = np.clip((points - start) @ step / (step @ step), 0, 1)
        distance = np.linalg.norm(points - start - t[:, None] * step, axis=1)
        closer = distance < nearest
        nearest[closer] = distance[closer]
        out[closer] = ((length[i] + t * (length[i + 1] - length[i])) / length[-1])[closer]
    return out


def _nearest(points: FloatArray, others: FloatArray, within: float, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each point (P,3) the id of the nearest of `others` (Q,3) that is less than `within` away, else -1."""
    out = np.empty(len(points), np.int64)
    squares = (others**2).sum(1)
    for start in range(0, len(points), 2048):
        chunk = points[start : start + 2048]
        distance = (chunk**2).sum(1)[:, None] - 2 * chunk @ others.T + squares
        best = distance.argmin(1)
        near = distance[np.arange(len(chunk)), best] < within**2
        out[start : start + 2048] = np.where(near, ids[best], -1)
    return out


def _wrinkles() -> FloatArray:
    """Slopes of a height map of folds: ridges of noise, in three sizes, that tile."""
    rng, side = np.random.default_rng(0), WRINKLES
    height = np.zeros((side, side), np.float32)
    for cells, amplitude in ((5, 1.0), (11, 0.5), (26, 0.22)):
        grid = rng.random((cells, cells), dtype=np.float32)
        smooth = cv2.resize(np.tile(grid, (3, 3)), (3 * side, 3 * side), interpolation=cv2.INTER_CUBIC)
        smooth = smooth[side : 2 * side, side : 2 * side]
        height += np.float32(amplitude / cells) * (1 - 2 * np.abs(smooth - np.float32(0.5)))
    slopes = [(np.roll(height, -1, axis) - np.roll(height, 1, axis)) * (side / 2) for axis in (1, 0)]
    return np.stack(slopes, -1).astype(np.float32)
