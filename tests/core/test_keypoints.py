"""The layout against COCO-WholeBody's own tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rtmw_edge import keypoints as kp


@pytest.fixture(scope="module")
def layout(reference_dir: Path) -> dict:
    return json.loads((reference_dir / "coco_wholebody.json").read_text())


def test_tables_are_those_of_the_data_set(layout: dict) -> None:
    assert list(kp.NAMES) == layout["names"]
    assert kp.SIGMAS.tolist() == layout["sigmas"]
    assert kp.FLIP.tolist() == layout["flip_indices"]
    assert [list(limb) for limb in kp.LIMBS] == layout["skeleton_links"]
    assert kp.BONE_PARENTS.tolist() == layout["bone_parents_rtmw3d"]


def test_parts_cover_all_keypoints_once(layout: dict) -> None:
    assert [[rows.start, rows.stop] for rows in kp.PARTS.values()] == list(layout["parts"].values())
    covered = np.concatenate([np.arange(kp.NUM_KEYPOINTS)[rows] for rows in kp.PARTS.values()])
    assert covered.tolist() == list(range(133))


def test_flip_is_its_own_inverse_and_swaps_sides() -> None:
    assert np.array_equal(kp.FLIP[kp.FLIP], np.arange(133))
    for keypoint, name in enumerate(kp.NAMES):
        if name.startswith("left_"):
            assert kp.NAMES[kp.FLIP[keypoint]] == name.replace("left_", "right_")


def test_face_contours_are_all_of_the_face() -> None:
    assert sorted({k for contour in kp.FACE_CONTOURS for k in contour}) == list(range(23, 91))
