"""What a study found, unit by part: as CSV, and as the numbers of the heat map."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...evaluation.whole_body_ap import EVALUATED_PARTS
from ...files import atomic_write
from .findings import Finding, Way
from .layer_costs import LayerCosts
from .proxy import MEASURES, correlations
from .study import Study, Units

COLUMNS = ("unit", "way", "part", "ap", "ap_change", "px_p50", "px_p90", "px_p99", "bin_flips", "oks_loss", "cost")


@dataclass(frozen=True)
class Row:
    """One unit: its network alone in int8, the one with all but it, and what float costs more there (`LayerCosts`)."""

    unit: str
    alone: Finding
    all_but: Finding
    cost: float


@dataclass(frozen=True)
class SensitivityTable:
    """All units of one study, with the float and the int8 network that they are compared with."""

    single: Finding
    integer: Finding
    rows: Sequence[Row]
    costs: LayerCosts

    @classmethod
    def of(cls, study: Study, units: Units, costs: LayerCosts) -> SensitivityTable:
        """The table of a study that has run all `units`."""
        rows = []
        for unit, names in units.items():
            alone, all_but = study.finding(Way.ALONE, unit), study.finding(Way.ALL_BUT, unit)
            assert alone is not None and all_but is not None
            rows.append(Row(unit, alone, all_but, sum(costs.extra[name] for name in names)))
        return cls(study.baseline(Way.FLOAT), study.baseline(Way.INT8), rows, costs)

    @property
    def has_ap(self) -> bool:
        """Whether single units have an AP."""
        return bool(self.rows) and bool(self.rows[0].alone.ap)

    def change(self, finding: Finding) -> dict[str, float]:
        """Points of AP by part: what a unit alone changes against float, or all but it against everything in int8.

        {} where no AP was measured.
        """
        base = self.integer if finding.way is Way.ALL_BUT else self.single
        return {part: ap - base.ap[part] for part, ap in finding.ap.items()}

    def correlations(self) -> dict[str, dict[str, float]]:
        """Spearman's rank correlation of the proxy of units alone with their loss of AP, by measure and part."""
        losses = [{part: -change for part, change in self.change(row.alone).items()} for row in self.rows]
        return correlations([row.alone.distances for row in self.rows], losses)

    def write_csv(self, path: Path) -> None:
        """One line for every unit, way and part; AP in points, its change as in `change`, shares in 0..1."""
        with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow((*COLUMNS[:-1], f"cost_{self.costs.unit}"))
            for finding, cost in self._findings():
                change = {} if finding.way in (Way.FLOAT, Way.INT8) else self.change(finding)
                for part in EVALUATED_PARTS:
                    near = finding.distances.get(part)
                    figures = (
                        [""] * len(MEASURES) if near is None else [f"{value:.6g}" for value in near.measures.values()]
                    )
                    ap = [f"{table[part]:.4f}" if part in table else "" for table in (finding.ap, change)]
                    writer.writerow((finding.unit, str(finding.way), part, *ap, *figures, cost))

    def _findings(self) -> list[tuple[Finding, str]]:
        found: list[tuple[Finding, str]] = [(self.single, ""), (self.integer, "")]
        for row in self.rows:
            found += [(row.alone, f"{row.cost:.6g}"), (row.all_but, f"{row.cost:.6g}")]
        return found
