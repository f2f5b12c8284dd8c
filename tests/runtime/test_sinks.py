"""What is written of a run: every format read back by somebody else's reader, and nobody's file overwritten."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixed_engine import FixedEngine
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError, NotAvailableError
from rtmw_edge.keypoints import NAMES, PARTS
from rtmw_edge.poses import COCO_FIELDS
from rtmw_edge.runtime import Runner
from rtmw_edge.runtime.frame_runner import FrameRunner
from rtmw_edge.runtime.frames import Annotated, Failure, Frame, Origin, Result, Sink, Source
from rtmw_edge.runtime.painting import Painter
from rtmw_edge.runtime.sinks import Document, JsonLines, PictureFolder, Window, open_sink
from rtmw_edge.runtime.sinks.video import MARK, AnnotatedVideo
from rtmw_edge.runtime.sources import open_sources
from rtmw_edge.runtime.sources.images import ImageFile

SIZE = (400, 600, 3)


def annotated(
    index: int = 0, *, origin: Origin | None = None, time_s: float | None = None, depth: bool = False, grey: int = 90
) -> Annotated:
    """A frame with one person, of a video unless an origin says otherwise."""
    origin = origin or Origin("clip.mp4", 30.0)
    frame = Frame(origin, index, index / 30 if time_s is None else time_s, np.full(SIZE, grey, np.uint8))
    result = FrameRunner(Runner(FixedEngine(depth=depth)))(frame)
    assert isinstance(result, Result)
    return Annotated(result, Painter(0.1))


def sink(target: Path, *, depth: bool = False, sources: list[Source] | None = None) -> Sink:
    return open_sink(target, Runner(FixedEngine(depth=depth)), sources or open_sources(["clip.mp4"]))


def test_json_lines(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    lines = sink(out)
    shown = [annotated(0), annotated(1)]
    for one in shown:
        lines.write(one)
    lines.fail(Failure("clip.mp4", "it broke"))
    assert not out.exists()
    assert lines.close() == [f"poses: {out}"]
    head, first, second, failed = (json.loads(line) for line in out.read_text().splitlines())
    assert head == {
        "format": "rtmw-edge pose lines",
        "version": 1,
        "model": {"variant": "fixed", "target": "none", "precision": "fp32", "runtime": "fixed answers"},
    }
    assert (first["file"], first["frame"], first["width"], first["height"]) == ("clip.mp4", 0, 600, 400)
    assert second["time_s"] == pytest.approx(1 / 30, abs=1e-4) and failed == {"file": "clip.mp4", "failed": "it broke"}
    (person,) = second["people"]
    assert person["id"] == 1 and len(person["box"]) == 4 and person["box_score"] == 1 and person["score"] == 0.8
    for part, rows in PARTS.items():
        triples = np.reshape(person[COCO_FIELDS[part]], (-1, 3))
        assert triples[:, :2] == pytest.approx(shown[1].result.poses.keypoints[0, rows], abs=0.01)
        assert triples[:, 2] == pytest.approx(shown[1].result.confidence[0, rows], abs=1e-4)
    assert "metres" not in person


def test_json_lines_to_a_stream_come_at_once() -> None:
    stream = io.BytesIO()
    lines = JsonLines(stream, FixedEngine().model, "x")
    lines.write(annotated())
    assert stream.getvalue().count(b"\n") == 2
    lines.write(annotated(1))
    assert stream.getvalue().count(b"\n") == 3 and lines.close() == []


def test_the_document_is_one_json(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    document = sink(out, depth=True)
    shown = [annotated(index, depth=True) for index in range(3)]
    for one in shown:
        document.write(one)
    document.fail(Failure("clip.mp4", "it broke"))
    document.close()
    read = json.loads(out.read_text())
    assert read["format"] == "rtmw-edge poses" and read["keypoint_names"] == list(NAMES)
    assert [image["frame"] for image in read["images"]] == [0, 1, 2]
    assert read["failed"] == [{"file": "clip.mp4", "reason": "it broke"}]
    person = read["images"][2]["people"][0]
    assert np.array(person["metres"]) == pytest.approx(shown[2].result.metres[0], abs=1e-4)  # type: ignore[index]
    assert person["z"] == pytest.approx(shown[2].result.poses.keypoints[0, :, 2], abs=1e-4)


def test_a_document_of_failures_alone(tmp_path: Path) -> None:
    document = Document(tmp_path / "a.json", FixedEngine().model, "x")
    document.fail(Failure("a.jpg", "no"))
    document.close()
    read = json.loads((tmp_path / "a.json").read_text())
    assert read["images"] == [] and len(read["failed"]) == 1


def test_a_table_that_csv_readers_read(tmp_path: Path) -> None:
    out = tmp_path / "a.csv"
    table = sink(out, depth=True)
    shown = annotated(3, depth=True)
    table.write(shown)
    table.close()
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert len(row) == 10 + 133 * 6
    assert (row["file"], row["frame"], row["time_s"], row["id"]) == ("clip.mp4", "3", "0.1000", "1")
    x, y = shown.result.poses.keypoints[0, 9, :2]
    assert float(row["left_wrist_x"]) == pytest.approx(x, abs=0.01) and float(row["left_wrist_y"]) == pytest.approx(
        y, abs=0.01
    )
    assert float(row["right_pinky_finger4_Z"]) == pytest.approx(shown.result.metres[0, 132, 2], abs=1e-4)  # type: ignore[index]


def test_arrays_that_numpy_reads(tmp_path: Path) -> None:
    out = tmp_path / "a.npz"
    arrays = sink(out, depth=True)
    shown = [annotated(index, depth=True) for index in range(4)]
    for one in shown:
        arrays.write(one)
    arrays.close()
    with np.load(out, allow_pickle=False) as read:
        assert read["files"].tolist() == ["clip.mp4"] and read["keypoint_names"].tolist() == list(NAMES)
        assert (
            read["frame"].tolist() == [0, 1, 2, 3]
            and read["id"].tolist() == [1] * 4
            and read["file"].tolist() == [0] * 4
        )
        assert np.array_equal(read["metres"], np.concatenate([one.result.metres for one in shown]))  # type: ignore[misc]
        assert np.array_equal(read["keypoints"], np.concatenate([one.result.poses.keypoints[..., :2] for one in shown]))
        assert np.array_equal(read["scores"], np.concatenate([one.result.confidence for one in shown]))
    assert list(tmp_path.iterdir()) == [out]


def test_arrays_say_which_file_a_row_is_of(tmp_path: Path) -> None:
    arrays = sink(tmp_path / "a.npz")
    for name in ("b.jpg", "a.jpg", "b.jpg"):
        arrays.write(annotated(origin=Origin(name)))
    arrays.close()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as read:
        assert read["files"].tolist() == ["b.jpg", "a.jpg"] and read["file"].tolist() == [0, 1, 0]


def test_images_of_one_number_are_counted_instead(tmp_path: Path) -> None:
    names = ["7.jpg", "007.png"]
    results = sink(tmp_path / "a.coco.json", sources=[ImageFile(Path(name)) for name in names])
    for name in names:
        results.write(annotated(origin=Origin(name)))
    results.close()
    assert [person["image_id"] for person in json.loads((tmp_path / "a.coco.json").read_text())] == [1, 2]


def test_coco_results_are_what_the_evaluation_reads(tmp_path: Path) -> None:
    out = tmp_path / "a.coco.json"
    names = ["000000000139.jpg", "000000000785.jpg"]
    results = sink(out, sources=[ImageFile(Path(name)) for name in names])
    shown = [annotated(origin=Origin(name)) for name in names]
    for one in shown:
        results.write(one)
    results.close()
    assert json.loads(out.read_text()) == [
        json.loads(json.dumps(person))
        for number, one in zip((139, 785), shown, strict=True)
        for person in one.result.poses.to_coco(number)
    ]


def test_coco_results_count_where_names_are_no_numbers(tmp_path: Path) -> None:
    out = tmp_path / "a.coco.json"
    results = sink(out)
    for index in range(3):
        results.write(annotated(index))
    results.close()
    assert [person["image_id"] for person in json.loads(out.read_text())] == [1, 2, 3]


def test_coco_results_keep_the_number_of_a_picture_that_cannot_be_read(tmp_path: Path) -> None:
    out = tmp_path / "a.coco.json"
    names = ["a.png", "bad.png", "z.png"]
    results = sink(out, sources=[ImageFile(Path(name)) for name in names])
    results.write(annotated(origin=Origin("a.png")))
    results.fail(Failure("bad.png", "It is damaged."))
    results.write(annotated(origin=Origin("z.png")))
    results.close()
    assert [person["image_id"] for person in json.loads(out.read_text())] == [1, 3]


def test_a_picture_that_its_format_does_not_take(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path / "out", [ImageFile(Path("a.jpg"))])
    wide = annotated(origin=Origin("a.jpg"))
    wide.__dict__["picture"] = np.zeros((2, 70_000, 3), np.uint8)
    with pytest.raises(BadInputError, match=r"a\.jpg: \.jpg does not take a picture of 70000x2 pixels"):
        folder.write(wide)
    assert not (tmp_path / "out" / "a.jpg").exists()


ENDINGS = [".json", ".jsonl", ".csv", ".npz", ".coco.json", ".mp4", ".webm", ".avi", ".mkv"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_its_own_file_is_replaced_and_no_other(tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"a{ending}"
    for _ in range(2):
        again = sink(out)
        again.write(annotated())
        assert len(again.close()) == 1
    assert out.stat().st_mode & 0o777 == 0o644 and list(tmp_path.iterdir()) == [out]
    out.write_bytes(b"somebody's own")
    with pytest.raises(
        BadInputError, match=rf"Refusing to overwrite '.*a{ending}': it .* of this tool. Choose another name"
    ):
        sink(out)
    assert out.read_bytes() == b"somebody's own"


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_taken_or_discarded_leaves_nothing(tmp_path: Path, ending: str) -> None:
    assert sink(tmp_path / f"a{ending}").close() == []
    half = sink(tmp_path / f"b{ending}")
    half.write(annotated())
    half.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.jpg", "out.PNG", "poses.txt", "-"])
def test_what_nobody_means_as_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError, match=r"is no output that there is: name a folder for pictures, as out/, or a"):
        sink(tmp_path / name)
    (tmp_path / name).mkdir()
    assert isinstance(sink(tmp_path / name), PictureFolder)


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".webm", ".mkv"])
def test_a_video_that_a_full_disk_cut_off_is_not_kept(tmp_path: Path, ending: str) -> None:
    """OpenCV says nothing of it, so frames are counted."""
    whole, cut = AnnotatedVideo(tmp_path / f"whole{ending}"), AnnotatedVideo(tmp_path / f"cut{ending}")
    for index in range(4):
        whole.write(annotated(index))
        cut.write(annotated(index))
    assert len(whole.close()) == 1
    cut._written += 3
    with pytest.raises(BadInputError, match=rf"The disk is full while writing .*cut{ending}, which was not kept"):
        cut.close()
    cut.discard()
    assert [path.name for path in tmp_path.iterdir()] == [f"whole{ending}"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("ending", [".npz", ".jsonl", ".json", ".csv", ".coco.json"])
def test_a_full_disk_is_told_once(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dropped then would be written once more, and its error would keep the other outputs from their end."""
    opened = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        return opened(Path("/dev/full") if mode == "wb" else path, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: opened(Path("/dev/full"), "w+b"))
    poses = sink(tmp_path / f"a{ending}")
    with pytest.raises(BadInputError, match=rf"The disk is full while writing .*a{ending}, which was not kept"):
        for index in range(2):
            poses.write(annotated(index))
        poses.close()
    poses.discard()
    assert list(tmp_path.iterdir()) == []


