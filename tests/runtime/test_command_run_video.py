"""`rtmw-edge run` on what moves: videos, pipes, cameras that are not there, the page, and Ctrl-C."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import video_files

WHOLE = ("--detector", "none")
"""The tiny network finds crosses, which the builtin detector does not take for people."""


@pytest.fixture()
def clip(tmp_path: Path) -> Path:
    """A video of 12 frames with a bright cross, which the tiny network follows."""
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 30, (300, 400))
    for index in range(12):
        image = np.full((400, 300, 3), 20, np.uint8)
        image[188:193] = 200
        image[:, 108 + 3 * index : 113 + 3 * index] = 200
        writer.write(image)
    writer.release()
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    """The frames of a file of JSON lines, without its first line."""
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


def test_every_sink_of_one_video(cli: Callable[..., Any], tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = [out / name for name in ("a.jsonl", "a.csv", "a.npz", "a.coco.json", "a.webm")]
    saves = [word for name in (out / "drawn", *names) for word in ("--save", name)]
    done = cli("run", tiny_bundle, *WHOLE, clip, "--json", out / "a.json", *saves, "--draw-ids", "--threads", 1)
    assert done.code == 0 and done.err == ""
    assert done.out.startswith("12 frames, ") and "pose " in done.out and "(medians) on ONNX Runtime, cpu" in done.out
    assert f"video: {out / 'drawn' / 'clip.mp4'} (MPEG-4 Part 2, 300x400, 30 fps" in done.out
    assert "Nothing was kept" not in done.out
    assert all(name.stat().st_size > 300 for name in (*names, out / "a.json"))
    found = lines(out / "a.jsonl")
    assert [frame["frame"] for frame in found] == list(range(12))
    assert all([person["id"] for person in frame["people"]] == [1] for frame in found)
    noses = np.array([frame["people"][0]["keypoints"][:2] for frame in found])
    assert np.median(np.abs(noses[:, 0] - (110 + 3 * np.arange(12)))) < 8, "the keypoints follow the cross"


def test_boxes_of_frames(cli: Callable[..., Any], tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(
        json.dumps({"clip.mp4#0": [[60, 80, 180, 280]], "clip.mp4#5": [[0, 0, 300, 400], [60, 80, 190, 280]]})
    )
    out = tmp_path / "a.jsonl"
    assert cli("run", tiny_bundle, clip, "--boxes", boxes, "--json", out).code == 0
    assert [len(frame["people"]) for frame in lines(out)][:5] == [1] * 5
    boxes.write_text(json.dumps({"clip.mp4#0": [[60, 80, 180, 280]], "clip.mp4#1": [], "clip.mp4#2": []}))
    assert cli("run", tiny_bundle, clip, "--boxes", boxes, "--json", out).code == 0
    assert [len(frame["people"]) for frame in lines(out)][:3] == [1, 0, 0], "who is not listed is not there"
    boxes.write_text(json.dumps({"clip.mp4": [], "clip.mp4#99": [[60, 80, 180, 280]], "clip.mp4#x": []}))
    done = cli("run", tiny_bundle, clip, "--boxes", boxes)
    assert done.code == 0 and f"{boxes} has boxes for clip.mp4#99 and 1 more, which did not come\n" in done.out
    other = tmp_path / "other.json"
    other.write_text('{"film.mp4#0": []}')
    done = cli("run", tiny_bundle, clip, "--boxes", other)
    assert done.code == 2 and "it speaks of 'film.mp4#0', not of 'clip.mp4'" in done.err


def test_a_bad_box_ends_its_video_and_the_next_goes_on(
    cli: Callable[..., Any], tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    second = clip.rename(tmp_path / "a.mp4").with_name("b.mp4")
    second.write_bytes((tmp_path / "a.mp4").read_bytes())
    boxes = tmp_path / "boxes.json"
    good = [[60, 80, 180, 280]]
    boxes.write_text(json.dumps({"a.mp4": good, "a.mp4#4": [[900, 0, 950, 90]], "b.mp4": good}))
    out = tmp_path / "all.jsonl"
    done = cli("run", tiny_bundle, tmp_path / "a.mp4", second, "--boxes", boxes, "--json", out)
    assert done.code == 2 and "a.mp4#4: Box 0 (900, 0, 950, 90) lies wholly outside the 300x400 image" in done.err
    assert "1 of 2 sources could not be used to their end" in done.err and "Traceback" not in done.err
    frames = [line for line in lines(out) if "people" in line]
    assert [Path(line["file"]).name for line in frames] == ["a.mp4"] * 4 + ["b.mp4"] * 12


def test_json_lines_on_stdout_are_nothing_else(cli: Callable[..., Any], tiny_bundle: Path, clip: Path) -> None:
    done = cli("run", tiny_bundle, *WHOLE, clip, "--json", "-")
    assert done.code == 0 and len([json.loads(line) for line in done.out.splitlines()]) == 13
    assert done.err.startswith("12 frames, ")


def test_json_lines_need_a_standard_output(tiny_bundle: Path, clip: Path) -> None:
    words = [sys.executable, "-m", "rtmw_edge", "run", str(tiny_bundle), *WHOLE, str(clip), "--json", "-"]
    done = subprocess.run(["sh", "-c", 'exec "$@" 1>&-', "sh", *words], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: --json - writes to standard output, which is closed: name a file.\n"


def test_files_go_on_where_nobody_reads_standard_output_any_more(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    words = ["run", str(tiny_bundle), *WHOLE, str(clip), "--json", "-", "--save", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "rtmw_edge", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait(60) == 0 and errors.startswith("12 frames, ") and len(lines(out)) == 12


def test_lines_go_on_where_nobody_reads_what_is_said_beside_them(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    words = ["-m", "rtmw_edge", "run", str(tiny_bundle), *WHOLE, str(clip), str(tmp_path / "none.jpg"), "--json", "-"]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stderr.close()
    found = [json.loads(line) for line in process.stdout.read().splitlines()]
    assert process.wait(60) == 2 and len(found) == 14 and found[-1]["failed"]


def test_pictures_go_on_where_nobody_reads_what_is_said(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(5):
        cv2.imwrite(str(folder / f"{index}.jpg"), np.full((400, 300, 3), 20, np.uint8))
    words = ["-m", "rtmw_edge", "run", str(tiny_bundle), *WHOLE, str(folder), "--save", str(tmp_path / "out")]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 0 and len(list((tmp_path / "out").glob("*.jpg"))) == 5


def test_a_broken_tail_ends_with_what_was_done(cli: Callable[..., Any], tiny_bundle: Path, tmp_path: Path) -> None:
    path = video_files.write_video(tmp_path / "film.mkv", frames=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    done = cli("run", tiny_bundle, *WHOLE, path, "--save", tmp_path / "out", "--json", tmp_path / "a.json")
    assert done.code == 2
    assert f"error: {path} breaks off after " in done.err and "what came before it is done" in done.err
    assert "1 of 1 sources could not be used to their end: film.mkv; what was there is done." in done.err
    document = json.loads((tmp_path / "a.json").read_text())
    assert len(document["images"]) > 10 and document["failed"][0]["file"] == str(path)
    assert (tmp_path / "out" / "film.mp4").is_file()


def test_images_and_videos_in_one_run(cli: Callable[..., Any], tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.zeros((40, 30, 3), np.uint8))
    done = cli("run", tiny_bundle, *WHOLE, tmp_path / "photo.jpg", clip, "--save", tmp_path / "out")
    assert done.code == 0 and "photo.jpg  1 person" in done.out and "13 frames, " in done.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".rtmw-edge", "clip.mp4", "photo.jpg"]


def test_a_sink_that_fails_keeps_the_others(
    cli: Callable[..., Any], tiny_bundle: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full for the table after three frames; what the others have is kept."""
    from rtmw_edge.errors import BadInputError
    from rtmw_edge.runtime.sinks.table import Table

    write = Table.write

    def full(self: Table, annotated: Any) -> None:
        write(self, annotated)
        if annotated.result.frame.index == 3:
            raise BadInputError("The disk is full while writing the table.")

    monkeypatch.setattr(Table, "write", full)
    done = cli("run", tiny_bundle, *WHOLE, clip, "--save", tmp_path / "a.csv", "--save", tmp_path / "a.jsonl")
    assert done.code == 2 and done.err == "error: The disk is full while writing the table.\n"
    assert not (tmp_path / "a.csv").exists() and 3 <= len(lines(tmp_path / "a.jsonl")) <= 4


