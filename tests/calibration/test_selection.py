"""Choosing people for cover: better than the first of a list on a made-up crowd, and the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rtmw_edge.calibration.people import Person
from rtmw_edge.calibration.selection import balanced, chosen_for_cover, descriptor, farthest_points

from rtmw_edge.keypoints import PARTS

SIZE = (48, 64)


class Crowd:
    """Three hundred standing people in even light; of the last thirty ten lie, ten are dark and far, ten lack feet."""

    def __len__(self) -> int:
        return 300

    def person(self, index: int, input_size: tuple[int, int]) -> Person:
        rng = np.random.default_rng(index)
        kind = "standing" if index < 270 else ("lying", "dark", "cut off")[index % 3]
        points = rng.normal(0, 3, (133, 2)) + np.outer(np.linspace(0, 100, 133), [0.0, 1.0])
        points[[5, 6]], points[[11, 12]] = rng.normal((50, 20), 2, (2, 2)), rng.normal((50, 60), 2, (2, 2))
        visible = np.full(133, 2, np.uint8)
        box = np.array([0, 0, 40, 100]) * rng.uniform(0.9, 1.1)
        if kind == "lying":
            points, box = points[:, ::-1], box[[1, 0, 3, 2]]
        if kind == "cut off":
            visible[PARTS["foot"]] = 0
        light = (40, 8) if kind == "dark" else (128, 40)
        if kind == "dark":
            box = box / 4
        crop = rng.normal(*light, (input_size[1], input_size[0], 3)).clip(1, 255).astype(np.uint8)
        return Person(crop, box.astype(np.float32), points.astype(np.float32), visible)

    def files(self) -> list[Path]:
        return []

    def manifest(self, indices: Sequence[int]) -> dict[str, Any]:
        return {}


def cover(points: np.ndarray, chosen: Sequence[int]) -> float:
    """The largest distance of anybody from the nearest chosen one."""
    return float(np.linalg.norm(points[:, None] - points[list(chosen)][None], axis=2).min(1).max())


def test_the_choice_covers_better_than_the_first_and_than_chance() -> None:
    crowd = Crowd()
    points = balanced([descriptor(crowd.person(index, SIZE)) for index in range(len(crowd))])
    chosen = chosen_for_cover(crowd, 40, SIZE, seed=0)
    rng = np.random.default_rng(1)
    by_chance = np.median([cover(points, rng.permutation(300)[:40]) for _ in range(20)])
    assert cover(points, chosen) < 0.6 * cover(points, range(40)) and cover(points, chosen) < 0.8 * by_chance
    for kind in range(3):
        assert any(index >= 270 and index % 3 == kind for index in chosen), "every rare kind is there"


def test_the_choice_is_of_the_seed_alone() -> None:
    crowd = Crowd()
    first, second, other = (chosen_for_cover(crowd, 30, SIZE, seed) for seed in (0, 0, 1))
    assert first == second == sorted(set(first)) and len(first) == 30 and other != first


def test_the_first_is_drawn_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def noted(points: np.ndarray, count: int, first: int) -> list[int]:
        begun.append(first)
        return farthest_points(points, count, first)

    monkeypatch.setattr("rtmw_edge.calibration.selection.farthest_points", noted)
    for seed in range(4):
        chosen_for_cover(Crowd(), 2, SIZE, seed)
    assert len(set(begun)) > 1


def test_all_are_taken_where_there_are_no_more() -> None:
    assert chosen_for_cover(Crowd(), 300, SIZE, 0) == list(range(300)) == chosen_for_cover(Crowd(), 999, SIZE, 0)


def test_only_so_many_are_looked_at_and_the_chosen_are_of_them() -> None:
    seen: list[int] = []

    class Noted(Crowd):
        def person(self, index: int, input_size: tuple[int, int]) -> Person:
            seen.append(index)
            return super().person(index, input_size)

    looked: list[tuple[int, int]] = []
    chosen = chosen_for_cover(Noted(), 3, SIZE, 0, lambda done, total: looked.append((done, total)))
    assert len(chosen) == 3 and looked == [(done, 24) for done in range(1, 25)]
    assert set(chosen) < set(seen) and max(seen) > 200


def test_each_next_point_is_the_farthest() -> None:
    assert farthest_points(np.array([[0.0], [1.0], [10.0], [4.0]]), 4, first=0) == [0, 2, 3, 1]


def test_a_person_without_labels_has_size_and_light() -> None:
    crop = np.full((64, 48, 3), 51, np.uint8)
    crop[:32] = 0  # beyond the edge of the photograph
    parts, pose, size, light = descriptor(Person(crop, np.array([10, 10, 30, 110], np.float32)))
    assert not parts.any() and not pose.any()
    assert size == pytest.approx([np.log(100), np.log(0.2)]) and light == pytest.approx([0.2, 0.0])


def test_pose_is_direction_and_parts_are_shares() -> None:
    points, visible = np.zeros((133, 2), np.float32), np.zeros(133, np.uint8)
    points[[5, 6, 11, 12]] = [(0, 0), (2, 0), (30, 40), (32, 40)]
    points[7] = (0, -5)
    visible[[5, 6, 11, 12, 7]] = 1
    visible[PARTS["left_hand"]] = 2
    parts, pose, _, _ = descriptor(Person(np.ones((4, 4, 3), np.uint8), np.ones(4, np.float32), points, visible))
    assert parts == pytest.approx([5 / 17, 0, 0, 1, 0])
    assert pose.reshape(-1, 2)[:3] == pytest.approx(np.array([[0.6, 0.8], [0, -1], [0, 0]]))


def test_groups_count_the_same_and_one_that_never_varies_not_at_all() -> None:
    rng = np.random.default_rng(0)
    rows = [(rng.normal(0, 100, 5), rng.normal(7, 0.01, 2), np.ones(3)) for _ in range(500)]
    points = balanced(rows)
    spreads = [points[:, columns].var(0).sum() for columns in (slice(0, 5), slice(5, 7), slice(7, 10))]
    assert spreads == pytest.approx([1, 1, 0])
