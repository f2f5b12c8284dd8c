"""The One-Euro filter against its paper's algorithm, and how far it lags behind moving hands."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError
from rtmw_edge.poses import Poses
from rtmw_edge.runtime.smoothing import BODY_METRES, LONGEST_GAP_S, OneEuro, OneEuroOptions, PoseSmoother

FPS = 30
SIGNAL = [0.0, 0.1, 0.05, 0.2, 0.9, 1.7, 2.4, 2.5, 2.45, 2.5, 1.0, -0.5, -0.4, -0.45]


def published(signal: list[float], rates: list[float], min_cutoff: float, beta: float, d_cutoff: float) -> list[float]:
    """Algorithm 1 and 2 of Casiez, Roussel and Vogel (CHI 2012), line by line, one number at a time."""

    def alpha(rate: float, cutoff: float) -> float:
        tau = 1.0 / (2 * math.pi * cutoff)
        te = 1.0 / rate
        return 1.0 / (1.0 + tau / te)

    x_hat = dx_hat = 0.0
    answers = []
    for step, (x, rate) in enumerate(zip(signal, rates, strict=True)):
        if step == 0:
            x_hat, dx_hat = x, 0.0
        else:
            dx = (x - x_hat) * rate
            a = alpha(rate, d_cutoff)
            dx_hat = a * dx + (1 - a) * dx_hat
            a = alpha(rate, min_cutoff + beta * abs(dx_hat))
            x_hat = a * x + (1 - a) * x_hat
        answers.append(x_hat)
    return answers


@pytest.mark.parametrize(("min_cutoff", "beta", "d_cutoff"), [(1.0, 0.0, 1.0), (1.0, 0.5, 1.0), (1.5, 30.0, 4.0)])
def test_it_is_the_published_filter(min_cutoff: float, beta: float, d_cutoff: float) -> None:
    """Even and uneven times, two axes at once that do not touch each other."""
    rates = [30.0, 30, 15, 30, 60, 30, 30, 10, 30, 30, 30, 30, 30, 30]
    wanted = published(SIGNAL, rates, min_cutoff, beta, d_cutoff)
    other = published([-value / 2 for value in SIGNAL], rates, min_cutoff, beta, d_cutoff)
    smooth = OneEuro(OneEuroOptions(min_cutoff, beta, d_cutoff))
    found = [smooth(np.array([x, -x / 2]), 1 / rate) for x, rate in zip(SIGNAL, rates, strict=True)]
    assert np.array(found)[:, 0] == pytest.approx(wanted, rel=1e-12)
    assert np.array(found)[:, 1] == pytest.approx(other, rel=1e-12)


def test_the_unit_of_speed_makes_it_the_same_at_every_size() -> None:
    near, far = OneEuro(), OneEuro()
    for x in SIGNAL:
        assert near(np.array([x * 400]), 1 / FPS, 400.0)[0] / 400 == pytest.approx(far(np.array([x]), 1 / FPS)[0])


def test_after_a_new_start_nothing_is_left_of_the_speed_before() -> None:
    smooth, fresh = OneEuro(), OneEuro()
    for x in (0.0, 0.2, 0.4):
        smooth(np.array([x]), 1 / FPS)
    assert smooth(np.array([5.0]), 1 / FPS, restart=True).tolist() == fresh(np.array([5.0]), 1 / FPS).tolist() == [5]
    assert smooth(np.array([5.01]), 1 / FPS).tolist() == fresh(np.array([5.01]), 1 / FPS).tolist()


def smoothest(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The minimum-jerk path from 0 to 1 that human reaches follow."""
    x = np.clip(x, 0, 1)
    return 10 * x**3 - 15 * x**4 + 6 * x**5


HANDS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "drift, 0.3 body sizes a second": lambda t: 0.3 * t,
    "walk, 1 body size a second": lambda t: t,
    "slow wave": lambda t: 0.1 * np.sin(2 * np.pi * t),
    "wave": lambda t: 0.1 * np.sin(4 * np.pi * t),
    "shake": lambda t: 0.15 * np.sin(6 * np.pi * t),
    "reach of 0.4 in half a second": lambda t: 0.4 * (smoothest((t - 2) / 0.5) - smoothest((t - 4) / 0.5)),
}


@pytest.mark.parametrize("name", HANDS)
def test_moving_hands_lag_less_than_half_a_frame(name: str) -> None:
    """The shift in time under which the smoothed path is most like the true one."""
    path, times = HANDS[name], np.arange(0, 6, 1 / FPS)
    smooth = OneEuro()
    found = np.array([smooth(np.array([x]), 1 / FPS)[0] for x in path(times)])
    shifts = np.arange(0, 3, 0.05)
    errors = [np.mean((found[FPS:] - path(times - shift / FPS)[FPS:]) ** 2) for shift in shifts]
    assert shifts[int(np.argmin(errors))] <= 0.4
    assert np.abs(found[FPS:] - path(times)[FPS:]).max() < 0.03


