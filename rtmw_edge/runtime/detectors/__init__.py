"""Person detectors that other people trained: RTMDet and YOLOX in the ONNX files that their authors export."""

from __future__ import annotations

from .detector import SCORE, OnnxDetector, open_detector

__all__ = ["SCORE", "OnnxDetector", "open_detector"]
