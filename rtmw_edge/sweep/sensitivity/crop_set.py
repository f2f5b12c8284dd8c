"""The labelled people of a data set, cut out once: many networks are then judged without reading an image again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...crops import box_to_crop, crop, to_image
from ...errors import BadInputError
from ...evaluation.datasets import Dataset, Item
from ...evaluation.evaluate import Evaluation, Evaluator, boxes_to_run, labelled_people
from ...poses import Poses

Progress = Callable[[int, int], None]

NO_IMAGE = np.zeros((), np.uint8)


@dataclass(frozen=True, eq=False)
class CropSet:
    """N crops of the labelled people, and all that their figures need.

    Attributes:
        dataset: the text that opens the data set.
        crops: (N,H,W,3) uint8 BGR.
        boxes: (N,4) xyxy in image pixels. centers, scales: (N,2) of the crops, in image pixels.
        areas: (N,) of the labelled people in square pixels of the crop.
        owners: (N,) which of `items` each crop is from.
        items: the images with their labels, without the pictures.
    """

    dataset: str
    input_size: tuple[int, int]
    crops: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    centers: NDArray[np.float64]
    scales: NDArray[np.float64]
    areas: NDArray[np.float64]
    owners: NDArray[np.intp]
    items: tuple[Item, ...]

    @classmethod
    def of(cls, dataset: Dataset, input_size: tuple[int, int], on_progress: Progress | None = None) -> CropSet:
        """Cut the labelled people of every image as `evaluate` does; BadInputError when there is nobody."""
        items: list[Item] = []
        crops: list[NDArray[np.uint8]] = []
        boxes: list[NDArray[np.float32]] = []
        areas: list[NDArray[np.float64]] = []
        for done, item in enumerate(dataset, start=1):
            wanted, _ = boxes_to_run(item, None)
            centers, scales = box_to_crop(wanted, input_size)
            crops += [crop(item.image, *place, input_size) for place in zip(centers, scales, strict=True)]
            boxes.append(wanted)
            areas.append(_areas(item) * (input_size[0] / scales[:, 0]) ** 2)
            items.append(replace(item, image=np.broadcast_to(NO_IMAGE, item.image.shape)))  # its size, without memory
            if on_progress is not None:
                on_progress(done, len(dataset))
        if not crops:
            raise BadInputError(f"There is nobody with a label in {dataset.name}: give another data set.")
        together = np.concatenate(boxes)
        return cls(
            dataset.name,
            input_size,
            np.stack(crops),
            together,
            *box_to_crop(together, input_size),
            np.concatenate(areas),
            np.repeat(np.arange(len(items)), [len(part) for part in boxes]),
            tuple(items),
        )

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def sha256(self) -> str:
        """Hash of the crops and of the labels that they are judged by."""
        digest = hashlib.sha256(self.dataset.encode())
        for array in (self.crops, self.boxes, self.areas, self.owners):
            digest.update(np.ascontiguousarray(array).tobytes())
        for item in self.items:
            for array in (item.people.keypoints, item.people.visible):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def evaluator(self, keypoints: NDArray[np.float32], scores: NDArray[np.float32]) -> Evaluator:
        """The COCO-WholeBody figures of keypoints (N,133,2|3) in crop pixels with scores (N,133).

        The same as `evaluate` gives of a runner that answers these.
        """
        evaluator = Evaluator(self.dataset)
        placed = to_image(keypoints[..., :2], self.centers, self.scales, self.input_size)
        trust = np.ones(len(self), np.float32)
        for index, item in enumerate(self.items):
            mine = self.owners == index
            evaluator.add(item, Poses(placed[mine], scores[mine], self.boxes[mine], trust[mine]))
        return evaluator


def average_precision(evaluation: Evaluation) -> dict[str, float]:
    """AP in points (0..100) by part; parts that nobody has a label of are left out."""
    return {part: 100 * scores.ap for part, scores in evaluation.parts.items() if scores.ap >= 0}


def _areas(item: Item) -> NDArray[np.float64]:
    return np.asarray(item.people.areas, np.float64)[labelled_people(item)]
