"""A runner on a data set: people in, average precision, recall and PCK per body part out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInputError
from ..poses import Poses
from .datasets import Dataset, Detections, Item
from .pck import Pck
from .whole_body_ap import People, Ranked, Scores, rank, whole_body_ap

Progress = Callable[[int, int], None]


class ImageRunner(Protocol):
    """What is evaluated: rtmw_edge.runtime.Runner, or anything that is called like it."""

    def __call__(
        self, image: NDArray[np.uint8], boxes: NDArray[np.float32], box_scores: NDArray[np.float32]
    ) -> Poses: ...


@dataclass(frozen=True)
class Evaluation:
    """How good a runner is on a data set.

    Attributes:
        parts: COCO's figures of body, foot, face, left_hand, right_hand and whole.
        pck: per part, the share in 0..1 of labelled keypoints within 5 % of the box's height; {} with detected boxes.
        boxes: "ground truth" or "detected".
        images, people: how many were run.
    """

    parts: dict[str, Scores]
    pck: dict[str, float]
    dataset: str
    boxes: str
    flip: bool
    images: int
    people: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def evaluate(
    runner: ImageRunner,
    dataset: Dataset,
    *,
    detections: Detections | None = None,
    flip: bool = False,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Run `runner` on every image of `dataset` and score it by the COCO-WholeBody protocol.

    Boxes are the labelled ones, cut to the image, or `detections`. People are ranked by box score times the mean of
    their keypoint scores above 0.2 and thinned by OKS-NMS at 0.9. `flip` adds the flip test of all official 2D figures.
    `on_progress(done, total)` is called after every image.
    """
    if flip:
        from .flip import FlipTest

        runner = FlipTest(runner)  # type: ignore[arg-type]
    found: dict[int, Ranked] = {}
    truth: dict[int, People] = {}
    pck = Pck()
    people = 0
    for done, item in enumerate(dataset, start=1):
        truth[item.image_id] = item.people
        chosen = labelled_people(item.people)
        if detections is None:
            boxes, scores = clipped_boxes(item, chosen), np.ones(len(chosen), np.float32)
        else:
            boxes, scores = detections.of(item.image_id)
        if len(boxes):
            try:
                poses = runner(item.image, boxes, scores)
            except BadInputError as error:
                raise BadInputError(f"Image {item.image_id}: {error}") from error
            found[item.image_id] = rank(poses)
            people += len(poses)
            if detections is None:
                labels = item.people
                pck.add(
                    poses.keypoints[..., :2], labels.keypoints[chosen], labels.visible[chosen], labels.boxes[chosen]
                )
        if on_progress is not None:
            on_progress(done, len(dataset))
    return Evaluation(
        parts=whole_body_ap(found, truth).parts,
        pck=pck.result() if detections is None else {},
        dataset=dataset.name,
        boxes="ground truth" if detections is None else "detected",
        flip=flip,
        images=len(dataset),
        people=people,
    )


def labelled_people(people: People) -> NDArray[np.intp]:
    """Indices of the people whose labelled box is run: no crowds, nobody without a label, no box under one pixel."""
    extent = people.boxes[:, 2:] - people.boxes[:, :2]
    return np.flatnonzero((people.visible > 0).any(axis=1) & ~people.crowd & (extent >= 1).all(axis=1))


def clipped_boxes(item: Item, chosen: NDArray[np.intp]) -> NDArray[np.float32]:
    """Labelled boxes (N,4) cut to the image's pixel centres, as mmpose does before it crops."""
    height, width = item.image.shape[:2]
    limits = np.array([width - 1, height - 1, width - 1, height - 1])
    return np.clip(item.people.boxes[chosen], 0, limits).astype(np.float32)
