"""Hand poses: flexion of the fifteen finger joints, with a spread and some noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .body import Body
from .rotations import Vector, axis_angle, cross, unit

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
    rotations: NDArray[np.float64],
    body: Body,
    heads: NDArray[np.float64],
    tips: NDArray[np.float64],
    side: str,
    kind: str,
    rng: np.random.Generator,
) -> None:
    """Write the finger rotations of one hand ("L" or "R") into `rotations` (B,3,3).

    heads (B,3) and tips (10,3) of the body at rest; kind is one of KINDS, or "grasp" for a hand around a handle.
    """

    def joint(finger: int, k: int) -> Vector:
        """Joint k (1..3) of a finger (1..5); 4 is its tip."""
        if k == 4:
            return tips[body.tip[f"tip{finger}.{side}"]]
        return heads[body.bone[f"finger{finger}-{k}.{side}"]]

    wrist = heads[body.bone[f"wrist.{side}"]]
    palm = cross(joint(2, 1) - wrist, joint(5, 1) - wrist)
    # Fingers are slightly curled at rest, which tells the side of the palm.
    curl = sum((joint(f, 4) - joint(f, 3)) - (joint(f, 2) - joint(f, 1)) for f in (2, 3, 4, 5))
    palm = unit(palm) * np.sign(palm @ curl)

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

    for finger in (2, 3, 4, 5):
        for k in (1, 2, 3):
            axis = cross(unit(joint(finger, k + 1) - joint(finger, k)), palm)
            rotation = axis_angle(axis, flexion[finger - 1, k - 1])
            if k == 1:
                fan = outward * spread * (finger - 3.4) * 0.5 + rng.normal(0, 0.02)
                rotation = axis_angle(palm, fan) @ rotation
            rotations[body.bone[f"finger{finger}-{k}.{side}"]] = rotation
    opposite = joint(4, 1) + palm * 0.04  # the thumb bends towards the base of the ring finger
    for k in (1, 2, 3):
        axis = cross(unit(joint(1, k + 1) - joint(1, k)), unit(opposite - joint(1, k)))
        rotations[body.bone[f"finger1-{k}.{side}"]] = axis_angle(axis, flexion[0, k - 1])
