"""People as plain JSON, with rounded numbers: what the files of poses have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...keypoints import PARTS
from ...poses import COCO_FIELDS
from ..engine import Model
from ..frames import Result

PIXEL_DIGITS, SCORE_DIGITS, METRE_DIGITS = 2, 4, 4


def rounded(values: Any, digits: int) -> Any:
    """Numbers for JSON, in full precision before they are rounded."""
    return np.round(np.asarray(values, np.float64), digits).tolist()


def model_entry(model: Model, runtime: str) -> dict[str, str]:
    """Which model made the poses."""
    return {"variant": model.variant, "target": model.target, "precision": model.precision, "runtime": runtime}


def frame_entry(result: Result) -> dict[str, Any]:
    """Of which frame: its file or source, and in moving sources its index and time."""
    frame = result.frame
    height, width = frame.image.shape[:2]
    entry: dict[str, Any] = {"file": frame.origin.name}
    if frame.origin.moving:
        entry |= {"frame": frame.index, "time_s": round(frame.time_s, 4)}
    return entry | {"width": width, "height": height}


def person_entry(result: Result, person: int) -> dict[str, Any]:
    """Who and where: id, box and scores of one person."""
    entry: dict[str, Any] = {} if result.ids is None else {"id": result.ids[person]}
    return entry | {
        "box": rounded(result.poses.boxes[person], PIXEL_DIGITS),
        "box_score": rounded(result.poses.box_scores[person], SCORE_DIGITS),
        "score": rounded(result.confidence[person].mean(), SCORE_DIGITS),
    }


def depth_entry(result: Result, person: int) -> dict[str, Any]:
    """Of 3D variants: depth relative to the hip middle, and the keypoints in the camera's frame, in metres."""
    if result.metres is None:
        return {}
    return {
        "z": rounded(result.poses.keypoints[person, :, 2], METRE_DIGITS),
        "metres": rounded(result.metres[person], METRE_DIGITS),
    }


def triples(result: Result, person: int) -> list[list[float]]:
    """133 times x, y in pixels and the confidence in 0..1."""
    points = rounded(result.poses.keypoints[person, :, :2], PIXEL_DIGITS)
    scores = rounded(result.confidence[person], SCORE_DIGITS)
    return [[*xy, score] for xy, score in zip(points, scores, strict=True)]


def coco_fields(result: Result, person: int) -> dict[str, list[float]]:
    """The triples part by part, flat, under COCO-WholeBody's names."""
    rows = triples(result, person)
    return {COCO_FIELDS[part]: [value for row in rows[where] for value in row] for part, where in PARTS.items()}
