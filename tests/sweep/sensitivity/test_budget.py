"""Which units a budget leaves in float: on losses that are known, and on a real, small network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from rtmw_edge.errors import BadInputError, VerificationError
from rtmw_edge.sweep.budget import Budget
from rtmw_edge.sweep.sensitivity.choice import choose
from rtmw_edge.sweep.sensitivity.findings import Finding, Way
from rtmw_edge.sweep.sensitivity.layer_costs import LayerCosts
from rtmw_edge.sweep.sensitivity.proxy import Distances
from rtmw_edge.sweep.sensitivity.study import Study


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("hands<=0.5,body<=0.25", {"left_hand": 0.5, "right_hand": 0.5, "body": 0.25}),
        (" left_hand <= 1 , whole<=0", {"left_hand": 1.0, "whole": 0.0}),
    ],
)
def test_a_budget_is_points_by_part(text: str, limits: dict[str, float]) -> None:
    budget = Budget.parse(text)
    assert budget.limits == limits and budget.text == text
    assert budget.overrun({part: limit for part, limit in limits.items()}) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Cannot read '' in the budget: write hands<=0.5"),
        ("hands=1", "Cannot read 'hands=1' in the budget"),
        ("hand<=1", "Unknown part in the budget 'hand'; did you mean 'hands'?"),
        ("body<=half", "The budget gives body 'half', which is no number of points from 0 to 100"),
        ("body<=-1", "The budget gives body '-1'"),
        ("body<=nan", "The budget gives body 'nan'"),
        ("body<=100.5", "The budget gives body '100.5', which is no number of points from 0 to 100"),
        ("left_hand<=2,hands<=1", "The budget gives left_hand two limits: keep one"),
        ("hands<=1,left_hand<=2", "The budget gives left_hand two limits: keep one"),
    ],
)
def test_what_is_no_budget_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message.replace("?", r"\?")):
        Budget.parse(text)


@dataclass
class KnownStudy:
    """Each unit loses so many points of AP per part whenever it is in int8; `surprise` is lost on top unless one is."""

    losses: dict[str, dict[str, float]]
    surprise: tuple[str, float] | None = None
    asked: list[Sequence[str]] = field(default_factory=list)
    crops: Any = field(default_factory=lambda: SimpleNamespace(dataset="known"))

    def baseline(self, way: Way) -> Finding:
        return Finding(way, "", {}, {"body": 80.0, "whole": 60.0} if way is Way.FLOAT else self._ap([]))

    def finding(self, way: Way, unit: str) -> Finding:
        near = {part: Distances((0, 0, 0), 0.0, points / 100) for part, points in self.losses[unit].items()}
        return Finding(way, unit, near, {})

    def mixed(self, floats: Sequence[str]) -> Finding:
        self.asked.append(tuple(floats))
        return Finding(Way.MIXED, " ".join(floats), {}, self._ap(floats))

    def _ap(self, floats: Sequence[str]) -> dict[str, float]:
        left = [points for unit, points in self.losses.items() if unit not in floats]
        lost = {part: sum(points[part] for points in left) for part in ("body", "whole")}
        if self.surprise and self.surprise[0] not in floats:
            lost["whole"] += self.surprise[1]
        return {"body": 80.0 - lost["body"], "whole": 60.0 - lost["whole"]}


def pick(study: KnownStudy, costs: dict[str, float], budget: str, lines: list[str] | None = None) -> tuple[str, ...]:
    units = {unit: (unit,) for unit in study.losses}
    choice = choose(
        study,  # type: ignore[arg-type]
        units,
        LayerCosts("ms", "told", costs),
        Budget.parse(budget),
        [].append if lines is None else lines.append,
    )
    assert choice.convolutions == choice.units and choice.cost == pytest.approx(
        sum(costs[unit] for unit in choice.units)
    )
    return choice.units


EVEN = {"a": 1.0, "b": 1.0, "c": 1.0}


def points(body: float, whole: float) -> dict[str, float]:
    return {"body": body, "whole": whole}


def test_int8_within_the_budget_needs_nothing() -> None:
    study = KnownStudy({"a": points(0.1, 0.1), "b": points(0.1, 0.1)})
    assert pick(study, EVEN, "whole<=0.25") == () and study.asked == []


def test_the_unit_that_loses_most_stays_in_float() -> None:
    study = KnownStudy({"a": points(0, 0.1), "b": points(0, 1.0), "c": points(0, 0.2)})
    assert pick(study, EVEN, "whole<=0.5") == ("b",)


def test_the_cheaper_of_two_that_repair_it_stays_in_float() -> None:
    study = KnownStudy({"a": points(0, 1.0), "b": points(0, 0.8), "c": points(0, 0.0)})
    assert pick(study, {"a": 5.0, "b": 1.0, "c": 0.1}, "whole<=1") == ("b",)


def test_more_than_what_is_to_be_repaired_is_worth_no_more() -> None:
    """Both bring the loss of 3 points to 2 or less; "a" would to 1, for more time."""
    study = KnownStudy({"a": points(0, 2.0), "b": points(0, 1.0), "c": points(0, 0.0)})
    assert pick(study, {"a": 1.05, "b": 1.0, "c": 1.0}, "whole<=2") == ("b",)


def test_only_the_parts_of_the_budget_count() -> None:
    study = KnownStudy({"a": points(5, 0.1), "b": points(0, 1.0), "c": points(0, 0.0)})
    assert pick(study, EVEN, "whole<=0.2") == ("b",)
    assert pick(study, EVEN, "whole<=0.2,body<=1") == ("a", "b")


def test_a_unit_that_float_makes_faster_counts_as_cheap() -> None:
    study = KnownStudy({"a": points(0, 1.0), "b": points(0, 1.0), "c": points(0, 0.0)})
    assert pick(study, {"a": 0.02, "b": -3.0, "c": 0.01}, "whole<=1") == ("b",)


def test_units_are_added_until_the_measured_losses_keep_the_budget() -> None:
    """The proxy says that "a" is enough; the surprise goes only when "c" is in float."""
    study = KnownStudy({"a": points(0, 1.0), "b": points(0, 0.3), "c": points(0, 0.1)}, surprise=("c", 2.0))
    lines: list[str] = []
    assert pick(study, EVEN, "whole<=0.5", lines) == ("a", "c")
    assert lines[0] == "everything in int8 loses whole 3.40 of 0.5"
    assert lines[1].startswith("left in float: a (OKS loss alone whole 0.0100; 1 ms)")
    assert lines[3] == "measured: loses whole 2.10 of 0.5"
    assert "back to int8: b, without which the budget is kept (whole 0.30 of 0.5)" in lines


def test_of_two_that_are_not_both_needed_the_dearer_goes_back() -> None:
    class Either(KnownStudy):
        """Nothing is lost while one of the two is in float."""

        def _ap(self, floats: Sequence[str]) -> dict[str, float]:
            lost = 0.0 if floats else 1.0
            return {"body": 80.0 - lost, "whole": 60.0 - lost}

    study = Either({"a": points(0, 0.5), "b": points(0, 0.5)})
    assert pick(study, {"a": 5.0, "b": 1.0}, "whole<=0.2") == ("b",)
    assert [set(floats) for floats in study.asked] == [{"a", "b"}, {"b"}, set()]


def test_a_budget_that_needs_everything_in_float_is_refused() -> None:
    study = KnownStudy({"a": points(0, 1.0), "b": points(0, 1.0), "c": points(0, 1.0)})
    with pytest.raises(
        VerificationError, match="Cannot keep whole<=0 on known: it holds only with everything in float"
    ):
        pick(study, EVEN, "whole<=0")


def test_a_budget_that_float_units_do_not_keep_is_refused() -> None:
    study = KnownStudy({"a": points(0, 1.0), "b": points(0, 1.0)}, surprise=("no unit", 2.0))
    with pytest.raises(VerificationError, match=r"every unit in float too \(whole 2\.00 of 1\); allow"):
        pick(study, EVEN, "whole<=1")


def test_a_part_that_the_data_cannot_judge_is_refused() -> None:
    with pytest.raises(BadInputError, match="Nobody in known has a label on face: leave it out of the budget"):
        pick(KnownStudy({"a": points(0, 1.0)}), EVEN, "face<=1")


def test_a_real_network_keeps_its_budget(study: Study) -> None:
    """Everything in int8 loses over 70 points of the whole; the choice must lose at most 45, and measured so."""
    units = study.subject.units(by_block=True)
    costs = LayerCosts("MMAC", "even", dict.fromkeys(study.subject.quantized, 1.0))
    choice = choose(study, units, costs, Budget.parse("whole<=45,hands<=60"))
    assert 0 < len(choice.units) < len(units)
    found = study.mixed(choice.convolutions)
    lost = {part: 100 - ap for part, ap in found.ap.items()}
    assert lost["whole"] <= 45 and lost["left_hand"] <= 60 and lost["right_hand"] <= 60
    assert choice.losses == pytest.approx(lost)
    table = study.subject.table.leaving_in_float(choice.convolutions)
    assert set(table.floats) == set(choice.convolutions)