def test_a_full_disk_at_the_end_of_a_video_keeps_the_poses(
    cli: Callable[..., Any], tiny_bundle: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def full(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        return opened(Path("/dev/full") if mode == "ab" else self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    done = cli("run", tiny_bundle, *WHOLE, clip, "--save", tmp_path / "a.mp4", "--json", tmp_path / "a.json")
    assert done.code == 2 and f"error: The disk is full while writing {tmp_path / 'a.mp4'}" in done.err
    assert {path.name for path in tmp_path.glob("*a.*")} == {"a.json"}
    assert len(json.loads((tmp_path / "a.json").read_text())["images"]) == 12


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["987"], 3, "There is no camera 987 here, or another program has it"),
        (["/dev/video987"], 3, "There is no /dev/video987 here"),
        (["rtsp://me:secret@127.0.0.1:9/live"], 3, "Cannot reach rtsp://127.0.0.1:9/live: check the address"),
        (["-"], 2, "Frames on stdin need their format"),
        (["CLIP", "--raw", "1x1"], 2, "--raw tells the format of frames on stdin"),
        (["CLIP", "--camera", "640x480@30"], 2, "--camera asks a camera for a format, and no source is a camera"),
        (["CLIP", "--live"], 2, "--live and --no-live are about an address or stdin, and no source is one"),
        (["CLIP", "--depth", "3"], 2, "has no depth: leave out --intrinsics, --depth and --view3d."),
        (["CLIP", "--view3d", "fixed"], 2, "has no depth: leave out --intrinsics, --depth and --view3d."),
        (["CLIP", "--detect-every", "-1"], 2, "People cannot be followed with detect_every -1: frames are 0 or more"),
        (["CLIP", "--detect-every", "5"], 2, "There is no detector to set up: leave out --detector none, or the"),
        (
            ["rtsp://[::1/stream"],
            2,
            "Cannot read the address rtsp://[::1/stream (Invalid IPv6 URL): check its brackets.",
        ),
        (["CLIP", "--camera", "640x480@30:nv12"], 2, "names a pixel format, which the camera's driver chooses"),
        (["CLIP", "--detector-file", "x.onnx"], 2, "--detector none and --detector-file x.onnx contradict: leave one"),
        (["CLIP", "--save", "a.JSONL", "--json", "a.JSONL"], 2, "a.JSONL': give one of them another."),
        (["CLIP", "--view3d", "side"], 2, "Unknown 3D view 'side'"),
        (["CLIP", "--intrinsics", "1,2,3"], 2, "Cannot read the intrinsics '1,2,3': write FX,FY,CX,CY in pixels."),
        (["CLIP", "--intrinsics", "0,1,2,3"], 2, "FX and FY are positive pixels"),
        (
            ["CLIP", "--depth", "0"],
            2,
            "The depth 0 is no distance in metres of somebody before a camera: pass 0.1 to 1000",
        ),
        (["CLIP", "--depth", "0.01"], 2, "The depth 0.01 is no distance in metres of somebody before a camera"),
        (["CLIP", "--serve", "pi"], 2, "Cannot serve on 'pi': write HOST:PORT"),
        (["CLIP", "--serve", ""], 2, "Cannot serve on '': write HOST:PORT"),
        (["CLIP", "--camera", ""], 2, "Cannot read the format '': write WxH@FPS:PIXELS"),
        (["CLIP", "--show"], 3, "use --serve 8080 and a browser"),
        (["CLIP", "--save", "BUNDLE.mp4", "--save", "CLIP"], 2, "it is no video of this tool"),
    ],
)
def test_bad_usage_is_one_sentence(
    cli: Callable[..., Any],
    tiny_bundle: Path,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    text: str,
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    words = [word.replace("CLIP", str(clip)).replace("BUNDLE", str(tiny_bundle)) for word in arguments]
    done = cli("run", tiny_bundle, *WHOLE, *words)
    assert done.code == code and text in done.err and done.err.count("\n") == 1
    assert "secret" not in done.err and "Traceback" not in done.err


class Piped:
    """`rtmw-edge run` in a process of its own, with frames on stdin for as long as somebody writes them."""

    FRAME = bytes(300 * 400 * 3)

    def __init__(self, bundle: Path, *arguments: object) -> None:
        command = [
            sys.executable,
            "-m",
            "rtmw_edge",
            "run",
            bundle,
            "-",
            "--raw",
            "300x400@30",
            "--threads",
            1,
            *WHOLE,
            *arguments,
        ]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(list(map(str, command)), **pipes, env=environment)  # type: ignore[call-overload]

    def write(self, frames: int = 1) -> None:
        for _ in range(frames):
            self.process.stdin.write(self.FRAME)
            self.process.stdin.flush()

    def end(self, number: signal.Signals | None = None) -> tuple[int, str, str]:
        """Exit code and output after a signal, or after the end of stdin."""
        if number is not None:
            self.process.send_signal(number)
            self.process.wait(30)  # whoever writes may well go on: the end of stdin is not waited for
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(("live", "code"), [(True, 0), (False, 130)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_cleanly_with_everything_saved(
    tiny_bundle: Path, tmp_path: Path, live: bool, code: int, number: signal.Signals
) -> None:
    """A live source has no other end; a file that was stopped is not done."""
    out = tmp_path / "out"
    run = Piped(
        tiny_bundle,
        "--live" if live else "--no-live",
        "--save",
        out / "a.jsonl",
        "--save",
        out / "a.avi",
        "--json",
        out / "a.json",
    )
    run.write(20)
    until = time.time() + 20
    while not list(out.glob(".a.avi.*")) and time.time() < until:
        run.write()
        time.sleep(0.02)
    left, stdout, err = run.end(number)
    assert left == code and err == "" and "poses: " in stdout and "video: " in stdout
    assert ("stopped before the end; what was done is saved" in stdout) == (not live)
    assert sorted(path.name for path in out.iterdir()) == ["a.avi", "a.json", "a.jsonl"]
    assert len(lines(out / "a.jsonl")) == len(json.loads((out / "a.json").read_text())["images"]) > 0
    assert cv2.VideoCapture(str(out / "a.avi")).read()[0]


def test_the_page_of_a_run(tiny_bundle: Path) -> None:
    run = Piped(tiny_bundle, "--serve", "0")
    run.write(3)
    watch = run.process.stdout.readline().decode()
    assert watch.startswith("watch: http://127.0.0.1:")
    connection = http.client.HTTPConnection("127.0.0.1", int(watch.rstrip("/\n").rpartition(":")[2]), timeout=10)
    figures: dict[str, Any] = {}
    until = time.time() + 20
    while figures.get("frames", 0) < 3 and time.time() < until:
        run.write()
        connection.request("GET", "/status.json")
        figures = json.loads(connection.getresponse().read())
    code, _, err = run.end()
    assert figures["people"] == 1 and figures["source"] == "stdin" and figures["running"]
    assert (code, err) == (0, "")
