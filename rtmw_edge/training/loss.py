"""The losses of RTMW and RTMW3D: KL divergence on every axis (spec 4.1, 2.4), and a bone loss that has a gradient.

t = softmax(10 label), p = softmax(beta logit), l = sum over bins of t (log t - log p). The label is an unnormalised
Gaussian around the rounded bin, so t depends on that bin alone: the targets of all bins are computed once, on the
device, and looked up; no label ever travels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BadInputError
from ..keypoints import BONE_PARENTS, NUM_KEYPOINTS, PARTS
from ..simcc import SPLIT_RATIO, sigma_of

LABEL_BETA = 10.0


def part_weights(weights: dict[str, float]) -> Tensor:
    """(133,) weight of every joint from a weight per part; a part that is not named weighs 1."""
    out = torch.ones(NUM_KEYPOINTS)
    for part, weight in weights.items():
        out[PARTS[part]] = weight
    return out


def divergence(logits: Tensor, target: Tensor, entropy: Tensor, weights: Tensor, beta: float) -> Tensor:
    """Scalar sum over rows of weight * sum_i t_i (log t_i - log softmax(beta * logits)_i), in float32.

    Args:
        logits: (R, bins), any floating type; the only argument that gets a gradient.
        target: (R, bins) float32 probabilities t.
        entropy: (R,) sum_i t_i log t_i.
        weights: (R,) float32.
    """
    result: Tensor = _Divergence.apply(logits, target, entropy, weights, beta)
    return result


class _Divergence(torch.autograd.Function):
    """Autograd would keep the logarithms, the products and a copy of the logits; the gradient needs p - t alone."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, entropy: Tensor, weights: Tensor, beta: float) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            scaled = logits if beta == 1 else logits * beta
            rows = F.log_softmax(scaled, dim=-1, dtype=torch.float32)
            value = torch.dot(entropy - torch.linalg.vecdot(target, rows), weights)
            ctx.save_for_backward(rows.exp_().sub_(target), weights)
        ctx.beta, ctx.kind = beta, logits.dtype
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        difference, weights = ctx.saved_tensors
        out = torch.empty_like(difference, dtype=ctx.kind)
        torch.mul(difference, (weights * (gradients[0] * ctx.beta))[:, None], out=out)
        return out, None, None, None, None


