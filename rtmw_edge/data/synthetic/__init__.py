"""People that the project draws itself: no photographs, no network, no torch. Needs numba (the extra `evaluate`)."""

from ...errors import importing

with importing("The people renderer", "rtmw-edge[evaluate]"):
    import numba  # noqa: F401

from .renderer import Renderer
from .sample import ABSENT, OCCLUDED, VISIBLE, Person, Sample
from .seeds import SPLITS

__all__ = ["ABSENT", "OCCLUDED", "SPLITS", "VISIBLE", "Person", "Renderer", "Sample"]
