"""Quantization: which tensors are quantized how (grids), with which scales (tables), and what that does (fake).

Grids and tables need no torch; the other modules of this package do.
"""

from __future__ import annotations

from .grids import AFFINE, COMMON, FULL, GRIDS, W8, W8A16, Grid, grid_named
from .table import SIGMOID, Entry, Table

__all__ = ["AFFINE", "COMMON", "FULL", "GRIDS", "SIGMOID", "W8", "W8A16", "Entry", "Grid", "Table", "grid_named"]
