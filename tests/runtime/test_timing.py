"""Times in turns: the ratio is right whatever slows the machine down, and a run not to be trusted says so."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest

from rtmw_edge.runtime import timing
from rtmw_edge.runtime.timing import busy_share, in_turns, summary


def blocks(medians: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """Rounds of five calls around each median."""
    rng = np.random.default_rng(seed)
    return [median * (1 + 0.01 * rng.standard_normal(5)) for median in medians]


def test_the_ratio_survives_what_slows_both_down() -> None:
    slow = np.where(np.arange(21) < 10, 1.0, 3.0)  # the machine gets three times as slow half way
    pace = summary(blocks(0.005 * slow, 1), blocks(0.010 * slow, 2), busy=0.0, load=0.1)
    assert pace.ratio == pytest.approx(0.5, rel=0.02)
    assert 0.48 < pace.ratio_low <= pace.ratio <= pace.ratio_high < 0.52 and pace.spread < 0.05
    assert len(pace.noisy) == 1 and pace.noisy[0].startswith("times moved by 20")  # of the milliseconds it says so


def test_the_figures_are_those_of_plain_numpy() -> None:
    mine, theirs = blocks(np.full(9, 0.004), 3), blocks(np.full(9, 0.008), 4)
    pace = summary(mine, theirs, busy=0.0, load=0.0)
    ratios = np.array([np.median(a) / np.median(b) for a, b in zip(mine, theirs, strict=True)])
    assert pace.ratio == np.median(ratios) and pace.rounds == 9
    assert pace.ms_p50 == pytest.approx(1e3 * np.median(np.concatenate(mine)))
    assert pace.reference_ms_p50 == pytest.approx(1e3 * np.median(np.concatenate(theirs)))
    assert pace.ms_p90 == pytest.approx(1e3 * np.percentile(np.concatenate(mine), 90))
    assert pace.spread == pytest.approx(np.subtract(*np.percentile(ratios, [75, 25])) / np.median(ratios))
    assert pace.noisy == ()


def test_noise_is_flagged_not_averaged_away() -> None:
    wild = 0.005 * np.random.default_rng(5).uniform(0.5, 2.0, 21)
    pace = summary(blocks(wild, 1), blocks(np.full(21, 0.01), 2), busy=0.4, load=3.0)
    assert pace.spread > timing.MAX_SPREAD
    assert any("the rounds' ratios spread by" in word for word in pace.noisy)
    assert "others took 40% of the processor before it began" in pace.noisy


def test_calls_are_timed_in_turns_on_a_machine_that_gets_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    order: list[str] = []

    def call(name: str, seconds: float) -> None:
        nonlocal clock
        order.append(name)
        clock += seconds * (1 + clock / 10)

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock)
    monkeypatch.setattr(timing, "busy_share", lambda: 0.0)
    pace = in_turns(lambda: call("a", 0.004), lambda: call("b", 0.008))
    assert pace.rounds == timing.ROUNDS and pace.ratio == pytest.approx(0.5, rel=0.02)
    assert 4 <= pace.ms_p50 <= pace.ms_p90 and pace.noisy[0].startswith("times moved by")
    turns = [name for index, name in enumerate(order[6:]) if not index or name != order[5 + index]]
    assert turns == ["b", "a"] * timing.ROUNDS
    # A network that one call of takes longer than all rounds should: the fewest that say anything.
    clock, order = 0.0, []
    assert in_turns(lambda: call("a", 60.0), lambda: call("b", 120.0)).rounds == timing.FEWEST_ROUNDS
    assert len(order) == 6 + 2 * timing.FEWEST_ROUNDS * (1 + timing.FEWEST_CALLS)


def test_processor_time_does_not_count_what_others_take(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = processor = 0.0
    waits = iter(np.random.default_rng(1).uniform(0.0, 0.05, 100_000))

    def call(seconds: float) -> None:
        nonlocal clock, processor
        processor += seconds
        clock += seconds + next(waits)

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock)
    monkeypatch.setattr(timing.time, "process_time", lambda: processor)
    monkeypatch.setattr(timing, "busy_share", lambda: 0.0)
    pace = in_turns(lambda: call(0.004), lambda: call(0.008), processor_time=True)
    assert pace.ratio == pytest.approx(0.5) and pace.ms_p90 == pytest.approx(4.0) and pace.noisy == ()


def test_others_at_work_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([(1000, 900), (1100, 925)])
    monkeypatch.setattr(timing, "ticks", lambda: next(ticks))
    assert busy_share(0.0) == pytest.approx(0.75)
    monkeypatch.setattr(timing, "ticks", lambda: None)
    assert busy_share(0.0) == 0.0


def test_idle_is_who_waits_for_a_disk_too_and_guests_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux counts what guests take under user and nice already."""
    line = "cpu  1 2 4 8 16 32 64 128 256 512\n"
    monkeypatch.setattr(timing, "open", lambda *_, **__: StringIO(line), raising=False)
    assert timing.ticks() == (255, 8 + 16)
