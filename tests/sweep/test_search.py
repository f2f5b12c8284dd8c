"""A search finds what is known to be best, keeps the budget, tries nothing twice, and goes on where it was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("optuna")

import search_work
from search_work import BUDGET, FASTEST, MOST_ACCURATE, SENSITIVE, SPACE, measured, study

from rtmw_edge.errors import BadInputError
from rtmw_edge.sweep.search.front import nearest
from rtmw_edge.sweep.search.space import CALIBRATED, Space, groups_named, ranked
from rtmw_edge.sweep.search.study import run
from rtmw_edge.sweep.search.trials import Asked, Outcome, Tried

TRIALS = 60


def measure(asked: Sequence[Asked]) -> list[Outcome]:
    return [measured(each.settings) for each in asked]


def words(tried: Sequence[Tried]) -> list[str]:
    return [each.settings.words for each in tried]


def test_it_finds_the_known_best_and_begins_with_the_defaults(tmp_path: Path) -> None:
    made = study(tmp_path / "journal")
    run(made, TRIALS, 4, measure)
    tried, front = made.tried(), made.front()
    assert words(tried[:2]) == ["shipped common, all in int8", "common percentile 99.999 synthetic:8, all in int8"]
    assert [each.number for each in tried] == list(range(1, TRIALS + 1))
    assert len({each.settings for each in tried}) == TRIALS
    ends = front[0].outcome, front[-1].outcome
    assert [(outcome.ap, outcome.time) for outcome in ends] == [pytest.approx(FASTEST), pytest.approx(MOST_ACCURATE)]
    assert front[0].settings.grid == "affine" and len(SENSITIVE & set(front[0].settings.groups)) == 2


def test_the_front_is_what_keeps_the_budget_and_nothing_beats(tmp_path: Path) -> None:
    made = study(tmp_path / "journal", seed=3)
    run(made, 30, 4, measure)
    kept = [measured(each.settings) for each in made.tried()]
    kept = [outcome for outcome in kept if 30 - outcome.ap <= BUDGET + 1e-9]
    assert 0 < len(kept) < 30
    best = {
        (one.ap, one.time)
        for one in kept
        if not any(
            other.ap >= one.ap and other.time <= one.time and (other.ap, other.time) != (one.ap, one.time)
            for other in kept
        )
    }
    front = made.front()
    assert {(each.outcome.ap, each.outcome.time) for each in front} == best and len(front) == len(best)
    assert all(each.outcome.kept for each in front)


def test_where_nothing_keeps_the_budget_there_is_no_front(tmp_path: Path) -> None:
    made = study(tmp_path / "journal")
    run(made, 6, 3, lambda asked: [Outcome(30, 0.1, {"whole": -1.0, "face": 0.01}) for _ in asked])
    assert made.front() == [] and len(made.tried()) == 6


def test_a_small_space_is_searched_to_its_end_and_no_point_twice(tmp_path: Path) -> None:
    small = replace(SPACE, groups={"g0": ("g0.0",)}, ranking=(("g1.0",), ("g2.0",)), tables={})
    small = replace(small, bias_correction=(False,))
    seen: list[str] = []

    def listened(asked: Sequence[Asked]) -> list[Outcome]:
        seen.extend(each.settings.words for each in asked)
        return measure(asked)

    made = study(tmp_path / "journal", small)
    run(made, 1000, 12, listened)
    assert len(seen) == len(set(seen)) == 2 * (2 + 1) * 2 * 3  # mse has no percentile
    assert {each.settings.most for each in made.tried()} == {0, 1, 2}


def test_killed_at_any_moment_it_goes_the_same_way_to_the_end(tmp_path: Path) -> None:
    journal, log = tmp_path / "journal", tmp_path / "log"

    def lines() -> list[str]:
        return log.read_text().splitlines() if log.exists() else []

    def begin(seconds: float) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, search_work.__file__, str(journal), str(log), str(seconds), "18"])

    process = begin(0.1)
    while sum(line.startswith("done") for line in lines()) < 6:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = study(journal).tried()
    assert 10 <= len(before) < 18
    with journal.open("ab") as file:  # half a line, as when the power fails
        file.write(b'{"op_code":4,"worker')
    Path(f"{journal}.lock").touch()
    cut = len(lines())
    assert begin(0).wait() == 0
    after = study(journal)
    assert after.tried()[: len(before)] == before and len(after.tried()) == 18
    redone = {line.partition(" ")[0] for line in lines()[cut:]} & {str(each.number) for each in before}
    assert redone == set()
    straight = study(tmp_path / "straight")
    run(straight, 18, 2, measure)
    assert words(after.tried()) == words(straight.tried())


def test_what_failed_is_not_tried_again_unless_it_is_asked_for(tmp_path: Path) -> None:
    def broken(asked: Sequence[Asked]) -> list[Outcome]:
        return [Outcome(reason="It broke.") if each.number == 3 else measured(each.settings) for each in asked]

    journal = tmp_path / "journal"
    run(study(journal), 6, 2, broken)
    assert study(journal).tried()[2].outcome.reason == "It broke."
    run(study(journal), 6, 2, measure)
    assert study(journal).tried()[2].outcome.reason == "It broke."
    before = study(journal).tried()
    run(study(journal), 6, 2, measure, retry=True)
    after = study(journal).tried()
    assert words(after) == words(before) and after[2].outcome == measured(after[2].settings)


def test_a_file_that_is_no_journal_is_told_and_kept(tmp_path: Path) -> None:
    for content in ("years of work", "years of work\nand more\n", '{"op_code"\n{}\n'):
        (tmp_path / "thesis").write_text(content)
        with pytest.raises(BadInputError, match=r"thesis is (not the|a) journal .*; name another --out"):
            study(tmp_path / "thesis")
        assert (tmp_path / "thesis").read_text() == content


def test_parameters_that_mean_nothing_make_no_other_settings() -> None:
    plain = SPACE.settings({"scales": CALIBRATED, "method": "mse", "percentile": 99.99})
    assert plain == SPACE.settings({"scales": CALIBRATED, "method": "mse"}) and plain.percentile is None
    assert SPACE.settings({"scales": "shipped common", "grid": "affine"}).grid == "common"
    full = replace(SPACE, grids=("full",), tables={})
    assert full.settings({"float g0": True, "most_sensitive": 3}).groups == ()


def test_what_stays_in_float() -> None:
    space = replace(SPACE, ranking=(("g0.1", "x"), ("y",)))
    chosen = space.settings({"scales": CALIBRATED, "float g0": True, "float g5": True, "most_sensitive": 1})
    assert space.convolutions(chosen) == ["g0.0", "g0.1", "g5.0", "g5.1", "x"]
    assert chosen.float_words == "g0 and g5 and the 1 most sensitive in float"
    assert space.convolutions(space.settings({})) == []


def test_groups_are_called_by_the_beginning_of_names() -> None:
    names = ["backbone.stem.0.conv", "backbone.stem.1.conv", "backbone.stem2.conv", "head.conv_dec"]
    found = groups_named(["backbone.stem", "head.conv_dec"], names, ["backbone.stem", "head.conv_dec"])
    assert found == {"backbone.stem": tuple(names[:2]), "head.conv_dec": ("head.conv_dec",)}
    with pytest.raises(BadInputError, match=r"Unknown group of convolutions 'head\.conv'; did you mean 'head\.conv_d"):
        groups_named(["head.conv"], names, ["backbone.stem", "head.conv_dec"])


def test_the_most_sensitive_by_the_loss_on_the_budgets_parts(tmp_path: Path) -> None:
    path = tmp_path / "sensitivity.csv"
    rows = [("a", "alone", "whole", 0.1), ("b", "alone", "whole", 0.3), ("c", "alone", "whole", 0.2)]
    rows += [("a", "alone", "face", 0.9), ("a", "all-but", "whole", 9), ("", "int8", "whole", 9)]
    path.write_text("unit,way,part,oks_loss\n" + "\n".join(",".join(map(str, row)) for row in rows))
    names = ["a.0", "a.1", "b", "c"]
    assert ranked(path, ["whole"], names, 2) == (("b",), ("c",))
    assert ranked(path, ["whole", "face"], names, 9) == (("a.0", "a.1"), ("b",), ("c",))
    with pytest.raises(BadInputError, match=r"Cannot read the sensitivities .*nothing\.csv: No such file"):
        ranked(tmp_path / "nothing.csv", ["whole"], names, 2)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(BadInputError, match=r"holds no sensitivities of whole; give a sensitivity\.csv"):
        ranked(path, ["whole"], names, 2)


def test_one_choice_of_each_is_a_space_too(tmp_path: Path) -> None:
    lone = Space(("common",), ("minmax",), (99.999,), (("synthetic:8", 0),), (False,))
    made = study(tmp_path / "journal", lone)
    run(made, 10, 4, measure)
    assert words(made.tried()) == ["common minmax synthetic:8, all in int8"]


def test_nearest_to_the_budget_is_what_its_worst_part_says() -> None:
    """One part that is far over is not made up for by others; what failed has no figure at all."""
    over = ({"body": 3.0, "face": -1.0}, {"body": 1.0, "face": 0.9}, {"body": -9.0, "face": 1.5})
    tried = [Tried(k, None, Outcome(30.0, 0.5, each)) for k, each in enumerate(over)]  # type: ignore[arg-type]
    failed = Tried(9, None, Outcome(reason="It broke."))  # type: ignore[arg-type]
    assert nearest([failed, *tried]) is tried[1] and nearest([failed]) is None
