"""MPJPE, the mean distance of 3D keypoints from their labels: as they are, and after three kinds of alignment.

Equal to mmpose's keypoint_mpjpe (tests/reference/mpjpe.npz) and to the parts and roots of the H3WB benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..keypoints import NUM_KEYPOINTS, PARTS
from ..simcc import LEFT_HIP, RIGHT_HIP

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

HIPS = (LEFT_HIP, RIGHT_HIP)
NOSE = 0
ROWS: dict[str, tuple[slice, tuple[int, ...]]] = {
    "body": (slice(0, PARTS["foot"].stop), HIPS),
    "face": (PARTS["face"], (NOSE,)),
    "left_hand": (PARTS["left_hand"], (PARTS["left_hand"].start,)),
    "right_hand": (PARTS["right_hand"], (PARTS["right_hand"].start,)),
    "whole": (slice(0, NUM_KEYPOINTS), HIPS),
}
"""Keypoints and root of every part as H3WB counts them: the body has the feet; the face hangs on the nose, a hand on
its wrist."""

HANDS = ("left_hand", "right_hand")
MM = 1000.0
BLOCK = 256
"""Calls of `Mpjpe.add` that are worked off at once, which is many times faster than one by one."""
FEWEST_FITTED = 4
"""Labelled keypoints of a part that a similarity is fitted to; to fewer it fits whatever they are."""


@dataclass(frozen=True)
class JointErrors:
    """Mean distance from the labels in millimetres, over all labelled keypoints of a part; -1 where there is none.

    Attributes:
        plain: in the camera's frame, nothing aligned (mmpose's MPJPE).
        root: the hip middles put together; over the people whose hips are labelled (H3WB's MPJPE).
        part_root: the part's own root put together: the nose for the face, the wrist for a hand (H3WB).
        procrustes: the part moved, turned and scaled to fit its labels best, person by person (PA-MPJPE).
    """

    plain: float
    root: float
    part_root: float
    procrustes: float


COLUMNS = ("plain", "root", "part_root", "procrustes")


@dataclass(frozen=True, eq=False)
class PersonErrors:
    """One row's errors person by person: the image (N,) of each, and per column of `JointErrors` the summed distance in
    metres (N,4) and how many keypoints it sums (N,4)."""

    images: NDArray[np.int64]
    sums: Float
    counts: Float


class Mpjpe:
    """Adds up distances person by person; `result()` gives their means per part so far."""

    def __init__(self) -> None:
        self._blocks: list[dict[str, PersonErrors]] = []
        self._waiting: list[tuple[NDArray[np.floating], NDArray[np.floating], Bool, NDArray[np.int64]]] = []

    def add(self, found: NDArray[np.floating], truth: NDArray[np.floating], labelled: Bool, image: int = 0) -> None:
        """Count N people: `found` and `truth` (N,133,3) in metres in the camera's frame, `labelled` (N,133).

        `image` is what `people` tells them by.
        """
        self._waiting.append((found, truth, labelled, np.full(len(found), image)))
        if len(self._waiting) >= BLOCK:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        found, truth, labelled, images = (np.concatenate(arrays) for arrays in zip(*self._waiting, strict=True))
        self._waiting = []
        known: Float = np.where(labelled[..., None], truth, 0).astype(np.float64)
        offsets = found.astype(np.float64) - known
        block = {}
        for row, (joints, root) in ROWS.items():
            counted: Bool = labelled[:, joints]
            columns = [_sums(offsets[:, joints], counted)]
            for anchor in (HIPS, root):
                away = offsets[:, joints] - offsets[:, anchor].mean(axis=1, keepdims=True)
                columns.append(_sums(away, counted & labelled[:, anchor].all(axis=1, keepdims=True)))
            fits = counted.sum(axis=1) >= FEWEST_FITTED
            fitted = procrustes(found[:, joints].astype(np.float64), known[:, joints], counted)
            columns.append(_sums(fitted - known[:, joints], counted & fits[:, None]))
            sums, counts = (np.stack(arrays, axis=1) for arrays in zip(*columns, strict=True))
            block[row] = PersonErrors(images, sums, counts)
        self._blocks.append(block)

    def people(self, row: str) -> PersonErrors:
        """The errors of "body" (with feet), "face", "left_hand", "right_hand" or "whole", person by person."""
        self._flush()
        nobody = PersonErrors(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros((0, 4)))
        blocks = [nobody, *(block[row] for block in self._blocks)]
        return PersonErrors(
            np.concatenate([block.images for block in blocks]),
            np.concatenate([block.sums for block in blocks]),
            np.concatenate([block.counts for block in blocks]),
        )

    def result(self) -> dict[str, JointErrors]:
        """Errors of "body" (with feet), "face", "left_hand", "right_hand", "hands" (each aligned alone) and "whole"."""
        errors = {row: self.people(row) for row in ROWS}
        rows = {row: (row,) for row in ROWS if row != "whole"} | {"hands": HANDS, "whole": ("whole",)}
        return {
            row: _means(
                np.sum([errors[part].sums.sum(axis=0) for part in parts], axis=0),
                np.sum([errors[part].counts.sum(axis=0) for part in parts], axis=0),
            )
            for row, parts in rows.items()
        }


def procrustes(found: Float, truth: Float, labelled: Bool | None = None) -> Float:
    """`found` (N,K,3) moved, turned and scaled person by person to be nearest to `truth` (N,K,3) in least squares.

    Fitted to the `labelled` (N,K) keypoints, to all when None, and applied to all. Rotations only, no mirror images
    (Umeyama 1991). Where all found points coincide they come to lie on the middle of the labels.
    """
    weights = np.ones(found.shape[:2]) if labelled is None else labelled.astype(np.float64)
    weights = (weights / np.maximum(weights.sum(axis=1, keepdims=True), 1))[..., None]
    middle, target = (np.sum(points * weights, axis=1, keepdims=True) for points in (found, truth))
    source = found - middle
    covariance = np.swapaxes(source * weights, 1, 2) @ (truth - target)
    u, singular, vt = np.linalg.svd(covariance)
    signs = np.ones((len(found), 3))
    signs[:, 2] = np.where(np.linalg.det(u @ vt) < 0, -1, 1)
    rotation = (u * signs[:, None]) @ vt
    spread = np.sum(source**2 * weights, axis=(1, 2))
    scale = np.sum(singular * signs, axis=1) / np.where(spread > 0, spread, 1)
    fitted: Float = scale[:, None, None] * source @ rotation + target
    return fitted


def _sums(offsets: Float, counted: Bool) -> tuple[Float, Float]:
    """Summed length (N,) of the counted ones among `offsets` (N,K,3), and their number (N,)."""
    return np.where(counted, np.linalg.norm(offsets, axis=-1), 0).sum(axis=1), counted.sum(axis=1).astype(np.float64)


def _means(sums: Float, counts: Float) -> JointErrors:
    means = np.where(counts > 0, MM * sums / np.maximum(counts, 1), -1)
    return JointErrors(*(float(mean) for mean in means))
