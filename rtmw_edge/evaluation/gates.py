"""Gates: limits per body part on what a device may lose against a reference, in TOML.

One table a part (body, foot, face, left_hand, right_hand, whole), and in it any of

    ap_drop = 0.5          # points of AP (0..100) below the reference
    px_p50 = 0.5           # crop pixels from the reference's keypoints, at the median,
    px_p90 = 1.0           #   the 90th
    px_p99 = 3.0           #   and the 99th percentile of the keypoints that the reference is sure of
    mpjpe_percent = 3.0    # 3D variants only: percent of hip-aligned MPJPE above the reference

`bundle.gate_report` has the rule by which a limit is kept. default_gate.toml is the gate of those who name none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle import GateCheck
from ..bundle.gate_report import GATED_PARTS, LARGEST, MEASURES, judged
from ..errors import BadInputError, unknown
from ..toml_files import read_toml
from .intervals import Estimate

DEFAULT = "default"
DEFAULT_FILE = Path(__file__).with_name("default_gate.toml")
ONLY_3D = "mpjpe_percent"

Figures = Mapping[tuple[str, str], Estimate]
"""What was measured, by part and measure; nothing where it could not be."""


@dataclass(frozen=True)
class Gate:
    """A name, and every limit by part and measure, in the order of the file."""

    name: str
    limits: dict[tuple[str, str], float]

    def judge(self, figures: Figures, *, in_3d: bool, strict: bool = False) -> tuple[GateCheck, ...]:
        """Every limit with what was measured; those on MPJPE are left out of a 2D comparison.

        Raises BadInputError when that leaves no limit.
        """
        checks = []
        for (part, measure), limit in self.limits.items():
            if measure != ONLY_3D or in_3d:
                found = figures.get((part, measure))
                measured = None if found is None else (found.value, found.low, found.high)
                checks.append(judged(part, measure, limit, measured, strict))
        if not checks:
            raise BadInputError(f"The gate '{self.name}' limits nothing but MPJPE, which 2D variants have none of.")
        return tuple(checks)


def read_gate(path: Path | str = DEFAULT) -> Gate:
    """The gate in a TOML file, or the shipped one for "default".

    Raises BadInputError for a file that is not there or no TOML, an unknown part or key, and a limit that is none.
    """
    default = str(path) == DEFAULT
    path = DEFAULT_FILE if default else Path(path)
    return parse_gate(read_toml(path, "gate", ", or take 'default'"), DEFAULT if default else path.stem)


def parse_gate(document: Mapping[str, Any], name: str) -> Gate:
    """The gate called `name` in a TOML document."""
    limits = {}
    for part, table in document.items():
        if part not in GATED_PARTS:
            raise unknown("part in a gate", part, GATED_PARTS)
        if not isinstance(table, dict):
            raise BadInputError(f"The gate's '{part}' is no table: write [{part}], and below it ap_drop = 0.5.")
        for measure, limit in table.items():
            if measure not in MEASURES:
                raise unknown(f"limit on {part} in a gate", measure, MEASURES)
            if type(limit) not in (int, float) or not 0 <= limit <= LARGEST:
                raise BadInputError(f"The gate's limit {measure} = {limit} on {part} is no number from 0 up.")
            if part == "foot" and measure == ONLY_3D:
                raise BadInputError(
                    "The gate limits the MPJPE of the foot, which is counted with the body: write it there."
                )
            limits[part, measure] = float(limit)
    if not limits:
        raise BadInputError(f"The gate '{name}' limits nothing: write [whole], and below it ap_drop = 0.5.")
    return Gate(name, limits)
