"""People that the project draws itself: no photographs, no network, no torch. Needs numba (the extra `train`)."""

from importlib.util import find_spec

from ...errors import NotAvailableError

if find_spec("numba") is None:
    raise NotAvailableError("The people renderer needs numba, which is not installed; pip install 'rtmw-edge[train]'.")

from .renderer import Renderer
from .sample import ABSENT, OCCLUDED, VISIBLE, Person, Sample
from .seeds import SPLITS

__all__ = ["ABSENT", "OCCLUDED", "SPLITS", "VISIBLE", "Person", "Renderer", "Sample"]
