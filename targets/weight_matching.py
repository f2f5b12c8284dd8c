"""Which convolution of a converted file is which of the network: told by the weights, as formats keep no names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from rtmw_edge.errors import RtmwEdgeError

if TYPE_CHECKING:
    from .rewrites import Deployable

Key = TypeVar("Key", int, str)


def match_convolutions(
    found: Mapping[Key, tuple[NDArray[np.float32], NDArray[np.float32]]], deployable: Deployable
) -> dict[Key, str]:
    """Names for the convolutions of a file, given as key -> (weight (O,I,kh,kw), bias (O,)), both float32.

    Converters move weights but do not change them, so equality is exact. Raises RtmwEdgeError, naming the tensor, when
    a convolution has no counterpart, several equal ones, or is missing in the file.
    """
    names: defaultdict[tuple[tuple[int, ...], bytes], list[str]] = defaultdict(list)
    for name, module in deployable.convolutions().items():
        assert module.conv.bias is not None
        weight, bias = (value.detach().cpu().float().numpy() for value in (module.conv.weight, module.conv.bias))
        names[_fingerprint(weight, bias)].append(name)
    matched: dict[Key, str] = {}
    for key, (weight, bias) in found.items():
        candidates = names.pop(_fingerprint(weight, bias), [])
        if not candidates:
            raise RtmwEdgeError(
                f"The converter wrote convolution '{key}' with weights of shape {weight.shape} that no convolution of "
                "the network has: it changed them; use the converter's version that this tool was tested with."
            )
        if len(candidates) > 1:
            raise RtmwEdgeError(
                f"Convolutions {' and '.join(repr(name) for name in candidates)} have the same weights, so their "
                "scales cannot be told apart in the converted file; train the network first."
            )
        matched[key] = candidates[0]
    missing = sorted(name for candidates in names.values() for name in candidates)
    if missing:
        raise RtmwEdgeError(
            f"The converter lost {len(missing)} convolution(s), the first of them '{missing[0]}'; "
            "use the converter's version that this tool was tested with."
        )
    return matched


def _fingerprint(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> tuple[tuple[int, ...], bytes]:
    # Adding zero turns -0.0 into 0.0, which a converter may do as well.
    return weight.shape, (weight + np.float32(0)).tobytes() + (bias + np.float32(0)).tobytes()
