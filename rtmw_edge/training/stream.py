"""An endless stream of augmented crops of rendered people, for torch's DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ..data.annotators import annotated
from ..data.synthetic import Renderer, Sample
from ..keypoints import FLIP
from .augmentation import augmented_crop
from .recipe import Recipe

BUFFER = 1024
"""Rendered images that each worker keeps for reuse (0.23 MB each)."""

BLOCK = 256
"""Consecutive indices that one worker renders: the renderer pools bodies and backgrounds over neighbouring indices."""


class RenderedCrops(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Yields (crop uint8 (H, W, 3) BGR, keypoints float32 (133, 2) crop pixels, weights float32 (133,)).

    A new person is rendered for one in `recipe.reuse` samples; the others are drawn again from a buffer with another
    augmentation, because rendering costs more than augmenting. Worker k of n renders the blocks of `BLOCK` indices
    k, k + n, ... after `first`: no person is rendered twice, and a resumed run goes on where `first` points.
    """

    def __init__(
        self, recipe: Recipe, input_size: tuple[int, int], first: int = 0, backgrounds: Path | None = None
    ) -> None:
        self.recipe = recipe
        self.input_size = input_size
        self.first = first
        self.backgrounds = backgrounds

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        cv2.setNumThreads(1)
        worker = get_worker_info()
        lane, lanes = (worker.id, worker.num_workers) if worker else (0, 1)
        rng = np.random.default_rng([self.recipe.seed, self.first, lane])
        renderer = Renderer("train", self.recipe.seed, backgrounds=self.backgrounds)
        buffer: list[Sample] = []
        rendered = 0
        while True:
            if len(buffer) < 64 or rng.random() < 1 / self.recipe.reuse:
                block, place = divmod(rendered, BLOCK)
                sample = renderer.person(self.first + (block * lanes + lane) * BLOCK + place)
                rendered += 1
                if len(buffer) < BUFFER:
                    buffer.append(sample)
                else:
                    buffer[int(rng.integers(BUFFER))] = sample
            else:
                sample = buffer[int(rng.integers(len(buffer)))]
            yield self._crop(sample, rng)

    def _crop(self, sample: Sample, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        person = sample.people[0]
        crop, points, mirrored = augmented_crop(
            sample.image, person.keypoints, person.box, self.input_size, self.recipe.augmentation, rng
        )
        visible = annotated(person.visible)
        visible = visible[FLIP] if mirrored else visible
        weights = np.choose(visible, [0.0, self.recipe.occluded_weight, 1.0]).astype(np.float32)
        return torch.from_numpy(crop), torch.from_numpy(points), torch.from_numpy(weights)
