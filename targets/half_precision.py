"""Weights stored in float16, arithmetic left to float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError

if TYPE_CHECKING:
    from torch import nn

FLOAT16_MAX = 65504.0


def check_fits(network: nn.Module) -> None:
    """Raise BadInputError, with the official name, for a kernel or matrix that float16 cannot hold.

    Not every converter does: OpenVINO's clips it.
    """
    for name, weight in network.named_parameters():
        if weight.dim() > 1:
            to_half(weight.detach().float().numpy(), name)


def to_half(values: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    """float16 of the weights called `name`; raises BadInputError when they do not fit."""
    largest = float(np.abs(values).max(initial=0))
    if not largest <= FLOAT16_MAX:
        raise BadInputError(f"Weight '{name}' reaches {largest:.3g}, more than float16 holds; export it in fp32.")
    return values.astype(np.float16)