def test_a_resting_hand_jitters_less_than_half() -> None:
    """Noise of one pixel of the crop: frame-to-frame steps shrink to 0.4."""
    noise = np.random.default_rng(0).normal(0, 0.005, 3000)
    smooth = OneEuro()
    found = np.array([smooth(np.array([x]), 1 / FPS)[0] for x in noise])
    assert np.diff(found[100:]).std() < 0.45 * np.diff(noise[100:]).std()


def person(x: float, scores: float = 1.0, dimensions: int = 2) -> Poses:
    return Poses(np.full((1, 133, dimensions), x), np.full((1, 133), scores), [[0, 0, 50, 100]], [1])


@pytest.mark.parametrize("box", [[0, 0, 50, 100], [0, 0, 100, 50]])
def test_a_body_is_as_large_as_the_longer_side_of_its_box(box: list[int]) -> None:
    options = OneEuroOptions(min_cutoff=0.5, beta=5.0, speed_cutoff=1.0)
    smoother, plain = PoseSmoother(options), OneEuro(options)
    for frame, x in enumerate(SIGNAL):
        poses = Poses(np.full((1, 133, 2), 100 * x), np.ones((1, 133)), [box], [1])
        found = smoother(poses, (1,), frame / FPS).keypoints[0, 0, 0]
        assert found == pytest.approx(plain(np.array([100 * x]), 1 / FPS, 100.0)[0], rel=1e-5)


def test_people_are_smoothed_each_by_their_own_id() -> None:
    smoother = PoseSmoother()
    both = Poses(
        np.stack([np.full((133, 2), 10.0), np.full((133, 2), 500.0)]), np.ones((2, 133)), [[0, 0, 9, 9]] * 2, [1, 1]
    )
    smoother(both, (4, 7), 0.0)
    swapped = smoother(both[[1, 0]], (7, 4), 1 / FPS)
    assert swapped.keypoints[:, 0, 0].tolist() == [500, 10], "rows may change places"


def test_who_was_away_starts_anew() -> None:
    smoother = PoseSmoother()
    smoother(person(0), (1,), 0.0)
    assert 0 < smoother(person(1), (1,), 1 / FPS).keypoints[0, 0, 0] < 1
    assert smoother(person(90), (1,), 1.0 + LONGEST_GAP_S).keypoints[0, 0, 0] == 90
    assert smoother(person(5), (1,), 0.5).keypoints[0, 0, 0] == 5, "a clock that goes back is a new start too"


def test_a_keypoint_without_a_place_does_not_pull() -> None:
    """Score 0 puts a keypoint at the crop's corner; the next true place is taken as it is."""
    smoother = PoseSmoother()
    smoother(person(100), (1,), 0.0)
    assert smoother(person(-3, scores=0), (1,), 1 / FPS).keypoints[0, 0, 0] == -3
    assert smoother(person(104), (1,), 2 / FPS).keypoints[0, 0, 0] == 104


def test_depth_is_smoothed_in_metres() -> None:
    """Speeds there are counted in bodies of 1.7 m, whatever the box has in pixels."""
    smoother, plain = PoseSmoother(), OneEuro()
    for frame, x in enumerate(SIGNAL):
        found = smoother(person(x, dimensions=3), (1,), frame / FPS).keypoints[0, 0, 2]
        assert found == pytest.approx(plain(np.array([x]), 1 / FPS, BODY_METRES)[0], rel=1e-5, abs=1e-6)


def test_a_place_of_little_score_is_a_place() -> None:
    """Raw scores: those of RTMW3D seldom reach 1."""
    smoother = PoseSmoother()
    smoother(person(0, scores=0.1), (1,), 0.0)
    assert 0 < smoother(person(1, scores=0.1), (1,), 1 / FPS).keypoints[0, 0, 0] < 1


def test_who_stays_away_is_forgotten() -> None:
    smoother = PoseSmoother()
    for number in range(50):
        smoother(person(0), (number,), float(number))
    assert list(smoother._people) == [49]


@pytest.mark.parametrize(
    "options", [{"min_cutoff": 0}, {"beta": -1}, {"speed_cutoff": 0}, {"speed_cutoff": float("nan")}]
)
def test_parameters_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(BadInputError, match="cutoffs are above 0 Hz, beta is 0 or more"):
        OneEuroOptions(**options)
