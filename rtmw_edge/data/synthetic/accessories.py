"""What people wear on the head and back, hold in their hands and stand on, as solids on a posed body."""

from __future__ import annotations

import numpy as np

from .colour import draw_colour
from .keypoint_table import LEFT_HAND, RIGHT_HAND
from .mesh import FloatArray
from .pose import Pose
from .rotations import Vector, cross, frame, unit
from .seeds import pick
from .solids import Solid, box, ellipsoid, plate, rod

_HELD = {"stick": 0.24, "ball": 0.18, "phone": 0.2, "racket": 0.1, "cup": 0.14, "bag": 0.14}


def draw_accessories(
    pose: Pose, points: FloatArray, spine: FloatArray, size: float, rng: np.random.Generator
) -> list[Solid]:
    """Solids for one posed person: keypoints (133,3), the transform (3,4) of the upper spine, size of the body."""
    solids = _glasses(points, rng) if rng.random() < 0.16 else []
    if pose.kind == "swing" and rng.random() < 0.85:
        solids += _two_handed(points, size, rng)
    elif pose.kind == "ski":
        solids += _ski(pose, points, size, rng)
    else:
        for side, root in (("L", LEFT_HAND), ("R", RIGHT_HAND)):
            held = {"grip": 0.6, "pinch": 0.3, "relaxed": 0.12, "fist": 0.2, "grasp": 0.7, "open": 0.04}
            if rng.random() < held.get(pose.hands[side], 0.05) * 0.7:
                solids += _held(points[root : root + 21], size, rng)
    if pose.kind in ("stand", "walk", "gesture") and rng.random() < 0.1:
        solids.append(_backpack(spine, size, rng))
    if pose.kind in ("crouch", "ski", "lunge") and rng.random() < 0.3:
        solids.append(_board(points, size, rng))
    return solids


def _grip(hand: FloatArray) -> tuple[Vector, Vector, Vector]:
    """Of one hand (21,3): the middle of its grip, the axis of a handle in it, and the way the palm faces."""
    hand = hand.astype(np.float64)
    knuckles, middles = hand[[5, 9, 13, 17]].mean(0), hand[[6, 10, 14, 18]].mean(0)
    tips = hand[[8, 12, 16, 20]].mean(0)
    axis = unit(hand[5] - hand[17])
    palm = cross(axis, unit(knuckles - hand[0]))
    if palm @ (tips - knuckles) < 0:
        palm = -palm
    centre = (knuckles + middles + tips) / 3 if np.linalg.norm(tips - knuckles) < 0.06 else knuckles
    return centre + unit(palm) * 0.012, axis, unit(palm)


def _held(hand: FloatArray, size: float, rng: np.random.Generator) -> list[Solid]:
    centre, axis, palm = _grip(hand)
    colour = draw_colour(rng)
    kind = pick(rng, _HELD)
    if kind == "stick":
        thick = rng.uniform(0.006, 0.022)
        tail = rng.uniform(0.02, 0.5)
        return [rod(centre - axis * tail, centre + axis * rng.uniform(0.1, 1.1), (thick, thick), colour)]
    if kind == "ball":
        radius = np.exp(rng.uniform(np.log(0.03), np.log(0.13)))
        return [ellipsoid(centre + palm * radius, np.full(3, radius), np.eye(3), colour)]
    if kind == "racket":
        end = centre + axis * rng.uniform(0.25, 0.4)
        face = unit(palm + axis * 0.01)
        side = unit(cross(axis, face))
        head = plate(end + axis * 0.15, side * 0.12, axis * 0.16, colour, hole=rng.choice([0.0, 0.85]))
        return [rod(centre - axis * 0.06, end, (0.014, 0.012), draw_colour(rng, 8, 120)), head]
    if kind == "bag":
        below = np.array([0, 0, -1.0])
        half = np.array([rng.uniform(0.08, 0.2), rng.uniform(0.03, 0.1), rng.uniform(0.1, 0.22)]) * size
        bag = box(centre + below * (half[2] + rng.uniform(0.02, 0.2)), half, np.eye(3), colour)
        return [bag, rod(centre, centre + below * 0.2, (0.008, 0.008), colour)]
    basis = frame(axis, palm)
    if kind == "cup":
        half_length = axis * rng.uniform(0.04, 0.12)
        thick = rng.uniform(0.025, 0.04)
        middle = centre + palm * 0.01
        radii = (thick, thick * rng.uniform(0.7, 1.2))
        return [rod(middle - half_length, middle + half_length, radii, colour, 10)]
    half = np.array([rng.uniform(0.05, 0.1), 0.006, rng.uniform(0.03, 0.08)])
    return [box(centre + palm * 0.01, half, basis, draw_colour(rng, 8, 200))]


