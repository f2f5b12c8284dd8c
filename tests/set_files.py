"""Tiny annotation files of every kind of set, written for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rtmw_edge.data.sets import AnnotatedSet, SetConfig, open_set
from rtmw_edge.poses import COCO_FIELDS

WIDTH, HEIGHT = 400, 300


def grid(joints: int) -> np.ndarray:
    """A place of its own for every joint: (joints, 2) inside the image."""
    return np.column_stack([20 + 2 * np.arange(joints), 30 + 1.5 * np.arange(joints) % 200]).astype(np.float64)


def annotation(joints: int, image_id: int = 1, flag: float = 2, **changes: Any) -> dict[str, Any]:
    """One annotation with all joints at `grid`; `changes` override or add keys."""
    triples = np.column_stack([grid(joints), np.full(joints, flag)])
    found = {"id": 1, "image_id": image_id, "bbox": [10, 20, 200, 220], "keypoints": triples.ravel().tolist()}
    return {**found, **changes}


def whole_body(image_id: int = 1, flag: float = 1, **changes: Any) -> dict[str, Any]:
    """One annotation in COCO-WholeBody's five fields."""
    triples = np.column_stack([grid(133), np.full(133, flag)])
    parts = np.split(triples, [17, 23, 91, 112])
    fields = {name: part.ravel().tolist() for name, part in zip(COCO_FIELDS.values(), parts, strict=True)}
    return {"id": 1, "image_id": image_id, "bbox": [10, 20, 200, 220], **fields, **changes}


def document(annotations: list[Any], images: int = 1, name: str = "{}.png") -> dict[str, Any]:
    """A COCO document of images 1 to `images`."""
    listed = [{"id": i, "file_name": name.format(i), "width": WIDTH, "height": HEIGHT} for i in range(1, images + 1)]
    return {"images": listed, "annotations": annotations}


def opened(folder: Path, kind: str, content: Any, **options: Any) -> AnnotatedSet:
    """The set of that kind whose annotation file is `content`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.json").write_text(json.dumps(content))
    return open_set(SetConfig(kind, folder, **{"annotations": "labels.json", "images": ".", **options}))


def interhand(folder: Path, valid: list[int], middle: tuple[int, int] = (50, 60)) -> SetConfig:
    """InterHand's three files with both hands a metre before a camera of that principal point; `valid` (42,) joints."""
    image = {"id": 1, "file_name": "a.png", "width": 400, "height": 300, "capture": 0, "camera": "c", "frame_idx": 0}
    labels = {"id": 1, "image_id": 1, "bbox": [10, 20, 90, 90], "joint_valid": valid}
    camera = {"camrot": {"c": np.eye(3).tolist()}, "campos": {"c": [0, 0, 0]}, "focal": {"c": [100, 100]}}
    documents = {
        "data": {"images": [image], "annotations": [labels]},
        "camera": {"0": {**camera, "princpt": {"c": middle}}},
        "joint_3d": {"0": {"0": {"world_coord": [[0, 0, 1000]] * 42}}},
    }
    for name, content in documents.items():
        (folder / f"a_{name}.json").write_text(json.dumps(content))
    return SetConfig("interhand26m", folder, annotations="a_data.json", images=".")
