"""The section [search] of a sweep's file: what `rtmw-edge sweep --search` chooses among, and under which budget.

Grids, methods, calibrations, counts, bias correction and tables are the sweep's own keys; this adds what a product of
all choices has no use for.

[search]
budget = "hands<=0.5,body<=0.5,whole<=0.5"
trials = 40
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rtmw_edge.calibration.ranges import PERCENTILE

from ...errors import BadInputError, unknown
from ...evaluation.whole_body_ap import EVALUATED_PARTS, WHOLE
from ..budget import Budget

BUDGET = 'budget = "hands<=0.5,body<=0.5,whole<=0.5"'

KINDS: dict[str, tuple[type, ...]] = {
    "budget": (str,), "part": (str,), "trials": (int,), "percentiles": (int, float), "groups": (str,),
    "sensitivity": (str,), "most": (int,), "seed": (int,),
}  # fmt: skip
LISTS = ("percentiles", "groups")


@dataclass(frozen=True)
class SearchConfig:
    """What a search adds to a sweep. Of every list of choices the first is where it begins.

    Attributes:
        budget: points of AP that each part may lose against fp32, as `rtmw-edge sensitivity --budget` takes it.
        part: whose AP is to be high; time, against fp32 in turns, is to be low.
        trials: different settings to measure, those where it begins included.
        percentiles: of the methods percentile and best, in percent.
        groups: convolutions by the beginning of their names, "backbone.stem", that are left in float together or not;
            None for every stage, or for none where there is a `sensitivity`.
        sensitivity: a sensitivity.csv, whose units are left in float from the most sensitive one on, up to `most`.
        seed: of what is tried next.
    """

    budget: Budget
    part: str = WHOLE
    trials: int = 40
    percentiles: tuple[float, ...] = (PERCENTILE, 99.99, 99.9999)
    groups: tuple[str, ...] | None = None
    sensitivity: Path | None = None
    most: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.part not in EVALUATED_PARTS:
            raise unknown("part of [search]", self.part, EVALUATED_PARTS)
        for percentile in self.percentiles:
            if not 50 < percentile <= 100:
                raise BadInputError(f"The search's percentile {percentile:g} is not above 50 and at most 100.")
        for name, least in (("trials", 1), ("most", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise BadInputError(f"The search's {name} is {getattr(self, name)}; write {least} or more.")


def parse_search(section: Any, folder: Path) -> SearchConfig:
    """The section as TOML gives it; relative paths count from `folder`. BadInputError for what cannot be used."""
    if not isinstance(section, Mapping):
        raise BadInputError(f"The sweep's search is {section!r}; write [search], and below it {BUDGET}.")
    values: dict[str, Any] = {}
    for key, value in section.items():
        if key not in KINDS:
            raise unknown("key of [search]", key, [item.name for item in fields(SearchConfig)])
        items = value if key in LISTS and isinstance(value, list) else [value]
        for item in items:
            if type(item) not in KINDS[key]:
                raise BadInputError(f"The search's {key} is {item!r}; it must be of type {KINDS[key][-1].__name__}.")
        values[key] = tuple(dict.fromkeys(items)) if key in LISTS else value
    if "budget" not in values:
        raise BadInputError(f"The [search] has no budget, which says what may be lost; write {BUDGET}.")
    values["budget"] = Budget.parse(values["budget"])
    if "percentiles" in values:
        values["percentiles"] = tuple(float(value) for value in values["percentiles"])
        if not values["percentiles"]:
            raise BadInputError("The search's percentiles is empty; leave it out for the default.")
    if "sensitivity" in values:
        values["sensitivity"] = folder / values["sensitivity"]
    return SearchConfig(**values)
