"""Average precision and recall per body part by the COCO-WholeBody protocol.

Six COCO keypoint evaluations of the same ranked people: body, foot, face, left hand, right hand, and all 133 together.
Equal to xtcocotools 1.14.3 as mmpose's CocoWholeBodyMetric calls it (tests/reference/wholebody_ap.json).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..crops import box_to_crop
from ..keypoints import NUM_KEYPOINTS, PARTS, SIGMAS
from ..poses import Poses
from .matching import THRESHOLDS, Bool, Float, Matches, average, match, oks, oks_nms

NMS_THRESHOLD = 0.9
WHOLE = "whole"
EVALUATED_PARTS: dict[str, slice] = {**PARTS, WHOLE: slice(0, NUM_KEYPOINTS)}


@dataclass(frozen=True, eq=False)
class People:
    """The labelled people of one image.

    keypoints (G,133,2) in pixels; visible (G,133), labelled where above 0; boxes (G,4) xyxy; areas (G,) of the person's
    mask in square pixels; crowd (G,): a group, which is ignored.
    """

    keypoints: NDArray[np.floating]
    visible: NDArray[Any]
    boxes: NDArray[np.floating]
    areas: NDArray[np.floating]
    crowd: Bool

    def __len__(self) -> int:
        return len(self.keypoints)


@dataclass(frozen=True, eq=False)
class Ranked:
    """The people found in one image: keypoints (D,133,2), keypoint_scores (D,133), scores (D,) that rank them."""

    keypoints: Float
    keypoint_scores: Float
    scores: Float


@dataclass(frozen=True)
class Scores:
    """COCO's ten figures, each in 0..1, or -1 where there is nobody to find.

    Average precision and recall over OKS 0.50:0.05:0.95, at 0.50 and 0.75, and for medium and large people.
    """

    ap: float
    ap50: float
    ap75: float
    ap_medium: float
    ap_large: float
    ar: float
    ar50: float
    ar75: float
    ar_medium: float
    ar_large: float


def rank(poses: Poses, *, nms: float | None = NMS_THRESHOLD) -> Ranked:
    """Order the people of an image by `poses.instance_scores()` and drop doubles by OKS-NMS over all 133 keypoints.

    The areas that the NMS uses are those of the padded, aspect-fixed boxes. `nms=None` keeps everybody.
    """
    keypoints = poses.keypoints[..., :2].astype(np.float64)
    scores = poses.instance_scores().astype(np.float64)
    keep: list[int] | slice = slice(None)
    if nms is not None and len(poses):
        _, extents = box_to_crop(poses.boxes, (3, 4))
        keep = oks_nms(keypoints, scores, extents.prod(axis=1), SIGMAS, nms)
    return Ranked(keypoints[keep], poses.scores.astype(np.float64)[keep], scores[keep])


def whole_body_ap(predictions: Mapping[int, Ranked], ground_truth: Mapping[int, People]) -> dict[str, Scores]:
    """Scores per part of `predictions` against `ground_truth`, both by image; every image of the latter counts."""
    nobody = rank(Poses.empty())
    images = [match_image(predictions.get(image, nobody), people) for image, people in ground_truth.items()]
    return {part: part_scores([image[part] for image in images]) for part in EVALUATED_PARTS}


def match_image(found: Ranked, people: People) -> dict[str, Matches]:
    """One image matched part by part: all that the figures of any collection of images are made from."""
    return {part: _match_part(found, people, rows) for part, rows in EVALUATED_PARTS.items()}


def part_scores(images: Sequence[Matches]) -> Scores:
    """The ten figures of one part from its matches, image by image."""
    precision, recall = average(images)
    at50, at75 = (int(np.argmin(abs(THRESHOLDS - level))) for level in (0.5, 0.75))
    figures = []
    for table in (precision, recall):
        figures += [table[0].mean(), table[0, at50], table[0, at75], table[1].mean(), table[2].mean()]
    return Scores(*(float(figure) for figure in figures))


def _match_part(found: Ranked, people: People, rows: slice) -> Matches:
    scored = (found.keypoint_scores[:, rows] > 0).any(axis=1)
    points, scores = found.keypoints[scored], found.scores[scored]
    labelled = people.visible[:, rows] > 0
    keypoints, boxes, areas = (np.asarray(a, np.float64) for a in (people.keypoints, people.boxes, people.areas))
    similarity = oks(points[:, rows], keypoints[:, rows], labelled, boxes, areas, SIGMAS[rows])
    # COCO's tools take a detection's area from its body keypoints, whatever part is evaluated.
    extent = np.ptp(points[:, PARTS["body"]], axis=1).prod(axis=1) if len(points) else np.zeros(0)
    return match(similarity, scores, extent, areas, people.crowd, ~labelled.any(axis=1) | people.crowd)
