"""What a search may choose: where the scales come from, and which convolutions stay in float.

Every parameter has its list of choices, the first of which is where a search begins. Some mean nothing beside some
others (a percentile belongs to some methods alone), so that several points of the product are the same settings.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from rtmw_edge.quantization import GRIDS

from ...errors import BadInputError, unknown

Parameters = dict[str, Any]

CALIBRATED = "calibrated"
"""As scales: made from images, not from a table that is there."""

IN_FLOAT = "float "
"""How the parameter of a group begins, which says whether its convolutions stay in float."""

NAMED_GROUPS = 2
"""More groups in float than these are counted, not named."""


@dataclass(frozen=True)
class Settings:
    """One point of the space. `scales` names a table that is there, or says CALIBRATED with all that this needs.

    `groups` stay in float, and the `most` most sensitive units; () and 0 leave everything in int8.
    """

    scales: str
    grid: str
    method: str = ""
    percentile: float | None = None
    calibration: str = ""
    count: int = 0
    bias_correction: bool = False
    groups: tuple[str, ...] = ()
    most: int = 0

    @property
    def method_words(self) -> str:
        """The method with its parameter: "percentile 99.99"."""
        return f"{self.method} {self.percentile:g}" if self.percentile is not None else self.method

    @property
    def float_words(self) -> str:
        """What stays in float: "backbone.stem in float", "9 groups in float"; "" where nothing does."""
        named = f"{len(self.groups)} groups" if len(self.groups) > NAMED_GROUPS else " and ".join(self.groups)
        found = [named] if named else []
        found += [f"the {self.most} most sensitive"] if self.most else []
        return f"{' and '.join(found)} in float" if found else ""

    @property
    def words(self) -> str:
        """All of it in one line."""
        if self.scales == CALIBRATED:
            count = f" of {self.count}" if self.count else ""
            scales = f"{self.grid} {self.method_words} {self.calibration}{count}"
            scales += " bias-corrected" if self.bias_correction else ""
        else:
            scales = self.scales
        return f"{scales}, {self.float_words or 'all in int8'}"


@dataclass(frozen=True)
class Space:
    """The choices of each kind, the first being where a search begins.

    Attributes:
        tables: by name, the grids of tables that are there.
        sources: of calibration: the source, and how many people of it, 0 for all.
        groups: convolutions by the name of their group. ranking: units from the most sensitive on, each with its
            convolutions, of which any number may stay in float.
    """

    grids: tuple[str, ...]
    methods: tuple[str, ...]
    percentiles: tuple[float, ...]
    sources: tuple[tuple[str, int], ...]
    bias_correction: tuple[bool, ...]
    tables: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ranking: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def choices(self) -> dict[str, Sequence[Any]]:
        """The choices of every parameter; a `range` has an order that counts."""
        return {
            "scales": [*self.tables, CALIBRATED],
            "grid": self.grids,
            "method": self.methods,
            "percentile": self.percentiles,
            "calibration": list(self._sources),
            "bias_correction": self.bias_correction,
            **{f"{IN_FLOAT}{name}": (False, True) for name in self.groups},
            "most_sensitive": range(len(self.ranking) + 1),
        }

    @property
    def _sources(self) -> dict[str, tuple[str, int]]:
        return {f"{source} of {count}" if count else source: (source, count) for source, count in self.sources}

    def settings(self, parameters: Mapping[str, Any]) -> Settings:
        """What parameters mean; those that are left out have their first choice."""
        chosen = {name: parameters.get(name, choices[0]) for name, choices in self.choices.items()}
        scales, method = chosen["scales"], chosen["method"]
        grid = self.tables.get(scales, chosen["grid"])
        floats: dict[str, Any] = {}
        if not GRIDS[grid].between:  # elsewhere integers pass from one convolution to the next
            groups = tuple(name for name in self.groups if chosen[f"{IN_FLOAT}{name}"])
            floats = {"groups": groups, "most": chosen["most_sensitive"]}
        if scales != CALIBRATED:
            return Settings(scales, grid, **floats)
        percentile = chosen["percentile"] if method in ("percentile", "best") else None
        source, count = self._sources[chosen["calibration"]]
        return Settings(scales, grid, method, percentile, source, count, chosen["bias_correction"], **floats)

    def convolutions(self, settings: Settings) -> list[str]:
        """The convolutions that stay in float."""
        found = [name for group in settings.groups for name in self.groups[group]]
        found += [name for unit in self.ranking[: settings.most] for name in unit]
        return sorted(set(found))

    def starts(self) -> list[Parameters]:
        """Where a search begins: everything in int8, with each table that is there, and calibrated."""
        first = {name: choices[0] for name, choices in self.choices.items()}
        return [{**first, "scales": scales} for scales in self.choices["scales"]]

    def every(self) -> Iterator[Parameters]:
        """The whole product, the first choices first."""
        for point in product(*self.choices.values()):
            yield dict(zip(self.choices, point, strict=True))


def groups_named(
    names: Sequence[str], convolutions: Sequence[str], stages: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The convolutions of each group, which is called by the beginning of their names."""
    found = {}
    for name in names:
        members = tuple(each for each in convolutions if each == name or each.startswith(f"{name}."))
        if not members:
            raise unknown("group of convolutions", name, stages)
        found[name] = members
    return found


def ranked(path: Path, parts: Sequence[str], convolutions: Sequence[str], most: int) -> tuple[tuple[str, ...], ...]:
    """The `most` most sensitive units of a sensitivity.csv: those that alone in int8 have the largest OKS loss, on
    average over `parts`. BadInputError where the file is none, or one of another network."""
    losses: dict[str, float] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                if line["way"] == "alone" and line["part"] in parts:
                    losses[line["unit"]] = losses.get(line["unit"], 0.0) + float(line["oks_loss"] or 0)
    except OSError as error:
        raise BadInputError(f"Cannot read the sensitivities {path}: {error.strerror}.") from error
    except (KeyError, ValueError, csv.Error):
        losses = {}
    if not losses:
        raise BadInputError(
            f"{path} holds no sensitivities of {', '.join(parts)}; give a sensitivity.csv of rtmw-edge sensitivity."
        )
    units = sorted(losses, key=lambda unit: -losses[unit])[:most]
    found = groups_named(units, convolutions, list(convolutions))
    return tuple(found[unit] for unit in units)
