"""How good a runner is: whole-body AP and AR per part, PCK, MPJPE in 3D, and calibrated scores.

>>> from rtmw_edge.evaluation import evaluate, open_dataset
>>> evaluate(runner, open_dataset("synthetic:val:100")).parts["left_hand"].ap      # doctest: +SKIP
"""

from __future__ import annotations

from .datasets import Dataset, Detected, open_dataset, read_detections
from .evaluate import Evaluation, evaluate
from .flip import Flip
from .mpjpe import JointErrors, Mpjpe
from .whole_body_ap import EVALUATED_PARTS, Scores, whole_body_ap

__all__ = [
    "EVALUATED_PARTS",
    "Dataset",
    "Detected",
    "Evaluation",
    "Flip",
    "JointErrors",
    "Mpjpe",
    "Scores",
    "evaluate",
    "open_dataset",
    "read_detections",
    "whole_body_ap",
]
