"""How well a detector finds people: recall and precision at IoU 0.5, and the average precision (COCO's AP50)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInputError
from ..runtime.detection import Detections, Detector
from ..runtime.frames import UInt8
from ..runtime.tracking import iou
from .matching import Matches, average, match

WHOLE, HALF = 0, 0
"""All sizes of people, and IoU 0.5, among the rows and columns of `matching.AREAS` and `matching.THRESHOLDS`."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """A picture (H,W,3) uint8 BGR and the boxes (P,4) xyxy of its people; who is `ignored` (P,) need not be found."""

    image: UInt8
    boxes: NDArray[np.float32]
    ignored: NDArray[np.bool_]


@dataclass(frozen=True)
class DetectionScores:
    """`recall` and `precision` of detections of at least `score`, `ap50` over all, on `people` in `pictures`.

    Shares in 0..1; NaN where there was nobody to find, or nothing was found.
    """

    pictures: int
    people: int
    score: float
    recall: float
    precision: float
    ap50: float

    def __str__(self) -> str:
        return (
            f"{self.people} people in {self.pictures} pictures: recall {self.recall:.3f}, "
            f"precision {self.precision:.3f} from score {self.score:g} on, AP50 {self.ap50:.3f}"
        )


def evaluate_detector(detector: Detector, pictures: Iterable[Labelled], score: float) -> DetectionScores:
    """Run `detector`, whose own threshold should be far below `score`, on `pictures`, each an IoU of 0.5 to be right.

    COCO's matching, best detection first; 20 detections a picture count.
    """
    images, count, people, right, said = [], 0, 0, 0, 0
    for picture in pictures:
        found = detector(picture.image)
        ignored = picture.ignored
        images.append(_matched(found, picture))
        sure = found.scores >= score
        of_sure = _matched(Detections(found.boxes[sure], found.scores[sure]), picture)
        counted = ~of_sure.ignored[WHOLE, HALF]
        right += int((of_sure.matched[WHOLE, HALF] & counted).sum())
        said += int(counted.sum())
        count += 1
        people += int((~ignored).sum())
    precision, _ = average(images)
    ap50 = float(precision[WHOLE, HALF]) if people else float("nan")
    nan = float("nan")
    return DetectionScores(count, people, score, right / people if people else nan, right / said if said else nan, ap50)


def best_score(detector: Detector, pictures: Iterable[Labelled]) -> float:
    """The score from which on detections have the highest F2 at IoU 0.5: recall counts twice as much as precision.

    Before a pose model a missed person is lost, while a box with nobody in it is a crop with unsure keypoints. Raises
    BadInputError where nobody is found.
    """
    images = [_matched(detector(picture.image), picture) for picture in pictures]
    counted = [~image.ignored[WHOLE, HALF] for image in images]
    scores = np.concatenate([image.scores[count] for image, count in zip(images, counted, strict=True)])
    right = np.concatenate([image.matched[WHOLE, HALF][count] for image, count in zip(images, counted, strict=True)])
    if not right.any():
        raise BadInputError("The detector finds nobody in these pictures: train it longer.")
    order = np.argsort(-scores, kind="stable")
    people = sum(int(image.people[WHOLE]) for image in images)
    f2 = 5 * np.cumsum(right[order]) / (np.arange(1, len(order) + 1) + 4 * people)
    return float(scores[order][f2.argmax()])


def _matched(found: Detections, picture: Labelled) -> Matches:
    areas, found_areas = (
        (boxes[:, 2:] - boxes[:, :2]).prod(axis=1).astype(np.float64) for boxes in (picture.boxes, found.boxes)
    )
    similarity = iou(found.boxes, picture.boxes).astype(np.float64)
    # An ignored person swallows any number of detections, as COCO's crowds do.
    return match(similarity, found.scores.astype(np.float64), found_areas, areas, picture.ignored, picture.ignored)
