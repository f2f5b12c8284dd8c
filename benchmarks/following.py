"""What following people costs in accuracy: `python benchmarks/following.py [--scenes 8] [--frames 60]`.

Scenes of two rendered people before a camera that sways, comes nearer and goes away. The builtin model runs on true
boxes in every frame, on true boxes in every tenth and poses between, and on what the builtin detector sees in every
tenth, with and without boxes that shrink slowly (`TrackingOptions.shrinks`). Prints the mean and median distance of
visible keypoints from their labels, over the height of the person, and to how many of the people of all frames a pose
belongs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from rtmw_edge.data.synthetic import Renderer
from rtmw_edge.data.synthetic.sample import VISIBLE
from rtmw_edge.runtime import load
from rtmw_edge.runtime.detection import Detections, Look, looking_with
from rtmw_edge.runtime.detectors import open_detector
from rtmw_edge.runtime.frame_runner import FrameRunner
from rtmw_edge.runtime.frames import Frame, Origin, Result
from rtmw_edge.runtime.tracking import TrackingOptions

SIZE = (640, 480)
FPS = 30.0
SWAY, NEARER, ROUND_S = 0.08, 0.25, 1.0
"""How far the camera moves over the picture's size, and comes nearer; the seconds of one round."""
MATCHED = 0.5
"""A pose is of the person whose keypoints lie within this share of the height on average."""


def film(index: int, frames: int) -> Iterator[tuple[Frame, NDArray[np.float64], NDArray[np.bool_]]]:
    """Frames of one scene, with keypoints (N,133,2) in pixels and which are visible (N,133)."""
    scene = Renderer("val").scene(index, SIZE, 2)
    keypoints = np.stack([person.keypoints for person in scene.people]).astype(np.float64)
    seen = np.stack([person.visible for person in scene.people]) == VISIBLE
    width, height = SIZE
    origin = Origin(f"scene-{index}.mp4", FPS)
    for number in range(frames):
        angle = 2 * np.pi * number / (FPS * ROUND_S)
        zoom = 1 - NEARER / 2 * (1 - np.cos(angle))
        middle = np.array([width / 2, height / 2])
        shift = middle - zoom * middle + SWAY * np.array(SIZE) * [np.sin(angle), np.sin(2 * angle) / 2]
        matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        image = cv2.warpAffine(scene.image, matrix, SIZE, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        points = keypoints * zoom + shift
        inside = ((points >= 0) & (points < [width, height])).all(axis=2)
        yield Frame(origin, number, number / FPS, image), points, inside & seen


def boxes_of(points: NDArray[np.float64]) -> Detections:
    low, high = points.min(axis=1), points.max(axis=1)
    margin = 0.05 * (high - low).max(axis=1, keepdims=True)
    boxes = np.concatenate([low - margin, high + margin], axis=1).astype(np.float32)
    return Detections(boxes, np.ones(len(boxes), np.float32))


def errors(process: FrameRunner, scenes: int, frames: int, truth: dict[str, NDArray[np.float64]]) -> list[NDArray]:
    """Per person and frame the distances of visible keypoints over the height; an empty one where nobody was found."""
    found = []
    for index in range(scenes):
        for frame, points, visible in film(index, frames):
            truth["points"] = points
            result = process(frame)
            assert isinstance(result, Result)
            for person, shown in zip(points, visible, strict=True):
                height = np.ptp(person[:, 1])
                away = np.linalg.norm(result.poses.keypoints[..., :2] - person, axis=2)[:, shown] / height
                nearest = away[away.mean(axis=1).argmin()] if len(away) else np.zeros(0)
                found.append(nearest if len(nearest) and nearest.mean() < MATCHED else np.zeros(0))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    truth: dict[str, NDArray[np.float64]] = {}

    def true_boxes(_: Frame) -> Detections:
        return boxes_of(truth["points"])

    detector = looking_with(open_detector())
    ways: dict[str, tuple[Look, TrackingOptions]] = {
        "true boxes in every frame": (true_boxes, TrackingOptions(detect_every=1, shrinks=1)),
        "true boxes in every tenth": (true_boxes, TrackingOptions()),
        "the detector in every tenth": (detector, TrackingOptions()),
        "the same, boxes shrink at once": (detector, TrackingOptions(shrinks=1)),
    }
    print(f"{'boxes':<32} {'mean':>7} {'median':>7} {'found':>7}")
    with load("builtin") as runner:
        for name, (look, tracking) in ways.items():
            found = errors(FrameRunner(runner, look, tracking=tracking), options.scenes, options.frames, truth)
            every = 100 * np.concatenate(found)
            share = 100 * np.mean([len(one) > 0 for one in found])
            print(f"{name:<32} {every.mean():6.2f}% {np.median(every):6.2f}% {share:6.1f}%")


if __name__ == "__main__":
    main()
