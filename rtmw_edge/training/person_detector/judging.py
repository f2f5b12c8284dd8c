"""What the person detector is judged on: rendered scenes that it never saw, and photographs with labelled people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...evaluation.datasets import open_dataset
from ...evaluation.detection import Labelled
from .augmentation import HIDDEN
from .scenes import render

SCENES, MIXED = 300, 100
"""How many scenes of one to four people, and how many with crowds of five to eight and empty ones among them."""
SETTING = 100
"""Mixed scenes of the split `calibration` that the meaning of a score is set on."""
SIZE = (640, 480)
TALL = 64
"""Pixels of the photograph from which on a person counts as tall."""
SEED = 0


def scenes(count: int, *, mixed: bool = False, split: str = "val") -> Iterator[Labelled]:
    """Rendered scenes of a split. Who shows less than `HIDDEN` of the box need not be found."""
    for scene in render(split, range(count), SIZE, seed=SEED, mixed=mixed):
        yield Labelled(scene.image, scene.boxes, scene.seen < HIDDEN)


def photographs(annotations: Path, images: Path, *, taller: float = 0) -> Iterator[Labelled]:
    """The pictures of a COCO-WholeBody annotation file; people who are not `taller`, and crowds, need not be found."""
    for item in open_dataset(f"coco:{annotations}:{images}"):
        boxes = item.people.boxes.astype(np.float32)
        low = boxes[:, 3] - boxes[:, 1] <= taller
        yield Labelled(item.image, boxes, item.people.crowd | low)
