"""What is trained, and towards what: the labels, and a teacher where the recipe distils."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadInputError
from ..models.checkpoints import load_weights, read_state
from ..models.rtmw import RTMW, PoseNetwork, build
from ..models.weights import find
from .distillation import alignment, feature_loss, logit_loss, take_trunk
from .loss import BoneLoss, SimccLoss, part_weights
from .recipe import Recipe

Outputs = tuple[tuple[Tensor, ...], tuple[Tensor, Tensor], Tensor]
"""Logits (N, 133, bins) per axis, the neck's features at strides 16 and 32, and the latter as a teacher takes them."""


class Student(nn.Module):
    """The network with its features in view, and with what is trained beside it: all whose gradients ranks exchange.

    `align` brings the features at stride 32 to the teacher's width. `frozen`: the trunk only answers, in evaluation
    mode (distillation, stage 2). `scales` are the parameters of quantizers, which have a learning rate of their own.
    """

    scales: Sequence[nn.Parameter] = ()

    def __init__(self, network: PoseNetwork, align: nn.Module | None = None, *, frozen: bool = False) -> None:
        super().__init__()
        self.network = network
        self.align = align or nn.Identity()
        self.frozen = frozen

    def train(self, mode: bool = True) -> Student:
        """Training mode, in which a frozen trunk stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.network.backbone.eval()
            self.network.neck.eval()
        return self

    def forward(self, images: Tensor) -> Outputs:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.network.neck(self.network.backbone(images))
        return self.network.head(features), features, self.align(features[1])


class Lesson(nn.Module):
    """What a teacher adds to the loss, in either stage of DWPose's distillation (spec 4.6).

    The teacher is frozen: it gets no gradients, and its batch norms stay in evaluation mode.
    """

    def __init__(self, teacher: PoseNetwork, stage: int, beta: float) -> None:
        super().__init__()
        self.teacher = teacher.requires_grad_(False).eval()
        self.stage, self.beta = stage, beta

    def forward(self, images: Tensor, outputs: Outputs, share_left: float) -> Tensor:
        """Scalar, a mean over the samples of one pass; `share_left` of the run weighs stage 1."""
        logits, features, aligned = outputs
        if self.stage == 2:  # the student has the same trunk
            with torch.no_grad():
                theirs = self.teacher.head(features)
            return logit_loss(logits, theirs, beta=self.beta, weight=1.0)
        theirs, their_features = self.answers(images)
        return share_left * (feature_loss(aligned, their_features[1]) + logit_loss(logits, theirs, beta=self.beta))

    @torch.no_grad()
    def answers(self, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]:
        """The teacher's logits per axis and its neck's features at strides 16 and 32, of normalized crops."""
        features = self.teacher.neck(self.teacher.backbone(images))
        return self.teacher.head(features), features


def teacher_weights(recipe: Recipe, given: Path | None) -> Path | None:
    """The weights of the teacher: those given, or in stage 1 the shipped or fetched ones; None where nobody teaches.

    Raises BadInputError where some are given and nobody teaches, and where there are none.
    """
    distillation = recipe.distillation
    if distillation is None:
        if given is not None:
            raise BadInputError(
                "A teacher is given, but the recipe does not distil; choose one that does (rtmw-edge train --list), or "
                "--set distillation.teacher=VARIANT."
            )
        return None
    if distillation.stage == 2 and given is None:
        raise BadInputError("Stage 2 learns from the model of stage 1; pass --teacher RUN/weights.safetensors.")
    return find(distillation.teacher, given, "--teacher")


def prepare(network: RTMW, recipe: Recipe, weights: Path | None) -> tuple[Student, Lesson | None]:
    """The student around `network`, and the lesson where the recipe distils, by a teacher with `weights`.

    Stage 2 gives `network` the teacher's trunk, so what is trained and saved is the whole network, converted already.
    Raises BadInputError when recipe, student and teacher do not fit together.
    """
    distillation = recipe.distillation
    if distillation is None:
        return Student(network), None
    assert weights is not None  # `teacher_weights` finds them or refuses; a run without its lesson would look the same
    teacher = build(distillation.teacher)
    load_weights(teacher, weights)
    lesson = Lesson(teacher, distillation.stage, recipe.beta)
    if distillation.stage == 2:
        take_trunk(network, teacher)
        return Student(network, frozen=True), lesson
    return Student(network, alignment(network, teacher)), lesson


class LabelLoss(nn.Module):
    """The loss towards the labels, over a batch that may be spread over passes and ranks: KL, and in 3D the bones."""

    def __init__(self, network: PoseNetwork, recipe: Recipe) -> None:
        super().__init__()
        variant = network.variant
        self.official_batch, self.bone_weight = recipe.official_batch, recipe.bone_weight
        self.weight = recipe.quantization.labels if recipe.quantization else 1.0
        how: dict[str, Any] = {"beta": recipe.beta, "official_scaling": recipe.official_batch > 0}
        self.simcc = SimccLoss(variant.pixels, part_weights(recipe.part_weights), **how)
        self.bones = BoneLoss(variant.pixels, **how) if recipe.bone_weight else None

    def totals(self, labels: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """(2,) the weights of all joints and of all bones in the passes of a step: points and weights of each."""
        losses = [loss for loss in (self.simcc, self.bones) if loss is not None]
        rows = [torch.stack([loss.total(*label) for label in labels]).sum() for loss in losses]
        return torch.stack([rows[0], rows[-1]])

    def forward(
        self, logits: tuple[Tensor, ...], points: Tensor, weights: Tensor, totals: Tensor, share: float
    ) -> Tensor:
        """The loss of one pass, so that the sum over passes and the mean over ranks is that of the batch.

        Args:
            totals: `totals` as a mean over the ranks.
            share: the pass's part of its rank's samples of the step.
        """
        loss: Tensor = self.simcc(logits, points, weights, totals[0])
        if self.bones is not None:
            loss = loss + self.bone_weight * self.bones(logits, points, weights, totals[1])
        if self.official_batch:
            loss = loss * (self.official_batch / len(points) * share)
        return loss if self.weight == 1 else loss * self.weight


def load_backbone(network: RTMW, path: Path) -> None:
    """Load the backbone alone, as the official runs begin with an RTMPose's (spec 4.2).

    Raises BadInputError when the checkpoint has no backbone that fits.
    """
    prefix = "backbone."
    state = {name.removeprefix(prefix): value for name, value in read_state(path).items() if name.startswith(prefix)}
    try:
        network.backbone.load_state_dict(state)
    except RuntimeError as error:
        problem = str(error).splitlines()[1].strip()
        raise BadInputError(
            f"The backbone of {path} does not fit {network.variant.name} ({problem}). Choose one of the same size."
        ) from error
