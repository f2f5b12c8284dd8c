"""What an annotator of COCO-WholeBody would have labelled."""

from __future__ import annotations

import numpy as np
import pytest

from rtmw_edge.data.annotators import annotated
from rtmw_edge.keypoints import PARTS


@pytest.mark.parametrize(("seen", "labelled"), [(0, False), (5, False), (6, True)])
def test_a_hand_is_labelled_as_a_whole_where_a_quarter_of_it_is_seen(seen: int, labelled: bool) -> None:
    """Of 21 keypoints the hidden ones (1) do not count, and are labelled with the others."""
    visible = np.full(133, 2, np.uint8)
    hand = PARTS["left_hand"]
    visible[hand] = 1
    visible[hand][:seen] = 2
    found = annotated(visible)
    assert np.array_equal(found[hand], visible[hand] if labelled else np.zeros(21))
    assert np.array_equal(np.delete(found, np.r_[hand]), np.delete(visible, np.r_[hand]))


def test_joints_of_the_body_are_labelled_one_by_one() -> None:
    visible = np.zeros(133, np.uint8)
    visible[:3] = 1, 2, 0
    assert np.array_equal(annotated(visible), visible)
