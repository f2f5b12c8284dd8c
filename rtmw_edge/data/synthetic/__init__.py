"""People that the project draws itself: no photographs, no network, no torch. Needs numba (the extra `evaluate`)."""

from importlib.util import find_spec

from ...errors import NotAvailableError

if find_spec("numba") is None:
    raise NotAvailableError(
        'The people renderer needs numba, which is not installed. Run: pip install "rtmw-edge[evaluate]".'
    )

from .renderer import Renderer
from .sample import ABSENT, OCCLUDED, VISIBLE, Person, Sample
from .seeds import SPLITS

__all__ = ["ABSENT", "OCCLUDED", "SPLITS", "VISIBLE", "Person", "Renderer", "Sample"]
