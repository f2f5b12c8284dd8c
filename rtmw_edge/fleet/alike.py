"""What workers of one board must share, and what they announce: a figure is the board's, whichever it is from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from ..runtime.environment import PACKAGES, differences
from ..runtime.machine import REFERENCE, distributions

DECISIVE = (
    "rtmw-edge", "board", "processor", "cores", *(name for name in PACKAGES if name not in distributions(REFERENCE)),
)  # fmt: skip

Facts = Mapping[str, str]
"""A board's `environment()`."""


def resource(board: str, facts: Facts) -> dict[str, float]:
    """What a worker announces and a cell takes, all of it, so that nothing runs beside a cell.

    Workers that are not alike announce different things, so that none gets a cell that is for another.
    """
    kind = hashlib.sha256(json.dumps(_decisive(facts), sort_keys=True).encode()).hexdigest()
    return {f"board:{board}:{kind[:16]}": 1}


def board_of(resource: str) -> str:
    """The board of something announced."""
    return resource.removeprefix("board:").partition(":")[0]


def unlike(one: Facts, other: Facts) -> str:
    """The first decisive thing that two workers do not share, in words; "" when there is none."""
    return next(iter(differences(_decisive(one), _decisive(other))), "")


def _decisive(facts: Facts) -> dict[str, str]:
    return {name: facts[name] for name in DECISIVE if name in facts}
