"""Calibration: which images, which statistics, and the quantization table that follows from one pass over them.

>>> from rtmw_edge.calibration.collect import Settings, collect                        # doctest: +SKIP
>>> from rtmw_edge.calibration.sources import batches                                  # doctest: +SKIP
>>> source = open_source("photos/", count=300)                                         # doctest: +SKIP
>>> table = collect(network, batches(source, (192, 256)), Settings(Method.PERCENTILE)) # doctest: +SKIP
"""

from __future__ import annotations

from .ranges import Method
from .sources import Source, open_source

__all__ = ["Method", "Source", "open_source"]
