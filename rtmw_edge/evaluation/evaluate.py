"""A runner on a data set: people in; average precision, recall, PCK and, in 3D, MPJPE per body part out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..camera import root_depth, to_camera
from ..crops import FARTHEST
from ..errors import BadInputError
from ..poses import Poses
from ..runtime.detection import NOBODY, Detections
from .datasets import Dataset, Detected, Item, Labels3D
from .flip import Flip, FlipTest
from .intervals import Weights, estimate, resampled_ap, resamples
from .matching import Matches
from .mpjpe import JointErrors, Mpjpe
from .pck import Pck
from .whole_body_ap import EVALUATED_PARTS, Scores, match_image, part_scores, rank

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
        pck10: the same within 10 % of its longer side.
        mpjpe: per part, the errors of a 3D runner on a data set with 3D labels; {} otherwise and with detected boxes.
        boxes: "ground truth" or "detected".
        flip: the flip test that was done, if any.
        images, people: how many were run; left_out: how many detected boxes were not, empty or outside their image.
        ap_interval: per part, low and high end of the 95 % interval of the AP over images; {} when not asked for.
    """

    parts: dict[str, Scores]
    pck: dict[str, float]
    pck10: dict[str, float]
    mpjpe: dict[str, JointErrors]
    dataset: str
    boxes: str
    flip: Flip | None
    images: int
    people: int
    ap_interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    left_out: int = 0

    def left_out_sentence(self) -> str:
        """What was left out, in words; nothing where nothing was."""
        if not self.left_out:
            return ""
        count = f"{self.left_out:,} of {self.people + self.left_out:,} detections"
        return f"{count} lie outside their image or are empty, and were left out."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


class Evaluator:
    """Scores the poses of a data set's images as they come; `result()` gives the figures.

    With `detections` the people were run on detected boxes, where PCK and MPJPE have no label to go by.
    """

    def __init__(self, dataset: str, *, detections: Detected | None = None, flip: Flip | None = None) -> None:
        self._dataset, self._detections, self._flip = dataset, detections, flip
        self._matches: list[dict[str, Matches]] = []
        self._pck, self._pck10 = Pck(), Pck(coarse=True)
        self._people = self._left_out = 0
        self.mpjpe: Mpjpe | None = None

    def add(self, item: Item, poses: Poses) -> None:
        """Count one image; without detections `poses` are those of its `labelled_people`, in their order."""
        labels = item.people
        self._people += len(poses)
        if self._detections is not None:
            self._left_out += len(self._detections.get(item.image_id, NOBODY).boxes) - len(poses)
        elif len(poses):
            chosen = labelled_people(item)
            keypoints = poses.keypoints[..., :2]
            for pck in (self._pck, self._pck10):
                pck.add(keypoints, labels.keypoints[chosen], labels.visible[chosen], labels.boxes[chosen])
            if item.labels_3d is not None and poses.keypoints.shape[2] == 3:
                self.mpjpe = self.mpjpe or Mpjpe()
                in_metres = _in_metres(poses, item.labels_3d, labels.visible > 0, chosen)
                self.mpjpe.add(*in_metres, image=len(self._matches))
        self._matches.append(match_image(rank(poses), labels))

    def resampled_ap(self, part: str, weights: Weights) -> NDArray[np.float64]:
        """The part's AP in 0..1 over every resample of the images so far, in the order in which they came."""
        return resampled_ap([image[part] for image in self._matches], weights)

    def images_with(self, part: str) -> int:
        """On how many of the images so far somebody has the part labelled."""
        return sum(bool(image[part].people[0]) for image in self._matches)

    def result(self, *, intervals: bool = False) -> Evaluation:
        """The figures of the images so far; `intervals` adds those of the APs: ten seconds on 5000 images."""
        parts = {part: part_scores([image[part] for image in self._matches]) for part in EVALUATED_PARTS}
        found = {}
        if intervals:
            weights = resamples(len(self._matches))
            for part, scores in parts.items():
                interval = estimate(scores.ap, self.resampled_ap(part, weights))
                found[part] = (interval.low, interval.high)
        detected = self._detections is not None
        return Evaluation(
            parts=parts,
            pck={} if detected else self._pck.result(),
            pck10={} if detected else self._pck10.result(),
            mpjpe={} if self.mpjpe is None else self.mpjpe.result(),
            dataset=self._dataset,
            boxes="detected" if detected else "ground truth",
            flip=self._flip,
            images=len(self._matches),
            people=self._people,
            ap_interval=found,
            left_out=self._left_out,
        )