def frames_of(path: Path) -> list[NDArray[Any]]:
    capture = cv2.VideoCapture(str(path))
    found = []
    while (read := capture.read())[0]:
        found.append(read[1])
    return found


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".avi", ".mkv"])
def test_an_annotated_video(tmp_path: Path, ending: str) -> None:
    video = AnnotatedVideo(tmp_path / f"a{ending}")
    for index in range(10):
        video.write(annotated(index, grey=40 + 20 * index))
    (told,) = video.close()
    assert "600x400, 30 fps" in told and ("browsers do not play" in told) == (ending != ".webm")
    found = frames_of(tmp_path / f"a{ending}")
    assert len(found) == 10 and found[0].shape == SIZE
    for index, frame in enumerate(found):
        assert np.median(frame[:40, :40]) == pytest.approx(40 + 20 * index, abs=6)
    assert (tmp_path / f"a{ending}").read_bytes().endswith(MARK)


def test_a_video_keeps_the_source_s_time(tmp_path: Path) -> None:
    """A camera of 30 frames a second that was followed at 10, and was lost for an hour."""
    video = AnnotatedVideo(tmp_path / "a.avi")
    times = [0.0, 0.1, 0.2, 0.3, 3600.0, 3600.1]
    for index, time_s in enumerate(times):
        video.write(annotated(index, time_s=time_s, grey=40 + 30 * index))
    video.close()
    shades = [int(np.round((np.median(frame[:40, :40]) - 40) / 30)) for frame in frames_of(tmp_path / "a.avi")]
    assert shades == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 4, 4, 5]


