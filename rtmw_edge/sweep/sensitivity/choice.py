"""Mixed precision by budget: which convolutions stay in float so that no part loses more AP than it may, at least cost.

The loss of a part is measured with everything in int8, and shared out among the units by their OKS loss alone (see
`Distances`), which ranks them where single changes of AP drown in noise. Units are then chosen greedily: most of the
overrun repaired per cost. The choice is verified by the mixed network's own AP; while that breaks the budget, the rest
is shared out again and more units are chosen. In the end every unit that turns out not to be needed goes back to int8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rtmw_edge.targets.base import OnStep

from ...errors import BadInputError, VerificationError
from ..budget import Budget
from .findings import Finding, Way
from .layer_costs import LayerCosts
from .study import Study, Units

LEAST_COST = 0.01
"""Of the dearest unit's cost: one that costs nothing, or that float makes faster, counts as this much."""


@dataclass(frozen=True)
class Choice:
    """The convolutions to leave in float, and what that costs in the costs' unit."""

    budget: str
    units: tuple[str, ...]
    convolutions: tuple[str, ...]
    losses: dict[str, float]
    cost: float


def choose(study: Study, units: Units, costs: LayerCosts, budget: Budget, on_line: OnStep = lambda _: None) -> Choice:
    """Choose among `units`, which the study has run alone, so that the mixed network keeps `budget` on its crops.

    `on_line` hears what is done and why. Raises BadInputError when the data cannot judge a part of the budget, and
    VerificationError when the budget holds only with every unit in float, or not even then.
    """
    single = study.baseline(Way.FLOAT)
    for part in budget.limits:
        if part not in single.ap:
            raise BadInputError(f"Nobody in {study.crops.dataset} has a label on {part}: leave it out of the budget.")
    search = _Search(study, units, costs, budget, single)
    losses = search.losses(study.baseline(Way.INT8))
    on_line(f"everything in int8 loses {_points(losses, budget)}")
    while budget.overrun(losses) and search.left:
        added = search.add(losses)
        losses = search.measured()
        for unit in added:
            on_line(f"left in float: {unit} ({search.why(unit)})")
        on_line(f"measured: loses {_points(losses, budget)}")
    if budget.overrun(losses):
        raise VerificationError(
            f"Cannot keep {budget.text} on {study.crops.dataset}: it is broken with every unit in float too "
            f"({_points(losses, budget)}); allow more, or fine-tune with rtmw-edge qat first."
        )
    for unit in sorted(search.chosen, key=search.cost, reverse=True) if len(search.chosen) > 1 else ():
        without = search.measured(but=unit)
        if not budget.overrun(without):
            search.give_back(unit)
            losses = without
            on_line(f"back to int8: {unit}, without which the budget is kept ({_points(losses, budget)})")
    if not search.left:
        raise VerificationError(
            f"Cannot keep {budget.text} on {study.crops.dataset}: it holds only with everything in float; allow more, "
            "or fine-tune with rtmw-edge qat first."
        )
    return search.choice(losses)


class _Search:
    """The units chosen so far and those left."""

    def __init__(self, study: Study, units: Units, costs: LayerCosts, budget: Budget, single: Finding) -> None:
        self._study, self._units, self._costs, self._budget, self._single = study, units, costs, budget, single
        extra = {unit: sum(costs.extra[name] for name in names) for unit, names in units.items()}
        least = LEAST_COST * max(*extra.values(), 0.0) or 1.0
        self._extra, self._least = extra, least
        self.chosen: list[str] = []
        self.left = list(units)

    def cost(self, unit: str) -> float:
        """Cost of leaving a unit in float, above zero."""
        return max(self._extra[unit], self._least)

    def losses(self, finding: Finding) -> dict[str, float]:
        """Points of AP lost against float, by part."""
        return {part: ap - finding.ap[part] for part, ap in self._single.ap.items()}

    def measured(self, but: str | None = None) -> dict[str, float]:
        """Losses of the network with the chosen units in float, or all of them but one."""
        chosen = [unit for unit in self.chosen if unit != but]
        return self.losses(self._study.mixed([name for unit in chosen for name in self._units[unit]]))

    def add(self, losses: Mapping[str, float]) -> tuple[str, ...]:
        """Choose units, at least one, until the predicted losses keep the budget or none is left."""
        shares = {unit: self._shares(unit) for unit in self.left}
        totals = {part: sum(share[part] for share in shares.values()) or 1.0 for part in self._budget.limits}
        gains = {
            unit: {part: losses[part] * share[part] / totals[part] for part in totals} for unit, share in shares.items()
        }
        over = self._budget.overrun(losses)
        added: list[str] = []
        while self.left and (over or not added):
            worth = {unit: _repaired(gains[unit], over) / self.cost(unit) for unit in self.left}
            best = max(worth, key=worth.__getitem__)
            self.left.remove(best)
            added.append(best)
            over = {part: rest for part, points in over.items() if (rest := points - gains[best][part]) > 0}
        self.chosen += added
        return tuple(added)

    def give_back(self, unit: str) -> None:
        """Take a unit back to int8."""
        self.chosen.remove(unit)
        self.left.append(unit)

    def why(self, unit: str) -> str:
        """The unit's OKS loss on the budget's parts, and its cost."""
        shares = self._shares(unit)
        told = ", ".join(f"{part} {share:.4f}" for part, share in shares.items())
        return f"OKS loss alone {told}; {self._extra[unit]:.3g} {self._costs.unit}"

    def choice(self, losses: dict[str, float]) -> Choice:
        """What was chosen, in the network's order."""
        units = tuple(unit for unit in self._units if unit in self.chosen)
        names = tuple(name for unit in units for name in self._units[unit])
        return Choice(self._budget.text, units, names, losses, sum(self._extra[unit] for unit in units))

    def _shares(self, unit: str) -> dict[str, float]:
        alone = self._study.finding(Way.ALONE, unit)
        assert alone is not None
        return {
            part: alone.distances[part].oks_loss if part in alone.distances else 0.0 for part in self._budget.limits
        }


def _repaired(gains: Mapping[str, float], over: Mapping[str, float]) -> float:
    """How much of the overrun, part by part, a unit's predicted gains repair: 1 for each part wholly."""
    return sum(min(gains[part] / points, 1.0) for part, points in over.items())


def _points(losses: Mapping[str, float], budget: Budget) -> str:
    return ", ".join(f"{part} {losses[part]:.2f} of {limit:g}" for part, limit in budget.limits.items())
