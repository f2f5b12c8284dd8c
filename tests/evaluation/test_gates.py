"""Gates: what a file may say, what the shipped one says, and how limits are judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtmw_edge.bundle import GateReport
from rtmw_edge.errors import BadInputError
from rtmw_edge.evaluation.gates import Gate, parse_gate, read_gate
from rtmw_edge.evaluation.intervals import Estimate


def test_the_shipped_gate() -> None:
    drops = {part: limit for (part, measure), limit in read_gate().limits.items() if measure == "ap_drop"}
    assert drops == {"body": 0.5, "foot": 1.0, "face": 0.5, "left_hand": 1.0, "right_hand": 1.0, "whole": 0.5}
    assert read_gate().limits["whole", "mpjpe_percent"] == 3.0 and read_gate().name == "default"


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "camera.toml"
    path.write_text("[left_hand]\nap_drop = 1\npx_p99 = 4.5\n[body]\npx_p50 = 0\n")
    gate = read_gate(path)
    assert gate == Gate(
        "camera", {("left_hand", "ap_drop"): 1.0, ("left_hand", "px_p99"): 4.5, ("body", "px_p50"): 0.0}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[hand]\nap_drop = 1", "Unknown part in a gate 'hand'; did you mean "),
        ("[body]\nap_drp = 1", "Unknown limit on body in a gate 'ap_drp'; did you mean 'ap_drop'"),
        ("[body]\nap_drop = -0.1", "The gate's limit ap_drop = -0.1 on body is no number from 0 up."),
        ("[body]\nap_drop = nan", "ap_drop = nan on body is no number"),
        ("[body]\nap_drop = true", "ap_drop = True on body is no number"),
        ('[body]\nap_drop = "1"', "ap_drop = 1 on body is no number"),
        ("body = 1", r"The gate's 'body' is no table: write \[body\], and below it ap_drop = 0.5."),
        ("[foot]\nmpjpe_percent = 3", "MPJPE of the foot, which is counted with the body"),
        ("", "The gate 'mine' limits nothing: write"),
        ("[body]", "The gate 'mine' limits nothing"),
        ("[body", "mine.toml is not TOML: "),
    ],
)
def test_a_file_that_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(BadInputError, match=message) as caught:
        read_gate(tmp_path / "mine.toml")
    assert len(str(caught.value).splitlines()) == 1


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"There is no gate at .*none.toml: check the path, or take 'default'\."):
        read_gate(tmp_path / "none.toml")


FIGURES = {
    ("body", "ap_drop"): Estimate(0.4, 0.1, 0.7),
    ("face", "ap_drop"): Estimate(0.6, 0.2, 1.0),
    ("whole", "mpjpe_percent"): Estimate(2.0, 1.0, 3.5),
}


def judged(document: dict[str, dict[str, float]], in_3d: bool = False, strict: bool = False) -> list[bool]:
    return [check.passed for check in parse_gate(document, "g").judge(FIGURES, in_3d=in_3d, strict=strict)]


def test_the_figure_decides_and_strictly_the_interval() -> None:
    both = {"body": {"ap_drop": 0.5}, "face": {"ap_drop": 0.5}}
    assert judged(both) == [True, False]
    assert judged(both, strict=True) == [False, False]
    assert judged({"body": {"ap_drop": 0.7}}, strict=True) == [True]


def test_strictly_a_figure_outside_its_own_interval_decides_too() -> None:
    """A percentile of all images may lie beyond 95 % of the resamples."""
    outlying = {("body", "px_p99"): Estimate(2.0, 0.5, 1.0)}
    (check,) = parse_gate({"body": {"px_p99": 1.5}}, "g").judge(outlying, in_3d=False, strict=True)
    assert not check.passed


def test_an_end_of_the_interval_belongs_to_it() -> None:
    for limit, inside in ((0.1, True), (0.7, True), (0.09, False), (0.71, False)):
        (check,) = parse_gate({"body": {"ap_drop": limit}}, "g").judge(FIGURES, in_3d=False)
        assert check.within_noise is inside


def test_nearest_to_its_limit_is_what_has_used_most_of_it() -> None:
    """0.4 of 0.5 is nearer than 0.6 of 9, and what is over a limit of 0 nearer than both."""
    gate = parse_gate({"face": {"ap_drop": 9}, "body": {"ap_drop": 0.5}}, "g")
    report = GateReport("g", "cpu", "d", 5, False, True, gate.judge(FIGURES, in_3d=False))
    assert report.sentence().endswith(
        "Nearest to its limit: body: 0.40 AP points lost (at most 0.5; 95 % 0.10 to 0.70, within noise)."
    )


def test_what_cannot_be_measured_is_not_passed_over() -> None:
    (check,) = parse_gate({"foot": {"ap_drop": 9.0}}, "g").judge(FIGURES, in_3d=False)
    assert not check.passed
    assert check.sentence() == (
        "foot: AP points lost cannot be measured, as nobody is labelled or the reference finds none (at most 9)"
    )


def test_mpjpe_is_of_3d_alone() -> None:
    limits = {"body": {"ap_drop": 0.5}, "whole": {"mpjpe_percent": 3.0}}
    assert judged(limits) == [True] and judged(limits, in_3d=True) == [True, True]
    with pytest.raises(BadInputError, match="The gate 'g' limits nothing but MPJPE, which 2D variants have none of"):
        judged({"whole": {"mpjpe_percent": 3.0}})