def test_a_variable_rate_keeps_every_picture(tmp_path: Path) -> None:
    """Ten pictures a second, of which the last stays for three: 10 in 3.9 s are a mean of 2.6."""
    video = AnnotatedVideo(tmp_path / "a.avi")
    origin = Origin("clip.gif", 10 / 3.9)
    for index, time_s in enumerate([0.0, 0.1, 0.2, 0.3, 3.3, 3.4]):
        video.write(annotated(index, origin=origin, time_s=time_s, grey=40 + 30 * index))
    assert "10 fps" in video.close()[0]
    shades = [int(np.round((np.median(frame[:40, :40]) - 40) / 30)) for frame in frames_of(tmp_path / "a.avi")]
    assert shades == [0, 1, 2, *[3] * 30, 4, 5]


def test_a_frame_that_comes_a_slot_early_is_kept(tmp_path: Path) -> None:
    """Times of a variable rate lie around the slots."""
    video = AnnotatedVideo(tmp_path / "a.avi")
    origin = Origin("clip.mp4", 10.0)
    for index, time_s in enumerate([0.0, 0.1, 0.14, 0.3, 0.5]):
        video.write(annotated(index, origin=origin, time_s=time_s, grey=40 + 30 * index))
    video.close()
    shades = [int(np.round((np.median(frame[:40, :40]) - 40) / 30)) for frame in frames_of(tmp_path / "a.avi")]
    assert shades == [0, 1, 2, 3, 3, 4]


