"""The SimCC loss of RTMW: KL divergence between softened labels and predictions (mmpose's KLDiscretLoss).

t = softmax(label_beta * label), p = softmax(beta * logit), l = mean over bins of t (log t - log p); summed over axes,
samples and joints with the joint's weight, divided by the number of joints. `label` is an unnormalised Gaussian around
the rounded bin, so t depends on that bin alone: the targets of all bins are computed once and looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..keypoints import PARTS
from ..simcc import sigma_of

LABEL_BETA = 10.0


def kl_loss(logits: Tensor, labels: Tensor, weights: Tensor, *, beta: float = 1.0) -> Tensor:
    """The official loss of one axis, for arbitrary labels: scalar, summed over samples, divided by the joints.

    Args:
        logits: (N, K, bins) raw predictions.
        labels: (N, K, bins) unnormalised Gaussians in 0..1.
        weights: (N, K) weight of every joint, 0 for those that are not labelled.
    """
    target = F.softmax(labels * LABEL_BETA, dim=-1)
    divergence = F.kl_div(F.log_softmax(logits * beta, dim=-1), target, reduction="none").mean(dim=-1)
    return (divergence * weights).sum() / labels.shape[1]


def part_weights(weights: dict[str, float]) -> Tensor:
    """(133,) weight of every joint from a weight per part; a part that is not named weighs 1."""
    out = torch.ones(PARTS["right_hand"].stop)
    for part, weight in weights.items():
        out[PARTS[part]] = weight
    return out


class _CrossEntropy(torch.autograd.Function):
    """Sum over rows of weight * -(target . log softmax(logits)); gradient weight * (softmax - target) in one pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        norm = torch.logsumexp(logits, dim=-1, keepdim=True)
        cross = norm[:, 0] - torch.linalg.vecdot(target, logits)
        ctx.save_for_backward((logits - norm).exp_().sub_(target), weights)
        return torch.dot(cross, weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        difference, weights = ctx.saved_tensors
        return difference * (weights * gradients[0])[:, None], None, None


class SimccLoss(nn.Module):
    """`kl_loss` over all axes from keypoint coordinates, with precomputed targets.

    The sum is divided by the total weight instead of the joints and multiplied by the bins, so that neither the batch
    size nor the resolution changes the meaning of the learning rate. Joints whose bin lies outside the grid weigh 0.

    Args:
        input_size: (width, height) of the crop in pixels; two bins a pixel.
        joint_weights: (133,) weight of every joint.
        beta: temperature of the predictions (1 for RTMW, 10 for RTMW3D).
    """

    def __init__(self, input_size: tuple[int, int], joint_weights: Tensor, *, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta
        self.joint_weights: Tensor
        self.register_buffer("joint_weights", joint_weights)
        self.axes = len(input_size)
        for axis, (size, sigma) in enumerate(zip(input_size, sigma_of(input_size), strict=True)):
            bins = torch.arange(2 * size, dtype=torch.float32)
            label = torch.exp(-((bins[None] - bins[:, None]) ** 2) / (2 * float(sigma) ** 2))
            target = F.softmax(LABEL_BETA * label, dim=-1)
            self.register_buffer(f"target{axis}", target, persistent=False)
            self.register_buffer(f"entropy{axis}", (target * target.log()).sum(dim=-1), persistent=False)

    def forward(self, logits: Sequence[Tensor], keypoints: Tensor, weights: Tensor) -> Tensor:
        """Scalar loss of logits (N, 133, bins) per axis, keypoints (N, 133, axes) in crop pixels, weights (N, 133)."""
        index = torch.round(keypoints * 2).long()
        inside = torch.ones_like(weights)
        for axis in range(self.axes):
            inside = inside * ((index[..., axis] >= 0) & (index[..., axis] < logits[axis].shape[-1]))
        weights = weights * self.joint_weights * inside
        labelled = weights > 0
        chosen_weights = weights[labelled]
        total = chosen_weights.new_zeros(())
        for axis in range(self.axes):
            target, entropy = getattr(self, f"target{axis}"), getattr(self, f"entropy{axis}")
            bins = index[..., axis][labelled]
            rows = logits[axis][labelled].float() * self.beta
            total = total + _CrossEntropy.apply(rows, target[bins], chosen_weights)
            total = total + torch.dot(entropy[bins], chosen_weights)
        return total / weights.sum().clamp(min=1.0)
