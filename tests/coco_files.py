"""COCO-WholeBody documents made of noise, for tests that need labels without photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtmw_edge.keypoints import PARTS
from rtmw_edge.poses import COCO_FIELDS


def annotation(identity: int, image_id: int, rng: np.random.Generator, crowd: bool = False) -> dict[str, Any]:
    """One person of 40 to 200 px; a part in five is not labelled, nor is a keypoint in five."""
    size = rng.uniform(40, 200)
    corner = rng.uniform(0, 120, 2)
    keypoints = np.column_stack([rng.uniform(0, size, (133, 2)) + corner, rng.random(133) > 0.2])
    for rows in PARTS.values():
        if rng.random() < 0.2:
            keypoints[rows] = 0
    fields = {name: keypoints[PARTS[part]].ravel().tolist() for part, name in COCO_FIELDS.items()}
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": int(crowd),
        "area": size**2 * rng.uniform(0.3, 0.6),
        "bbox": [*corner.tolist(), size, size],
        "num_keypoints": int((keypoints[:17, 2] > 0).sum()),
        **fields,
    }


def document(images: int = 6, seed: int = 0) -> dict[str, Any]:
    """An annotation file of `images` images of 320x320 with one to four people, one in ten a crowd."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    for image_id in range(images):
        for _ in range(rng.integers(1, 5)):
            annotations.append(annotation(len(annotations) + 1, image_id, rng, crowd=bool(rng.random() < 0.1)))
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 320, "height": 320} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }


def write_images(folder: Path, count: int) -> None:
    """Grey 320x320 images with the names that `document` uses."""
    folder.mkdir(exist_ok=True)
    for image_id in range(count):
        cv2.imwrite(str(folder / f"{image_id}.png"), np.full((320, 320, 3), 100, np.uint8))
