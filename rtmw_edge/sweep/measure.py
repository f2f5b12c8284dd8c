"""Measuring one bundle: its distance from the torch reference, its accuracy per part, its latency."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..crops import box_to_crop, crop
from ..keypoints import PARTS
from ..simcc import decode

if TYPE_CHECKING:
    from ..evaluation.datasets import Dataset
    from ..runtime import Runner

WARM_UP = 10
TIMED = 100
TIMED_SECONDS = 4.0
SURE = 0.5
"""Keypoints whose reference score is above this share of the reference's median count as sure."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Crops (N, H, W, 3) uint8 and what the torch network answers: keypoints (N, 133, 2) crop px, scores (N, 133)."""

    crops: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]

    @classmethod
    def of(cls, runner: Runner, dataset: Dataset, count: int, input_size: tuple[int, int]) -> Reference:
        """The answer of the torch `runner` on the crops of the first `count` people of `dataset`."""
        crops: list[NDArray[np.uint8]] = []
        for item in dataset:
            centers, scales = box_to_crop(item.people.boxes, input_size)
            crops += [
                crop(item.image, center, scale, input_size) for center, scale in zip(centers, scales, strict=True)
            ]
            if len(crops) >= count:
                break
        stacked = np.stack(crops[:count])
        keypoints, scores = decode(runner.logits(stacked)[:2])
        return cls(stacked, keypoints, scores)

    def difference(self, runner: Runner, percentile: float = 95.0) -> dict[str, float]:
        """Percentile of the distance in crop pixels to the reference's keypoints, per part and for the whole.

        Over the keypoints that the reference is sure of: where the float network itself guesses, distances say nothing.
        """
        keypoints, _ = decode(runner.logits(self.crops)[:2])
        distance = np.linalg.norm(keypoints - self.keypoints, axis=-1)
        sure = self.scores > SURE * np.median(self.scores)
        out = {}
        for part, where in {**PARTS, "whole": slice(0, distance.shape[1])}.items():
            chosen = distance[:, where][sure[:, where]]
            out[part] = float(np.percentile(chosen, percentile)) if chosen.size else 0.0
        return out


def latency_ms(run: Callable[[], object]) -> tuple[float, float]:
    """Median and 90th percentile in milliseconds of `run`, after warming up."""
    for _ in range(WARM_UP):
        run()
    times: list[float] = []
    end = time.perf_counter() + TIMED_SECONDS
    while len(times) < TIMED and (len(times) < 10 or time.perf_counter() < end):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return 1e3 * float(np.median(times)), 1e3 * float(np.percentile(times, 90))
