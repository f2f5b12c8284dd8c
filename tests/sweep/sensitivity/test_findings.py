"""The file that a study remembers in."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtmw_edge.errors import BadInputError
from rtmw_edge.sweep.sensitivity.findings import Finding, FindingFile, Way
from rtmw_edge.sweep.sensitivity.proxy import Distances

FINDING = Finding(Way.ALONE, "stem", {"whole": Distances((0.0, 0.5, 1.5), 0.25, 1e-3)}, {"whole": 31.25})


def test_what_is_added_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "findings.jsonl"
    file = FindingFile(path, "a")
    file.add(FINDING)
    file.add(Finding(Way.ALL_BUT, "stem", {}, {}))
    assert FindingFile(path, "a").found == file.found and len(file.found) == 2
    assert FindingFile(path, "b").found == {}


def test_another_keys_lines_are_let_be(tmp_path: Path) -> None:
    path = tmp_path / "findings.jsonl"
    FindingFile(path, "a").add(FINDING)
    FindingFile(path, "b").add(FINDING)
    assert list(FindingFile(path, "a").found) == list(FindingFile(path, "b").found) == [(Way.ALONE, "stem")]


@pytest.mark.parametrize(
    "tail", ['{"key": "a", "way": "al', '{"key": "a", "way": "sideways", "unit": ""}\n', "\x00\x00"]
)
def test_a_line_that_was_cut_off_is_dropped(tail: str, tmp_path: Path) -> None:
    path = tmp_path / "findings.jsonl"
    FindingFile(path, "a").add(FINDING)
    whole = path.read_text()
    path.write_text(whole + tail)
    resumed = FindingFile(path, "a")
    assert list(resumed.found.values()) == [FINDING] and path.read_text() == whole
    resumed.add(Finding(Way.FLOAT, "", {}, {}))
    assert len(FindingFile(path, "a").found) == 2


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    file = FindingFile(path, "a")
    path.mkdir()
    with pytest.raises(BadInputError, match=r"Cannot write .*folder: Is a directory"):
        file.add(FINDING)
