"""Which settings are tried next, and what came of those that were: Optuna's sampler and storage.

The storage holds finished trials alone, each added whole, so that a process may die at any moment. What is tried next
follows from them and a seed: a search that goes on asks once more for what was not finished, and goes the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from ...errors import BadInputError
from ...files import reported_disk_errors
from .space import Space
from .trials import Asked, Measure, Outcome, Tried

DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
"""Of AP, and of the time over fp32."""

REPEATS = 5
"""So many times the sampler may repeat settings before the next of the space takes their place."""

NUMBER, ROUND, REASON = "number", "round", "reason"
"""A trial's number among the settings tried, its round, and why it failed."""


class Study:
    """The search called `name` in the journal `file`; for one process at a time.

    Raises BadInputError for a file that is no such journal, and when it cannot be written.
    """

    def __init__(self, file: Path, name: str, space: Space, seed: int) -> None:
        self._space, self._seed, self._file = space, seed, file
        self._distributions = {
            name: _distribution(choices) for name, choices in space.choices.items() if len(choices) > 1
        }
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _mend(file)
        try:
            with reported_disk_errors(file):
                self._study = optuna.create_study(
                    storage=JournalStorage(JournalFileBackend(str(file))),
                    study_name=name,
                    directions=DIRECTIONS,
                    load_if_exists=True,
                )
            self.tried()
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise BadInputError(f"{file} is a journal that cannot be read ({error!r}); name another --out.") from error

    def tried(self) -> list[Tried]:
        """What was measured or failed, by number; of what was tried again, the last."""
        return [self._read(trial) for trial in self._trials().values()]

    def front(self) -> list[Tried]:
        """What keeps the budget and is beaten in AP and time by nothing that does, the fastest first.

        Of equals the first that was tried.
        """
        best = {trial.user_attrs[NUMBER] for trial in self._study.best_trials}
        kept: dict[tuple[float, float], Tried] = {}
        for each in self.tried():
            if each.number in best and each.outcome.kept:
                kept.setdefault((each.outcome.time, each.outcome.ap), each)
        return [kept[figures] for figures in sorted(kept)]

    def failed(self) -> list[Asked]:
        """What failed, to be tried again under its own number."""
        return [
            Asked(number, self._read(trial).settings, trial.params, tuple(trial.user_attrs[ROUND]))
            for number, trial in self._trials().items()
            if trial.state == TrialState.FAIL
        ]

    def ask(self, count: int) -> list[Asked]:
        """Up to `count` settings that were not tried; fewer when the space holds no more.

        A round of which only a part was told is drawn again, and its rest is asked for.
        """
        trials = self._trials()
        done = len(trials)
        before, size = done, count
        if done and sum(trials[done].user_attrs[ROUND]) > done:
            before, size = trials[done].user_attrs[ROUND]
        earlier = [trial for number, trial in trials.items() if number <= before]
        return self._drawn(earlier, size)[done - before :][: max(count, 0)]

    def _drawn(self, trials: Sequence[FrozenTrial], count: int) -> list[Asked]:
        """The next round after `trials`, drawn in a study in memory, where a repetition leaves no trace."""
        before = len(trials)
        known = {self._read(trial).settings for trial in trials}
        seed = int(np.random.SeedSequence([self._seed, before]).generate_state(1)[0])
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
        draft = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
        draft.add_trials([trial for trial in trials if trial.state == TrialState.COMPLETE])
        for parameters in self._space.starts() if not trials else ():
            draft.enqueue_trial(parameters)
        asked: list[Asked] = []
        repeats = 0
        while len(asked) < count:
            if repeats > REPEATS:
                every = self._space.every()
                untried = next((each for each in every if self._space.settings(each) not in known), None)
                if untried is None:
                    break
                draft.enqueue_trial(untried)
            trial = draft.ask(self._distributions)
            settings = self._space.settings(trial.params)
            if settings in known:
                draft.tell(trial, state=TrialState.FAIL)
                repeats += 1
                continue
            known.add(settings)
            repeats = 0
            asked.append(Asked(before + len(asked) + 1, settings, trial.params, (before, count)))
        return asked

    def tell(self, asked: Asked, outcome: Outcome) -> None:
        """Record what came of a trial, whole or not at all."""
        attributes: dict[str, Any] = {NUMBER: asked.number, ROUND: asked.round}
        if outcome.reason:
            attributes[REASON] = outcome.reason
        trial = create_trial(
            state=TrialState.FAIL if outcome.reason else TrialState.COMPLETE,
            values=None if outcome.reason else [outcome.ap, outcome.time],
            constraints=None if outcome.reason else dict(outcome.over),
            params=asked.parameters,
            distributions=self._distributions,
            user_attrs=attributes,
        )
        with reported_disk_errors(self._file):
            self._study.add_trial(trial)

    def _trials(self) -> dict[int, FrozenTrial]:
        """By number, from 1 without a gap."""
        found = {trial.user_attrs[NUMBER]: trial for trial in self._study.get_trials(deepcopy=False)}
        return dict(sorted(found.items()))

    def _read(self, trial: FrozenTrial) -> Tried:
        settings = self._space.settings(trial.params)
        if trial.state == TrialState.FAIL:
            return Tried(trial.user_attrs[NUMBER], settings, Outcome(reason=trial.user_attrs[REASON]))
        ap, time = trial.values
        return Tried(trial.user_attrs[NUMBER], settings, Outcome(ap, time, trial.constraints))


def _mend(file: Path) -> None:
    """Drop what a process left that died while it wrote: half a line, and the journal's lock."""
    content = file.read_bytes() if file.exists() else b""
    if content and not content.startswith(b'{"op_code"'):
        raise BadInputError(f"{file} is not the journal of a search; name another --out.")
    Path(f"{file}.lock").unlink(missing_ok=True)
    if not content.endswith(b"\n"):
        with file.open("ab") as journal:
            journal.truncate(content.rfind(b"\n") + 1)


def _distribution(choices: Sequence[Any]) -> BaseDistribution:
    if isinstance(choices, range):
        return IntDistribution(choices[0], choices[-1])
    return CategoricalDistribution(list(choices))


def run(
    study: Study,
    trials: int,
    together: int,
    measure: Measure,
    on_tried: Callable[[Tried], None] = lambda _: None,
    *,
    retry: bool = False,
) -> None:
    """Measure `together` settings at a time until `trials` were tried or the space holds no more; with `retry`, what
    failed before comes first."""
    again = study.failed() if retry else []
    while True:
        asked, again = again[:together], again[together:]
        asked = asked or study.ask(min(trials - len(study.tried()), together))
        if not asked:
            return
        for each, outcome in zip(asked, measure(asked), strict=True):
            study.tell(each, outcome)
            on_tried(Tried(each.number, each.settings, outcome))
