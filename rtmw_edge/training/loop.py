"""The training loop: one process, CPU or GPU, bf16 autocast, EMA, whole checkpoints, resume after a kill."""

from __future__ import annotations

import csv
import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..errors import BadInputError
from ..files import atomic_write
from ..models import build
from ..models.checkpoints import save_safetensors
from ..models.variants import variant_named
from .depthwise import float32_weight_gradients
from .ema import Ema
from .loss import SimccLoss, part_weights
from .optimizer import Optimizer
from .recipe import Recipe
from .stream import BLOCK, RenderedCrops
from .validation import Validation, normalized

log = logging.getLogger(__name__)

CHECKPOINT = "last.pt"
RECIPE = "recipe.json"


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, flat until half of the steps, then a cosine to `lr_end` (spec of RTMW's schedule)."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    half = recipe.steps // 2
    if step < half:
        return recipe.lr
    progress = min(1.0, (step - half) / max(1, recipe.steps - half))
    return recipe.lr_end + 0.5 * (recipe.lr - recipe.lr_end) * (1 + math.cos(math.pi * progress))


class Trainer:
    """Trains `recipe.variant` on rendered people into the folder `out`; goes on where an earlier run stopped.

    Args:
        out: folder for `last.pt` (everything needed to go on), `log.csv`, and `weights.safetensors` (fp16, EMA).
        device: "cpu" or "cuda".
        workers: processes that render and augment.
        start: weights to begin with; from nothing when None.

    Raises:
        BadInputError: `out` holds a run of another variant or optimiser.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        *,
        device: str = "cpu",
        workers: int = 1,
        start: Path | None = None,
        backgrounds: Path | None = None,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.out, self.workers, self.backgrounds = recipe, out, workers, backgrounds
        self.device = torch.device(device)
        self.variant = variant_named(recipe.variant)
        network = build(recipe.variant)
        if start is not None:
            from ..models.checkpoints import load_weights

            load_weights(network, start)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = Ema(self.network, recipe.ema_decay, recipe.ema_ramp)
        if self.device.type == "cpu":
            float32_weight_gradients(self.network)
        self.loss = SimccLoss(self.variant.input_size, part_weights(recipe.part_weights), beta=recipe.beta)
        self.loss.to(self.device)
        self.optimizer = Optimizer(self.network, recipe.optimizer, recipe.lr, recipe.weight_decay)
        self.step, self.samples, self.seconds = 0, 0, 0.0
        self._resume()

    def _resume(self) -> None:
        path = self.out / CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        for name in ("variant", "optimizer"):
            held, wanted = state["recipe"][name], getattr(self.recipe, name)
            if held != wanted:
                raise BadInputError(f"'{self.out}' holds a run of {held}, not of {wanted}; choose another --out.")
        self.network.load_state_dict(state["network"])
        self.ema.network.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["state"])
        torch.set_rng_state(state["rng"].cpu())
        self.step, self.samples, self.seconds = state["step"], state["samples"], state["seconds"]
        log.info("resumed at step %d of %d from %s", self.step, self.recipe.steps, path)

    def save(self) -> None:
        """Write the checkpoint and the averaged weights, each whole or not at all."""
        state = {
            "recipe": asdict(self.recipe),
            "network": self.network.state_dict(),
            "ema": self.ema.network.state_dict(),
            "state": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "step": self.step,
            "samples": self.samples,
            "seconds": self.seconds,
        }
        with atomic_write(self.out / CHECKPOINT) as path:
            torch.save(state, path)
        with atomic_write(self.out / RECIPE) as path:
            path.write_text(json.dumps(asdict(self.recipe), indent=1) + "\n", encoding="utf-8")
        metadata = {"variant": self.recipe.variant, "steps": str(self.step), "samples": str(self.samples)}
        save_safetensors(self.ema.network, self.out / "weights.safetensors", metadata=metadata)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        # Behind everything that the steps so far can have rendered: half-used blocks and filled queues included.
        used = int(self.samples / self.recipe.reuse) + self.step
        first = used + 2 * BLOCK * max(1, self.workers) if self.step else 0
        stream = RenderedCrops(self.recipe, self.variant.input_size, first, self.backgrounds)
        loader = DataLoader(
            stream,
            batch_size=self.recipe.batch,
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
            pin_memory=self.device.type == "cuda",
            multiprocessing_context="spawn" if self.workers else None,
        )
        yield from loader

    def train_step(self, crops: Tensor, keypoints: Tensor, weights: Tensor) -> float:
        """One optimiser step on uint8 crops (N, H, W, 3); returns the loss."""
        self.optimizer.set_lr(learning_rate(self.recipe, self.step))
        self.network.train()
        images = normalized(crops.to(self.device, non_blocking=True)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.network(images)
        loss = self.loss(logits, keypoints.to(self.device), weights.to(self.device))
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.ema.update(self.network, self.step)
        self.step += 1
        self.samples += len(crops)
        return float(loss.detach())

    def run(self) -> Iterator[dict[str, float]]:
        """Train to the last step; yields a record {step, loss, images_per_second, eta_s[, pck_PART...]} every 10 steps.

        The checkpoint is written every `recipe.checkpoint_every` steps and at the end, also when the caller stops.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        if self.step >= self.recipe.steps:
            return
        validation = Validation(self.variant, self.recipe.validate_crops)
        mean, clock, begun, began_at = 0.0, time.monotonic(), time.monotonic(), self.step
        earlier = self.seconds
        try:
            for count, batch in enumerate(self._batches(), start=1):
                loss = self.train_step(*batch)
                mean = loss if count == 1 else mean + (loss - mean) * max(0.02, 1 / count)
                self.seconds = earlier + time.monotonic() - begun
                if self.step % self.recipe.checkpoint_every == 0:
                    self.save()
                last = self.step >= self.recipe.steps
                if self.step % 10 == 0 or last:
                    now = time.monotonic()
                    pace = (now - begun) / (self.step - began_at)
                    record = {
                        "step": self.step,
                        "loss": mean,
                        "images_per_second": 10 * len(batch[0]) / (now - clock),
                        "eta_s": pace * (self.recipe.steps - self.step),
                        "seconds": self.seconds,
                    }
                    clock = now
                    if self.step % self.recipe.validate_every == 0 or last:
                        figures = validation.pck(self.ema.network)
                        record |= {f"pck_{part}": value for part, value in figures.items()}
                        self._log(record)
                    yield record
                if last:
                    return
        finally:
            self.save()

    def _log(self, record: dict[str, float]) -> None:
        path = self.out / "log.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, record)
            if new:
                writer.writeheader()
            writer.writerow({key: round(value, 5) for key, value in record.items()})
