"""A made search whose best is known, for searches that are killed.

    python search_work.py JOURNAL LOG SECONDS TRIALS      tries so many settings, each in so many seconds

Float is 30 AP. Each of six groups costs time in float; the grid common and mse cost AP, and so do three of the groups
in int8. Within half a point the fastest is affine percentile with any two of the three in float; the most accurate has
all three.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtmw_edge.sweep.search.space import Settings, Space
from rtmw_edge.sweep.search.study import Study, run
from rtmw_edge.sweep.search.trials import Asked, Outcome

NAMES = tuple(f"g{number}" for number in range(6))
SENSITIVE = frozenset(NAMES[:3])
SPACE = Space(
    grids=("common", "affine"),
    methods=("percentile", "mse"),
    percentiles=(99.999, 99.99),
    sources=(("synthetic:8", 0),),
    bias_correction=(False, True),
    tables={"shipped common": "common"},
    groups={name: (f"{name}.0", f"{name}.1") for name in NAMES},
)
BUDGET = 0.5
FASTEST, MOST_ACCURATE = (29.6, 0.66), (30.0, 0.74)
"""AP and time of the ends of the true front."""


def measured(settings: Settings) -> Outcome:
    """What is true of settings."""
    lost = 1.0 * (settings.grid == "common") + 0.5 * (settings.method == "mse")
    lost += 0.4 * len(SENSITIVE - set(settings.groups))
    return Outcome(30 - lost, 0.5 + 0.08 * len(settings.groups), {"whole": lost - BUDGET})


@dataclass(frozen=True)
class Logged:
    """Measures, and writes "NUMBER WORDS" before and "done NUMBER" after."""

    log: Path
    seconds: float

    def __call__(self, asked: Sequence[Asked]) -> list[Outcome]:
        found = []
        for each in asked:
            self.say(f"{each.number} {each.settings.words}")
            time.sleep(self.seconds)
            found.append(measured(each.settings))
        self.say(f"done {asked[-1].number}")
        return found

    def say(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(f"{text}\n")


def study(journal: Path, space: Space = SPACE, seed: int = 0) -> Study:
    """The study in a journal."""
    return Study(journal, "made", space, seed)


def main(journal: str, log: str, seconds: str, trials: str) -> None:
    run(study(Path(journal)), int(trials), 2, Logged(Path(log), float(seconds)))


if __name__ == "__main__":
    main(*sys.argv[1:])