def _two_handed(points: FloatArray, size: float, rng: np.random.Generator) -> list[Solid]:
    """A bat, a club, a racket or a broom through both hands."""
    (left, *_), (right, *_) = _grip(points[LEFT_HAND : LEFT_HAND + 21]), _grip(points[RIGHT_HAND : RIGHT_HAND + 21])
    axis = unit(left - right) * (1 if rng.random() < 0.5 else -1)
    middle = (left + right) / 2
    thin, thick = rng.uniform(0.008, 0.018), rng.uniform(0.012, 0.038)
    length = rng.uniform(0.5, 1.1) * size
    bat = rod(middle - axis * 0.12, middle + axis * length, (thin, thin, thick, thick), draw_colour(rng))
    if rng.random() < 0.25:
        side = unit(cross(axis, np.array([0.3, 0.5, 0.8])))
        end = middle + axis * (length * 0.7)
        return [bat, plate(end, side * 0.13, axis * 0.17, draw_colour(rng), hole=0.85)]
    return [bat]


def _ski(pose: Pose, points: FloatArray, size: float, rng: np.random.Generator) -> list[Solid]:
    solids = []
    if rng.random() < 0.7:
        colour = draw_colour(rng)
        for side, root in (("L", LEFT_HAND), ("R", RIGHT_HAND)):
            if pose.hands[side] == "grasp":
                centre, axis, _ = _grip(points[root : root + 21])
                down = unit(np.array([rng.normal(0, 0.2), rng.normal(0.3, 0.3), -1.0]) - 0.3 * axis)
                solids.append(rod(centre - down * 0.05, centre + down * 1.05 * size, (0.01, 0.008), colour))
    if rng.random() < 0.6:
        colour = draw_colour(rng)
        for big_toe, heel in ((17, 19), (20, 22)):
            toe, back = points[big_toe].astype(np.float64), points[heel].astype(np.float64)
            forward = unit(toe - back)
            up = unit(np.array([0, 0, 1.0]) - forward * forward[2])
            centre = (toe + back) / 2 - up * 0.03
            half = np.array([rng.uniform(0.6, 0.9) * size, 0.045, 0.01])
            solids.append(box(centre, half, np.stack([forward, cross(up, forward), up], 1), colour))
    return solids


def _board(points: FloatArray, size: float, rng: np.random.Generator) -> Solid:
    """A skateboard, a snowboard or a surfboard under both feet."""
    feet = points[17:23].astype(np.float64)
    left, right = feet[:3].mean(0), feet[3:].mean(0)
    along = unit(left - right)
    forward = unit(feet[0] - feet[2])
    up = cross(forward, along)
    up = unit(up if up[2] > 0 else -up)
    half = np.array([rng.uniform(0.4, 1.0) * size, rng.uniform(0.1, 0.26), rng.uniform(0.01, 0.04)])
    side = cross(up, along)
    return box((left + right) / 2 - up * 0.06, half, np.stack([along, side, up], 1), draw_colour(rng))


def _glasses(points: FloatArray, rng: np.random.Generator) -> list[Solid]:
    """Spectacles, dark glasses or goggles before the eyes, with temples to the ears."""
    right, left = points[59:65].mean(0).astype(np.float64), points[65:71].mean(0).astype(np.float64)
    across = unit(left - right)
    nose = points[50].astype(np.float64)
    ahead = unit(nose - points[[3, 4]].mean(0))
    ahead = unit(ahead - across * (ahead @ across))
    up = cross(ahead, across)
    up = up if up @ (nose - points[53]) > 0 else -up
    width = float(np.linalg.norm(left - right))
    dark = rng.random() < 0.5
    colour = draw_colour(rng, 8, 90) if rng.random() < 0.7 else draw_colour(rng)
    half, tall = width * rng.uniform(0.33, 0.44), width * rng.uniform(0.24, 0.4)
    solids = []
    for eye, ear, sign in ((right, points[4], -1), (left, points[3], 1)):
        centre = eye + ahead * width * 0.28
        solids.append(plate(centre, across * half, up * tall, colour, hole=0.0 if dark else rng.uniform(0.8, 0.9)))
        hinge = centre + across * sign * half
        solids.append(rod(hinge, ear.astype(np.float64), (0.002, 0.002), colour, 4))
    bridge = (right + left) / 2 + ahead * width * 0.3
    solids.append(rod(bridge - across * width * 0.12, bridge + across * width * 0.12, (0.002, 0.002), colour, 4))
    return solids


def _backpack(spine: FloatArray, size: float, rng: np.random.Generator) -> Solid:
    basis = spine[:, :3].astype(np.float64)
    half = np.array([rng.uniform(0.12, 0.19), rng.uniform(0.06, 0.13), rng.uniform(0.16, 0.28)]) * size
    centre = spine[:, 3].astype(np.float64) + basis @ np.array([0, 0.12 * size + half[1], -0.08 * size])
    return ellipsoid(centre, half * 1.15, basis, draw_colour(rng))
