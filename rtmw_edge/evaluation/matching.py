"""Object keypoint similarity, its non-maximum suppression, and COCO's matching and averaging, for any set of keypoints.

Formulas of pycocotools' COCOeval (computeOks, evaluateImg, accumulate, summarize) and mmpose's oks_nms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

THRESHOLDS: Float = np.linspace(0.5, 0.95, 10)
RECALLS: Float = np.linspace(0.0, 1.0, 101)
AREAS: Float = np.array([[0, 1e10], [32**2, 96**2], [96**2, 1e10]])
"""All, medium and large people, in square pixels."""
MAX_DETECTIONS = 20
"""People of the highest scores that count in one image."""


@dataclass(frozen=True, eq=False)
class Matches:
    """One image matched at every area range (A) and OKS threshold (T).

    scores (D,) falling; matched (A,T,D): the detection found a person; ignored (A,T,D): it counts neither way;
    people (A,): how many people are to be found.
    """

    scores: Float
    matched: Bool
    ignored: Bool
    people: NDArray[np.int64]


def oks(found: Float, keypoints: Float, labelled: Bool, boxes: Float, areas: Float, sigmas: Float) -> Float:
    """Similarity (D,G) in 0..1 of `found` (D,K,2) to people with `keypoints` (G,K,2) and `labelled` (G,K).

    exp(-d^2 / (2 (2 sigma)^2 area)) averaged over the labelled keypoints. For a person without any, d is the distance
    to its box (G,4) xyxy widened by its own size on every side, as COCO does, so that detections on it can be ignored.
    """
    offset = found[:, None] - keypoints
    unlabelled = ~np.any(labelled, axis=1)
    if unlabelled.any():
        extent = boxes[:, 2:] - boxes[:, :2]
        low, high = boxes[:, None, :2] - extent[:, None], boxes[:, None, 2:] + extent[:, None]
        outside = np.maximum(0, low - found[:, None]) + np.maximum(0, found[:, None] - high)
        offset = np.where(unlabelled[:, None, None], outside, offset)
    error = (offset**2).sum(axis=-1) / (2 * sigmas) ** 2 / (areas[:, None] + np.spacing(1)) / 2
    counted = labelled | unlabelled[:, None]
    similarity: Float = np.where(counted, np.exp(-error), 0).sum(axis=-1) / counted.sum(axis=-1)
    return similarity


def oks_nms(keypoints: Float, scores: Float, areas: Float, sigmas: Float, threshold: float) -> list[int]:
    """Indices of the people to keep, best first: those whose OKS to every better one is at most `threshold`.

    The area is the mean of the two people's; all keypoints count, whatever they score.
    """
    order = np.argsort(scores)[::-1]
    keep: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        keep.append(int(best))
        squares = ((keypoints[rest] - keypoints[best]) ** 2).sum(axis=-1)
        mean_area = (areas[best] + areas[rest])[:, None] / 2 + np.spacing(1)
        similarity = np.exp(-squares / (2 * sigmas) ** 2 / mean_area / 2).mean(axis=-1)
        order = rest[similarity <= threshold]
    return keep


def match(similarity: Float, scores: Float, found_areas: Float, areas: Float, crowd: Bool, ignored: Bool) -> Matches:
    """Match detections, best first, each to the most similar free person; see `Matches`.

    similarity (D,G); scores, found_areas (D,); areas, crowd, ignored (G,): an ignored person absorbs detections that
    fit nobody else, a crowd any number of them.
    """
    order = np.argsort(-scores, kind="mergesort")[:MAX_DETECTIONS]
    similarity, scores, found_areas = similarity[order], scores[order], found_areas[order]
    shape = (len(AREAS), len(THRESHOLDS))
    outside = (areas < AREAS[:, :1]) | (areas > AREAS[:, 1:])
    skipped = (ignored | outside)[:, None]
    taken = np.zeros((*shape, len(areas)), bool)
    matched, ignoring = np.zeros((2, *shape, len(order)), bool)
    levels = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    for detection in range(len(order) if len(areas) else 0):
        fits = (similarity[detection] >= levels) & (~taken | crowd)
        wanted = fits & ~skipped
        choice = np.where(wanted.any(axis=-1, keepdims=True), wanted, fits)
        # The last of equals wins, as in COCOeval's scan.
        ranked = np.where(choice, similarity[detection], -1.0)[..., ::-1]
        person = len(areas) - 1 - ranked.argmax(axis=-1)
        assigned = (np.arange(len(areas)) == person[..., None]) & choice
        taken |= assigned
        matched[..., detection] = assigned.any(axis=-1)
        ignoring[..., detection] = (assigned & skipped).any(axis=-1)
    off_range = (found_areas < AREAS[:, :1]) | (found_areas > AREAS[:, 1:])
    ignoring |= ~matched & off_range[:, None]
    return Matches(scores, matched, ignoring, (~skipped[:, 0]).sum(axis=-1))


def average(images: Sequence[Matches]) -> tuple[Float, Float]:
    """Average precision over the recall points, and final recall, each (A,T); -1 where there is nobody to find."""
    people = np.sum([image.people for image in images], axis=0) if images else np.zeros(len(AREAS), int)
    precision = np.full((len(AREAS), len(THRESHOLDS)), -1.0)
    recall = precision.copy()
    if not images:
        return precision, recall
    order = np.argsort(-np.concatenate([image.scores for image in images]), kind="mergesort")
    matched = np.concatenate([image.matched for image in images], axis=-1)[..., order]
    counted = ~np.concatenate([image.ignored for image in images], axis=-1)[..., order]
    right = np.cumsum(matched & counted, axis=-1).astype(float)
    wrong = np.cumsum(~matched & counted, axis=-1).astype(float)
    for area in np.flatnonzero(people):
        for level in range(len(THRESHOLDS)):
            precision[area, level], recall[area, level] = _curve(right[area, level], wrong[area, level], people[area])
    return precision, recall


def _curve(right: Float, wrong: Float, people: int) -> tuple[float, float]:
    """Mean interpolated precision and final recall, from the running counts (D,) of right and wrong detections."""
    if not right.size:
        return 0.0, 0.0
    recall = right / people
    precision = right / (right + wrong + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    index = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(envelope, 0.0)[index].mean()), float(recall[-1])
