"""`train` and `qat` begin in a folder of their own, and with what they were given, before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from rtmw_edge.cli import main
from rtmw_edge.cli.train import check_run
from rtmw_edge.files import MARKER, mark_directory
from rtmw_edge.training import checkpoint

COMMANDS = (["train", "rtmw-n-256x192"], ["qat", "rtmw-n-256x192"])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("thesis").mkdir()
    Path("thesis/chapter.txt").write_text("1")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=["train", "qat"])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--out", "thesis"], "Refusing to overwrite 'thesis': it is not empty and does not hold a .rtmw-edge."),
        (["--out", "thesis/chapter.txt"], "Refusing to overwrite 'thesis/chapter.txt': it is a file"),
        (["--out", "thesis/chapter.txt/run"], "Cannot write 'thesis/chapter.txt/run': "),
        (["--out", "run", "--backgrounds", "thesis"], "No photographs in 'thesis'; give --backgrounds a folder"),
    ],
)
def test_refusals(command: list[str], options: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([*command, *options])
    said = capsys.readouterr().err
    assert left.value.code == 2 and f"error: {text}" in said and said.count("\n") == 1
    assert [path.name for path in Path("thesis").iterdir()] == ["chapter.txt"] and not Path("run").exists()


def test_a_run_goes_on_in_its_folder_also_before_its_first_checkpoint() -> None:
    mark_directory(Path("run"), "a run of rtmw-edge")
    Path("run/start.json").write_text("")
    check_run(Path("run"), None)


def test_a_run_marks_its_folder() -> None:
    with checkpoint.alone(Path("run")):
        pass
    assert (Path("run") / MARKER).read_text().startswith("a run of rtmw-edge ")
