"""Arms and legs: rotations that bring a wrist to a place (analytic two-bone inverse kinematics) or bend a leg."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from .body import Body
from .rotations import Vector, about_x, about_y, axis_angle, cross, dot, frame, product, rotated, unit


@dataclass(frozen=True)
class Skeleton:
    """One identity's bone heads (B,3) and finger tips (10,3) at rest, with the bone ids by name."""

    body: Body
    heads: NDArray[np.float64]
    tips: NDArray[np.float64]

    def __getitem__(self, bone: str) -> Vector:
        return self.heads[self.body.bone[bone]]

    def arm_length(self, side: str) -> float:
        shoulder, elbow, wrist = self[f"upperarm01.{side}"], self[f"lowerarm01.{side}"], self[f"wrist.{side}"]
        return math.dist(shoulder, elbow) + math.dist(elbow, wrist)


@dataclass(frozen=True)
class WristTurn:
    """Pronation of the forearm, flexion and deviation of the wrist, radians."""

    pronation: float
    flexion: float
    deviation: float


_ARM = ("upperarm01", "lowerarm01", "wrist", "finger2-1", "finger3-1", "finger5-1")
_TURNING = ("upperarm01", "lowerarm01", "lowerarm02", "wrist")


def reach(
    rotations: NDArray[np.float64], skeleton: Skeleton, side: str, target: Vector, swivel: float, wrist: WristTurn
) -> None:
    """Bend an arm so that its wrist comes to `target` (3,), in rest coordinates of the chest, or as near as it can.

    `swivel` turns the elbow about the line from shoulder to wrist; 0 lets it hang down and slightly out.
    """
    bone = skeleton.body.bone
    joints = skeleton.heads[[bone[f"{name}.{side}"] for name in _ARM]]
    rotations[[bone[f"{name}.{side}"] for name in _TURNING]] = bent_arm(
        joints, target, 1.0 if side == "L" else -1.0, swivel, wrist.pronation, wrist.flexion, wrist.deviation
    )


@numba.njit(cache=True)
def _angle(a: float, b: float, opposite: float) -> float:
    """The angle between sides a and b of a triangle (law of cosines)."""
    return math.acos(min(1.0, max(-1.0, (a * a + b * b - opposite * opposite) / (2 * a * b))))


@numba.njit(cache=True)
def bent_arm(
    joints: NDArray[np.float64],
    target: Vector,
    outward: float,
    swivel: float,
    pronation: float,
    flexion: float,
    deviation: float,
) -> NDArray[np.float64]:
    """Rotations (4,3,3) of upper arm, elbow, forearm and wrist that bring the wrist to `target` (3,).

    joints (6,3): shoulder, elbow, wrist, and the bases of the second, third and fifth finger at rest; outward: 1 for
    the left arm, -1 for the right one; the rest as for `reach` and `WristTurn`.
    """
    shoulder, elbow, hand = joints[0], joints[1], joints[2]
    upper, fore, aim = elbow - shoulder, hand - elbow, target - shoulder
    upper_length, fore_length = math.sqrt(dot(upper, upper)), math.sqrt(dot(fore, fore))
    nearest, farthest = abs(upper_length - fore_length) + 0.05 * upper_length, (upper_length + fore_length) * 0.995
    distance = min(max(math.sqrt(dot(aim, aim)), nearest), farthest)
    direction = unit(aim)
    at_shoulder = _angle(upper_length, distance, fore_length)
    at_elbow = math.pi - _angle(upper_length, fore_length, distance)
    pole = np.array([outward * 0.35, 0.35, -1.0])
    pole = rotated(axis_angle(direction, outward * swivel), unit(pole - direction * dot(pole, direction)))
    upper_direction = unit(direction * math.cos(at_shoulder) + pole * math.sin(at_shoulder))
    normal = cross(upper_direction, direction)
    if math.sqrt(dot(normal, normal)) < 1e-3:
        normal = cross(upper_direction, np.array([0.0, -1.0, 0.0]))

    rest_normal = cross(upper, fore)
    rest_flexion = math.acos(min(1.0, max(-1.0, dot(unit(upper), unit(fore)))))
    out = np.empty((4, 3, 3))
    out[0] = product(frame(upper_direction, normal), frame(upper, rest_normal).T)
    out[1] = axis_angle(rest_normal, at_elbow - rest_flexion)
    # Half of the pronation turns the forearm, half the wrist, so that the skin of the wrist does not wring.
    out[2] = axis_angle(fore, pronation / 2)
    along, across = joints[4] - hand, joints[3] - joints[5]
    flexed = product(axis_angle(across, flexion), axis_angle(cross(along, across), deviation))
    out[3] = product(out[2], flexed)
    return out


@dataclass(frozen=True)
class LegBend:
    """Angles of one leg, radians: hip flexion (forward), abduction (outward), twist, knee, ankle, toes."""

    flexion: float
    abduction: float = 0.0
    twist: float = 0.0
    knee: float = 0.0
    ankle: float = 0.0
    toes: float = 0.0


def bend_leg(rotations: NDArray[np.float64], skeleton: Skeleton, side: str, bend: LegBend) -> None:
    """Write the rotations of one leg ("L" or "R"), relative to a leg that hangs straight down."""
    bone = skeleton.body.bone
    sign = 1.0 if side == "L" else -1.0
    thigh = skeleton[f"lowerleg01.{side}"] - skeleton[f"upperleg01.{side}"]
    shin = skeleton[f"foot.{side}"] - skeleton[f"lowerleg01.{side}"]
    rest_spread = math.atan2(thigh[0], -thigh[2])
    rotations[bone[f"upperleg01.{side}"]] = (
        about_x(-bend.flexion) @ about_y(-(sign * bend.abduction - rest_spread)) @ axis_angle(thigh, sign * bend.twist)
    )
    straighten = (math.atan2(shin[0], -shin[2]) - rest_spread) * 0.8
    rotations[bone[f"lowerleg01.{side}"]] = about_x(bend.knee) @ about_y(straighten)
    rotations[bone[f"foot.{side}"]] = about_x(-bend.ankle)
    rotations[[bone[f"toe{toe}-1.{side}"] for toe in range(1, 6)]] = about_x(-bend.toes)
