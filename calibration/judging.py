"""How good a network in PyTorch is, float or fake-quantized: many people a pass, cut out once for all networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rtmw_edge.crops import box_to_crop, crop, to_image
from rtmw_edge.errors import BadInputError
from rtmw_edge.evaluation.datasets import Dataset, Item
from rtmw_edge.evaluation.evaluate import Evaluation, Evaluator, boxes_to_run
from rtmw_edge.models.variants import Variant
from rtmw_edge.poses import Poses
from rtmw_edge.simcc import decode, decode_3d

from .observing import normalized

BATCH = 16
"""People in one pass; more are not faster, and take memory."""

Network = Callable[[Tensor], tuple[Tensor, ...]]
"""Normalized BGR crops (N,3,H,W) to logits (N,133,bins) per axis: a `Deployable`, float or fake-quantized."""


@dataclass(frozen=True, eq=False)
class _Cut:
    """One image's people: boxes (N,4) and scores (N,) as they are run, centres and scales (N,2) of their crops."""

    item: Item
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    centers: NDArray[np.float64]
    extents: NDArray[np.float64]


class Judge:
    """The labelled people of `dataset`, ready for any network of `variant`; their crops are kept in memory.

    Raises BadInputError where there are none.
    """

    def __init__(self, dataset: Dataset, variant: Variant) -> None:
        self._name, self._variant, self._cuts = dataset.name, variant, list[_Cut]()
        crops = []
        for item in dataset:
            boxes, scores = boxes_to_run(item, None)
            centers, extents = box_to_crop(boxes, variant.input_size)
            crops += [crop(item.image, *place, variant.input_size) for place in zip(centers, extents, strict=True)]
            self._cuts.append(_Cut(item, boxes, scores, centers, extents))
        if not crops:
            raise BadInputError(f"There is nobody in {dataset.name} to judge by; give a data set with labelled people.")
        self._crops = np.stack(crops)

    def evaluate(
        self,
        network: Network,
        *,
        intervals: bool = False,
        on_judged: Callable[[int, int], None] = lambda done, total: None,
    ) -> Evaluation:
        """Figures by the COCO-WholeBody protocol; `on_judged(done, total)` is called after each pass, in people."""
        found = []
        with torch.inference_mode():
            for start in range(0, len(self._crops), BATCH):
                batch = normalized(self._crops[start : start + BATCH], self._variant)
                found.append(self._decoded([axis.numpy() for axis in network(batch)]))
                on_judged(min(start + BATCH, len(self._crops)), len(self._crops))
        points, confidences = (np.concatenate(parts) for parts in zip(*found, strict=True))
        evaluator, first = Evaluator(self._name), 0
        for cut in self._cuts:
            last = first + len(cut.boxes)
            placed = to_image(points[first:last], cut.centers, cut.extents, self._variant.input_size)
            evaluator.add(cut.item, Poses(placed, confidences[first:last], cut.boxes, cut.scores))
            first = last
        return evaluator.result(intervals=intervals)

    def _decoded(self, logits: list[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        z_range = self._variant.z_range
        return decode(logits) if z_range is None else decode_3d(logits, z_range)
