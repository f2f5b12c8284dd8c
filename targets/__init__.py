"""Writers of the formats that devices run: one file per format, found by name and imported only when used.

>>> target_named("onnx").name
'onnx'
"""

from __future__ import annotations

from importlib import import_module

from rtmw_edge.errors import unknown

from .base import Converted, Precision, Target

TARGETS = ("onnx", "openvino", "tflite", "ncnn", "tensorrt")
"""Names of the targets; each is a module of this package with an instance `TARGET`."""

ON_CPUS = tuple(name for name in TARGETS if name != "tensorrt")
"""Those that are for processors: what runs on any machine."""

__all__ = ["ON_CPUS", "TARGETS", "Converted", "Precision", "Target", "target_named"]


def target_named(name: str) -> Target:
    """The target called `name`; raises BadInputError with the nearest name when there is none."""
    if name not in TARGETS:
        raise unknown("target", name, TARGETS)
    target: Target = import_module(f"{__name__}.{name}").TARGET
    return target
