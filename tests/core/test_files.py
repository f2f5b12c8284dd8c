"""Where files and folders may be written, said before the work that they are for."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from rtmw_edge.errors import BadInputError
from rtmw_edge.files import MARKER, atomic_write, check_replaceable, check_writable, claim_directory, staged_directory


def test_a_new_file_may_be_written_also_in_folders_to_come(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b" / "c.json", b"{")
    assert list(tmp_path.iterdir()) == []


def test_a_name_may_be_as_long_as_names_are(tmp_path: Path) -> None:
    for path in (tmp_path / ("n" * 251 + ".jpg"), tmp_path / ("ü" * 125 + ".mp4"), tmp_path / ("a." + "x" * 253)):
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"whole")
        assert path.read_bytes() == b"whole"


def test_only_what_begins_as_ours_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "ours").write_bytes(b"{ours}")
    check_writable(tmp_path / "ours", b"{ours")
    check_writable(tmp_path / "ours")
    with pytest.raises(BadInputError, match=r"Refusing to overwrite '.*ours': this command did not write it; name an"):
        check_writable(tmp_path / "ours", b"<html>")


def test_places_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match=r"it is a folder\. Name a file\."):
        check_writable(tmp_path)
    os.mkfifo(tmp_path / "pipe")  # which would wait for a writer when it is read
    with pytest.raises(BadInputError, match=r"pipe': it is a device or a pipe\. Name a file\."):
        check_writable(tmp_path / "pipe", b"{")
    with pytest.raises(BadInputError, match=r"file is a file, not a folder\. Choose another place\."):
        check_writable(tmp_path / "file" / "x" / "y.json")
    with pytest.raises(BadInputError, match=r"file is a file, not a folder\. Choose another place\."):
        check_replaceable(tmp_path / "file" / "out")
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.geteuid():
        with pytest.raises(BadInputError, match=r"nothing may be written to .*locked\. Choose another place\."):
            check_writable(tmp_path / "locked" / "y.json")

    def read_only(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(
        BadInputError, match=r"Cannot write '.*y\.json' below .*: Read-only file system\. Choose another"
    ):
        check_writable(tmp_path / "x" / "y.json")


def test_a_folder_that_cannot_be_made_and_a_file_that_is_missing_are_two_things(tmp_path: Path) -> None:
    """/proc says of every new folder that there is none such."""
    text = r"Cannot write /proc/x/y\.csv: No such file or directory\. Choose another"
    with pytest.raises(BadInputError, match=text), atomic_write(Path("/proc/x/y.csv")):
        pass
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "y.csv"):
        (tmp_path / "input").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_claimed_folder_is_ours_from_then_on(tmp_path: Path) -> None:
    for _ in range(2):
        claim_directory(tmp_path / "out", "a run of 1.0")
        (tmp_path / "out" / "figures.csv").write_text("")
    assert (tmp_path / "out" / MARKER).read_text() == "a run of 1.0\n"
    (tmp_path / "out" / MARKER).unlink()
    with pytest.raises(BadInputError, match="it is not empty and does not hold a"):
        claim_directory(tmp_path / "out", "a run of 1.0")


def test_the_current_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError, match=r"Cannot replace '\.': it is the current folder"), staged_directory(Path()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_process_puts_there_meanwhile_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, honest, moves = tmp_path / "out", os.replace, []

    def busy(source: Path, target: Path) -> None:
        """Twice something else comes between: the folder is gone as it is moved, and it is back as ours is placed."""
        moves.append(Path(source).name)
        if len(moves) == 1:
            shutil.rmtree(out)
        if len(moves) == 2:
            out.mkdir()
            (out / MARKER).write_text("another")
        honest(source, target)

    for text in ("first", "second"):
        with staged_directory(out) as stage:
            (stage / MARKER).write_text(text)
        monkeypatch.setattr(os, "replace", busy)
    assert (out / MARKER).read_text() == "second" and len(moves) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_was_there_comes_back_where_the_new_one_cannot_be_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, honest = tmp_path / "out", os.replace
    with staged_directory(out) as stage:
        (stage / MARKER).write_text("first")

    def stopped(source: Path, target: Path) -> None:
        if target == out and (Path(source) / MARKER).read_text() == "second":
            raise KeyboardInterrupt
        honest(source, target)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt), staged_directory(out) as stage:
        (stage / MARKER).write_text("second")
    assert (out / MARKER).read_text() == "first" and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_place_that_takes_no_files_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc is a folder, and root may write to it; what fails is the temporary name beside the file's."""
    text = r"Cannot write /proc/figures\.json: No such file or directory\. Choose another place"
    with pytest.raises(BadInputError, match=text), atomic_write(Path("/proc/figures.json")):
        pass
    monkeypatch.chdir("/proc")
    text = r"Cannot write figures\.json: No such file"
    with pytest.raises(BadInputError, match=text), atomic_write(Path("figures.json")):
        pass


def test_what_somebody_else_put_there_meanwhile_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadInputError, match="Refusing to overwrite"), staged_directory(out) as stage:
        (stage / MARKER).write_text("")
        out.mkdir()
        (out / "thesis.tex").write_text("years")
    assert (out / "thesis.tex").read_text() == "years" and [path.name for path in tmp_path.iterdir()] == ["out"]
