"""Arms and legs: rotations that bring a wrist to a place (analytic two-bone inverse kinematics) or bend a leg."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .body import Body
from .rotations import Vector, about_x, about_y, axis_angle, cross, frame, unit


@dataclass(frozen=True)
class Skeleton:
    """One identity's bone heads (B,3) and finger tips (10,3) at rest, with the bone ids by name."""

    body: Body
    heads: NDArray[np.float64]
    tips: NDArray[np.float64]

    def __getitem__(self, bone: str) -> Vector:
        return self.heads[self.body.bone[bone]]

    def arm_length(self, side: str) -> float:
        upper = self[f"lowerarm01.{side}"] - self[f"upperarm01.{side}"]
        fore = self[f"wrist.{side}"] - self[f"lowerarm01.{side}"]
        return float(np.linalg.norm(upper) + np.linalg.norm(fore))


@dataclass(frozen=True)
class WristTurn:
    """Pronation of the forearm, flexion and deviation of the wrist, radians."""

    pronation: float
    flexion: float
    deviation: float


def reach(
    rotations: NDArray[np.float64], skeleton: Skeleton, side: str, target: Vector, swivel: float, wrist: WristTurn
) -> None:
    """Bend an arm so that its wrist comes to `target` (3,), in rest coordinates of the chest, or as near as it can.

    `swivel` turns the elbow about the line from shoulder to wrist; 0 lets it hang down and slightly out.
    """
    shoulder, elbow, hand = skeleton[f"upperarm01.{side}"], skeleton[f"lowerarm01.{side}"], skeleton[f"wrist.{side}"]
    upper, fore = float(np.linalg.norm(elbow - shoulder)), float(np.linalg.norm(hand - elbow))
    distance = float(np.linalg.norm(target - shoulder))
    distance = min(max(distance, abs(upper - fore) + 0.05 * upper), (upper + fore) * 0.995)
    direction = unit(target - shoulder)
    at_shoulder = _angle(upper, distance, fore)
    flexion = math.pi - _angle(upper, fore, distance)
    sign = 1.0 if side == "L" else -1.0
    pole = np.array([sign * 0.35, 0.35, -1.0])
    pole = axis_angle(direction, sign * swivel) @ unit(pole - direction * (pole @ direction))
    upper_direction = unit(direction * math.cos(at_shoulder) + pole * math.sin(at_shoulder))
    normal = cross(upper_direction, direction)
    if np.linalg.norm(normal) < 1e-3:
        normal = cross(upper_direction, np.array([0.0, -1.0, 0.0]))
    _bend_arm(rotations, skeleton, side, upper_direction, normal, flexion, wrist)


def _angle(a: float, b: float, opposite: float) -> float:
    """The angle between sides a and b of a triangle (law of cosines)."""
    return math.acos(min(1.0, max(-1.0, (a * a + b * b - opposite * opposite) / (2 * a * b))))


def _bend_arm(
    rotations: NDArray[np.float64],
    skeleton: Skeleton,
    side: str,
    upper_direction: Vector,
    normal: Vector,
    flexion: float,
    wrist: WristTurn,
) -> None:
    """Point the upper arm along `upper_direction`, flex the elbow about `normal`, and turn forearm and wrist."""
    bone = skeleton.body.bone
    upper = skeleton[f"lowerarm01.{side}"] - skeleton[f"upperarm01.{side}"]
    fore = skeleton[f"wrist.{side}"] - skeleton[f"lowerarm01.{side}"]
    rest_normal = cross(upper, fore)
    rest_flexion = math.acos(min(1.0, max(-1.0, float(unit(upper) @ unit(fore)))))
    rotations[bone[f"upperarm01.{side}"]] = frame(upper_direction, normal) @ frame(upper, rest_normal).T
    rotations[bone[f"lowerarm01.{side}"]] = axis_angle(rest_normal, flexion - rest_flexion)
    # Half of the pronation turns the forearm, half the wrist, so that the skin of the wrist does not wring.
    half_turn = axis_angle(fore, wrist.pronation / 2)
    rotations[bone[f"lowerarm02.{side}"]] = half_turn
    along = skeleton[f"finger3-1.{side}"] - skeleton[f"wrist.{side}"]
    across = skeleton[f"finger2-1.{side}"] - skeleton[f"finger5-1.{side}"]
    flexed = axis_angle(across, wrist.flexion) @ axis_angle(cross(along, across), wrist.deviation)
    rotations[bone[f"wrist.{side}"]] = half_turn @ flexed


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
    for toe in range(1, 6):
        rotations[bone[f"toe{toe}-1.{side}"]] = about_x(-bend.toes)
