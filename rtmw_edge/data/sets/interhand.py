"""InterHand2.6M: both hands of an image, their joints projected from the world into its camera.

Three files: *_data.json (images, boxes), *_camera.json and *_joint_3d.json (millimetres in the world). The result is
2D: depths relative to a wrist are of no use where depth counts from the hips.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInputError
from .coco_files import BAD_VALUES, corners, read_coco, read_json
from .table import Collector

HAND = 21
"""Joints of one hand, the right one first; the wrist is the last."""


def read_interhand(path: Path, collector: Collector) -> None:
    """Read one InterHand2.6M_*_data.json and its two companions into the collector."""
    cameras, joints = map(read_json, companions(path))
    for annotation, image in read_coco(path, collector):
        try:
            capture, camera = cameras[str(image["capture"])], str(image["camera"])
            world = np.array(joints[str(image["capture"])][str(image["frame_idx"])]["world_coord"], np.float64)
            valid = np.array(annotation["joint_valid"], np.float64).reshape(2, HAND)
            points = project(world.reshape(2 * HAND, 3), capture, camera)
            box = corners(annotation["bbox"])
            name, size = str(image["file_name"]), (float(image["width"]), float(image["height"]))
        except BAD_VALUES as error:
            collector.skip_malformed(annotation.get("id"), error)
            continue
        # Without its wrist a hand has not been triangulated (mmpose does the same).
        visible = np.where(valid * valid[:, -1:] > 0, 2, 0).astype(np.uint8)
        collector.add(name, box, points, visible.ravel(), size)


def companions(path: Path) -> list[Path]:
    """The two files that a *_data.json needs beside it."""
    if not path.name.endswith("_data.json"):
        raise BadInputError(f"The annotations {path} must end with _data.json, beside _camera.json and _joint_3d.json.")
    return [path.with_name(path.name.removesuffix("data.json") + end) for end in ("camera.json", "joint_3d.json")]


def project(world: NDArray[np.float64], capture: dict[str, Any], camera: str) -> NDArray[np.float64]:
    """Pixels (N, 2) of world points (N, 3): focal * (R (point - position)) / z + principal point."""
    rotation = np.array(capture["camrot"][camera], np.float64).reshape(3, 3)
    seen = (world - np.array(capture["campos"][camera], np.float64)) @ rotation.T
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = seen[:, :2] / seen[:, 2:]
    return flat * np.array(capture["focal"][camera]) + np.array(capture["princpt"][camera])
