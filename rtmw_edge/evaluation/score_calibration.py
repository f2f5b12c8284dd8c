"""From scores as trained to the chance that a keypoint is right: a logistic curve per variant.

Thresholds on raw scores do not transfer between variants (RTMW's logits reach 10, RTMW3D's 1) nor survive quantization;
one on `rtmw_edge.simcc.calibrated(scores, a, b)` does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import BadInputError
from ..keypoints import SIGMAS
from .datasets import Dataset
from .evaluate import ImageRunner, boxes_to_run, labelled_people

SIMILAR = 0.5
"""A keypoint is right when its own OKS term, exp(-d^2 / (2 (2 sigma)^2 area)), is at least this."""
RIDGE = 1e-6
"""Keeps the curve finite when the scores separate right from wrong without an error."""
STEPS = 100


def collect(runner: ImageRunner, dataset: Dataset) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Score and correctness of every keypoint of every person of `dataset`, run on its labelled box.

    Right means near its label; a keypoint without a label (absent or out of the frame) counts as wrong, so use data
    that is labelled throughout, such as the rendered people.
    """
    scores, correct = [], []
    for item in dataset:
        chosen = labelled_people(item)
        if not len(chosen):
            continue
        poses = runner(item.image, *boxes_to_run(item, None))
        squares = ((poses.keypoints[..., :2] - item.people.keypoints[chosen]) ** 2).sum(axis=-1)
        similarity = np.exp(-squares / (2 * (2 * SIGMAS) ** 2 * item.people.areas[chosen, None]))
        scores.append(poses.scores.ravel())
        correct.append(((similarity >= SIMILAR) & (item.people.visible[chosen] > 0)).ravel())
    if not scores:
        raise BadInputError(f"The data set {dataset.name} holds no labelled person to fit scores on.")
    return np.concatenate(scores).astype(np.float64), np.concatenate(correct)


def fit(scores: ArrayLike, correct: ArrayLike) -> tuple[float, float]:
    """(a, b) of the most likely 1 / (1 + exp(-(a score + b))), by Newton's method on the log-likelihood.

    `scores` and `correct` have one entry a keypoint. Raises BadInputError when there is nothing to tell apart, or when
    higher scores are not more often right.
    """
    x = np.asarray(scores, np.float64).ravel()
    right = np.asarray(correct, bool).ravel()
    if right.all() or not right.any():
        raise BadInputError(f"Cannot fit scores: all {right.size} keypoints are {'right' if right.all() else 'wrong'}.")
    mean, spread = x.mean(), x.std() + 1e-12
    design = np.stack([(x - mean) / spread, np.ones_like(x)], axis=1)
    weights = np.zeros(2)
    for _ in range(STEPS):
        chance = 0.5 * (1 + np.tanh(0.5 * design @ weights))
        gradient = design.T @ (right - chance) / x.size - RIDGE * weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design / x.size + RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        # Newton overshoots on nearly separable scores; a bounded step still converges.
        weights += step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    if weights[0] <= 0:
        raise BadInputError("Cannot fit scores: higher scores are not more often right. Check the weights.")
    a = float(weights[0] / spread)
    return a, float(weights[1] - a * mean)