def test_a_camera_s_video_has_the_rate_that_the_camera_tells(tmp_path: Path) -> None:
    """Its second frame may come at once after the first, which had to wait for the driver."""
    video = AnnotatedVideo(tmp_path / "a.avi")
    for index, time_s in enumerate([0.0, 0.01, 0.1]):
        video.write(annotated(index, origin=Origin("camera 0", 10.0, True), time_s=time_s))
    assert "600x400, 10 fps" in video.close()[0]


def test_a_card_that_tells_no_capitals_holds_both_pictures(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path, [ImageFile(Path("a/photo.png")), ImageFile(Path("b/Photo.png"))])
    assert list(folder.names.values()) == ["photo.png", "Photo-2.png"]


def test_a_video_of_one_frame(tmp_path: Path) -> None:
    video = AnnotatedVideo(tmp_path / "a.avi")
    video.write(annotated(0))
    assert "30 fps" in video.close()[0] and len(frames_of(tmp_path / "a.avi")) == 1


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    picture = annotated(origin=Origin(name))
    for _ in range(2):  # the second time it knows its own files
        folder = sink(tmp_path / "out", sources=[ImageFile(Path(name))])
        folder.write(picture)
        folder.close()
    assert (tmp_path / "out" / name).is_file()
    table = sink(tmp_path / "a.csv")
    table.write(picture)
    table.close()
    assert b"caf\xe9.jpg,0" in (tmp_path / "a.csv").read_bytes()


def test_a_video_of_a_source_that_changes_its_size(tmp_path: Path) -> None:
    video = AnnotatedVideo(tmp_path / "a.avi")
    origin = Origin("rtsp://x/y", 30.0, True)
    video.write(annotated(0, origin=origin))
    smaller = annotated(1, origin=origin).result
    frame = Frame(origin, 1, 1 / 30, np.full((401, 501, 3), 200, np.uint8))
    video.write(Annotated(Result(frame, smaller.poses, smaller.confidence, (1,)), Painter(0.1)))
    video.close()
    assert [frame.shape for frame in frames_of(tmp_path / "a.avi")] == [SIZE, SIZE]


def test_videos_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"holds one video: name one video or camera as the source"):
        sink(tmp_path / "a.mp4", sources=open_sources(["clip.mp4", "other.mp4"]))
    with pytest.raises(BadInputError, match=r"holds one video"):
        sink(tmp_path / "a.mp4", sources=open_sources(["photo.jpg"]))


def test_a_folder_takes_pictures_and_videos(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sources = open_sources(["a/clip.mov", "b/clip.mp4", "photo.tif"])
    folder = open_sink(out, Runner(FixedEngine()), sources)
    for source in sources:
        origin = Origin(source.origin.name, 30.0 if source.origin.moving else None)
        for index in range(3 if origin.moving else 1):
            folder.write(annotated(index, origin=origin))
    told = folder.close()
    assert sorted(path.name for path in out.iterdir()) == [".rtmw-edge", "clip-2.mp4", "clip.mp4", "photo.png"]
    assert len(frames_of(out / "clip-2.mp4")) == 3 and len(told) == 3 and told[-1] == f"pictures: {out}"
    again = PictureFolder(out, sources)
    again.write(annotated(0, origin=Origin("a/clip.mov", 30.0)))
    again.close()
    assert len(frames_of(out / "clip.mp4")) == 1


def test_a_window_needs_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tkinter")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(
        NotAvailableError, match="There is no display for --show: run it on a desktop, or use --serve 8080"
    ):
        Window(lambda: None)


def test_a_window_needs_tk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tkinter", None)
    with pytest.raises(NotAvailableError, match="--show needs Tk, which this Python has not: apt install python3-tk"):
        Window(lambda: None)
