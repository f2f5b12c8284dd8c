"""MPII: a list of people with `joints`, `joints_vis`, `center` and `scale`, as HRNet and mmpose distribute it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import BadInputError
from .coco_files import BAD_VALUES, centred_box, read_json
from .table import Collector

DOWN = 15.0
"""The box is moved down by this many pixels times the scale, so that it does not cut the feet (HRNet, mmpose)."""


def read_mpii(path: Path, collector: Collector) -> None:
    """Read mpii_train.json into the collector.

    Its coordinates count from 1, as Matlab does; mmpose 1.x corrects the box and forgets the joints, here both are.
    """
    people = read_json(path)
    if not isinstance(people, list):
        raise BadInputError(f"{path} is not MPII's annotation file: it must be a list of people with 'joints'.")
    for number, person in enumerate(people):
        try:
            image, scale = str(person["image"]), float(person["scale"])
            if not collector.wants(path, image):
                continue
            box = centred_box(person["center"], scale) + np.array([0, DOWN, 0, DOWN]) * scale - 1
            points = np.array(person["joints"], np.float64).reshape(-1, 2) - 1
            visible = np.where(np.array(person["joints_vis"], np.float64) > 0, 2, 0).astype(np.uint8)
        except BAD_VALUES as error:
            collector.skip_malformed(number, error)
            continue
        collector.add(image, box, points, visible)
