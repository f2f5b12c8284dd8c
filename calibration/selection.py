"""Choosing people for cover: of parts, poses, sizes and light, not the first of a list.

Greedy farthest points (Gonzalez, Clustering to minimize the maximum intercluster distance, 1985): each next person is
the one least like all chosen so far, which covers at most twice as loosely as the best possible choice.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rtmw_edge.keypoints import PARTS

from .people import People, Person

CANDIDATES = 8
"""People looked at for each one chosen, when there are more: drawn evenly at random before any image is opened."""

SHOULDERS, HIPS = (5, 6), (11, 12)
LIMBS = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16))
"""Upper and lower arms, thighs and shins."""

OnLooked = Callable[[int, int], None]


def chosen_for_cover(
    people: People, count: int, input_size: tuple[int, int], seed: int, on_looked: OnLooked = lambda done, total: None
) -> list[int]:
    """Indices of `count` of `people` in ascending order, all when there are no more; the same for the same seed.

    Looks at the crops of up to `CANDIDATES` times as many; `on_looked(done, total)` is called after each.
    """
    if count >= len(people):
        return list(range(len(people)))
    rng = np.random.default_rng(seed)
    looked = np.sort(rng.permutation(len(people))[: CANDIDATES * count])
    rows = []
    for done, index in enumerate(looked, start=1):
        rows.append(descriptor(people.person(int(index), input_size)))
        on_looked(done, len(looked))
    picked = farthest_points(balanced(rows), count, int(rng.integers(len(looked))))
    return sorted(int(index) for index in looked[picked])


def descriptor(person: Person) -> tuple[NDArray[np.float64], ...]:
    """What cover is judged by, as four groups of numbers: parts, pose, size, light.

    Parts: share of labelled keypoints of body, foot, face and hands. Pose: direction of the torso and of eight limbs as
    unit vectors, zero where not labelled. Size: logarithms of the box's height in pixels and of its aspect. Light: mean
    and standard deviation of the crop's grey values, black borders left out.
    """
    parts, directions = np.zeros(len(PARTS)), np.zeros((1 + len(LIMBS), 2))
    if person.keypoints is not None and person.visible is not None:
        points, there = person.keypoints.astype(np.float64), person.visible > 0
        parts = np.array([there[where].mean() for where in PARTS.values()])
        lines = [(SHOULDERS, HIPS), *(((start,), (end,)) for start, end in LIMBS)]
        for row, (start, end) in zip(directions, lines, strict=True):
            along = points[list(end)].mean(0) - points[list(start)].mean(0)
            if there[[*start, *end]].all() and np.any(along):
                row[:] = along / np.linalg.norm(along)
    width, height = np.maximum(person.box[2:] - person.box[:2], 1.0)
    grey = person.crop.mean(2)
    grey = grey[grey > 0] if np.any(grey > 0) else grey
    size = np.log([height, width / height])
    return parts, directions.ravel(), size, np.array([grey.mean(), grey.std()]) / 255.0


def balanced(rows: list[tuple[NDArray[np.float64], ...]]) -> NDArray[np.float64]:
    """Descriptors as points (N,D) in which every group has the same spread, and one without any has no say."""
    groups = []
    for values in map(np.stack, zip(*rows, strict=True)):
        spread = np.sqrt(values.var(0).sum())
        groups.append((values - values.mean(0)) / spread if spread > 1e-9 else np.zeros_like(values))
    return np.concatenate(groups, axis=1)


def farthest_points(points: NDArray[np.float64], count: int, first: int) -> list[int]:
    """Indices of `count` of `points` (N,D), beginning with `first`, each the farthest from all before it."""
    chosen = [first]
    distance = np.linalg.norm(points - points[first], axis=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return chosen
