"""Whole-body pose (RTMW, 133 keypoints, 2D and 3D) on small devices.

>>> import rtmw_edge
>>> runner = rtmw_edge.load()              # doctest: +SKIP
>>> poses = runner(image_bgr)              # doctest: +SKIP
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .poses import Poses as Poses
    from .runtime import load as load
    from .runtime.wholebody import Wholebody as Wholebody

# From 1.32 on ONNX Runtime keeps a number of this machine in the home folder and may send what it does to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Poses", "Wholebody", "__version__", "load"]

_PLACES = {"load": ".runtime", "Poses": ".poses", "Wholebody": ".runtime.wholebody"}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # a type checker would take it for a module of any names

    def __getattr__(name: str) -> Any:
        """Import on first use, so that `import rtmw_edge` stays fast on a board."""
        if name not in _PLACES:
            raise AttributeError(f"module 'rtmw_edge' has no attribute '{name}'")
        return getattr(import_module(_PLACES[name], __name__), name)
