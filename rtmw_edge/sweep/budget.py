"""A budget of accuracy: how much of its AP each part may lose, as `sensitivity --budget` and [search] take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import BadInputError, unknown
from ..evaluation.whole_body_ap import EVALUATED_PARTS

HANDS = {"hands": ("left_hand", "right_hand")}
"""Words for several parts, each of which has the limit."""


@dataclass(frozen=True)
class Budget:
    """Points of AP (0..100) that each part may lose against the float network."""

    limits: dict[str, float]
    text: str

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read "hands<=0.5,body<=0.5,whole<=0.5"; BadInputError for another part, or a limit that is none.

        >>> Budget.parse("hands<=0.5").limits
        {'left_hand': 0.5, 'right_hand': 0.5}
        """
        limits: dict[str, float] = {}
        for item in text.split(","):
            part, separator, number = (piece.strip() for piece in item.partition("<="))
            if not separator:
                raise BadInputError(
                    f"Cannot read '{item.strip()}' in the budget: write hands<=0.5,body<=0.5,whole<=0.5."
                )
            if part not in (*EVALUATED_PARTS, *HANDS):
                raise unknown("part in the budget", part, (*EVALUATED_PARTS, *HANDS))
            try:
                limit = float(number)
            except ValueError:
                limit = -1.0
            if not 0 <= limit <= 100:
                raise BadInputError(f"The budget gives {part} '{number}', which is no number of points from 0 to 100.")
            for name in HANDS.get(part, (part,)):
                if name in limits:
                    raise BadInputError(f"The budget gives {name} two limits: keep one.")
                limits[name] = limit
        return cls(limits, text)

    def overrun(self, losses: Mapping[str, float]) -> dict[str, float]:
        """By part, the points by which `losses` break the budget; {} when it is kept."""
        return {part: losses[part] - limit for part, limit in self.limits.items() if losses[part] > limit}
