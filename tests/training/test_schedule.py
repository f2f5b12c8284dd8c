"""The schedule of a run: its ends, its half, and recipes that count in steps or in epochs."""

import math

import pytest

from rtmw_edge.training.recipe import read_recipe
from rtmw_edge.training.schedule import Schedule


def schedule(*overrides, samples=None):
    return Schedule(read_recipe("rtmw-n-256x192", ["lr=1e-3", "lr_end=1e-5", "late=0", *overrides]), samples)


def test_the_rate_begins_to_fall_at_half_of_the_run_and_stays_at_its_end():
    rates = schedule("steps=1000", "warmup=10")
    assert rates.learning_rate(499) == rates.learning_rate(500) == 1e-3
    for step in (501, 505, 999):
        fallen = 1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * (step - 500) / 500)) / 2
        assert fallen < 1e-3 and rates.learning_rate(step) == pytest.approx(fallen, rel=1e-12)
    assert rates.learning_rate(1400) == pytest.approx(1e-5)
    odd = schedule("steps=7", "warmup=1")
    assert [odd.learning_rate(step) for step in (0, 3)] == [1e-3, 1e-3]
    assert odd.learning_rate(4) < 1e-3 and odd.learning_rate(7) == pytest.approx(1e-5)


def test_a_warmup_ends_at_the_whole_rate_however_short_it_is():
    assert schedule("steps=100", "warmup=1").learning_rate(0) == 1e-3
    two = schedule("steps=100", "warmup=2")
    assert [two.learning_rate(step) for step in (0, 1)] == pytest.approx([1e-8, 1e-3])


def test_a_recipe_in_steps_has_them_whatever_an_epoch_holds():
    run = schedule("steps=100", "batch=4", samples=1000)
    assert run.steps == 100 and run.share_left(50) == 0.5
    assert schedule("steps=100", "batch=4", "late=100").late_from == 0
    assert schedule("steps=100", "batch=4", "late=99").late_from == 4


def test_what_is_done_once_in_a_while_is_due_when_a_period_ends_and_at_the_end():
    run = schedule("steps=10")
    since, due = 0, []
    for step in range(11):
        if run.is_due(4, step, since):
            due.append(step)
            since = step
    assert due == [4, 8, 10]
    assert run.is_due(4, 9, 7) and not run.is_due(4, 7, 4)  # 8 was left out; a period is counted from the start
    assert not run.is_due(4, 9, 8)