class Targets(nn.Module):
    """The soft target of every bin of every axis, for keypoints in crop pixels.

    A keypoint counts where its bin lies on the grid on every axis on which it has a weight; with `wide`, as published
    (spec 3.3), where the three-sigma window of its label touches the grid.

    Args:
        input_size: pixels per axis, (width, height) or (width, height, depth); two bins a pixel.
    """

    def __init__(self, input_size: tuple[int, ...], *, wide: bool = False) -> None:
        super().__init__()
        self.sizes = [round(size * SPLIT_RATIO) for size in input_size]
        self.sigmas = [float(sigma) for sigma in sigma_of(input_size)]
        self.wide = wide
        self.reaches = [math.ceil(3 * sigma) + 1 if wide else 0 for sigma in self.sigmas]
        for axis, (size, sigma, reach) in enumerate(zip(self.sizes, self.sigmas, self.reaches, strict=True)):
            bins = torch.arange(size, dtype=torch.float32)
            peaks = torch.arange(-reach, size + reach, dtype=torch.float32)
            label = torch.exp(-((bins - peaks[:, None]) ** 2) / (2 * sigma**2))
            target = F.softmax(LABEL_BETA * label, dim=-1)
            self.register_buffer(f"target{axis}", target, persistent=False)
            self.register_buffer(f"entropy{axis}", torch.special.xlogy(target, target).sum(dim=-1), persistent=False)

    def rows_of(self, keypoints: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (N, K, axes) of the tables, and weights (N, K, axes) with 0 for keypoints that do not count.

        `keypoints` is (N, K, axes) in crop pixels, `weights` (N, K) or (N, K, axes).
        """
        if weights.ndim == 2:
            weights = weights[..., None].expand(*weights.shape, len(self.sizes))
        peaks = torch.round(keypoints * SPLIT_RATIO)
        counts = torch.ones(peaks.shape[:2], dtype=torch.bool, device=peaks.device)
        rows = []
        for axis, (size, sigma, reach) in enumerate(zip(self.sizes, self.sigmas, self.reaches, strict=True)):
            peak = peaks[..., axis]
            low, high = (-3 * sigma - 1, size + 3 * sigma) if self.wide else (0, size)
            counts = counts & (((peak >= low) & (peak < high)) | (weights[..., axis] <= 0))
            rows.append(peak.nan_to_num().clamp(-reach, size + reach - 1).long() + reach)
        return torch.stack(rows, dim=-1), weights * counts[..., None]

    def table(self, kind: str, axis: int) -> Tensor:
        """The buffer of an axis: "target" (rows, bins) or "entropy" (rows,)."""
        return self.get_buffer(f"{kind}{axis}")


class SimccLoss(nn.Module):
    """The KL divergence from softened Gaussians summed over all axes, from keypoint coordinates.

    By default the sum over bins is divided by the weight of all joints that count (for one with several axes, its
    largest), so that neither the batch size nor the resolution changes the meaning of the learning rate, and a batch
    without depth weighs as much as in 2D. With `official_scaling` it is the mean over bins, summed over the samples and
    divided by the joints alone, as published: it grows with the batch of a GPU.

    Joints whose bin lies outside the grid weigh 0; with `official_scaling` those whose whole label does.

    Args:
        input_size: pixels of the crop per axis, (width, height) or (width, height, depth); two bins a pixel.
        joint_weights: (133,) weight of every joint (`part_weights`; the official one is 0.5 for the face, in 2D only).
        beta: temperature of the predictions (1 for RTMW, 10 for RTMW3D).
        official_scaling: see above.
    """

    def __init__(
        self,
        input_size: tuple[int, ...],
        joint_weights: Tensor,
        *,
        beta: float = 1.0,
        official_scaling: bool = False,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.official_scaling = official_scaling
        self.joint_weights: Tensor
        self.register_buffer("joint_weights", joint_weights)
        self.targets = Targets(input_size, wide=official_scaling)

    def forward(
        self, logits: Sequence[Tensor], keypoints: Tensor, weights: Tensor, total: Tensor | None = None
    ) -> Tensor:
        """Scalar loss.

        Args:
            logits: (N, 133, bins) per axis.
            keypoints: (N, 133, axes) in crop pixels, depth in pixels of its axis.
            weights: (N, 133), or (N, 133, axes) where an axis can be unknown.
            total: what to divide by instead of this batch's `total`: the mean over ranks, so that averaging the ranks'
                gradients gives that of the whole batch; or the sum over the parts of an accumulated batch.
        """
        rows, counted = self._counted(keypoints, weights)
        if len(logits) != len(self.targets.sizes):
            raise BadInputError(
                f"The network gives {len(logits)} axes and the loss has {len(self.targets.sizes)}: "
                "make the loss from the network's own input size."
            )
        value = counted.new_zeros(())
        for axis, line in enumerate(logits):
            row = rows[..., axis].flatten()
            weight = counted[..., axis].flatten()
            target = self.targets.table("target", axis).index_select(0, row)
            entropy = self.targets.table("entropy", axis).index_select(0, row)
            part = divergence(line.flatten(0, 1), target, entropy, weight, self.beta)
            value = value + (part / line.shape[-1] if self.official_scaling else part)
        if self.official_scaling:
            return value / logits[0].shape[1]
        return value / (self._weight_of(counted) if total is None else total).clamp(min=1.0)

    def total(self, keypoints: Tensor, weights: Tensor) -> Tensor:
        """The weight (scalar) of all joints that count: what `forward` divides by. Arguments as there."""
        return self._weight_of(self._counted(keypoints, weights)[1])

    def _counted(self, keypoints: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        rows, counted = self.targets.rows_of(keypoints, weights)
        return rows, counted * self.joint_weights[:, None]

    @staticmethod
    def _weight_of(counted: Tensor) -> Tensor:
        return counted.amax(dim=-1).sum()


def mean_near_peak(logits: Tensor, reach: int) -> Tensor:
    """The mean bin under the softmax over the bins within `reach` of the largest: (..., bins) to (...)."""
    bins = logits.argmax(dim=-1, keepdim=True) + torch.arange(-reach, reach + 1, device=logits.device)
    last = logits.shape[-1] - 1
    near = logits.gather(-1, bins.clamp(0, last)).masked_fill((bins < 0) | (bins > last), -math.inf)
    return (F.softmax(near, dim=-1) * bins).sum(dim=-1)


class BoneLoss(nn.Module):
    """Difference of bone lengths between prediction and label, for RTMW3D's 112 bones (spec 2.4).

    Coordinates are soft-argmaxes near the peak: the mean bin under softmax(beta * logit) over the bins within three
    sigma of the largest, compared with the same mean of the soft target, so that it is least where the KL divergence
    is. Over all bins, a little weight at the far end of the grid is the cheapest way to the right length of a bone
    whose depth is uncertain, and ends as the argmax. The official loss takes argmaxes, through which no gradient
    passes, and compares lengths averaged over the batch; here every person's bones count by themselves. The unit is
    the label's sigma on the x axis (3 pixels at 384x288): its gradient is then as large as the KL divergence's. With
    `official_scaling` it is scaled as that one is, over the bins of the x axis, or it would outweigh it tenfold.
    """

    def __init__(self, input_size: tuple[int, ...], *, beta: float = 10.0, official_scaling: bool = False) -> None:
        super().__init__()
        self.beta = beta
        self.official_scaling = official_scaling
        self.targets = Targets(input_size)
        self.reaches = [math.ceil(3 * sigma) for sigma in self.targets.sigmas]
        for axis, reach in enumerate(self.reaches):
            middle = mean_near_peak(self.targets.table("target", axis).log(), reach)
            self.register_buffer(f"middle{axis}", middle, persistent=False)
        ends = [(child, int(parent)) for child, parent in enumerate(BONE_PARENTS) if child != parent]
        self.register_buffer("ends", torch.tensor(ends).T.contiguous(), persistent=False)

    def forward(
        self, logits: Sequence[Tensor], keypoints: Tensor, weights: Tensor, total: Tensor | None = None
    ) -> Tensor:
        """Scalar mean over bones of |predicted - labelled length|; a bone weighs what the lighter of its joints weighs.

        Arguments as in `SimccLoss.forward`. An axis on which a joint of a bone has weight 0 is left out of its length.
        """
        rows, counted = self.targets.rows_of(keypoints, weights)
        predicted, labelled = [], []
        with torch.autocast(keypoints.device.type, enabled=False):
            for axis, line in enumerate(logits):
                predicted.append(mean_near_peak(line.float() * self.beta, self.reaches[axis]))
                labelled.append(self.get_buffer(f"middle{axis}")[rows[..., axis]])
        child, parent = self.get_buffer("ends")
        known = self._known(counted)
        lengths = [
            torch.linalg.vector_norm((points[:, child] - points[:, parent]) * (known > 0), dim=-1)
            for points in (torch.stack(predicted, dim=-1), torch.stack(labelled, dim=-1))
        ]
        weight = known.amax(dim=-1)
        value = ((lengths[0] - lengths[1]).abs() * weight).sum() / self.targets.sigmas[0]
        if self.official_scaling:
            return value / (weight.shape[1] * logits[0].shape[-1])
        return value / (weight.sum() if total is None else total).clamp(min=1.0)

    def total(self, keypoints: Tensor, weights: Tensor) -> Tensor:
        """The weight (scalar) of all bones that count: what `forward` divides by."""
        return self._known(self.targets.rows_of(keypoints, weights)[1]).amax(dim=-1).sum()

    def _known(self, counted: Tensor) -> Tensor:
        """What a bone (N, 112, axes) weighs on each axis: as much as the lighter of its joints (N, 133, axes)."""
        child, parent = self.get_buffer("ends")
        return torch.minimum(counted[:, child], counted[:, parent])
