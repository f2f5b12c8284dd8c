"""The body model: a mesh with phenotype, local and facial blend shapes and a skeleton (numpy and numba only).

The data is `assets/body.npz`; tools/build_body_asset.py made it from the CC0 MakeHuman mesh (see assets/NOTICE).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .mesh import FloatArray, add_at, bone_transforms, skin

ASSET = Path(__file__).parent / "assets" / "body.npz"
_RACES = ("african", "asian", "caucasian")
_ANCHORED = ("gender", "age", "muscle", "weight", "height", "proportions", "cupsize", "firmness")


@dataclass(frozen=True)
class RestBodies:
    """Bodies at rest: vertices (N,V,3), bone heads (N,B,3) and finger tips (N,10,3), metres."""

    vertices: FloatArray
    heads: FloatArray
    tips: FloatArray


class Body:
    """The mesh, its blend shapes and its skeleton. V vertices, B bones, T triangles; loaded once and never changed."""

    def __init__(self) -> None:
        with np.load(ASSET, allow_pickle=False) as archive:
            data = {name: archive[name] for name in archive.files}
        self.base_ids: NDArray[np.int32] = data["base_ids"]
        self.mirror = data["mirror"].astype(np.int64)
        self.triangles = data["triangles"].astype(np.int32)
        parts = [str(name) for name in data["part_names"]]
        self.part = {name: self.triangles[data["triangle_part"] == i] for i, name in enumerate(parts)}
        self.bones = [str(name) for name in data["bone_names"]]
        self.bone = {name: i for i, name in enumerate(self.bones)}
        self.parents = data["bone_parents"].astype(np.int32)
        self.tip = {str(name): i for i, name in enumerate(data["tip_names"])}
        weights = data["skin_weights"].astype(np.float32)
        self.skin_weights: FloatArray = weights / weights.sum(1, keepdims=True)
        self.skin_bones = data["skin_bones"].astype(np.int32)
        self.masks: dict[str, FloatArray] = {
            name[5:]: array.astype(np.float32) for name, array in data.items() if name.startswith("mask_")
        }
        self.facial_ids = data["facial_ids"].astype(np.int64)
        self.facial_basis = data["facial_basis"].astype(np.float32)
        self.facial = {str(name): i for i, name in enumerate(data["facial_names"])}
        self.phenotypes = [str(name) for name in data["phenotype_names"]]
        self.local_components = len(data["local_basis"])
        self._template = data["template"]
        self._basis = np.concatenate([data["phenotype_basis"], data["local_basis"]]).astype(np.float32)
        self._basis = self._basis.reshape(len(self._basis), -1)
        self._anchors = {name: data[f"anchor_{name}"].astype(np.float64) for name in _ANCHORED}
        self._phenotype_factors = _chosen(data["phenotype_mask"])
        self._phenotype_mean = data["phenotype_mean"]
        self._phenotype_projection = data["phenotype_projection"]

    @property
    def vertex_count(self) -> int:
        return len(self.base_ids)

    def phenotype_components(self, phenotypes: NDArray[np.float64]) -> FloatArray:
        """Blend shape components (N,R) of phenotypes (N,11) in 0..1, columns as in `self.phenotypes`.

        A base shape exists for every combination of anchors (old, heavy, muscular...); its weight is the product of
        the interpolation weights of the anchors that it combines.
        """
        columns = {name: phenotypes[:, i] for i, name in enumerate(self.phenotypes)}
        race = np.stack([columns[name] for name in _RACES], 1)
        factors = [race / race.sum(1, keepdims=True)]
        factors += [_hat_weights(columns[name], self._anchors[name]) for name in _ANCHORED]
        stacked = np.concatenate([*factors, np.ones((len(phenotypes), 1))], 1)
        coefficients = np.prod(stacked[:, self._phenotype_factors], -1)
        return ((coefficients - self._phenotype_mean) @ self._phenotype_projection).astype(np.float32)

    def rest(self, components: FloatArray) -> RestBodies:
        """Bodies at rest from components (N, R + local), the local ones of unit variance."""
        points = (self._template.reshape(1, -1) + components @ self._basis).reshape(len(components), -1, 3)
        v, b = self.vertex_count, len(self.bones)
        return RestBodies(points[:, :v], points[:, v : v + b], points[:, v + b :])

    def with_expression(self, vertices: FloatArray, actions: FloatArray) -> FloatArray:
        """Rest vertices (V,3) with facial actions (52,) in 0..1, in the order of `self.facial`."""
        out = vertices.copy()
        active = np.flatnonzero(actions)
        if len(active):
            moves = np.tensordot(actions[active].astype(np.float32), self.facial_basis[active], 1)
            add_at(out, self.facial_ids, moves)
        return out

    def transforms(
        self, heads: NDArray[np.float64], rotations: NDArray[np.float64], root: NDArray[np.float64]
    ) -> FloatArray:
        """World transforms (B,3,4) of the bones for rotations (B,3,3) about their heads (B,3) and a root (3,4)."""
        return bone_transforms(heads, rotations, self.parents, root)

    def skinned(self, vertices: FloatArray, transforms: FloatArray) -> FloatArray:
        """Posed vertices (V,3)."""
        return skin(vertices, self.skin_weights, self.skin_bones, transforms)

    def region(self, *prefixes: str) -> FloatArray:
        """How much of each vertex (V,) hangs on the bones whose names start with one of `prefixes`, 0..1."""
        chosen = [i for i, name in enumerate(self.bones) if name.startswith(prefixes)]
        return (self.skin_weights * np.isin(self.skin_bones, chosen)).sum(1)

    def part_vertices(self, part: str) -> NDArray[np.int64]:
        """Sorted ids of the vertices that the triangles of a part use."""
        return np.unique(self.part[part]).astype(np.int64)


@lru_cache(maxsize=1)
def load_body() -> Body:
    """The one body of this process (some 40 MB); shared, because nothing changes it."""
    return Body()


def _chosen(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The columns that each row of a mask (M,F) chooses, (M,K) in their order; short rows are filled up with F."""
    columns = np.where(mask > 0, np.arange(mask.shape[1]), mask.shape[1])
    return np.sort(columns, 1)[:, : int(mask.sum(1).max())]


def _hat_weights(values: NDArray[np.float64], anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation weights (N,A) of values (N,) between anchors (A,)."""
    values = np.clip(values, anchors[0], anchors[-1])
    left = np.clip(np.searchsorted(anchors, values, side="right") - 1, 0, len(anchors) - 2)
    t = (values - anchors[left]) / (anchors[left + 1] - anchors[left])
    weights = np.zeros((len(values), len(anchors)))
    rows = np.arange(len(values))
    weights[rows, left], weights[rows, left + 1] = 1 - t, t
    return weights
