"""The augmentation of the official configs, which recipes must spell."""

from __future__ import annotations

from dataclasses import replace

from rtmw_edge.training.augmentation import Augmentation

RTMW = Augmentation(
    flip=0.5, half_body=0.3, rotation=0.6, rotation_degrees=90.0, scale=(0.5, 1.5), shift=0.16, shift_probability=0.3,
    photometric=1.0, colour=0.0, grey=0.0, blur=0.1, median_blur=0.1, dropout=0.5, dropout_size=(0.2, 0.4),
)  # fmt: skip
"""RTMW's first stage; its second is `RTMW.second_stage()`."""

RTMW3D = replace(RTMW, scale=(0.6, 1.4), rotation_degrees=80.0, photometric=0.0, hsv=1.0, dropout=1.0)
"""RTMW3D's first stage (spec 2.5)."""

RTMW3D_SECOND = replace(RTMW3D.second_stage(), scale=(0.5, 1.5), rotation_degrees=90.0)
"""RTMW3D's second stage, which turns and scales more than its first."""
