"""UBody in 3D: 137 joints of a fitted SMPL-X body, as mmpose's ubody_smplx_to_coco.py writes them.

A joint is u, v in pixels and a depth in sixteenths of the range -1..1 m: the body's joints from the pelvis, a hand's
from its wrist, the face's from the neck. A file with 133 joints is the same without the first four (pelvis, hips, left
knee); mmpose reads either as if it had the order of COCO-WholeBody, which scrambles them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .coco_files import BAD_VALUES, corners, read_coco
from .table import Collector

JOINTS, DROPPED = 137, 4
PELVIS, HIPS, NECK, WRISTS = 0, (1, 2), 7, (12, 13)
HANDS = slice(25, 45), slice(45, 65)
FACE = slice(65, 137)
PART_FLAGS = ("lefthand_valid", "righthand_valid", "face_valid")
"""mmpose's script marks the wrong joints when a hand or the face is not valid; the annotation's own flags are right."""
DEPTH_BINS, HALF_RANGE = 16.0, 1.0
BONES = ((8, 9, 0.34), (8, 10, 0.27), (9, 11, 0.27), (10, 12, 0.25), (11, 13, 0.25), (1, 3, 0.40), (2, 4, 0.40))
"""Two joints and the metres between them in an average adult: what the distance to the camera is estimated from."""
USABLE = 0.5
"""A bone that points at the camera says little of distance: it counts when half of its length is across the view."""
NEAREST = 0.1
"""Metres from the camera to the nearest joint, at least."""
DEFAULT_DISTANCE = 5.14388
"""Metres, where no bone is usable (RTMW3D's mean, spec 2.2)."""


def read_ubody3d(path: Path, collector: Collector) -> None:
    """Read one train_3dkeypoint_annotation.json into the collector."""
    for annotation, image in read_coco(path, collector):
        try:
            points, depth, valid = _joints(annotation)
            width, height = float(image["width"]), float(image["height"])
            parameters = annotation.get("camera_param")
            camera = None
            if parameters is not None:
                camera = np.array([*parameters["focal"], *parameters["princpt"]], np.float64).reshape(4)
            box = corners(annotation["bbox"])
            name = str(image["file_name"])
            inside = ((points >= 0) & (points < [width, height])).all(axis=1)
            metres = None if camera is None else _metres(points, depth, valid, camera)
            visible = np.where(valid & inside, 2, 0).astype(np.uint8)
        except BAD_VALUES as error:
            collector.skip_malformed(annotation.get("id"), error)
            continue
        collector.add(name, box, points, visible, (width, height), metres, camera)


def _joints(annotation: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Pixels (137, 2), metres of depth from the pelvis (137,), and which joints are valid (137,)."""
    values = np.array(annotation["keypoints_3d"], np.float64)
    if values.shape == (JOINTS, 4):
        flags = values[:, 3]
    else:
        if values.shape != (JOINTS - DROPPED, 3):
            raise ValueError(f"joints of shape {values.shape}")
        flags = np.concatenate([np.zeros(DROPPED), np.ravel(annotation["keypoints_valid"])])
        values = np.concatenate([np.zeros((DROPPED, 3)), values])
        values[[PELVIS, *HIPS], 2] = DEPTH_BINS / 2
    depth = (values[:, 2] / (DEPTH_BINS / 2) - 1) * HALF_RANGE
    for hand, wrist in zip(HANDS, WRISTS, strict=True):
        depth[hand] += depth[wrist]
    depth[FACE] += depth[NECK]
    valid = flags > 0
    for part, key in zip((*HANDS, FACE), PART_FLAGS, strict=True):
        valid[part] &= bool(annotation.get(key, True))
    return values[:, :2], depth, valid


def _metres(
    points: NDArray[np.float64], depth: NDArray[np.float64], valid: NDArray[np.bool_], camera: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Joints (137, 3) in the camera's frame. Depth differences are the file's; the distance of the pelvis is estimated.

    Joints that are not valid lie on the optical axis, at their depth: the hips of a file without them.
    """
    rays = (points - camera[2:]) / camera[:2]
    rays[~valid] = 0
    distances = []
    for one, other, length in BONES:
        across = np.sqrt(max(length**2 - (depth[one] - depth[other]) ** 2, 0.0))
        angle = float(np.hypot(*(rays[one] - rays[other])))
        if valid[one] and valid[other] and across > USABLE * length and angle > 0:
            distances.append(across / angle - (depth[one] + depth[other]) / 2)
    distance = float(np.median(distances)) if distances else DEFAULT_DISTANCE
    z = max(distance, NEAREST - float(depth.min())) + depth
    return np.column_stack([rays * z[:, None], z])
