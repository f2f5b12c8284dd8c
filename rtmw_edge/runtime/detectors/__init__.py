"""Person detectors: the one in the package, and RTMDet and YOLOX in the ONNX files that their authors export."""

from __future__ import annotations

from .detector import BUILTIN_FILE, SCORE, OnnxDetector, open_detector

__all__ = ["BUILTIN_FILE", "SCORE", "OnnxDetector", "open_detector"]
