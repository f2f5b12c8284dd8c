"""The COCO-WholeBody layout of 133 keypoints: names, parts, mirror pairs, OKS sigmas, limbs and bone parents.

Order: 17 body, 6 feet, 68 face (iBUG 300-W order), 21 left hand, 21 right hand. "Left" is the person's left. Values are
those of COCO-WholeBody's evaluation (sigmas) and of the mmpose meta file (limbs, parents).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

NUM_KEYPOINTS = 133

PARTS: dict[str, slice] = {
    "body": slice(0, 17),
    "foot": slice(17, 23),
    "face": slice(23, 91),
    "left_hand": slice(91, 112),
    "right_hand": slice(112, 133),
}
"""Half-open index range of every part, in order; together they cover all 133."""

# fmt: off
_BODY = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder', 'left_elbow',
    'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip', 'left_knee', 'right_knee', 'left_ankle',
    'right_ankle',
)
_FOOT = (
    "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
)
# fmt: on
FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
"""The fingers in the order of the hands: after the hand root, joints 1 (nearest the root) to 4 (the tip) of each."""


def _hand(side: str) -> tuple[str, ...]:
    return (f"{side}_hand_root", *(f"{side}_{finger}{joint}" for finger in FINGERS for joint in range(1, 5)))


NAMES: tuple[str, ...] = (*_BODY, *_FOOT, *(f"face-{i}" for i in range(68)), *_hand("left"), *_hand("right"))

# fmt: off
FLIP: NDArray[np.int64] = np.array([
    0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 20, 21, 22, 17, 18, 19, 39, 38, 37, 36, 35, 34, 33, 32,
    31, 30, 29, 28, 27, 26, 25, 24, 23, 49, 48, 47, 46, 45, 44, 43, 42, 41, 40, 50, 51, 52, 53, 58, 57, 56, 55, 54,
    68, 67, 66, 65, 70, 69, 62, 61, 60, 59, 64, 63, 77, 76, 75, 74, 73, 72, 71, 82, 81, 80, 79, 78, 87, 86, 85, 84,
    83, 90, 89, 88, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 130,
    131, 132, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111,
])
# fmt: on
"""FLIP[k] is the keypoint that k becomes in the mirrored image; its own inverse."""

# fmt: off
SIGMAS: NDArray[np.float64] = np.array([
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
    0.089, 0.068, 0.066, 0.066, 0.092, 0.094, 0.094, 0.042, 0.043, 0.044, 0.043, 0.04, 0.035, 0.031, 0.025, 0.02,
    0.023, 0.029, 0.032, 0.037, 0.038, 0.043, 0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011,
    0.013, 0.015, 0.009, 0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.01, 0.017, 0.011, 0.009, 0.011, 0.009,
    0.007, 0.013, 0.008, 0.011, 0.012, 0.01, 0.034, 0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.01, 0.008, 0.009,
    0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.01, 0.008, 0.029, 0.022, 0.035, 0.037, 0.047,
    0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017, 0.021, 0.021, 0.032, 0.02, 0.019, 0.022, 0.031,
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017, 0.021, 0.021,
    0.032, 0.02, 0.019, 0.022, 0.031,
])
# fmt: on
"""Standard deviation of human annotation per keypoint, relative to the square root of the person's area (OKS)."""


def _finger_bones(root: int) -> tuple[tuple[int, int], ...]:
    chains = ((root, *range(first, first + 4)) for first in range(root + 1, root + 21, 4))
    return tuple(bone for chain in chains for bone in pairwise(chain))


# fmt: off
LIMBS: tuple[tuple[int, int], ...] = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10), (1,
    2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (15, 17), (15, 18), (15, 19), (16, 20), (16, 21), (16, 22),
    *_finger_bones(91),
    *_finger_bones(112),
)
# fmt: on
"""The 65 lines of the skeleton: body, feet, then 20 bones a hand, finger by finger; the face has none."""

FACE_CONTOURS: tuple[tuple[int, ...], ...] = (
    tuple(range(23, 40)),  # jaw, from the person's right ear to the left
    tuple(range(40, 45)),  # right eyebrow
    tuple(range(45, 50)),  # left eyebrow
    tuple(range(50, 54)),  # bridge of the nose
    tuple(range(54, 59)),  # nostrils
    (*range(59, 65), 59),  # right eye
    (*range(65, 71), 65),  # left eye
    (*range(71, 83), 71),  # outer lips
    (*range(83, 91), 83),  # inner lips
)
"""The face as lines to draw; a closed contour repeats its first keypoint."""

# fmt: off
BONE_PARENTS: NDArray[np.int64] = np.array([
    0, 1, 2, 3, 4, 5, 6, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 23, 24, 25, 26, 27, 28, 29,
    30, 31, 32, 33, 34, 35, 36, 37, 38, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 50, 50, 51, 52, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2,
    3, 3, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 91, 92, 93, 94, 91, 96, 97, 98,
    91, 100, 101, 102, 91, 104, 105, 106, 91, 108, 109, 110, 8, 112, 113, 114, 113, 112, 117, 118, 117, 112, 121, 122,
    123, 112, 125, 126, 127, 112, 129, 130, 131,
])
# fmt: on
"""Parent of each keypoint in RTMW3D's bone-length loss; 21 keypoints are their own parent (no bone)."""
