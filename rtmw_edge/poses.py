"""Poses: the people of one image, the one result type that everything returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BadInputError, importing, unknown
from .keypoints import NUM_KEYPOINTS, PARTS

COCO_FIELDS = {
    "body": "keypoints",
    "foot": "foot_kpts",
    "face": "face_kpts",
    "left_hand": "lefthand_kpts",
    "right_hand": "righthand_kpts",
}
"""Name of each part's keypoints in COCO-WholeBody annotations and results."""

CONFIDENT = 0.2
"""Keypoints that score above this make a person's score (mmpose CocoWholeBodyMetric's keypoint_score_thr)."""


@dataclass(frozen=True, eq=False, repr=False)
class Poses:
    """N people with 133 keypoints each; N may be 0. Arrays are read-only float32 copies.

    keypoints: (N,133,2) in image pixels, or (N,133,3) with a depth in metres relative to the middle of the hips.
    scores: (N,133) as the network gives them (logits, not probabilities; see rtmw_edge.simcc.calibrated).
    boxes: (N,4) xyxy in image pixels. box_scores: (N,) in 0..1.
    Raises BadInputError for shapes that do not agree or values that are not finite.

    >>> poses = Poses.empty()
    >>> len(poses), poses.part("left_hand").shape
    (0, (0, 21, 2))
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    box_scores: NDArray[np.float32]

    def __repr__(self) -> str:
        return f"<Poses of {len(self)} {'person' if len(self) == 1 else 'people'}, {self.keypoints.shape[2]}D>"

    def __post_init__(self) -> None:
        for name in ("keypoints", "scores", "boxes", "box_scores"):
            array = np.array(getattr(self, name), np.float32)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        people = self.keypoints.shape[0] if self.keypoints.ndim else 0
        dimensions = self.keypoints.shape[-1] if self.keypoints.ndim == 3 and self.keypoints.shape[-1] in (2, 3) else 2
        expected = {
            "keypoints": (people, NUM_KEYPOINTS, dimensions),
            "scores": (people, NUM_KEYPOINTS),
            "boxes": (people, 4),
            "box_scores": (people,),
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise BadInputError(f"Poses of {people} people need {name} of shape {shape}, not {array.shape}.")
            if not np.isfinite(array).all():
                raise BadInputError(f"Poses hold {name} that are not finite: the network or its input is damaged.")

    def __reduce__(self) -> tuple[type[Poses], tuple[NDArray[np.float32], ...]]:
        """Read-only after pickling and copying too, where numpy forgets it."""
        return type(self), (self.keypoints, self.scores, self.boxes, self.box_scores)

    @classmethod
    def empty(cls, dimensions: int = 2) -> Poses:
        """No people, in 2 or 3 dimensions."""
        shape = (0, NUM_KEYPOINTS)
        arrays = (np.zeros(size, np.float32) for size in ((*shape, dimensions), shape, (0, 4), (0,)))
        return cls(*arrays)

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, people: int | slice | ArrayLike) -> Poses:
        """The chosen people as Poses: one index (kept as one person), a slice, a mask or a list of indices."""
        if isinstance(people, int | np.integer):
            people = [range(len(self))[people]]
        rows = people if isinstance(people, slice) else np.atleast_1d(people)
        if not isinstance(rows, slice) and rows.size == 0:
            rows = slice(0, 0)
        return Poses(self.keypoints[rows], self.scores[rows], self.boxes[rows], self.box_scores[rows])

    def __iter__(self) -> Iterator[Poses]:
        return (self[index] for index in range(len(self)))

    def part(self, name: str) -> NDArray[np.float32]:
        """The keypoints (N,k,2|3) of "body", "foot", "face", "left_hand" or "right_hand"."""
        if name not in PARTS:
            raise unknown("part", name, PARTS)
        return self.keypoints[:, PARTS[name]]

    def instance_scores(self) -> NDArray[np.float32]:
        """Score (N,) that ranks people: box score times the mean of the keypoint scores above 0.2 (0 without any)."""
        confident = self.scores > CONFIDENT
        total = np.where(confident, self.scores, 0).sum(axis=1)
        return (self.box_scores * total / np.maximum(confident.sum(axis=1), 1)).astype(np.float32)

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO-WholeBody results, one dict a person: per part x, y, score in turn, and the instance score."""
        triples = np.concatenate([self.keypoints[..., :2], self.scores[..., None]], axis=2)
        results = []
        for person, score in zip(triples, self.instance_scores(), strict=True):
            fields = {COCO_FIELDS[part]: person[rows].ravel().tolist() for part, rows in PARTS.items()}
            results.append({"image_id": int(image_id), "category_id": 1, **fields, "score": float(score)})
        return results

    def to_supervision(self, confidence: NDArray[np.float32] | None = None) -> Any:
        """The 2D keypoints as `supervision.KeyPoints`; NotAvailableError where supervision is not installed.

        `confidence` (N,133) is what filters and annotators see of them: `runner.confidence(poses)` is in 0..1. Without
        it they see the scores, which are logits as trained.
        """
        with importing("This", "supervision"):
            import supervision
        # supervision 0.29 renamed the field and 0.32 drops the old name.
        fields = supervision.KeyPoints.__dataclass_fields__
        name = "keypoint_confidence" if "keypoint_confidence" in fields else "confidence"
        given: dict[str, Any] = {name: np.array(self.scores if confidence is None else confidence, np.float32)}
        if "detection_confidence" in fields:
            given["detection_confidence"] = self.box_scores.copy()
        return supervision.KeyPoints(xy=self.keypoints[..., :2].copy(), **given)
