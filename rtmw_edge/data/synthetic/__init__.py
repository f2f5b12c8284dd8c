"""People that the project draws itself: no photographs, no network, no torch."""

from .renderer import Renderer
from .sample import ABSENT, OCCLUDED, VISIBLE, Person, Sample
from .seeds import SPLITS

__all__ = ["ABSENT", "OCCLUDED", "SPLITS", "VISIBLE", "Person", "Renderer", "Sample"]
