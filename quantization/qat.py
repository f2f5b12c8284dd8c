"""Quantization-aware training: the project's training loop on the deployable network with quantizers that train.

Batch norm is folded from the first step on. What trains is then exactly what is exported: no running statistics move
behind the scales' backs, nothing depends on the batch of a rank, and a step is cheaper by the batch norms.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from rtmw_edge.targets.rewrites import HALF_SAFE, Deployable, HalfSafeScaleNorm, deployable
from torch import Tensor, nn

from rtmw_edge.data.instances import InstanceSet
from rtmw_edge.data.sets import read_config
from rtmw_edge.errors import BadInputError
from rtmw_edge.files import atomic_write, sha256_of
from rtmw_edge.models import build
from rtmw_edge.models.attention import SCALE_NORM_EPS
from rtmw_edge.models.checkpoints import as_stored, load_weights, save_safetensors
from rtmw_edge.models.weights import find
from rtmw_edge.training.checkpoint import BEST, LAST, Given, alone, check_alone
from rtmw_edge.training.checkpoint import NAME as CHECKPOINT
from rtmw_edge.training.checkpoint import read as read_checkpoint
from rtmw_edge.training.distillation import feature_loss, logit_loss
from rtmw_edge.training.loop import Trainer
from rtmw_edge.training.objective import Lesson, Outputs, Student
from rtmw_edge.training.recipe import Quantization, Recipe
from rtmw_edge.training.validation import Validation

from .fake import check_table, corrected, fake_quantize, weights_sha256
from .inference import for_inference
from .learned import learnable, learned_parameters, learned_table, round_biases
from .official import official_state
from .table import WRITTEN_BY_QAT, Table

log = logging.getLogger(__name__)

START = "start.json"
TABLES = dict(zip((LAST, BEST), WRITTEN_BY_QAT, strict=True))
"""The table beside each file of weights."""


class TrainableScaleNorm(nn.Module):
    """ScaleNorm with the value of the exported one, and without a gradient for tokens that are zero.

    ReLU and rounding make tokens of nothing but zeros. There a root has an infinite gradient, and the norm's own, the
    gain over 1e-5, would drown all others.
    """

    def __init__(self, exported: HalfSafeScaleNorm) -> None:
        super().__init__()
        self.scale, self.g = exported.scale, exported.g

    def forward(self, x: Tensor) -> Tensor:
        rms = torch.linalg.vector_norm(x * (1.0 / HALF_SAFE), dim=-1, keepdim=True) * self.scale
        normed = x / rms.clamp(min=SCALE_NORM_EPS)
        return torch.where(rms > SCALE_NORM_EPS, normed, normed.detach()) * self.g


def trainable(network: nn.Module) -> None:
    """Exchange a deployable network's norms for those that can be trained, in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, HalfSafeScaleNorm):
                setattr(module, name, TrainableScaleNorm(child))


class QuantizedStudent(Student):
    """The deployable network, which takes BGR, with its quantizers; images are RGB as everywhere in training."""

    def __init__(self, network: Deployable) -> None:
        super().__init__(network)
        self.scales = list(learned_parameters(network))

    def forward(self, images: Tensor) -> Outputs:
        return super().forward(images.flip(1))


class FloatLesson(Lesson):
    """What the frozen float network adds to the loss: its logits and its features, with weights that do not fade."""

    def __init__(self, teacher: Deployable, weights: Quantization, beta: float) -> None:
        super().__init__(teacher, stage=1, beta=beta)
        self.weights = weights

    def forward(self, images: Tensor, outputs: Outputs, share_left: float) -> Tensor:
        """Scalar, a mean over the samples of one pass."""
        logits, _, features = outputs
        theirs, their_features = self.answers(images.flip(1))
        loss = logit_loss(logits, theirs, beta=self.beta, weight=self.weights.logits)
        return loss + self.weights.features * feature_loss(features, their_features[1])


