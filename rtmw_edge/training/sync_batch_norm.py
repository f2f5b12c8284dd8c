"""Batch norm over the samples of all ranks, on GPUs (torch's own) and on CPUs, where torch has none."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn


class _SumOverRanks(torch.autograd.Function):
    """Sum of a tensor over the ranks; the gradient of a sum over ranks is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d (N, C, H, W) whose training statistics are those of all ranks together; N may differ by rank."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.momentum is None:
            return super().forward(x)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        count = values.new_full((1,), values.numel() / values.shape[1])
        sums = _SumOverRanks.apply(torch.cat([values.sum(dim=(0, 2, 3)), count]))
        mean, total = sums[:-1] / sums[-1], sums[-1].detach()
        centred = values - mean[:, None, None]
        variance = _SumOverRanks.apply(centred.square().sum(dim=(0, 2, 3))) / total
        with torch.no_grad():
            running_mean, running_var = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
            running_mean.lerp_(mean, self.momentum)
            running_var.lerp_(variance * total / (total - 1), self.momentum)
            cast(Tensor, self.num_batches_tracked).add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


Module = TypeVar("Module", bound=nn.Module)


def synchronized(module: Module, device: torch.device) -> Module:
    """`module` with every BatchNorm2d made one that spans the ranks; its state stays, and so does what is frozen."""
    if device.type != "cpu":
        return cast(Module, nn.SyncBatchNorm.convert_sync_batchnorm(module))
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = CpuSyncBatchNorm
    return module
