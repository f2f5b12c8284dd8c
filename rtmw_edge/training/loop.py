"""The training loop: any number of ranks by Lightning Fabric, accumulated passes, whole checkpoints, exact resume."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ..data.instances import InstanceSet
from ..errors import BadInputError, RtmwEdgeError
from ..files import atomic_write
from ..models import build
from ..models.checkpoints import load_weights, save_safetensors
from ..models.variants import variant_named
from ..signals import StopSignals
from . import checkpoint, ranks
from .checkpoint import BEST, LAST, RECIPE
from .clock import Clock
from .depthwise import float32_weight_gradients
from .device_crops import PlannedCrops, normalized
from .ema import Ema
from .inputs import described, open_source
from .logs import Logs
from .norms import revive
from .objective import LabelLoss, Lesson, Student, load_backbone, prepare, teacher_weights
from .optimizer import Optimizer
from .recipe import SYNCHRONIZED, Recipe, passes
from .schedule import Schedule
from .spectral import spectral_convolutions
from .stream import Batch, Crops, PlannedSamples, batches, crop_maker, positions, worker_deaths_in_words
from .sync_batch_norm import synchronized
from .validation import StoppedError, Validation, is_better

log = logging.getLogger(__name__)

NORM_SAMPLES = 64
"""Samples whose statistics batch norms get that have none."""
LOG_EVERY = 10
"""Steps between two records."""


class Trainer:
    """Trains `recipe.variant` into the folder `out`; goes on where an earlier run stopped, to the same losses.

    Alone, or as one of the ranks that torchrun started; then `out` is on a file system that all nodes share. It gets
    `last.pt` (everything needed to go on), `weights.safetensors` and `best.safetensors` (fp16, the average; the latest
    and those that validated best), `recipe.json`, `train.csv`, `validation.csv` and `tensorboard/`.

    Args:
        data: configuration of annotated sets, or a set; rendered people when None.
        device: "cpu" or "cuda".
        workers: processes of every rank that make samples.
        start: weights to begin with; from nothing when None.
        backbone: checkpoint of which the backbone alone is taken (spec 4.2).
        teacher: the teacher's weights, where the recipe distils; None takes the shipped or fetched ones in stage 1.
        backgrounds: folder of photographs behind rendered people.
        origin: what else the run is made of, in words by the name of the option; one that goes on must agree.

    Raises:
        BadInputError: `out` holds another run, or the recipe and the data do not fit together.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        *,
        data: Path | InstanceSet | None = None,
        device: str = "cpu",
        workers: int = 1,
        start: Path | None = None,
        backbone: Path | None = None,
        teacher: Path | None = None,
        backgrounds: Path | None = None,
        origin: checkpoint.Given = MappingProxyType({}),
    ) -> None:
        self.recipe, self.out, self.workers = recipe, out, workers
        self.fabric = ranks.start(device, recipe.precision)
        self.micro, self.passes = passes(recipe, self.fabric.world_size)
        self.variant = variant_named(recipe.variant)
        teacher = teacher_weights(recipe, teacher)
        torch.manual_seed(recipe.seed)
        self.student, self.lesson = self._subject(start, backbone, teacher)
        self.network = self.student.network
        self.label_loss = LabelLoss(self.student.network, recipe)
        for part in (self.student, self.lesson, self.label_loss):
            if part is not None:
                part.to(self.fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = Ema(self.network, recipe.ema_decay, recipe.ema_ramp)
        self._set_up()
        self.optimizer = Optimizer(
            self.student,
            recipe.optimizer,
            recipe.lr,
            recipe.weight_decay,
            scales=self.student.scales,
            scale_lr=recipe.quantization.scale_lr if recipe.quantization else 0.0,
        )
        self.step, self.seconds, self.skipped, self.validated = 0, 0.0, 0, 0
        self.best: dict[str, float] = {}
        self.losses: list[Tensor] = []
        self.saved, self._stops, self._validates_anew = 0, 0, False
        self.lanes, self.span = self.fabric.world_size * max(1, workers), self.micro
        held, held_recipe = self._resume()
        samples, source = open_source(recipe, data, backgrounds, lanes=self.lanes, span=self.span)
        given = {**described(source, weights=start, backbone=backbone, teacher=teacher), **origin}
        checkpoint.check_given(out, held, given)
        checkpoint.tell_changes(held_recipe, asdict(recipe))
        self.given = {**given, **held}
        self.schedule = Schedule(recipe, samples)
        self.crops = Crops(source, recipe, self.variant.pixels, self.schedule.late_from)
        self.crop_maker = crop_maker(self.crops, self.micro, self.fabric.device)
        if (start is not None or backbone is not None) and self.step == 0:
            self._revive_norms()
        self.stops = StopSignals()

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes, validates and reports."""
        return self.fabric.is_global_zero

    def _subject(
        self, start: Path | None, backbone: Path | None, teacher: Path | None
    ) -> tuple[Student, Lesson | None]:
        """What is trained, and what teaches it beside the labels."""
        recipe = self.recipe
        if recipe.quantization is not None:
            raise BadInputError("The recipe trains with quantization in the loop; run it with rtmw-edge qat --recipe.")
        network = build(recipe.variant, dropout=recipe.dropout)
        if start is not None:
            load_weights(network, start)
        if backbone is not None:
            if recipe.distillation is not None and recipe.distillation.stage == 2:
                raise BadInputError("Stage 2 has the backbone of its teacher; leave out --backbone.")
            load_backbone(network, backbone)
        return prepare(network, recipe, teacher)

    def _set_up(self) -> None:
        recipe, device = self.recipe, self.fabric.device
        if self.fabric.world_size > 1:
            for part in SYNCHRONIZED[recipe.synchronized]:
                setattr(self.network, part, synchronized(getattr(self.network, part), device))
        for module in self.network.modules():
            if isinstance(module, nn.SiLU):
                module.inplace = False  # in place, autograd would copy the input for the gradient
        if device.type == "cpu" and not recipe.compile:
            float32_weight_gradients(self.network)
            spectral_convolutions(self.network)
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True
        student = torch.compile(self.student) if recipe.compile else self.student
        assert isinstance(student, nn.Module)
        self.module = self.fabric.setup_module(student)

    def _revive_norms(self) -> None:
        """Weights that were fine-tuned with quantization have batch norms without statistics; the same on all ranks."""
        images = (normalized(self.crops[n][0][None].to(self.fabric.device)) for n in range(NORM_SAMPLES))
        if revived := revive(self.network, images):
            self.ema.network.load_state_dict(self.network.state_dict())
            log.info("gave %d batch norms the statistics of %d samples", revived, NORM_SAMPLES)

    def _on_device(self, crops: Tensor | PlannedCrops) -> Tensor:
        """uint8 (N, H, W, 3) BGR."""
        if isinstance(crops, Tensor):
            return crops.to(self.fabric.device, non_blocking=True)
        assert self.crop_maker is not None
        return self.crop_maker(crops)

    def _resume(self) -> tuple[checkpoint.Given, dict[str, Any]]:
        """Take up the run in `out`; what it was given and its recipe, both empty where there is none."""
        state = checkpoint.read(self.out, asdict(self.recipe), self.fabric.device)
        step = state["step"] if state else 0
        if self.fabric.broadcast(step) != step:
            raise BadInputError(f"Not all nodes see the same run in '{self.out}'; put --out on a shared file system.")
        if state is None:
            return {}, {}
        self.student.load_state_dict(state["student"])
        self.ema.network.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.skipped, self.best = step, state["seconds"], state["skipped"], state["best"]
        self.losses = list(state["losses"])
        self.validated = state["validated"]
        self.lanes, self.span = state["lanes"], state["span"]
        self.saved = step
        if state["recipe"]["validation"] != self.recipe.validation:  # figures of another set say nothing of this one
            self.best, self.validated, self._validates_anew = {}, step - 1, True
        return state["given"], state["recipe"]

    def save(self) -> None:
        """Write the checkpoint and the averaged weights, each whole or not at all; rank 0 alone does.

        Chance needs no state: a sample's is that of its position, and torch is seeded for every step. Raises
        BadInputError, and keeps the checkpoint of before, when the weights are no longer numbers.
        """
        if not self.is_first:
            return
        checkpoint.check_finite(self.student, self.step, self.saved)
        recipe = asdict(self.recipe)
        checkpoint.write(
            self.out,
            {
                "recipe": recipe,
                "student": self.student.state_dict(),
                "ema": self.ema.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "lanes": self.lanes,
                "span": self.span,
                "losses": torch.stack(self.losses) if self.losses else torch.zeros(0),
                "seconds": self.seconds,
                "skipped": self.skipped,
                "best": self.best,
                "validated": self.validated,
                "given": self.given,
            },
        )
        self.saved = self.step
        with atomic_write(self.out / RECIPE) as path:
            path.write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")
        self._save_weights(LAST, {})

    def _save_weights(self, name: str, figures: dict[str, float]) -> None:
        notes = {"variant": self.recipe.variant, "steps": self.step, "samples": self.step * self.recipe.batch}
        metadata = {key: str(value) for key, value in {**notes, **figures}.items()}
        save_safetensors(self.ema.network, self.out / name, metadata=metadata)

    def batches(self) -> Iterator[list[Batch]]:
        """This rank's passes of every step from here to the last."""
        batch, fabric = self.recipe.batch, self.fabric
        own = positions(
            self.step * batch, self.schedule.steps * batch, self.micro, fabric.global_rank, fabric.world_size
        )
        samples = PlannedSamples(self.crops, self.crop_maker.capacity) if self.crop_maker else self.crops
        stream = batches(samples, own, workers=self.workers, pin=fabric.device.type == "cuda")
        while step := list(itertools.islice(stream, self.passes)):
            yield step

    def train_step(self, batches: Sequence[Batch]) -> Tensor:
        """One optimiser step on this rank's passes; the loss of the whole batch is the mean of this over the ranks."""
        recipe, fabric = self.recipe, self.fabric
        ranks.seed_step(recipe.seed, self.step, fabric.global_rank)
        self.optimizer.set_lr(self.schedule.learning_rate(self.step))
        self.student.train()
        labels = [
            (points.to(fabric.device, non_blocking=True), weights.to(fabric.device, non_blocking=True))
            for _, points, weights, _ in batches
        ]
        totals = self.label_loss.totals(labels)
        skipped = sum(int(batch[3].sum()) for batch in batches)
        counts = ranks.total(fabric, torch.cat([totals, totals.new_tensor([self.stops.asked, skipped])]))
        totals = counts[:2] / fabric.world_size
        self.module.zero_grad(set_to_none=True)
        losses = []
        for number, ((points, weights), batch) in enumerate(zip(labels, batches, strict=True), start=1):
            images = normalized(self._on_device(batch[0])).contiguous(memory_format=torch.channels_last)
            with ranks.accumulating(fabric, self.module, number < len(batches)):
                loss = self._loss(images, points, weights, totals, share=1 / len(batches))
                fabric.backward(loss)
            losses.append(loss.detach())
        if recipe.clip:
            clip_grad_norm_(self.student.parameters(), recipe.clip)
        self.optimizer.step()
        self.ema.update(self.network, self.step)
        self.step += 1
        self._stops = self.stops.asked
        if fabric.world_size > 1:  # a rank alone need not wait for the device
            self._stops, skipped = (int(count) for count in counts[2:].tolist())
        self.skipped += skipped
        return torch.stack(losses).sum()

    def _loss(self, images: Tensor, points: Tensor, weights: Tensor, totals: Tensor, share: float) -> Tensor:
        """The loss of one pass, which is `share` of this rank's samples of the step."""
        outputs = self.module(images)
        if self.lesson is None:
            return self.label_loss(outputs[0], points, weights, totals, share)
        with self.fabric.autocast():
            taught = self.lesson(images, outputs, self.schedule.share_left(self.step)) * share
        if self.lesson.stage == 2:
            return taught
        return self.label_loss(outputs[0], points, weights, totals, share) + taught

    def run(self) -> Iterator[dict[str, float]]:
        """Train to the last step; yields a record {step, loss, images_per_second, eta_s[, ap_PART...]} every 10 steps.

        The checkpoint is written every `recipe.checkpoint_every` steps, at the end, when the caller stops, and after
        the step in which SIGINT, SIGTERM or SIGHUP comes; then KeyboardInterrupt is raised.
        """
        done = self.step >= self.schedule.steps and self.validated >= self.step
        validation = logs = None
        if self.is_first and not done:
            validation = Validation(self.recipe.validation, lambda: self.stops.asked)
        with checkpoint.alone(self.out) if self.is_first else nullcontext():
            if done:
                if self.is_first:  # a kill may have come between the checkpoint and these
                    self._save_weights(LAST, {})
                return
            if self.is_first:
                logs = Logs(self.out, self.step)
                if self._validates_anew:
                    logs.begin_anew("validation", self.step)
            try:
                with self.stops, worker_deaths_in_words():
                    yield from self._run(validation, logs)
            finally:
                if logs:
                    logs.close()
        self.fabric.barrier()

    def _run(self, validation: Validation | None, logs: Logs | None) -> Iterator[dict[str, float]]:
        # Due before a step: where a stop or an error left it out.
        due = self._validation_is_due() or (self.recipe.quantization is not None and not self.step)
        if validation and logs and due and (figures := self._validated(validation, logs)):
            yield {"step": self.step, **figures}
        if self.step >= self.schedule.steps:  # all else is done
            self.save()
            self._end(validation)
            return
        clock = Clock(self.step, self.seconds)
        for step in self.batches():
            with ranks.memory_in_words(self.micro):
                self.losses.append(self.train_step(step))
            last = self.step >= self.schedule.steps
            record = self._record(clock) if self.step % LOG_EVERY == 0 or last else {}
            self.seconds = clock.seconds
            if logs and record:
                logs.write("train", record | {"seconds": self.seconds})
            if validation and logs and self._validation_is_due() and not self._stops:
                with clock.paused():
                    figures = self._validated(validation, logs)
                if figures:
                    record = {"step": self.step, **record, **figures}
            if last or self._stops or self.step % self.recipe.checkpoint_every == 0:
                if self.losses:  # the checkpoint has one list for all ranks
                    self.losses = list(ranks.mean(self.fabric, torch.stack(self.losses)))
                self.save()
            if record:
                try:
                    yield record
                except GeneratorExit:
                    self.save()
                    raise
                clock.go_on(self.step)
            if self._stops and not last:
                self.fabric.barrier()  # torchrun ends the others when a rank leaves: not before the first one has saved
                raise KeyboardInterrupt
            if last:
                self._end(validation)

    def _record(self, clock: Clock) -> dict[str, float]:
        """What is told of the steps since the last record, by all ranks together."""
        loss, self.losses = ranks.mean(self.fabric, torch.stack(self.losses).mean()).item(), []
        return {
            "step": self.step,
            "loss": loss,
            "lr": self.schedule.learning_rate(self.step - 1),
            **clock.figures(self.step, self.schedule.steps, self.recipe.batch),
            "skipped": self.skipped,
        }

    def _validation_is_due(self) -> bool:
        return self.schedule.is_due(self.recipe.validate_every, self.step, self.validated)

    def _validated(self, validation: Validation, logs: Logs) -> dict[str, float]:
        """The figures, written; none when it was asked to stop meanwhile, which the next step tells all ranks."""
        checkpoint.check_finite(self.student, self.step, self.saved)
        try:
            figures = self._figures(validation)
        except StoppedError:
            return {}
        except RtmwEdgeError:  # a damaged image: what was trained is not lost with it
            self.save()
            raise
        logs.write("validation", {"step": self.step, **figures})
        self.validated = self.step
        if is_better(figures, self.best):
            self.best = figures
            self._save_weights(BEST, figures)
        return figures

    def _end(self, validation: Validation | None) -> None:
        """Raise KeyboardInterrupt in all ranks when the last validation was asked to stop."""
        stopped = torch.tensor(float(validation is not None and self.validated < self.step), device=self.fabric.device)
        if ranks.total(self.fabric, stopped):
            raise KeyboardInterrupt

    def _figures(self, validation: Validation) -> dict[str, float]:
        return validation.figures(self.ema.network, self.fabric.device.type)
