"""The fourteen data sets of RTMW and the two of RTMW3D, each in their official layouts, mapped to the 133 keypoints."""

from .config import DataConfig, SetConfig, open_set, open_sets, read_config
from .kinds import KINDS
from .table import AnnotatedSet

__all__ = [
    "KINDS",
    "AnnotatedSet",
    "DataConfig",
    "SetConfig",
    "open_set",
    "open_sets",
    "read_config",
]
