"""Hand poses: flexion of the fifteen finger joints, with a spread and some noise."""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from .body import Body
from .limbs import Skeleton
from .rotations import Vector, axis_angle, cross, dot, product, unit

KINDS = {
    "relaxed": 0.22,
    "open": 0.2,
    "fist": 0.09,
    "point": 0.09,
    "two": 0.05,
    "pinch": 0.07,
    "thumb": 0.05,
    "grip": 0.1,
    "any": 0.13,
}
"""Kinds of hand pose and how often each is drawn."""

# Degrees of flexion of the three joints: thumb, forefinger, middle, ring, little finger.
_CURLED = (78, 95, 57)
_STRAIGHT = (-5, 0, 0)
_FLEXION: dict[str, tuple[tuple[float, float, float], ...]] = {
    "relaxed": ((5, 5, 5), *[(15, 20, 10)] * 4),
    "open": ((-5, -5, -5), *[(-8, -6, -4)] * 4),
    "fist": ((35, 30, 45), *[(80, 95, 60)] * 4),
    "point": ((30, 30, 35), _STRAIGHT, *[_CURLED] * 3),
    "two": ((35, 30, 40), _STRAIGHT, _STRAIGHT, *[_CURLED] * 2),
    "pinch": ((25, 10, 30), (50, 45, 25), *[(20, 25, 10)] * 3),
    "thumb": ((-25, -15, -15), *[(80, 95, 60)] * 4),
    "grip": ((20, 15, 20), *[(45, 60, 35)] * 4),
    "grasp": ((28, 22, 25), *[(62, 78, 45)] * 4),
}


def bend_hand(
    rotations: NDArray[np.float64], skeleton: Skeleton, side: str, kind: str, rng: np.random.Generator
) -> None:
    """Write the finger rotations of one hand ("L" or "R") into `rotations` (B,3,3).

    `kind` is one of KINDS, or "grasp" for a hand around a handle.
    """
    if kind == "any":
        flexion = np.concatenate(
            [
                rng.uniform(-20, 40, (1, 3)),
                rng.uniform((-8, -5, -3), (85, 100, 60), (4, 3)),
            ]
        )
    else:
        flexion = np.array(_FLEXION[kind], np.float64)
        # Real fingers follow each other loosely, and seldom stop at the same angle.
        flexion = flexion + rng.normal(0, 6, (5, 1)) * (flexion != 0)
    flexion = np.deg2rad(flexion) * rng.uniform(0.8, 1.1) + rng.normal(0, 0.06, (5, 3))
    spread = rng.uniform(0, 0.25) if kind == "open" else 0.2 if kind == "two" else rng.uniform(-0.08, 0.15)
    outward = 1.0 if side == "L" else -1.0

    fans = outward * spread * (np.array([2, 3, 4, 5]) - 3.4) * 0.5 + rng.normal(0, 0.02, 4)
    bones, ends = _fingers(skeleton.body, side)
    joints = np.concatenate([skeleton.heads[bones], skeleton.tips[ends][:, None]], 1)
    rotations[bones] = bent_fingers(joints, skeleton[f"wrist.{side}"], flexion, fans)


@lru_cache(maxsize=2)
def _fingers(body: Body, side: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids of the bones (5,3) and of the tips (5,) of one hand, from the thumb on."""
    bones = [[body.bone[f"finger{finger}-{k}.{side}"] for k in (1, 2, 3)] for finger in range(1, 6)]
    return np.array(bones), np.array([body.tip[f"tip{finger}.{side}"] for finger in range(1, 6)])


@numba.njit(cache=True)
def bent_fingers(
    joints: NDArray[np.float64], wrist: Vector, flexion: NDArray[np.float64], fans: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rotations (5,3,3,3) of the finger joints.

    joints (5,4,3): the three joints and the tip of thumb to little finger at rest; wrist (3,); flexion (5,3) of each
    joint and fans (4,) of each finger but the thumb to the side, radians.
    """
    palm = cross(joints[1, 0] - wrist, joints[4, 0] - wrist)
    # Fingers are slightly curled at rest, which tells the side of the palm.
    curl = np.zeros(3)
    for finger in range(1, 5):
        curl += (joints[finger, 3] - joints[finger, 2]) - (joints[finger, 1] - joints[finger, 0])
    palm = unit(palm) * np.sign(dot(palm, curl))
    opposite = joints[3, 0] + palm * 0.04  # the thumb bends towards the base of the ring finger
    out = np.empty((5, 3, 3, 3))
    for finger in range(5):
        for k in range(3):
            along = unit(joints[finger, k + 1] - joints[finger, k])
            axis = cross(along, palm if finger > 0 else unit(opposite - joints[finger, k]))
            rotation = axis_angle(axis, flexion[finger, k])
            if finger > 0 and k == 0:
                rotation = product(axis_angle(palm, fans[finger - 1]), rotation)
            out[finger, k] = rotation
    return out
