"""Which of a rendered person's keypoints an annotator of COCO-WholeBody would have labelled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..keypoints import PARTS

WHOLE_PARTS = ("foot", "face", "left_hand", "right_hand")
SEEN_SHARE = 0.25
"""COCO-WholeBody labels a face, a hand or the feet as one box with all its keypoints, and none when it is not seen."""


def annotated(visible: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`visible` (133,) with 0 for every keypoint of a face, hand or feet of which less than a quarter is visible (2).

    Joints of the body are labelled one by one, also when they are hidden. A renderer knows all others too, but nobody
    marks the landmarks of the back of a head.
    """
    out = visible.copy()
    for part in WHOLE_PARTS:
        where = PARTS[part]
        if np.count_nonzero(visible[where] == 2) < SEEN_SHARE * len(visible[where]):
            out[where] = 0
    return out
