"""What every command has: Ctrl-C and a place that cannot be used are one sentence, with the exit code for it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from made_sweep import store_of

from rtmw_edge.cli import main
from rtmw_edge.cli.console import Console


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(left.value.code or 0)


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("rtmw_edge.targets.boards.board_names", fail)


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Console(highlight=False).print("coco:house:images [/x]")
    assert capsys.readouterr().out == "coco:house:images [/x]\n"


def test_what_goes_on_is_said_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    status = console.status("coco:house:images")
    console.print(status.renderable)
    status.update("onnx int8 photos[/x]")
    console.print(status.renderable)
    assert [line[2:] for line in capsys.readouterr().out.splitlines()] == ["coco:house:images", "onnx int8 photos[/x]"]


@pytest.mark.parametrize("group", [(), ("data",), ("results",)])
def test_the_list_of_commands_says_what_each_does_in_a_whole_sentence(
    group: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(*group, "--help") == 0
    commands = capsys.readouterr().out.split("Commands:\n")[1].splitlines()
    assert len(commands) >= 3
    assert [line for line in commands if not line.endswith(".") or line.endswith("...")] == []


def test_ctrl_c_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(KeyboardInterrupt(), monkeypatch)
    assert run("boards") == 130
    assert capsys.readouterr().err == "interrupted; nothing half-written was left\n"


def test_ctrl_c_before_the_commands_are_there_says_so() -> None:
    asked = """
import runpy, sys
class Interrupted:
    def find_spec(self, name, *where):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
runpy.run_module("rtmw_edge", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted; nothing half-written was left\n")


def without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    asked = 'import runpy, sys; sys.modules["torch"] = None; runpy.run_module("rtmw_edge", run_name="__main__")'
    return subprocess.run([sys.executable, "-c", asked, *arguments], capture_output=True, text=True)


def test_what_needs_pytorch_says_so_and_a_report_does_not(tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text('variants = "rtmw-n-256x192"')
    words = 'needs torch, which is not installed. Run: pip install "rtmw-edge[export]".\n'
    for arguments, user in ((("quickstart",), "A quickstart"), (("sweep", f"{tmp_path}/sweep.toml"), "A sweep")):
        done = without_torch(*arguments)
        assert (done.returncode, done.stderr) == (3, f"error: {user} {words}")
    store = store_of(tmp_path / "store")
    done = without_torch("results", "report", str(store))
    assert (done.returncode, done.stderr) == (0, "") and (store / "report.html").is_file()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_process_cleans_up_and_ends_it_as_such(tmp_path: Path, number: signal.Signals) -> None:
    """What `systemctl stop` and a lost terminal send: contexts are left; systemd takes the signal for a good end."""
    asked = f"""
import signal, sys, time
from pathlib import Path
from rtmw_edge.cli import main
from rtmw_edge.files import atomic_write
signal.signal({int(number)}, signal.SIG_DFL)  # under nohup it is ignored
def wait():
    with atomic_write(Path({str(tmp_path)!r}) / "out"):
        print("waiting", flush=True)
        time.sleep(60)
import rtmw_edge.targets.boards
rtmw_edge.targets.boards.board_names = wait
main(["boards"])
"""
    process = subprocess.Popen([sys.executable, "-c", asked], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "waiting\n"
    assert list(tmp_path.iterdir())
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert error == "terminated; nothing half-written was left\n"
    assert process.returncode == -number and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("gone", "code"), [(True, 0), (False, 1)])
def test_a_reader_that_goes_away_is_no_error(monkeypatch: pytest.MonkeyPatch, gone: bool, code: int) -> None:
    """`rtmw-edge run ... --json - | head`: Typer would exit with 1, which is a failed gate. Other pipes are ours."""
    monkeypatch.setattr("rtmw_edge.cli._nobody_reads", lambda: gone)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    fail_with(BrokenPipeError(errno.EPIPE, "Broken pipe"), monkeypatch)
    assert run("boards") == code


def test_who_reads_standard_output_is_known() -> None:
    asked = [sys.executable, "-c", "import sys; from rtmw_edge.cli import _nobody_reads; sys.exit(_nobody_reads())"]
    read, write = os.pipe()
    assert subprocess.run(asked, stdout=write).returncode == 0
    os.close(read)
    assert subprocess.run(asked, stdout=write).returncode == 1
    os.close(write)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileExistsError(errno.EEXIST, "File exists", "a"), "Cannot use 'a': File exists. Choose another place."),
        (PermissionError(errno.EACCES, "Permission denied", "b"), "Cannot use 'b': Permission denied. Choose another"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full; free some space and run the command"),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),  # as tempfile raises it
            "No usable temporary directory found in ['/tmp']: free some space, or let TMPDIR name a folder that",
        ),
    ],
)
def test_a_place_that_cannot_be_used_is_one_sentence(
    error: OSError, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(error, monkeypatch)
    assert run("boards") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {text}") and said.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error", "a"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
    ],
    ids=str,
)
def test_what_we_know_nothing_of_is_not_hidden(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(error, monkeypatch)
    with pytest.raises(OSError, match=str(error.strerror)):
        main(["boards"])


def test_a_shell_in_a_removed_folder_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert run("export", "rtmw-n-256x192", "--target", "onnx", "--precision", "fp32", "--out", "x") == 2
    assert capsys.readouterr().err == "error: The folder that this shell is in is gone: cd to one that is there.\n"


def test_a_wrong_option_is_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("boards", "--jsn") == 2
    assert "No such option: --jsn" in capsys.readouterr().err


def test_a_table_that_nobody_reads_to_its_end_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "rtmw_edge", "boards"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_output_that_is_closed_is_nobody_s() -> None:
    """`2>&-`: what is opened next would get the number of standard error."""
    command = [sys.executable, "-m", "rtmw_edge", "models"]
    for closed in (2, 1, 0):
        line = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *command]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stderr == ""
        assert ("rtmw-m-256x192" in done.stdout) == (closed != 1)
