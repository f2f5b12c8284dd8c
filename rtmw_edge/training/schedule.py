"""How long a run is and the learning rate of every step."""

from __future__ import annotations

import math

from .recipe import Recipe

WARMUP_START = 1e-5
"""Share of the learning rate at the first step (spec 4.3)."""


class Schedule:
    """The steps of a run, and when what happens, from a recipe that counts in steps or in epochs.

    The learning rate warms up linearly over `recipe.warmup` steps, stays until half of the run, and falls as a cosine
    to `lr_end` (spec 4.3).

    Args:
        samples: those of an epoch; None for an endless stream, whose recipe counts in steps.
    """

    def __init__(self, recipe: Recipe, samples: int | None) -> None:
        self.recipe = recipe
        self._length = recipe.epochs or recipe.steps
        self._unit = samples / recipe.batch if samples and recipe.epochs else 1.0  # steps of what the recipe counts in
        self.steps = math.ceil(self._length * self._unit)

    def learning_rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        recipe = self.recipe
        if step < recipe.warmup:
            done = step / (recipe.warmup - 1) if recipe.warmup > 1 else 1.0
            return recipe.lr * (WARMUP_START + (1 - WARMUP_START) * done)
        half = self.steps // 2
        if step < half:
            return recipe.lr
        progress = min(1.0, (step - half) / (self.steps - half))
        return recipe.lr_end + 0.5 * (recipe.lr - recipe.lr_end) * (1 + math.cos(math.pi * progress))

    def share_left(self, step: int) -> float:
        """1 - epoch / epochs, 1 at the start: how much a fading loss weighs in `step` (spec 4.6)."""
        return 1.0 - math.floor(step / self._unit) / self._length

    @property
    def late_from(self) -> int:
        """The first sample that is augmented as `recipe.late_augmentation` says."""
        return max(0, round((self._length - self.recipe.late) * self._unit * self.recipe.batch))

    def is_due(self, every: int, step: int, since: int) -> bool:
        """Whether what is done every `every` epochs, and was done last after step `since`, is due after `step`.

        Steps, not epochs, where the recipe counts in steps; at the end everything is due.
        """
        period = self._unit * every
        return step >= self.steps or math.floor(step / period) > math.floor(since / period)
