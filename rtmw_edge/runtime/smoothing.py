"""One-Euro filter (Casiez, Roussel, Vogel, CHI 2012): smooth what rests, follow what moves.

Per keypoint and axis: the speed is low-passed at a fixed cutoff, and the position at min_cutoff + beta * |speed|.
Speeds are in body sizes a second, so that one set of parameters serves near and far people and every resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInputError
from ..poses import Poses

Float = NDArray[np.float64]

BODY_METRES = 1.7
"""A body's size on the depth axis, which is in metres."""

LONGEST_GAP_S = 0.5
"""Somebody who was away for longer starts anew."""


@dataclass(frozen=True)
class OneEuroOptions:
    """Parameters of the filter, measured in docs/running.md.

    min_cutoff: Hz at rest; lower is calmer and slower to start. beta: Hz for each body size a second; higher lags less.
    speed_cutoff: Hz at which the speed is smoothed.
    """

    min_cutoff: float = 1.5
    beta: float = 30.0
    speed_cutoff: float = 4.0

    def __post_init__(self) -> None:
        if not (self.min_cutoff > 0 and self.beta >= 0 and self.speed_cutoff > 0):
            raise BadInputError(f"The smoothing {self} cannot be: cutoffs are above 0 Hz, beta is 0 or more.")


class OneEuro:
    """The filter over an array of any shape; each value is filtered by itself.

    >>> smooth = OneEuro(OneEuroOptions(min_cutoff=1.0, beta=0.0))
    >>> smooth(np.zeros(2), 1 / 30).tolist(), smooth(np.ones(2), 1 / 30).round(3).tolist()
    ([0.0, 0.0], [0.173, 0.173])
    """

    def __init__(self, options: OneEuroOptions | None = None) -> None:
        self.options = options or OneEuroOptions()
        self._last: Float | None = None
        self._speed: Float = np.zeros(())

    def __call__(
        self, values: Float, seconds: float, unit: Float | float = 1.0, restart: Float | bool = False
    ) -> Float:
        """`values` smoothed, `seconds` after the last; `unit` is the length in which speeds are counted.

        Where `restart` is true the value is taken as it is and the filter begins anew.
        """
        if self._last is None or self._last.shape != values.shape:
            self._last, self._speed = values.copy(), np.zeros_like(values)
            return values.copy()
        options = self.options
        speed = (values - self._last) / unit / seconds
        self._speed += _alpha(options.speed_cutoff, seconds) * (speed - self._speed)
        cutoff = options.min_cutoff + options.beta * np.abs(self._speed)
        smoothed = self._last + _alpha(cutoff, seconds) * (values - self._last)
        self._speed = np.where(restart, 0, self._speed)
        self._last = np.where(restart, values, smoothed)
        return self._last.copy()


def _alpha(cutoff: Float | float, seconds: float) -> Float | float:
    """Weight of the new value in a first-order low-pass of `cutoff` Hz at this time step."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * seconds))


class PoseSmoother:
    """One filter a person, by id; a person who stays away is forgotten."""

    def __init__(self, options: OneEuroOptions | None = None) -> None:
        self._options = options or OneEuroOptions()
        self._people: dict[int, _Person] = {}

    def __call__(self, poses: Poses, ids: tuple[int, ...], time_s: float) -> Poses:
        """`poses` of the people `ids` at `time_s`, smoothed; keypoints without a place (score 0 or less) are not."""
        smoothed = poses.keypoints.astype(np.float64)
        for row, number in enumerate(ids):
            person = self._people.setdefault(number, _Person(OneEuro(self._options), time_s))
            seconds = time_s - person.seen_s
            if not 0 <= seconds <= LONGEST_GAP_S:
                person = self._people[number] = _Person(OneEuro(self._options), time_s)
            placed = poses.scores[row] > 0
            restart = ~(placed & person.placed)[:, None]
            width, height = poses.boxes[row, 2:] - poses.boxes[row, :2]
            unit = np.array([max(width, height, 1.0)] * 2 + [BODY_METRES])[: smoothed.shape[2]]
            smoothed[row] = person.filter(smoothed[row], max(seconds, 1e-3), unit, restart)
            person.seen_s, person.placed = time_s, placed
        self._people = {
            number: person for number, person in self._people.items() if time_s - person.seen_s <= LONGEST_GAP_S
        }
        return Poses(smoothed.astype(np.float32), poses.scores, poses.boxes, poses.box_scores)


@dataclass
class _Person:
    filter: OneEuro
    seen_s: float
    placed: NDArray[np.bool_] | bool = False
