"""DWPose's distillation in two stages (spec 4.6): the losses towards a teacher, and what student and teacher share.

Stage 1 trains a student beside a frozen teacher: L = L_labels + r (L_feature + L_logit), with r falling from 1 to 0
over the epochs (`Schedule.share_left`) and gradients clipped to 1. L_feature and L_logit are means over the samples;
for exactly DWPose's mixture, L_labels is `SimccLoss` with its official scaling at the official batch.

Stage 2 trains a fresh head on the frozen trunk of stage 1's student, which is the teacher now: L = L_logit with weight
1 that does not fall, for 60 epochs, gradients clipped to 1; the labels are not used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BadInputError
from ..models.rtmw import RTMW
from .loss import divergence

FEATURE_WEIGHT = 7e-5
LOGIT_WEIGHT = 0.1
"""Weight of the logits in stage 1; in stage 2 it is 1."""


def alignment(student: RTMW, teacher: RTMW) -> nn.Module:
    """What brings the student's stride-32 features to the teacher's width: a 1x1 convolution, or nothing when equal.

    It is learned with the student, so it belongs into the module whose gradients the ranks exchange; it is thrown away
    afterwards.

    Raises:
        BadInputError: the networks do not see the same crops, or do not answer on the same bins.
    """
    ours, theirs = student.variant, teacher.variant
    if (ours.input_size, ours.axes) != (theirs.input_size, theirs.axes):
        raise BadInputError(
            f"{theirs.name} cannot teach {ours.name}: its logits are {_shape(teacher)} and the student's "
            f"{_shape(student)}. Choose a teacher of the same input size and axes."
        )
    channels, wanted = (int(network.head.final_layer.conv.in_channels) for network in (student, teacher))
    return nn.Identity() if channels == wanted else nn.Conv2d(channels, wanted, 1)


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """7e-5 times the squared differences (N, C, h, w), summed over a sample and averaged over the samples: scalar.

    The features are the neck's last, at stride 32; the student's have gone through `alignment`.
    """
    squares: Tensor = F.mse_loss(student.float(), teacher.detach().float(), reduction="sum")
    return FEATURE_WEIGHT / len(student) * squares


def logit_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], *, beta: float, weight: float = LOGIT_WEIGHT
) -> Tensor:
    """KL divergence of the student's logits from the teacher's: summed over axes and bins, mean of samples and joints.

    Joints without a label are distilled too: the official code takes their weights and does not use them.

    Args:
        student, teacher: (N, 133, bins) per axis; no gradient reaches the teacher's.
        beta: temperature of both, that of the student's own loss.
        weight: `LOGIT_WEIGHT` in stage 1, 1 in stage 2.
    """
    value = student[0].new_zeros((), dtype=torch.float32)
    for ours, theirs in zip(student, teacher, strict=True):
        with torch.no_grad(), torch.autocast(theirs.device.type, enabled=False):
            scaled = theirs.detach() if beta == 1 else theirs.detach() * beta
            logarithm = F.log_softmax(scaled.flatten(0, 1), dim=-1, dtype=torch.float32)
            target = logarithm.exp()
            entropy = torch.linalg.vecdot(target, logarithm)
            weights = torch.full_like(entropy, weight / len(entropy))
        value = value + divergence(ours.flatten(0, 1), target, entropy, weights, beta)
    return value


def take_trunk(network: RTMW, teacher: RTMW) -> None:
    """Begin stage 2: `network` gets the teacher's backbone and neck, frozen, and keeps its own fresh head.

    Its trunk must also stay in evaluation mode, so that its batch norms do not move.

    Raises:
        BadInputError: they are not of the same variant.
    """
    if network.variant != teacher.variant:
        raise BadInputError(
            f"Stage 2 of {network.variant.name} needs the {network.variant.name} of stage 1 as its teacher, "
            f"not {teacher.variant.name}; pass that run's weights."
        )
    for part, source in ((network.backbone, teacher.backbone), (network.neck, teacher.neck)):
        part.load_state_dict(source.state_dict())
        part.requires_grad_(False)


def _shape(network: RTMW) -> str:
    return " ".join(f"{axis} {bins}" for axis, bins in network.variant.bins.items())
