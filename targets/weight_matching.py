"""Which convolution of a converted file is which of the network: told by the weights, as formats keep no names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from rtmw_edge.quantization import GRIDS, Table

from rtmw_edge.errors import RtmwEdgeError

if TYPE_CHECKING:
    from .rewrites import Deployable

Key = TypeVar("Key", int, str)
Fingerprint = tuple[tuple[int, ...], bytes]


def match_convolutions(
    found: Mapping[Key, tuple[NDArray[np.float32], NDArray[np.float32]]], network: Deployable
) -> dict[Key, str]:
    """Names for the convolutions of a file, given as key -> (weight (O,I,kh,kw), bias (O,)), both float32.

    Converters move weights but do not change them, so equality is exact. Convolutions with equal weights take their
    names in the order of the file, which is right where nothing but the weights is told by them (`check_distinct`).
    Raises RtmwEdgeError, naming the tensor, when a convolution has no counterpart or is missing in the file.
    """
    names = _names_by_weights(network)
    matched: dict[Key, str] = {}
    for key, (weight, bias) in found.items():
        candidates = names.get(_fingerprint(weight, bias))
        if not candidates:
            raise RtmwEdgeError(
                f"The converter wrote convolution '{key}' with weights of shape {weight.shape} that no convolution of "
                "the network has: it changed them; use the converter's version that this tool was tested with."
            )
        matched[key] = candidates.pop(0)
    missing = sorted(name for candidates in names.values() for name in candidates)
    if missing:
        raise RtmwEdgeError(
            f"The converter lost {len(missing)} convolution(s), the first of them '{missing[0]}'; "
            "use the converter's version that this tool was tested with."
        )
    return matched


def check_distinct(network: Deployable, table: Table) -> None:
    """Raise RtmwEdgeError where convolutions with equal weights have scales of what they read or give.

    Nothing tells in the converted file which of them is which; scales of the weights alone are equal as well.
    """
    if not GRIDS[table.grid].calibrated:
        return
    for names in _names_by_weights(network).values():
        if len(names) > 1 and not set(names) <= set(table.floats):
            raise RtmwEdgeError(
                f"Convolutions {' and '.join(repr(name) for name in names)} have the same weights, so their "
                "scales cannot be told apart in the converted file; train the network first, or export fp32."
            )


def _names_by_weights(network: Deployable) -> dict[Fingerprint, list[str]]:
    from rtmw_edge.quantization.fake import weight_arrays

    names: defaultdict[Fingerprint, list[str]] = defaultdict(list)
    for name, module in network.convolutions().items():
        names[_fingerprint(*weight_arrays(module))].append(name)
    return dict(names)


def _fingerprint(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> Fingerprint:
    # Adding zero turns -0.0 into 0.0, which a converter may do as well.
    return weight.shape, (weight + np.float32(0)).tobytes() + (bias + np.float32(0)).tobytes()
