"""A runner on a data set: people in; average precision, recall, PCK and, in 3D, MPJPE per body part out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInputError
from ..poses import Poses
from .camera import root_depth, to_camera
from .datasets import Dataset, Detections, Item, Labels3D
from .mpjpe import JointErrors, Mpjpe
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
        mpjpe: per part, the errors of a 3D runner on a data set with 3D labels; {} otherwise and with detected boxes.
        boxes: "ground truth" or "detected".
        images, people: how many were run.
    """

    parts: dict[str, Scores]
    pck: dict[str, float]
    mpjpe: dict[str, JointErrors]
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
    In 3D, keypoints are taken to metres by the labelled camera and the labelled depth of the hip middle, as mmpose does
    on H3WB: MPJPE judges the pose, not how far away the person is thought to be.
    `on_progress(done, total)` is called after every image.
    """
    if flip:
        from .flip import FlipTest

        runner = FlipTest(runner)  # type: ignore[arg-type]
    found: dict[int, Ranked] = {}
    truth: dict[int, People] = {}
    pck = Pck()
    mpjpe: Mpjpe | None = None
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
                if item.labels_3d is not None and poses.keypoints.shape[2] == 3:
                    mpjpe = mpjpe or Mpjpe()
                    mpjpe.add(*_in_metres(poses, item.labels_3d, labels.visible > 0, chosen))
        if on_progress is not None:
            on_progress(done, len(dataset))
    return Evaluation(
        parts=whole_body_ap(found, truth).parts,
        pck=pck.result() if detections is None else {},
        mpjpe=mpjpe.result() if mpjpe is not None else {},
        dataset=dataset.name,
        boxes="ground truth" if detections is None else "detected",
        flip=flip,
        images=len(dataset),
        people=people,
    )


def _in_metres(
    poses: Poses, labels: Labels3D, visible: NDArray[np.bool_], chosen: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Found and true keypoints (N,133,3) in the camera's frame, which are labelled; without people of unknown depth."""
    truth = labels.metres[chosen].astype(np.float64)
    depth = root_depth(truth)
    known = np.isfinite(depth)
    found = to_camera(poses.keypoints[known], labels.camera, depth[known])
    return found, truth[known], visible[chosen][known] & np.isfinite(truth[known]).all(axis=2)


def labelled_people(people: People) -> NDArray[np.intp]:
    """Indices of the people whose labelled box is run: no crowds, nobody without a label, no box under one pixel."""
    extent = people.boxes[:, 2:] - people.boxes[:, :2]
    return np.flatnonzero((people.visible > 0).any(axis=1) & ~people.crowd & (extent >= 1).all(axis=1))


def clipped_boxes(item: Item, chosen: NDArray[np.intp]) -> NDArray[np.float32]:
    """Labelled boxes (N,4) cut to the image's pixel centres, as mmpose does before it crops."""
    height, width = item.image.shape[:2]
    limits = np.array([width - 1, height - 1, width - 1, height - 1])
    return np.clip(item.people.boxes[chosen], 0, limits).astype(np.float32)
