"""How long a run is and the learning rate of every step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .recipe import Recipe

WARMUP_START = 1e-5
"""Share of the learning rate at the first step (spec 4.3)."""


@dataclass(frozen=True)
class Schedule:
    """The steps of a run. `epoch` is the steps of one epoch, 1 where the recipe counts in steps.

    The learning rate warms up linearly over `recipe.warmup` steps, stays until half of the run, and falls as a cosine
    to `lr_end` (spec 4.3).
    """

    recipe: Recipe
    steps: int
    epoch: float

    @classmethod
    def of(cls, recipe: Recipe, samples: int | None) -> Schedule:
        """The schedule for an epoch of `samples`; None for an endless stream."""
        if samples is None:
            return cls(recipe, recipe.steps, 1.0)
        epoch = samples / recipe.batch
        return cls(recipe, math.ceil(recipe.epochs * epoch) if recipe.epochs else recipe.steps, epoch)

    def learning_rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        recipe = self.recipe
        if step < recipe.warmup:
            done = step / max(1, recipe.warmup - 1) if recipe.warmup > 1 else 1.0
            return recipe.lr * (WARMUP_START + (1 - WARMUP_START) * done)
        half = self.steps // 2
        if step < half:
            return recipe.lr
        progress = min(1.0, (step - half) / max(1, self.steps - half))
        return recipe.lr_end + 0.5 * (recipe.lr - recipe.lr_end) * (1 + math.cos(math.pi * progress))

    def share_left(self, step: int) -> float:
        """1 - epoch / epochs, 1 at the start: how much a fading loss weighs in `step` (spec 4.6)."""
        unit = self.epoch if self.recipe.epochs else 1.0
        return 1.0 - math.floor(step / unit) / (self.recipe.epochs or self.steps)

    @property
    def late_from(self) -> int:
        """The first sample that is augmented as `recipe.late_augmentation` says."""
        recipe = self.recipe
        early = (recipe.epochs - recipe.late) * self.epoch if recipe.epochs else self.steps - recipe.late
        return max(0, round(early * recipe.batch))

    def is_due(self, every: int, step: int, since: int) -> bool:
        """Whether what is done every `every` epochs, and was done last after step `since`, is due after `step`.

        Steps, not epochs, where the recipe counts in steps; at the end everything is due.
        """
        unit = (self.epoch if self.recipe.epochs else 1.0) * every
        return step >= self.steps or math.floor(step / unit) > math.floor(since / unit)
