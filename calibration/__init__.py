"""Calibration: which images, which statistics, and the quantization table that follows from one pass over them."""

from __future__ import annotations

from .ranges import Method
from .sources import Source, open_source

__all__ = ["Method", "Source", "open_source"]