class TakesRgb(Deployable):
    """A deployable network behind the reference engine, which gives RGB."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return super().forward(images.flip(1))


class QatTrainer(Trainer):
    """Fine-tunes `recipe.variant` on the grid of `recipe.quantization` into the folder `out`; resumes like `Trainer`.

    Besides the files of `Trainer`, `out` gets `start.json`, the table that the scales began with, and beside each file
    of weights the table that is for exactly these: `table.json` for `weights.safetensors`, `best.json` for
    `best.safetensors`. Validation is of those written weights and tables, and reports the drop from the float network.

    Args:
        weights: the float network to begin with and to learn from; None for the shipped or fetched ones.
        start_table: gives the table of the float network to begin with; called by rank 0 of a new run alone.
        origin: what `start_table` makes it of, by the option ("table", "calibration"); a run that goes on must agree.
        data, device, workers, backgrounds: as for `Trainer`.

    Raises:
        BadInputError: `out` holds another run, or table, weights and recipe do not fit together.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        *,
        weights: Path | None = None,
        start_table: Callable[[Deployable], Table],
        origin: Given = MappingProxyType({}),
        data: Path | InstanceSet | None = None,
        device: str = "cpu",
        workers: int = 1,
        backgrounds: Path | None = None,
    ) -> None:
        if recipe.quantization is None:
            raise BadInputError(
                "The recipe has no [quantization]; choose one that has (rtmw-edge train --list), or "
                "--set quantization.grid=common."
            )
        if recipe.distillation is not None:
            raise BadInputError(
                "The recipe has both [distillation] and [quantization]; distil first, then quantize the result."
            )
        self.settings, self._start_table = recipe.quantization, start_table
        self._data = _described(data)
        self._float_figures: dict[str, float] = {}
        super().__init__(
            recipe, out, data=data, device=device, workers=workers, start=find(recipe.variant, weights),
            backgrounds=backgrounds, origin=origin,
        )  # fmt: skip

    def _subject(
        self, start: Path | None, backbone: Path | None, teacher: Path | None
    ) -> tuple[Student, Lesson | None]:
        network = build(self.variant)
        load_weights(network, cast(Path, start))
        exact = deployable(network)
        self.start = self._started(exact)
        quantized = corrected(exact, self.start)
        learnable(quantized, self.start)
        trainable(quantized)
        return QuantizedStudent(quantized), FloatLesson(exact, self.settings, self.recipe.beta)

    def _started(self, exact: Deployable) -> Table:
        """The table that the run in `out` began with; of a new run the one asked for, which rank 0 keeps there."""
        path = self.out / START
        begun = path.exists() and (self.out / CHECKPOINT).exists()  # a start that failed leaves the table alone
        if self.is_first and not begun:
            read_checkpoint(self.out, asdict(self.recipe), self.fabric.device)  # refuses a run of train
            check_alone(self.out)  # before the calibration
            table = self._start_table(exact)
            if table.grid != self.settings.grid:
                raise BadInputError(
                    f"The quantization table is on the grid {table.grid}, and the recipe trains on "
                    f"{self.settings.grid}; pass --grid {table.grid}, or another table."
                )
            check_table(exact, table)
            with alone(self.out):  # a run that has no checkpoint yet keeps its table
                table.save(path)
        self.fabric.barrier()
        table = Table.load(path)
        if table.weights_sha256 != weights_sha256(exact) or table.grid != self.settings.grid:
            raise BadInputError(
                f"'{self.out}' holds a run that began with other weights or on another grid; choose another --out."
            )
        return table

    def result(self) -> tuple[dict[str, Tensor], Deployable, Table]:
        """The average as it is written: its official state dict, the network that this becomes, and its table.

        Weights are rounded to what the file stores, and biases to what targets store, before the table is made, so that
        file, table and every target agree.
        """
        average = cast(Deployable, self.ema.network)
        source = f"qat step {self.step}"
        _, ready = self._stored(average)
        round_biases(ready, learned_table(ready, average, self.start, source, {}))
        state, ready = self._stored(ready)
        provenance = {
            "method": "qat",
            "steps": self.step,
            "samples": self.step * self.recipe.batch,
            "recipe": asdict(self.recipe),
            "data": self._data,
            "start": {"table_sha256": self.start.sha256, "weights_sha256": self.start.weights_sha256},
        }
        return state, ready, learned_table(ready, average, self.start, source, provenance)

    def _stored(self, network: Deployable) -> tuple[dict[str, Tensor], Deployable]:
        """The state dict that a file holds of `network`, and what another process makes of that file."""
        state = as_stored(official_state(network))
        official = build(self.variant)
        official.load_state_dict({name: value.float() for name, value in state.items()})
        return state, deployable(official)

    def _save_weights(self, name: str, figures: dict[str, float]) -> None:
        """Write weights and table, both whole before either takes its name."""
        state, _, table = self.result()
        notes: dict[str, Any] = {"variant": self.variant.name, "steps": self.step, "table_sha256": table.sha256}
        with atomic_write(self.out / TABLES[name]) as path:
            path.write_bytes(table.to_bytes())
            save_safetensors(
                state, self.out / name, metadata={key: str(value) for key, value in {**notes, **figures}.items()}
            )

    def _figures(self, validation: Validation) -> dict[str, float]:
        """Those of the fake-quantized average as it is written, and how much each part loses against the float network.

        `drop_PART` is in AP, `rise_PART` in millimetres of MPJPE.
        """
        device = self.fabric.device.type
        if not self._float_figures:
            exact = cast(Lesson, self.lesson).teacher
            self._float_figures = validation.figures(TakesRgb(exact), device)
            log.info("float: %s", self._float_figures)
        _, network, table = self.result()
        figures = validation.figures(TakesRgb(for_inference(fake_quantize(network, table))), device)
        for key, value in self._float_figures.items():
            kind, _, part = key.partition("_")
            if kind == "ap":
                figures[f"drop_{part}"] = value - figures[key]
            elif kind == "mpjpe":
                figures[f"rise_{part}"] = figures[key] - value
        return figures


def _described(data: Path | InstanceSet | None) -> dict[str, str]:
    """What is trained on, for the table's provenance."""
    if data is None:
        return {"source": "synthetic:train"}
    if not isinstance(data, Path):
        return {"source": data.name}
    read_config(data)  # it says what is wrong with the file
    return {"source": data.name, "sha256": sha256_of(data)}
