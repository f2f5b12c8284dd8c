"""What a gate said of a bundle: every limit and what was measured against it, as `manifest.json` keeps it.

The rule: a limit is kept when the measured figure is at most the limit. The 95 % interval of the figure stands beside
it, and says whether another draw of images could have decided otherwise. A strict gate asks that the figure and its
whole interval keep the limit. What could not be measured keeps no limit, and to a strict gate that is also what fewer
than FEWEST_IMAGES images show: drawn again, so few give an interval that is too narrow, and one image gives none.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..keypoints import PARTS
from .strict_json import Fields, refuse

GATED_PARTS = (*PARTS, "whole")
MEASURES: dict[str, str] = {
    "ap_drop": "AP points lost",
    "px_p50": "px off (median)",
    "px_p90": "px off (90th percentile)",
    "px_p99": "px off (99th percentile)",
    "mpjpe_percent": "% more MPJPE",
}
"""What a gate can limit, and the words for it: AP in points of 0..100, distances in crop pixels, MPJPE relative."""

FEWEST_IMAGES = 5
"""Images that must have a part before a strict gate believes an interval."""

MAX_CHECKS = len(GATED_PARTS) * len(MEASURES)
LARGEST = 1e9


@dataclass(frozen=True)
class GateCheck:
    """One limit and what was measured: `value` with its 95 % interval, all None where nothing could be measured."""

    part: str
    measure: str
    limit: float
    value: float | None
    low: float | None
    high: float | None
    passed: bool

    @property
    def within_noise(self) -> bool:
        """Whether the limit lies inside the interval: another draw of images might have said the opposite."""
        return self.low is not None and self.high is not None and self.low <= self.limit <= self.high

    def sentence(self, strict: bool = False) -> str:
        """The check in words, without its verdict."""
        what, part = MEASURES[self.measure], self.part.replace("_", " ")
        if self.value is None:
            nobody = f"fewer than {FEWEST_IMAGES} images have it" if strict else "nobody is labelled"
            why = f"as {nobody} or the reference finds none"
            return f"{part}: {what} cannot be measured, {why} (at most {self.limit:g})"
        noise = ", within noise" if self.within_noise else ""
        return (
            f"{part}: {self.value:.2f} {what} (at most {self.limit:g}; 95 % {self.low:.2f} to {self.high:.2f}{noise})"
        )


@dataclass(frozen=True)
class GateReport:
    """A gate applied: its name, what the bundle was compared with, on which data, how many images, and every check."""

    gate: str
    reference: str
    data: str
    images: int
    strict: bool
    passed: bool
    checks: tuple[GateCheck, ...]

    def sentence(self) -> str:
        """The verdict in one sentence: the checks that failed, or the one that came nearest to its limit."""
        where = f"against {self.reference} on {self.data}, {self.images} images"
        strict = " (strict)" if self.strict else ""
        if self.passed:
            nearest = max(self.checks, key=_used)
            return f"The gate '{self.gate}'{strict} passed {where}. Nearest to its limit: {nearest.sentence()}."
        failed = "; ".join(check.sentence(self.strict) for check in self.checks if not check.passed)
        return f"The gate '{self.gate}'{strict} failed {where}. {failed}."


def judged(
    part: str, measure: str, limit: float, measured: tuple[float, float, float] | None, strict: bool
) -> GateCheck:
    """The check of `measured`: the figure, and the low and high end of its 95 % interval."""
    if measured is None:
        return GateCheck(part, measure, limit, None, None, None, passed=False)
    value, low, high = measured
    return GateCheck(part, measure, limit, value, low, high, passed=(max(value, high) if strict else value) <= limit)


def read_gate_report(fields: Fields, where: str) -> GateReport:
    """The report in a manifest; BundleError for a field that is missing, unknown or out of range, and for a verdict
    that its own figures do not bear out."""
    report = GateReport(
        gate=fields.text("gate"),
        reference=fields.text("reference"),
        data=fields.text("data"),
        images=fields.integer("images", 1, 10**9),
        strict=fields.boolean("strict"),
        passed=fields.boolean("passed"),
        checks=tuple(_check(entry) for entry in fields.entries("checks", 1, MAX_CHECKS)),
    )
    fields.finish()
    for check in report.checks:
        measured = None if check.value is None else (check.value, check.low or 0.0, check.high or 0.0)
        if check.passed != judged(check.part, check.measure, check.limit, measured, report.strict).passed:
            refuse(f"{where} claims another verdict on {check.part} {check.measure} than its figures give.")
    if report.passed != all(check.passed for check in report.checks):
        refuse(f"{where} claims that its gate {'passed' if report.passed else 'failed'}, which its checks deny.")
    return report


def _check(entry: Fields) -> GateCheck:
    def figure(name: str) -> float | None:
        return None if entry.is_null(name) else entry.number(name, -LARGEST, LARGEST)

    check = GateCheck(
        part=entry.text("part", GATED_PARTS),
        measure=entry.text("measure", MEASURES),
        limit=entry.number("limit", 0.0, LARGEST),
        value=figure("value"),
        low=figure("low"),
        high=figure("high"),
        passed=entry.boolean("passed"),
    )
    if len({check.value is None, check.low is None, check.high is None}) > 1:
        refuse(f"A gate's check of {check.part} {check.measure} has a figure without its interval; export again.")
    entry.finish()
    return check


def _used(check: GateCheck) -> float:
    """How much of its limit a check has used up."""
    value = check.value or 0.0
    return value / check.limit if check.limit else value
