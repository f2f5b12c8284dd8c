"""Which cells answer for whom, and how wrong they are: task-aligned assignment (TOOD, arXiv 2108.07755) and GIoU.

A cell may answer for a person when its middle lies in the box. Of these, the `CANDIDATES` with the highest
score^0.5 * IoU^6 do (YOLOv8's exponents); a cell that several want goes to the one whom it overlaps most. Their wanted
score is the alignment, scaled so that the best cell of a person wants that person's best IoU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.person_detector import Prediction, cells

CANDIDATES = 10
SCORE_POWER, IOU_POWER = 0.5, 6.0
BOX_WEIGHT = 2.5
TINY = 1e-9


class Truth(NamedTuple):
    """People of a batch, filled up to the most in one: `boxes` (N,G,4), who is `real` and who `ignored` (N,G)."""

    boxes: Tensor
    real: Tensor
    ignored: Tensor


class Wanted(NamedTuple):
    """What cells should say: `scores` (N,A) in 0..1, `boxes` (N,A,4), and `weight` (N,A) of their score's loss."""

    scores: Tensor
    boxes: Tensor
    weight: Tensor


class Losses(NamedTuple):
    score: Tensor
    box: Tensor

    def total(self) -> Tensor:
        return self.score + BOX_WEIGHT * self.box


def overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and GIoU (arXiv 1902.09630) of boxes (...,4) xyxy that broadcast against each other."""
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (first, second)]
    union = areas[0] + areas[1] - shared + TINY
    outer = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    hull = outer.prod(-1) + TINY
    iou = shared / union
    return iou, iou - (hull - union) / hull


@torch.no_grad()
def assign(found: Prediction, truth: Truth, size: tuple[int, int]) -> Wanted:
    """What each cell of a prediction for pictures of `size` (height, width) should have said."""
    middles, _ = cells(*size)
    batch, count = found.logits.shape
    boxes = truth.boxes
    if not boxes.shape[1]:
        zero = torch.zeros_like(found.logits)
        return Wanted(zero, torch.zeros_like(found.boxes), torch.ones_like(zero))
    sides = torch.cat([middles - boxes[:, :, None, :2], boxes[:, :, None, 2:] - middles], dim=-1)
    inside = sides.amin(-1) > 0
    asked = truth.real & ~truth.ignored
    may = inside & asked[..., None]
    iou = overlaps(boxes[:, :, None], found.boxes[:, None])[0] * may
    alignment = found.logits.sigmoid()[:, None] ** SCORE_POWER * iou**IOU_POWER
    best = alignment.topk(min(CANDIDATES, count), dim=-1)
    chosen = torch.zeros_like(alignment).scatter_(-1, best.indices, 1.0).bool() & may
    # One person a cell.
    owner = (iou * chosen).argmax(dim=1, keepdim=True)
    chosen &= torch.zeros_like(chosen).scatter_(1, owner, True)
    alignment = alignment * chosen
    most = alignment.amax(-1, keepdim=True)
    best_iou = (iou * chosen).amax(-1, keepdim=True)
    scores = (alignment / (most + TINY) * best_iou).amax(1)
    held = chosen.any(1)
    wanted = boxes.gather(1, owner[:, 0, :, None].expand(batch, count, 4))
    hidden = (inside & (truth.real & truth.ignored)[..., None]).any(1)
    weight = (held | ~hidden).to(scores.dtype)
    return Wanted(scores * held, wanted, weight)


def losses(found: Prediction, truth: Truth, size: tuple[int, int]) -> Losses:
    """Cross entropy of the scores, and 1 - GIoU of the boxes weighted by the wanted scores, over their sum."""
    wanted = assign(found, truth, size)
    total = wanted.scores.sum().clamp(min=1.0)
    entropy = F.binary_cross_entropy_with_logits(found.logits, wanted.scores, wanted.weight, reduction="sum")
    held = wanted.scores > 0
    _, giou = overlaps(found.boxes[held], wanted.boxes[held])
    return Losses(entropy / total, ((1 - giou) * wanted.scores[held]).sum() / total)
