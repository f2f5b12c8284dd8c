"""Weights stored in float16, arithmetic left to float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError

FLOAT16_MAX = 65504.0


def to_half(values: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    """float16 of the weights called `name`; raises BadInputError when they do not fit."""
    largest = float(np.abs(values).max(initial=0))
    if not largest <= FLOAT16_MAX:
        raise BadInputError(f"Weight '{name}' reaches {largest:.3g}, more than float16 holds; export it in fp32.")
    return values.astype(np.float16)
