"""Where a wrist goes: a target for each mode of the arm, kept out of the trunk and the head."""

from __future__ import annotations

import math

import numpy as np

from .limbs import Skeleton
from .rotations import Vector, unit

_TRIES = 8


def draw_wrist_target(skeleton: Skeleton, side: str, mode: str, phase: float, rng: np.random.Generator) -> Vector:
    """A wrist position (3,) in rest coordinates for one arm ("L" or "R"); `phase` is that of a walker's arm."""
    for _ in range(_TRIES):
        target = _draw(skeleton, side, mode, phase, rng)
        if not _inside_body(skeleton, side, target):
            break
    return target


def _draw(skeleton: Skeleton, side: str, mode: str, phase: float, rng: np.random.Generator) -> Vector:
    uniform = rng.uniform
    out = 1.0 if side == "L" else -1.0
    shoulder, hip, head = skeleton[f"upperarm01.{side}"], skeleton[f"upperleg01.{side}"], skeleton["head"]
    length = skeleton.arm_length(side)
    size = length / 0.5  # offsets from hip and head are given for an arm of half a metre
    if mode == "down":
        offset = np.array([out * uniform(0.12, 0.3), uniform(-0.15, 0.1), -0.97]) * length * uniform(0.93, 1)
    elif mode == "stride":
        swing = math.sin(phase) * -0.45 + rng.normal(-0.08, 0.05)
        offset = np.array([out * uniform(0.08, 0.25), swing, -0.88]) * length * uniform(0.75, 1)
    elif mode == "front":
        offset = np.array([out * uniform(-0.45, 0.2), -uniform(0.45, 0.85), uniform(-0.6, 0.2)])
        offset = offset * length * uniform(0.6, 1)
    elif mode == "reach":
        direction = unit(np.array([out * uniform(-0.35, 1), -uniform(-0.15, 1), uniform(-1, 0.9)]))
        offset = direction * length * uniform(0.65, 1)
    elif mode == "side":
        offset = np.array([out, uniform(-0.3, 0.1), uniform(-0.3, 0.3)]) * length * uniform(0.8, 1)
    elif mode == "up":
        offset = np.array([out * uniform(-0.1, 0.5), uniform(-0.45, 0.05), uniform(0.7, 1)]) * length * uniform(0.8, 1)
    elif mode == "up_bent":
        offset = np.array([out * uniform(-0.1, 0.6), uniform(-0.4, 0), uniform(0.3, 0.8)]) * length * uniform(0.5, 0.9)
    elif mode == "hip":
        offset = (
            hip - shoulder + np.array([out * uniform(0.07, 0.13), uniform(-0.06, 0.08), uniform(0.06, 0.16)]) * size
        )
    elif mode == "lap":
        place = np.array([out * uniform(-0.12, 0.06), -uniform(0.18, 0.42), uniform(0.07, 0.2)])
        offset = hip - shoulder + place * size
    else:  # face
        offset = head - shoulder + np.array([out * uniform(0, 0.11), -uniform(0.1, 0.2), uniform(-0.1, 0.14)]) * size
    return shoulder + offset


def _inside_body(skeleton: Skeleton, side: str, target: Vector) -> bool:
    """Whether a wrist at `target` would be in the trunk or the head."""
    neck, head = skeleton["neck01"], skeleton["head"]
    breadth = math.dist(skeleton["upperarm01.L"], skeleton["upperarm01.R"])
    if abs(target[0]) < breadth * 0.42 and abs(target[1] - neck[1]) < breadth * 0.38 and target[2] < head[2]:
        return True
    size = skeleton.arm_length(side) / 0.5
    centre = head + np.array([0, -0.02, 0.06]) * size
    return math.hypot(*((target - centre) / (np.array([0.1, 0.12, 0.14]) * size))) < 1
