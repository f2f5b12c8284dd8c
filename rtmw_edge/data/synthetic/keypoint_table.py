"""Where the 133 COCO-WholeBody keypoints lie on the body: bone heads, finger tips and averages of mesh vertices.

Vertex ids are those of the MakeHuman base mesh (hm08). Only the person's right half of the face is listed; the left
half follows from the mesh's mirror. Chosen by eye on neutral, open-mouthed, blinking and puckering faces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...keypoints import FLIP, NUM_KEYPOINTS, PARTS
from .body import Body, RestBodies

FACE = PARTS["face"].start  # the 68 are in iBUG order
LEFT_HAND, RIGHT_HAND = PARTS["left_hand"].start, PARTS["right_hand"].start
TOES_AND_HEELS = range(17, 23)

_FACE_VERTICES: dict[int, dict[int, float]] = {
    17: {255: 0.6, 225: 0.4},
    18: {206: 0.6, 224: 0.4},
    19: {204: 0.6, 222: 0.4},
    20: {205: 0.65, 223: 0.35},
    21: {208: 0.5, 228: 0.25, 209: 0.25},
    27: {132: 1},
    28: {135: 0.5, 131: 0.5},
    29: {164: 1},
    30: {5134: 1},
    31: {288: 0.5, 286: 0.5},
    32: {285: 0.5, 314: 0.5},
    33: {343: 1},
    36: {21: 1},
    37: {4848: 1},
    38: {4865: 0.5, 4866: 0.5},
    39: {4869: 1},
    40: {47: 0.5, 50: 0.5},
    41: {41: 1},
    48: {425: 1},
    49: {5354: 1},
    50: {450: 1},
    51: {455: 1},
    57: {492: 1},
    58: {486: 0.6, 480: 0.4},
    59: {480: 0.4, 406: 0.6},
    60: {431: 1},
    61: {515: 1},
    62: {520: 1},
    66: {540: 1},
    67: {535: 1},
}
# The jaw from the right ear to the chin, a chain of vertices on which points 0 to 8 are equally spaced.
_JAW = [5402, 5411, 859, 5097, 869, 912, 895, 5240, 737, 915, 5297, 5295, 5294, 5293, 5221, 5220, 5225]
# iBUG point on the person's left: the point on the right that it mirrors.
_FACE_MIRROR = {k: int(FLIP[FACE + k]) - FACE for k in range(9, 68) if k not in _FACE_VERTICES}
_BODY_BONES = {
    5: "upperarm01",
    7: "lowerarm01",
    9: "wrist",
    11: "upperleg01",
    13: "lowerleg01",
    15: "foot",
}  # of the person's left; the right one has the next id

# How far (metres, for an adult) the visible surface may lie from a keypoint that counts as seen: joints lie inside.
_SEEN_WITHIN = np.full(NUM_KEYPOINTS, 0.022)
_SEEN_WITHIN[0:5] = (0.02, 0.025, 0.025, 0.045, 0.045)
_SEEN_WITHIN[5:17] = np.repeat((0.13, 0.085, 0.065, 0.19, 0.11, 0.085), 2)
_SEEN_WITHIN[17:23] = 0.05
_SEEN_WITHIN[40:91] = 0.02
_SEEN_WITHIN[[LEFT_HAND, RIGHT_HAND]] = 0.06

VertexWeights = dict[int, float]


@dataclass(frozen=True)
class _Average:
    """Weighted averages of mesh points, in compressed rows."""

    ids: NDArray[np.int64]
    points: NDArray[np.int64]
    weights: NDArray[np.float32]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, table: dict[int, VertexWeights]) -> _Average:
        rows = [table[k] for k in sorted(table)]
        return cls(
            np.array(sorted(table)),
            np.array([i for row in rows for i in row]),
            np.array([w / sum(row.values()) for row in rows for w in row.values()], np.float32)[:, None],
            np.r_[0, np.cumsum([len(row) for row in rows])[:-1]],
        )

    def __call__(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.add.reduceat(points[self.points] * self.weights, self.starts, 0)


class KeypointTable:
    """Reads the keypoints off a posed body. `canonical` is one average adult at rest."""

    def __init__(self, body: Body, canonical: RestBodies) -> None:
        self.seen_within = _SEEN_WITHIN.astype(np.float32)
        vertices = canonical.vertices[0]
        skin = _face(body, vertices)
        skin[0] = dict(skin[FACE + 30])
        skin[1] = _mean_of(skin[FACE + i] for i in range(42, 48))
        skin[2] = _mean_of(skin[FACE + i] for i in range(36, 42))
        ears = np.flatnonzero(body.masks["ears"] > 0.5)
        for keypoint, sign in ((3, 1), (4, -1)):
            skin[keypoint] = _even(ears[vertices[ears, 0] * sign > 0])
        for side, first in (("L", 17), ("R", 20)):
            skin.update(_foot(body, vertices, side, first))
        self._heads: dict[int, int] = {}
        for side, offset, hand in (("L", 0, LEFT_HAND), ("R", 1, RIGHT_HAND)):
            for keypoint, name in _BODY_BONES.items():
                self._heads[keypoint + offset] = body.bone[f"{name}.{side}"]
            self._heads[hand] = body.bone[f"wrist.{side}"]
            for finger in range(1, 6):
                for joint in range(3):
                    self._heads[hand + 4 * finger - 3 + joint] = body.bone[f"finger{finger}-{joint + 1}.{side}"]
                tip = _fingertip(body, canonical, finger, side)
                skin[hand + 4 * finger] = tip
        self._skin = _Average.of(skin)
        self._head_ids = np.array(sorted(self._heads))
        self._head_bones = np.array([self._heads[k] for k in sorted(self._heads)])
        self._shoe = _Average.of({k: _shoe(body, vertices, skin[k]) for k in TOES_AND_HEELS})

    def __call__(
        self, vertices: NDArray[np.float32], heads: NDArray[np.float32], shod: bool = False
    ) -> NDArray[np.float32]:
        """Keypoints (133,3) of a posed body: vertices (V,3), bone heads (B,3). `shod`: toes and heels on the shoe."""
        out = np.empty((NUM_KEYPOINTS, 3), np.float32)
        out[self._skin.ids] = self._skin(vertices)
        out[self._head_ids] = heads[self._head_bones]
        if shod:
            out[self._shoe.ids] = self._shoe(vertices)
        return out


def _even(vertices: NDArray[np.int64]) -> VertexWeights:
    return {int(i): 1 / len(vertices) for i in vertices}


def _mean_of(rows: Iterable[VertexWeights]) -> VertexWeights:
    out: VertexWeights = {}
    for row in rows:
        for vertex, weight in row.items():
            out[vertex] = out.get(vertex, 0) + weight
    return out


def _face(body: Body, vertices: NDArray[np.float32]) -> dict[int, VertexWeights]:
    compact = {int(base): i for i, base in enumerate(body.base_ids)}
    table = {FACE + k: {compact[i]: w for i, w in row.items()} for k, row in _FACE_VERTICES.items()}
    jaw = np.array([compact[i] for i in _JAW])
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(vertices[jaw], axis=0), axis=1))]
    for k in range(9):
        at = length[-1] * k / 8
        j = min(int(np.searchsorted(length, at, side="right")) - 1, len(jaw) - 2)
        t = float((at - length[j]) / (length[j + 1] - length[j]))
        table[FACE + k] = {int(jaw[j]): 1 - t, int(jaw[j + 1]): t}
    for left, right in _FACE_MIRROR.items():
        table[FACE + left] = {int(body.mirror[i]): w for i, w in table[FACE + right].items()}
    return table


def _foot(body: Body, vertices: NDArray[np.float32], side: str, first: int) -> dict[int, VertexWeights]:
    """Big toe, small toe (the six foremost vertices of the toe) and heel (the six rearmost near the ground)."""
    on_skin = np.zeros(len(vertices), bool)
    on_skin[body.part_vertices("body")] = True
    table = {}
    for offset, bone in ((0, f"toe1-2.{side}"), (1, f"toe5-3.{side}")):
        toe = np.flatnonzero((body.region(bone) > 0.6) & on_skin)
        table[first + offset] = _even(toe[np.argsort(vertices[toe, 1])[:6]])
    ground = vertices[:, 2] < vertices[on_skin, 2].min() + 0.05
    heel = np.flatnonzero((body.region(f"foot.{side}") > 0.6) & on_skin & ground)
    table[first + 2] = _even(heel[np.argsort(-vertices[heel, 1])[:6]])
    return table


def _shoe(body: Body, vertices: NDArray[np.float32], skin: VertexWeights) -> VertexWeights:
    """The point of the garment mesh nearest to a toe or heel: a shoe is that mesh, pushed out."""
    point = sum(w * vertices[i] for i, w in skin.items()) / sum(skin.values())
    steps = [(i / 8, j / 8, (8 - i - j) / 8) for i in range(9) for j in range(9 - i)]
    weights = np.array(steps, np.float32)
    triangles = body.part["helper-tights"]
    places = np.einsum("sk,tkd->tsd", weights, vertices[triangles])
    triangle, step = divmod(int(np.linalg.norm(places - point, axis=2).argmin()), len(steps))
    return {int(v): float(w) for v, w in zip(triangles[triangle], weights[step], strict=True) if w > 0}


def _fingertip(body: Body, canonical: RestBodies, finger: int, side: str) -> VertexWeights:
    """The average of the last 5 mm of a finger: inside it, two or three millimetres from its end.

    The rig's own tip markers are no use: some lie outside the finger.
    """
    vertices = canonical.vertices[0]
    last, before = (canonical.heads[0, body.bone[f"finger{finger}-{k}.{side}"]] for k in (3, 2))
    own = np.flatnonzero(body.region(f"finger{finger}-3.{side}") > 0.6)
    own = own[np.isin(own, body.part_vertices("body"))]
    direction = (last - before) / np.linalg.norm(last - before)
    reach = (vertices[own] - last) @ direction
    return _even(own[reach > reach.max() - 0.005])
