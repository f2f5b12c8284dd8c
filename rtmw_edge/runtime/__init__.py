"""Run a bundle: engines for ONNX Runtime, OpenVINO, LiteRT, ncnn and PyTorch behind one Runner.

>>> from rtmw_edge import runtime
>>> runner = runtime.load("builtin", device="cpu")      # doctest: +SKIP
>>> poses = runner(image_bgr)                           # doctest: +SKIP
"""

from __future__ import annotations

from .devices import DEVICES, open_engine
from .engine import Description, Engine, Model
from .loading import BUILTIN, builtin_path, load, open_bundle, torch_runner
from .runner import Runner
from .verification import verify

__all__ = [
    "BUILTIN",
    "DEVICES",
    "Description",
    "Engine",
    "Model",
    "Runner",
    "builtin_path",
    "load",
    "open_bundle",
    "open_engine",
    "torch_runner",
    "verify",
]
