"""Which sub-bin decode is best: `python benchmarks/subbin.py [MODEL]`, on the rendered validation people.

Compares argmax, least-squares parabolas and centres of mass of several radii by whole AP and by the error of keypoints
that argmax puts within 4 crop pixels of their label. rtmw_edge.simcc does the parabola of 2 bins a side with
`subbin=True`: on the embedded model no method is better by more than chance.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtmw_edge import runtime
from rtmw_edge.crops import to_image, warp_matrix
from rtmw_edge.evaluation.datasets import SyntheticPeople
from rtmw_edge.evaluation.whole_body_ap import rank, whole_body_ap
from rtmw_edge.models.variants import VARIANTS
from rtmw_edge.poses import Poses
from rtmw_edge.runtime.engine import Logits

Array = NDArray[np.float32]
Refine = Callable[[Array, NDArray[np.intp]], Array]
NEAR = 4.0


def _window(line: Array, peak: NDArray[np.intp], radius: int) -> tuple[Array, Array, NDArray[np.bool_]]:
    """The bins around each peak, their steps from it, and which windows lie within the line."""
    steps = np.arange(-radius, radius + 1)
    inside = (peak >= radius) & (peak < line.shape[2] - radius)
    centre = np.where(inside, peak, radius)
    return np.take_along_axis(line, centre[..., None] + steps, axis=2), steps.astype(np.float32), inside


def parabola(radius: int) -> Refine:
    def refine(line: Array, peak: NDArray[np.intp]) -> Array:
        window, steps, inside = _window(line, peak, radius)
        squares = steps**2 - np.mean(steps**2)
        slope, curvature = window @ steps / np.sum(steps**2), window @ squares / np.sum(squares**2)
        curved = inside & (curvature < 0)
        return np.clip(np.where(curved, -slope / (2 * np.where(curved, curvature, -1)), 0), -1, 1)

    return refine


def centre_of_mass(radius: int) -> Refine:
    """Of the softmax over the window, as the logits were trained."""

    def refine(line: Array, peak: NDArray[np.intp]) -> Array:
        window, steps, inside = _window(line, peak, radius)
        mass = np.exp(window - window.max(axis=2, keepdims=True))
        return np.where(inside, mass @ steps / mass.sum(axis=2), 0)

    return refine


METHODS: dict[str, Refine] = {
    "argmax": lambda line, peak: np.zeros(peak.shape, np.float32),
    **{f"parabola, {r} bins a side": parabola(r) for r in (1, 2, 3, 4, 6)},
    **{f"centre of mass, {r} bins a side": centre_of_mass(r) for r in (1, 2, 4, 6, 10)},
}


def logits_of(runner: runtime.Runner, people: SyntheticPeople) -> Iterator[tuple[int, NDArray, NDArray, Logits]]:
    """Per person: image id, centre and scale of the crop, and logits."""
    for item in people:
        cut = runner.cut(item.image, item.people.boxes)
        yield item.image_id, cut.centers, cut.scales, runner.logits(cut.crops)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="builtin", help="a bundle, or a variant run by PyTorch")
    parser.add_argument("--weights", type=Path, help="weights of the variant")
    parser.add_argument("--people", type=int, default=500)
    options = parser.parse_args()
    if options.model in VARIANTS:
        runner = runtime.torch_runner(options.model, options.weights)
    else:
        runner = runtime.load(options.model)
    people = SyntheticPeople(options.people)
    truth = {item.image_id: item.people for item in people}
    answers = list(logits_of(runner, people))
    coarse = {image: np.stack([a.argmax(axis=2) for a in axes[:2]], axis=-1) / 2 for image, _, _, axes in answers}

    print(f"{'method':<30} {'mean px':>8} {'p50 px':>8} {'whole AP':>9}")
    for name, refine in METHODS.items():
        found, errors = {}, []
        for image, centers, scales, axes in answers:
            peaks = [axis.argmax(axis=2) for axis in axes[:2]]
            points = np.stack([p + refine(a, p) for a, p in zip(axes[:2], peaks, strict=True)], axis=-1) / 2
            scores = np.minimum(*(axis.max(axis=2) for axis in axes[:2]))
            matrix = warp_matrix(centers[0], scales[0], runner.input_size)
            labels = truth[image].keypoints @ matrix[:, :2].T + matrix[:, 2]
            near = (np.linalg.norm(coarse[image] - labels, axis=-1) < NEAR) & (truth[image].visible > 0)
            errors.append(np.linalg.norm(points - labels, axis=-1)[near])
            keypoints = to_image(points, centers, scales, runner.input_size)
            found[image] = rank(Poses(keypoints, scores, truth[image].boxes, np.ones(1)))
        error = np.concatenate(errors)
        ap = whole_body_ap(found, truth)["whole"].ap
        print(f"{name:<30} {error.mean():8.4f} {np.median(error):8.4f} {ap:9.4f}")


if __name__ == "__main__":
    main()
