"""Our person detector's network: its cells are the runtime's, its boxes are where distances say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rtmw_edge.models.person_detector import PersonDetector, boxes_of, cells
from rtmw_edge.runtime.detectors.heads import _grid


def test_cells_are_in_the_runtime_s_order() -> None:
    middles, strides = cells(64, 96)
    corners, wanted = _grid((96, 64))
    assert np.array_equal(strides[:, None].numpy(), wanted)
    assert np.array_equal(middles.numpy(), corners + wanted / 2)


def test_boxes_by_hand() -> None:
    """Half a stride left, one up, two right and four down of a cell of stride 8 in whose middle is (20, 12)."""
    sides = torch.tensor([[[0.5, 1.0, 2.0, 4.0]]]).log()
    box = boxes_of(sides, torch.tensor([[20.0, 12.0]]), torch.tensor([[8.0]]))
    assert box[0, 0].tolist() == pytest.approx([16, 4, 36, 44])
    assert torch.isfinite(boxes_of(sides + 1e4, torch.tensor([[20.0, 12.0]]), torch.tensor([[8.0]]))).all()


def test_one_box_and_logit_a_cell_and_few_parameters() -> None:
    network = PersonDetector().eval()
    with torch.no_grad():
        boxes, logits = network(torch.rand(2, 3, 64, 96) * 255)
    assert boxes.shape == (2, 126, 4) and logits.shape == (2, 126)
    assert logits.sigmoid().mean() == pytest.approx(0.01, abs=0.01), "a fresh network sees nobody"
    assert sum(one.numel() for one in network.parameters()) < 1.5e6  # in half precision, below 3 MB
