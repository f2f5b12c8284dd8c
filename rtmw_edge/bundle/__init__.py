"""The exported model as one thing: model files, golden vectors and a manifest that proves them.

>>> from rtmw_edge import bundle
>>> with bundle.read("rtmw-n-256x192-onnx-int8/") as opened:   # doctest: +SKIP
...     opened.manifest.precision
'int8'
"""

from __future__ import annotations

from .errors import BundleError, Reason
from .golden import Agreement, Golden, agreement
from .manifest import MANIFEST_NAME, PRECISIONS, ROLES, Manifest, Tolerance
from .reading import Bundle, read
from .writing import TOLERANCES, check_replaceable, write

__all__ = [
    "MANIFEST_NAME",
    "PRECISIONS",
    "ROLES",
    "TOLERANCES",
    "Agreement",
    "Bundle",
    "BundleError",
    "Golden",
    "Manifest",
    "Reason",
    "Tolerance",
    "agreement",
    "check_replaceable",
    "read",
    "write",
]
