"""Random plausible poses: everyday and sports kinds, drawn from joint limits. No motion capture is used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .arm_targets import draw_wrist_target
from .hand_pose import KINDS as HAND_KINDS
from .hand_pose import bend_hand
from .limbs import LegBend, Skeleton, WristTurn, bend_leg, reach
from .rotations import Matrix, about_x, about_y, about_z
from .seeds import pick

KINDS = {
    "stand": 0.2,
    "walk": 0.11,
    "run": 0.05,
    "sit": 0.13,
    "arms_up": 0.07,
    "gesture": 0.13,
    "crouch": 0.06,
    "lunge": 0.05,
    "swing": 0.05,
    "ski": 0.05,
    "wild": 0.07,
    "lie": 0.03,
}
"""Kinds of pose and how often each is drawn."""

_ARM_MODES: dict[str, dict[str, float]] = {
    "stand": {"down": 0.3, "reach": 0.2, "front": 0.22, "up": 0.05, "hip": 0.08, "face": 0.1, "side": 0.05},
    "walk": {"stride": 0.7, "down": 0.12, "front": 0.18},
    "run": {"stride": 0.75, "front": 0.15, "reach": 0.1},
    "sit": {"lap": 0.4, "front": 0.22, "reach": 0.18, "face": 0.14, "down": 0.06},
    "arms_up": {"up": 0.5, "up_bent": 0.35, "side": 0.15},
    "gesture": {"front": 0.4, "reach": 0.35, "face": 0.15, "down": 0.1},
    "crouch": {"down": 0.2, "reach": 0.35, "front": 0.35, "lap": 0.1},
    "lunge": {"down": 0.2, "reach": 0.4, "front": 0.2, "side": 0.2},
    "ski": {"front": 0.65, "reach": 0.2, "side": 0.15},
    "wild": {"reach": 0.4, "front": 0.15, "up": 0.15, "side": 0.15, "down": 0.15},
    "lie": {"down": 0.3, "reach": 0.3, "up": 0.2, "side": 0.2},
}
_SWIVEL = {"hip": (0.7, 1.2), "down": (-0.2, 0.4), "stride": (-0.2, 0.3), "up": (-0.6, 0.5), "up_bent": (0.2, 0.9)}
# (mean, spread) of forward bend, side bend and twist of the spine.
_SPINE = {
    "gesture": ((0.08, 0.12), (0, 0.09), (0, 0.18)),
    "wild": ((0.25, 0.3), (0, 0.15), (0, 0.3)),
    "crouch": ((0.45, 0.2), (0, 0.08), (0, 0.15)),
    "sit": ((0.1, 0.18), (0, 0.08), (0, 0.12)),
    "ski": ((0.35, 0.2), (0, 0.1), (0, 0.12)),
    "swing": ((0.2, 0.15), (0, 0.12), (0, 0.35)),
    "run": ((0.15, 0.1), (0, 0.06), (0, 0.15)),
}


@dataclass(frozen=True)
class Pose:
    """Bone rotations (B,3,3), the turn of the whole body (3,3), the kind, and what each hand does ("L", "R")."""

    rotations: NDArray[np.float64]
    root: Matrix
    kind: str
    hands: dict[str, str]

    @property
    def upright(self) -> bool:
        """Whether the legs hang down, so that a skirt or a coat falls as it does at rest."""
        return self.kind in ("stand", "walk", "arms_up", "gesture")


def draw_pose(skeleton: Skeleton, rng: np.random.Generator) -> Pose:
    """A pose of any of KINDS for one skeleton."""
    kind = pick(rng, KINDS)
    rotations = np.repeat(np.eye(3)[None], len(skeleton.body.bones), 0)
    _bend_spine(rotations, skeleton, kind, rng)
    phase = rng.uniform(0, 2 * math.pi)
    bend_leg(rotations, skeleton, "L", _draw_leg(kind, "L", phase, rng))
    bend_leg(rotations, skeleton, "R", _draw_leg(kind, "R", phase + math.pi, rng))
    hands = _two_handed(rotations, skeleton, rng) if kind == "swing" else _arms(rotations, skeleton, kind, phase, rng)
    for side, hand in hands.items():
        bend_hand(rotations, skeleton, side, hand, rng)
    return Pose(rotations, _draw_root(kind, rng), kind, hands)


def _bend_spine(rotations: NDArray[np.float64], skeleton: Skeleton, kind: str, rng: np.random.Generator) -> None:
    bone = skeleton.body.bone
    spine = _SPINE.get(kind, ((0, 0.08), (0, 0.06), (0, 0.12)))
    bend, side, twist = (rng.normal(mean, spread) / 5 for mean, spread in spine)
    rotations[[bone[f"spine0{k}"] for k in range(1, 6)]] = about_x(bend) @ about_y(side) @ about_z(twist)
    yaw = _clipped(rng.normal(0, 0.4), 1.1)
    pitch = _clipped(rng.normal(0.05, 0.22), 0.6)
    roll = rng.normal(0, 0.12)
    for names, share in ((("neck01", "neck02", "neck03"), 0.2), (("head",), 0.4)):
        turn = about_z(yaw * share) @ about_x(pitch * share) @ about_y(roll * share)
        rotations[[bone[name] for name in names]] = turn


def _clipped(value: float, largest: float) -> float:
    return min(max(value, -largest), largest)


def _draw_leg(kind: str, side: Literal["L", "R"], phase: float, rng: np.random.Generator) -> LegBend:
    normal, uniform = rng.normal, rng.uniform
    if kind in ("walk", "run"):
        stride = 1.0 if kind == "walk" else 1.8
        knee = max(0.0, 0.12 + 0.55 * stride * max(0.0, math.sin(phase + 1.9))) + abs(normal(0, 0.05))
        return LegBend(
            0.42 * stride * math.sin(phase) + normal(0.05, 0.04),
            normal(0.05, 0.03),
            normal(0.05, 0.08),
            knee,
            normal(0, 0.12),
            max(0.0, -0.4 * math.sin(phase)),
        )
    if kind == "sit":
        flexion, knee = np.deg2rad((uniform(70, 100), uniform(55, 110)))
        return LegBend(flexion, uniform(-0.05, 0.4), uniform(-0.2, 0.4), knee, uniform(-0.2, 0.2))
    if kind == "crouch":
        flexion = uniform(0.8, 1.9)
        return LegBend(
            flexion, uniform(0.05, 0.4), uniform(0, 0.4), min(2.4, flexion * uniform(1.1, 1.5)), uniform(0.1, 0.5)
        )
    if kind == "lunge":
        forward = side == "L"
        flexion = uniform(0.7, 1.3) if forward else uniform(-0.5, 0)
        knee = uniform(0.8, 1.5) if forward else uniform(0.1, 0.9)
        return LegBend(flexion, uniform(0, 0.15), normal(0, 0.1), knee, normal(0, 0.2))
    if kind in ("ski", "swing"):
        flexion = uniform(0.15, 0.9) if kind == "ski" else uniform(0, 0.5)
        knee = flexion * uniform(1.1, 1.5)
        return LegBend(flexion, uniform(0.03, 0.35), normal(0.05, 0.1), knee, flexion * uniform(0.1, 0.4))
    if kind in ("wild", "lie"):
        flexion = float(np.clip(normal(0.4, 0.6), -0.5, 1.9))
        abduction = float(np.clip(normal(0.2, 0.25), -0.2, 0.9))
        return LegBend(flexion, abduction, normal(0, 0.25), abs(normal(0.3, 0.7)), normal(0, 0.25))
    return LegBend(
        normal(0.03, 0.08), abs(normal(0.06, 0.08)), normal(0.1, 0.12), abs(normal(0.02, 0.1)), normal(0, 0.06)
    )


def _draw_wrist(rng: np.random.Generator) -> WristTurn:
    return WristTurn(
        _clipped(rng.normal(0, 0.55), 1.2), _clipped(rng.normal(0, 0.25), 0.8), _clipped(rng.normal(0, 0.12), 0.35)
    )


def _arms(
    rotations: NDArray[np.float64], skeleton: Skeleton, kind: str, phase: float, rng: np.random.Generator
) -> dict[str, str]:
    """Place both wrists, each in a mode of its own, and draw what the hands do."""
    hands = {}
    for side in ("L", "R"):
        mode = pick(rng, _ARM_MODES[kind])
        target = draw_wrist_target(skeleton, side, mode, phase + (math.pi if side == "L" else 0.0), rng)
        swivel = rng.uniform(*_SWIVEL.get(mode, (-0.4, 0.9)))
        reach(rotations, skeleton, side, target, swivel, _draw_wrist(rng))
        hands[side] = "grasp" if kind == "ski" and rng.random() < 0.8 else pick(rng, HAND_KINDS)
    return hands


def _two_handed(rotations: NDArray[np.float64], skeleton: Skeleton, rng: np.random.Generator) -> dict[str, str]:
    """Both hands on one handle (bat, club, racket, broom) before the chest, at a shoulder or low."""
    chest = skeleton["neck01"]
    size = skeleton.arm_length("L") / 0.5
    place = np.array([rng.uniform(-0.35, 0.35), -rng.uniform(0.25, 0.45), rng.uniform(-0.5, 0.12)])
    handle = np.array([rng.normal(), rng.normal(0, 0.4), rng.normal(0.4, 0.6)])
    handle = handle / np.linalg.norm(handle) * rng.uniform(0.05, 0.09)
    for side, sign in (("L", 1.0), ("R", -1.0)):
        reach(
            rotations,
            skeleton,
            side,
            chest + (place + sign * handle) * size,
            rng.uniform(-0.2, 0.7),
            _draw_wrist(rng),
        )
    return {"L": "grasp", "R": "grasp"}


def _draw_root(kind: str, rng: np.random.Generator) -> Matrix:
    """How the whole body leans; its turn about the vertical belongs to the scene."""
    if kind == "lie" or (kind == "wild" and rng.random() < 0.35):
        lean = rng.uniform(1.2, 1.7) * rng.choice([-1.0, 1.0]) if kind == "lie" else rng.uniform(-0.9, 0.9)
        return about_x(lean) @ about_y(rng.normal(0, 0.5))
    if kind in ("lunge", "crouch", "ski"):
        return about_x(rng.uniform(-0.1, 0.3)) @ about_y(rng.normal(0, 0.1))
    return about_x(rng.normal(0, 0.04)) @ about_y(rng.normal(0, 0.04))
