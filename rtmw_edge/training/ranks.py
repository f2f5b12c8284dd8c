"""One process or many: Lightning Fabric set up from what torchrun tells, and sums over all ranks."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor

from ..errors import BadInputError

log = logging.getLogger(__name__)

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}

PATIENCE = timedelta(hours=3)
"""How long ranks wait for each other: rank 0 validates alone."""


def has_bfloat16(device: torch.device | str) -> bool:
    """Whether `device` computes in bfloat16 itself; a CPU that emulates it is several times slower than in float32."""
    if torch.device(device).type != "cpu":
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def start(device: str, precision: str) -> Fabric:
    """Fabric on `device` ("cpu" or "cuda"): alone, or one of the ranks that torchrun started, on any number of nodes.

    `precision` is "fp32", or "bf16": weights stay float32 and autocast chooses what runs in bfloat16. Where the device
    cannot, bf16 becomes fp32, and a warning says so.
    """
    if precision == "bf16" and not has_bfloat16(device):
        log.warning("this processor has no bfloat16 arithmetic: training runs in fp32, which is faster here")
        precision = "fp32"
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
    arguments: dict[str, Any] = {}
    if ranks > 1:
        # Buffers: each rank keeps its own batch norm statistics as mmengine does, and rank 0's are saved.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # its successor is newer than torch 2.6
        strategy = DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True, timeout=PATIENCE)
        arguments = {"strategy": strategy, "num_nodes": ranks // here}
    else:
        arguments = {"plugins": [LightningEnvironment()]}
    fabric = Fabric(accelerator=device, devices=here, precision=cast(Any, PRECISIONS[precision]), **arguments)
    fabric.launch()
    return fabric


def total(fabric: Fabric, value: Tensor) -> Tensor:
    """The sum of `value` over all ranks."""
    return value if fabric.world_size == 1 else cast(Tensor, fabric.all_reduce(value, reduce_op="sum"))


def mean(fabric: Fabric, value: Tensor) -> Tensor:
    """The mean of `value` over all ranks."""
    return total(fabric, value) / fabric.world_size


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for one step of one rank, so that chance (dropout) does not depend on what ran before a restart."""
    torch.manual_seed((seed * 1_000_003 + step) * 4_099 + rank)


@contextmanager
def memory_in_words(micro: int) -> Iterator[None]:
    """Around a step with passes of `micro` samples: memory that is not there is told in one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise BadInputError(
            f"A pass of {micro} samples does not fit in memory; let a step take more and smaller ones with "
            f"--set micro={max(1, micro // 2)}."
        ) from error


def accumulating(fabric: Fabric, module: Any, more: bool) -> AbstractContextManager[None]:
    """Leave out the exchange of gradients between ranks while there are `more` passes of a step to come."""
    return fabric.no_backward_sync(module) if more and fabric.world_size > 1 else nullcontext()