def evaluate(
    runner: ImageRunner,
    dataset: Dataset,
    *,
    detections: Detected | None = None,
    flip: Flip | None = None,
    intervals: bool = False,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Run `runner` on every image of `dataset` and score it by the COCO-WholeBody protocol.

    Boxes are the labelled ones, cut to the image, or `detections`. People are ranked by box score times the mean of
    their keypoint scores above 0.2 and thinned by OKS-NMS at 0.9. `flip` adds the flip test of all official 2D figures,
    `intervals` the 95 % intervals of the APs.
    In 3D, keypoints are taken to metres by the labelled camera and the labelled depth of the hip middle, as mmpose does
    on H3WB: MPJPE judges the pose, not how far away the person is thought to be.
    `on_progress(done, total)` is called after every image.
    """
    if flip is not None:
        runner = FlipTest(runner, flip)  # type: ignore[arg-type]
    evaluator = Evaluator(dataset.name, detections=detections, flip=flip)
    for done, item in enumerate(dataset, start=1):
        boxes, scores = boxes_to_run(item, detections)
        poses = Poses.empty()
        if len(boxes):
            try:
                poses = runner(item.image, boxes, scores)
            except BadInputError as error:
                raise BadInputError(f"Image {item.image_id}: {error}") from error
        evaluator.add(item, poses)
        if on_progress is not None:
            on_progress(done, len(dataset))
    return evaluator.result(intervals=intervals)


def boxes_to_run(item: Item, detections: Detected | None) -> Detections:
    """The people to run: the detected ones, or the labelled ones cut to the image, of score 1.

    Detected boxes that `crops.check_boxes` would refuse, empty or wholly outside the image, are left out.
    """
    if detections is not None:
        boxes, scores = detections.get(item.image_id, NOBODY)
        height, width = item.image.shape[:2]
        low, high = boxes[:, :2], boxes[:, 2:]
        runs = ((high > low) & (high >= 0) & (low <= [width - 1, height - 1])).all(axis=1)
        runs &= (abs(boxes) <= FARTHEST).all(axis=1)
        return Detections(boxes[runs], scores[runs])
    chosen = labelled_people(item)
    return Detections(clipped_boxes(item, chosen), np.ones(len(chosen), np.float32))


def _in_metres(
    poses: Poses, labels: Labels3D, visible: NDArray[np.bool_], chosen: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Found and true keypoints (N,133,3) in the camera's frame, which are labelled; without people of unknown depth."""
    truth = labels.metres[chosen].astype(np.float64)
    depth = root_depth(truth)
    known = np.isfinite(depth)
    found = to_camera(poses.keypoints[known], labels.camera, depth[known])
    return found, truth[known], visible[chosen][known] & np.isfinite(truth[known]).all(axis=2)


def labelled_people(item: Item) -> NDArray[np.intp]:
    """Indices of the people whose labelled box is run: no crowds, nobody without a label, no box under one pixel or
    wholly beyond the image's pixel centres.
    """
    people = item.people
    labelled, cut = people.boxes, clipped_boxes(item, np.arange(len(people.boxes)))
    has_area = (labelled[:, 2:] - labelled[:, :2] >= 1).all(axis=1) & (cut[:, 2:] > cut[:, :2]).all(axis=1)
    return np.flatnonzero((people.visible > 0).any(axis=1) & ~people.crowd & has_area)


def clipped_boxes(item: Item, chosen: NDArray[np.intp]) -> NDArray[np.float32]:
    """Labelled boxes (N,4) cut to the image's pixel centres, as mmpose does before it crops."""
    height, width = item.image.shape[:2]
    limits = np.array([width - 1, height - 1, width - 1, height - 1])
    return np.clip(item.people.boxes[chosen], 0, limits).astype(np.float32)
