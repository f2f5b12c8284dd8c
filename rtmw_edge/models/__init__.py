"""RTMW and RTMW3D in PyTorch: the zoo of variants, the networks, their checkpoints and weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .variants import MEAN_RGB, STD_RGB, VARIANTS, Variant, variant_named
from .weights import score_calibration

if TYPE_CHECKING:
    from .rtmw import RTMW, build

__all__ = ["MEAN_RGB", "RTMW", "STD_RGB", "VARIANTS", "Variant", "build", "score_calibration", "variant_named"]


def __getattr__(name: str) -> Any:
    """Import torch on first use only: lists of variants are for people without it."""
    if name in ("RTMW", "build"):
        from . import rtmw

        return getattr(rtmw, name)
    raise AttributeError(f"module 'rtmw_edge.models' has no attribute '{name}'")
