"""A trial of a search before and after it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .space import Parameters, Settings


@dataclass(frozen=True)
class Outcome:
    """What a trial measured: AP in points, the time over fp32, and the points by which each part is over its budget,
    negative where it keeps it. With a `reason` it failed, and there is nothing else."""

    ap: float = 0.0
    time: float = 0.0
    over: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def kept(self) -> bool:
        """Whether the budget was kept."""
        return not self.reason and all(points <= 0 for points in self.over.values())


@dataclass(frozen=True)
class Tried:
    """Settings with their number, 1 and up, and what came of them."""

    number: int
    settings: Settings
    outcome: Outcome


@dataclass(frozen=True)
class Asked:
    """Settings to be measured, and the parameters that they are the meaning of.

    `round` says with which others they were drawn: how many were tried before, and how many were drawn.
    """

    number: int
    settings: Settings
    parameters: Parameters
    round: tuple[int, int]


Measure = Callable[[Sequence[Asked]], Sequence[Outcome]]
"""Measures a few settings together; an outcome for each."""
