"""The exported model as one thing: model files, golden vectors and a manifest that proves them.

>>> from rtmw_edge import bundle
>>> with bundle.read("rtmw-n-256x192-onnx-int8/") as opened:   # doctest: +SKIP
...     opened.manifest.precision
'int8'
"""

from __future__ import annotations

from .errors import BundleError, Reason
from .gate_report import GateCheck, GateReport
from .golden import Agreement, Golden, agreement
from .manifest import MANIFEST_NAME, ROLES, Manifest, Tolerance
from .reading import Bundle, read
from .writing import TOLERANCES, check_replaceable, record_gates, write

__all__ = [
    "MANIFEST_NAME",
    "ROLES",
    "TOLERANCES",
    "Agreement",
    "Bundle",
    "BundleError",
    "GateCheck",
    "GateReport",
    "Golden",
    "Manifest",
    "Reason",
    "Tolerance",
    "agreement",
    "check_replaceable",
    "read",
    "record_gates",
    "write",
]
