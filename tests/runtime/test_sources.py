"""Sources: what a name means, and what videos, cameras and pipes give, whole or broken."""

from __future__ import annotations

import logging
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import file_server
import numpy as np
import pytest
import video_files
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError, NotAvailableError
from rtmw_edge.runtime.frames import Failure, Frame, Origin
from rtmw_edge.runtime.sources import PictureFormat, open_sources
from rtmw_edge.runtime.sources.addresses import without_password
from rtmw_edge.runtime.sources.images import ImageFile
from rtmw_edge.runtime.sources.lengths import is_cut_off
from rtmw_edge.runtime.sources.raw import RawFrames
from rtmw_edge.runtime.sources.streams import LiveStream
from rtmw_edge.runtime.sources.video import VideoFile


def frames(source: Any) -> tuple[list[Frame], list[str]]:
    """All frames of a source that ends, and the reasons of its failures."""
    items = list(source)
    return [item for item in items if isinstance(item, Frame)], [i.reason for i in items if isinstance(i, Failure)]


def kinds(names: list[Any], **options: Any) -> list[tuple[str, str, bool]]:
    """Class, name and liveness of what `names` open."""
    return [(type(s).__name__, s.origin.name, s.origin.live) for s in open_sources(names, **options)]


def test_what_a_name_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.MP4", "c.txt", "7"):
        Path(name).touch()
    assert kinds(["."]) == [("ImageFile", "a.jpg", False), ("VideoFile", "b.MP4", False)]
    assert kinds(["*.*", "a.jpg"]) == [
        ("ImageFile", "a.jpg", False),
        ("VideoFile", "b.MP4", False),
        ("ImageFile", "c.txt", False),
    ]
    assert kinds(["7"]) == [("ImageFile", "7", False)], "a file of that name is no camera"
    assert kinds(["0"]) == [("LiveStream", "camera 0", True)]
    Path("1").mkdir()
    Path("1/d.png").touch()
    assert kinds(["1"]) == [("ImageFile", "1/d.png", False)], "nor is a folder"
    assert kinds(["/dev/shm/none.png"]) == [("ImageFile", "/dev/shm/none.png", False)], "nor is a place in memory"
    assert kinds(["/dev/v4l/by-id/usb-x"]) == [("LiveStream", "/dev/v4l/by-id/usb-x", True)]
    assert kinds(["/dev/video9"]) == [("LiveStream", "/dev/video9", True)]
    assert kinds(["rtsp://me:secret@10.0.0.2:554/a"]) == [("LiveStream", "rtsp://10.0.0.2:554/a", True)]
    assert kinds(["http://10.0.0.2/clip.mp4"]) == [("VideoFile", "http://10.0.0.2/clip.mp4", False)]
    assert kinds(["http://10.0.0.2/clip.mp4"], live=True)[0][0] == "LiveStream"
    assert kinds(["http://10.0.0.2/stream"], live=False)[0][0] == "VideoFile"
    assert kinds(["-"], raw=PictureFormat(4, 4)) == [("RawFrames", "stdin", False)]
    assert kinds(["-"], raw=PictureFormat(4, 4), live=True) == [("RawFrames", "stdin", True)]


def test_a_file_of_pictures_without_times_is_a_video_and_an_address_of_them_a_camera(tmp_path: Path) -> None:
    path = tmp_path / "clip.mjpeg"
    path.write_bytes(b"".join(cv2.imencode(".jpg", video_files.picture(index))[1].tobytes() for index in range(3)))
    assert kinds([tmp_path]) == [("VideoFile", str(path), False)]
    found, failed = frames(*open_sources([path]))
    assert [frame.time_s for frame in found] == pytest.approx([0, 0.04, 0.08]) and failed == []
    assert kinds([tmp_path / "a.H264"]) == [("VideoFile", str(tmp_path / "a.H264"), False)]
    assert kinds(["http://10.0.0.2/video.mjpg"]) == [("LiveStream", "http://10.0.0.2/video.mjpg", True)]


@pytest.mark.parametrize(
    ("names", "raw", "text"),
    [
        ([], None, "There is nothing to run on: name an image, a folder, a video, a camera"),
        (["-"], None, "Frames on stdin need their format: add --raw 640x480@30:bgr24"),
        (["0", "a.jpg"], None, "camera 0 has no end, so nothing can run beside it"),
        (["a.jpg"], PictureFormat(4, 4), "--raw tells the format of frames on stdin: name - as the source"),
        (["file:///etc/passwd"], None, "Unknown kind of address 'file://'"),
        (["concat://a"], None, "Unknown kind of address 'concat://'"),
        (
            ["https://h/a.mp4?key=1", "https://h/a.mp4?key=2"],
            None,
            r"Two sources are https://h/a\.mp4\?key=\.\.\. but for their passwords or keys",
        ),
    ],
)
def test_names_that_mean_nothing(names: list[str], raw: PictureFormat | None, text: str) -> None:
    with pytest.raises(BadInputError, match=text):
        open_sources(names, raw=raw)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://a:b@c:1/d?e=f", "rtsp://c:1/d?e=f"),
        ("rtsp://admin:p@ss@c:1/x", "rtsp://c:1/x"),
        ("rtsp://admin:pa#ss@c:1/x", "rtsp://c:1/x"),
        ("rtsp://admin:p/a?s@s@c/x", "rtsp://c/x"),
        ("http://c:8080/clip@2x.mp4", "http://c:8080/clip@2x.mp4"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("http://c/v?user=me&password=s3cret&fps=5", "http://c/v?user=...&password=...&fps=5"),
        ("rtsp://c/user=me_password=s3cret_channel=1", "rtsp://c/user=..._password=..._channel=1"),
        ("http://c/v?password=my_s3cret_pw&x=1&apikey=abc", "http://c/v?password=...&x=1&apikey=..."),
        ("http://c/keyframe=2?monkey=3", "http://c/keyframe=2?monkey=3"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_passwords_are_not_shown(address: str, shown: str) -> None:
    assert without_password(address) == shown


@pytest.mark.parametrize(
    ("name", "live", "stem"),
    [
        ("a/clip.v2.mp4", False, "clip.v2"),
        ("a.b/photo", False, "photo"),
        ("camera 0", True, "camera-0"),
        ("rtsp://h:5/live", True, "h-5-live"),
        ("/dev/video0", True, "dev-video0"),
    ],
)
def test_what_is_written_about_a_source_has_its_name(name: str, live: bool, stem: str) -> None:
    assert Origin(name, 30.0, live).stem == stem


def test_a_video_in_order_and_in_time(tmp_path: Path) -> None:
    found, failed = frames(VideoFile(str(video_files.write_video(tmp_path / "a.mp4"))))
    assert failed == [] and [frame.index for frame in found] == list(range(12))
    assert [frame.time_s for frame in found] == pytest.approx([index / 30 for index in range(12)], abs=1e-4)
    assert found[0].origin.fps == 30 and found[3].name.endswith("a.mp4#3") and found[0].read_ms > 0
    for frame in found:
        assert np.abs(frame.image[-1, -1].astype(int) - video_files.picture(frame.index)[-1, -1]).max() <= 4


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_a_turned_video_comes_upright(tmp_path: Path, degrees: int, corner: tuple[int, int]) -> None:
    """The red corner, upper left as stored, goes where a player shows it."""
    path = video_files.write_video(tmp_path / "a.mp4")
    path.write_bytes(video_files.turned(path.read_bytes(), degrees))
    image = frames(VideoFile(str(path)))[0][0].image
    assert image.shape[:2] == ((48, 64) if degrees == 180 else (64, 48))
    row, column = (3 if place == 0 else -4 for place in corner)
    assert image[row, column, 2] > 200 > 100 > image[row, column, 0]


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    path = video_files.write_video(tmp_path / "a.mp4")
    durations = [1, 2, 1, 5, 1, 1, 9, 1, 1, 3, 1, 1]
    path.write_bytes(video_files.with_durations(path.read_bytes(), durations))
    found, failed = frames(VideoFile(str(path)))
    starts = np.cumsum([0, *durations])[:-1] / 30
    assert failed == [] and [frame.time_s for frame in found] == pytest.approx(starts, abs=1e-3)


def test_a_cut_off_video_gives_what_it_has(tmp_path: Path) -> None:
    path = video_files.write_video(tmp_path / "a.mkv", frames=60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    found, failed = frames(VideoFile(str(path)))
    assert 10 < len(found) < 60
    (reason,) = failed
    assert f"{path} breaks off after {len(found)} frames, " in reason and "what came before it is done" in reason


def test_a_last_picture_that_stays_is_no_lost_tail(tmp_path: Path) -> None:
    path = video_files.write_video(tmp_path / "a.mp4")
    path.write_bytes(video_files.with_durations(path.read_bytes(), [1] * 11 + [60]))
    found, failed = frames(VideoFile(str(path)))
    assert len(found) == 12 and failed == []


def test_sound_that_goes_on_longer_is_no_lost_tail(tmp_path: Path) -> None:
    """A Matroska file tells the length of its longest track, and counts no frames."""
    path = video_files.write_video(tmp_path / "a.mkv", frames=30)
    data = path.read_bytes()
    place = data.index(b"\x44\x89\x88") + 3  # Duration, a float64 of milliseconds
    (length,) = struct.unpack(">d", data[place : place + 8])
    assert length == pytest.approx(1000, abs=40)
    path.write_bytes(data[:place] + struct.pack(">d", length + 3000) + data[place + 8 :])
    found, failed = frames(VideoFile(str(path)))
    assert len(found) == 30 and failed == []
    whole = path.read_bytes()
    for damaged in (whole[:-200], whole[:-2000] + bytes(2000)):
        path.write_bytes(damaged)
        assert len(frames(VideoFile(str(path)))[1]) == 1, "but bytes are missing now"
    for odd in (b"", whole[:4], whole[:44], whole[:4] + b"\xff" * 300):
        path.write_bytes(odd)
        assert is_cut_off(path) is None or odd in whole
    os.mkfifo(tmp_path / "pipe")
    assert is_cut_off(tmp_path / "pipe") is None


def test_sound_of_a_flash_video_that_goes_on_longer_is_no_lost_tail(tmp_path: Path) -> None:
    """Its head tells the length of what is longest, and every tag is followed by its own size."""
    path = video_files.write_video(tmp_path / "a.flv", frames=30, codec="FLV1")
    data = path.read_bytes()
    place = data.index(b"duration\0") + 9  # a float64 of seconds
    (length,) = struct.unpack(">d", data[place : place + 8])
    assert length == pytest.approx(1, abs=0.1)
    whole = data[:place] + struct.pack(">d", length + 3) + data[place + 8 :]
    path.write_bytes(whole)
    found, failed = frames(VideoFile(str(path)))
    assert len(found) == 30 and failed == []
    for damaged in (whole[:-200], whole[:-2000] + bytes(2000)):
        path.write_bytes(damaged)
        assert len(frames(VideoFile(str(path)))[1]) == 1, "but bytes are missing now"


@pytest.mark.parametrize(
    ("boxes", "lost"),
    [
        ([b"ftyp", b"moov", b"moof", b"mdat", b"mfra"], False),
        ([b"ftyp", b"moov", b"moof", b"mdat", b"cut off"], True),
        ([b"ftyp", b"moov", b"moof", b"mdat", b"reserved"], True),
        ([b"ftyp", b"moov", b"moof", b"large", b"to the end"], False),
        ([b"ftyp", b"moov", b"mdat"], True),  # it counts its frames, and these say that some are missing
    ],
)
def test_the_boxes_of_a_video_in_fragments_tell_whether_its_tail_is_lost(
    tmp_path: Path, boxes: list[bytes], lost: bool
) -> None:
    odd = {
        b"cut off": b"\0\0\0\x40mdat" + bytes(20),
        b"reserved": bytes(64),
        b"large": b"\0\0\0\1mdat" + (24).to_bytes(8, "big") + bytes(8),
        b"to the end": b"\0\0\0\0mdat" + bytes(50),
    }
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"".join(odd.get(box, b"\0\0\0\x10" + box + bytes(8)) for box in boxes))
    found, reasons = frames(VideoFile(str(path))._frames(Clip(list(np.arange(20) / 10), 50)))  # type: ignore[arg-type]
    assert len(found) == 20 and bool(reasons) is lost


@pytest.mark.parametrize(
    ("head", "lost"),
    [
        (b"\x47" + bytes(187) + b"\x47", False),  # MPEG transport stream
        (bytes(4) + b"\x47" + bytes(191) + b"\x47", False),  # the same as cameras write it
        (b"\0\0\1\xba", False),  # MPEG program stream
        (b"OggS", False),
        (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), False),  # WMV
        (b"\0\0\0\x1cftypisom", True),
        (b"\x47" + bytes(300), True),
    ],
)
def test_a_format_whose_length_is_that_of_what_is_there_lacks_no_tail(tmp_path: Path, head: bytes, lost: bool) -> None:
    """Half of such a file is whole, and one that seems longer than its pictures has longer sound."""
    path = tmp_path / "clip"
    path.write_bytes(head + bytes(300))
    found, reasons = frames(VideoFile(str(path))._frames(Clip(list(np.arange(20) / 10), 50)))  # type: ignore[arg-type]
    assert len(found) == 20 and bool(reasons) is lost


def test_a_colon_in_a_name_makes_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    video_files.write_video(tmp_path / "a.mp4").rename("2026-11-27T10:20:30.mp4")
    found, failed = frames(VideoFile("2026-11-27T10:20:30.mp4"))
    assert len(found) == 12 and failed == []


def test_videos_that_give_nothing(tmp_path: Path) -> None:
    path = video_files.write_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:1000])
    assert "Cannot read " in frames(VideoFile(str(path)))[1][0]
    (tmp_path / "empty.mp4").touch()
    assert "cut off before its index" in frames(VideoFile(str(tmp_path / "empty.mp4")))[1][0]
    assert frames(VideoFile(str(tmp_path / "none.mp4")))[1] == [
        f"There is no video {tmp_path / 'none.mp4'}: check the path."
    ]


def test_an_mp4_of_a_server_that_sends_no_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python's http.server: what is not damaged is not called so."""
    path, rng = tmp_path / "a.mp4", np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 30, (320, 240))
    for _ in range(30):
        writer.write(rng.integers(0, 256, (240, 320, 3), np.uint8))
    writer.release()
    with file_server.serving(path.read_bytes(), monkeypatch) as server:
        server.ranges = False
        found, reasons = frames(VideoFile(f"http://127.0.0.1:{server.server_port}/a.mp4"))
    assert not found and len(reasons) == 1
    assert reasons[0].endswith(
        "it is damaged, or an MP4 with its index at its end, of a server that sends no parts: download it first."
    )


def test_an_image_and_one_that_is_not(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((5, 7, 3), 9, np.uint8))
    (frame,), failed = frames(ImageFile(tmp_path / "a.png"))
    assert frame.image.shape == (5, 7, 3) and not frame.origin.moving and frame.name.endswith("a.png") and not failed
    assert "There is no image" in frames(ImageFile(tmp_path / "b.png"))[1][0]


@pytest.mark.parametrize("pixels", ["bgr24", "rgb24", "gray", "yuv420p", "nv12"])
def test_raw_frames_of_every_layout(tmp_path: Path, pixels: str) -> None:
    image = np.full((4, 6, 3), (40, 90, 200), np.uint8)
    image[2:] = (200, 60, 30)
    data = {
        "bgr24": image,
        "rgb24": image[..., ::-1],
        "gray": cv2.cvtColor(image, cv2.COLOR_BGR2GRAY),
        "yuv420p": cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420),
    }
    planes = data["yuv420p"]
    # NV12 is the same with its two colour planes interleaved.
    colours = planes[4:].reshape(2, -1).T.reshape(2, 6)
    data["nv12"] = np.concatenate([planes[:4], colours])
    raw = np.ascontiguousarray(data[pixels]).tobytes() * 3
    (tmp_path / "raw").write_bytes(raw)
    found, failed = frames(RawFrames(tmp_path / "raw", PictureFormat(6, 4, 10, pixels)))
    assert len(found) == 3 and failed == [] and [frame.time_s for frame in found] == pytest.approx([0, 0.1, 0.2])
    wanted = np.repeat(data["gray"][..., None], 3, axis=2) if pixels == "gray" else image
    assert np.abs(found[2].image.astype(int) - wanted).max() <= (0 if "24" in pixels or pixels == "gray" else 4)


def test_raw_frames_that_end_too_early(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(bytes(100))
    found, failed = frames(RawFrames(path, PictureFormat(4, 4)))
    assert len(found) == 2 and failed == [
        "stdin ended within frame 2, which has 4 of 48 bytes: check --raw against what writes the frames."
    ]
    path.write_bytes(b"")
    assert len(frames(RawFrames(path, PictureFormat(4, 4)))[1]) == 1


def test_raw_frames_come_through_a_pipe_in_pieces() -> None:
    read, write = os.pipe()
    feeder = threading.Thread(target=lambda: [os.write(write, bytes([k]) * 20) for k in range(12)] + [os.close(write)])
    feeder.start()
    found, failed = frames(RawFrames(read, PictureFormat(4, 4)))
    feeder.join()
    os.close(read)
    assert len(found) == 5 and failed == [] and found[1].image.ravel()[:12].tolist() == [2] * 12


def test_formats() -> None:
    assert PictureFormat.parse("640x480@29.97:yuv420p") == PictureFormat(640, 480, 29.97, "yuv420p")
    assert PictureFormat.parse("640x480") == PictureFormat(640, 480, 30.0, "bgr24")
    assert PictureFormat(6, 4, pixels="nv12").size == 36


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("640", "write WxH@FPS:PIXELS, as in 640x480@30:bgr24"),
        ("0x480@30", "is out of range: at most 16384x16384@1000"),
        ("64x48@30:brg24", "Unknown pixel format 'brg24'; did you mean "),
        ("63x48@30:nv12", "frames of nv12 have an even width and height"),
    ],
)
def test_formats_that_cannot_be(text: str, why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        PictureFormat.parse(text)


class Camera:
    """A camera that gives so many frames and is gone then."""

    def __init__(self, frames: int) -> None:
        self._left, self.released = frames, False

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        self._left -= 1
        return (True, np.zeros((4, 4, 3), np.uint8)) if self._left >= 0 else (False, None)

    def get(self, what: int) -> float:
        return 25.0

    def release(self) -> None:
        self.released = True


def test_a_lost_camera_comes_back(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("rtmw_edge.runtime.sources.streams.FIRST_WAIT_S", 0.02)
    monkeypatch.setattr("rtmw_edge.runtime.sources.streams.NAP_S", 0.01)
    cameras: Iterator[Camera | None] = iter([Camera(3), None, None, Camera(2)])
    opened: list[Camera | None] = []

    def opener(*_: object) -> Any:
        opened.append(next(cameras))
        return opened[-1]

    stream = iter(LiveStream(0, None, opener))
    with caplog.at_level(logging.WARNING):
        found = []
        while len(found) < 5:
            item = next(stream)
            if isinstance(item, Frame):
                found.append(item)
    assert [frame.index for frame in found] == [0, 1, 2, 3, 4] and found[0].origin.fps == 25
    assert "camera 0 was lost after 3 frames; trying to reach it again." in caplog.text
    assert "camera 0 is back after 0." in caplog.text
    stream.close()  # type: ignore[attr-defined]
    assert all(camera.released for camera in opened if camera)


def test_a_camera_that_opens_and_gives_nothing_is_tried_less_and_less(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cameras = iter([Camera(2), *(Camera(0) for _ in range(6)), Camera(1), Camera(1)])
    opened: list[float] = []
    clock = [0.0]
    times = SimpleNamespace(perf_counter=lambda: clock[0], sleep=lambda s: clock.__setitem__(0, clock[0] + s))
    monkeypatch.setattr("rtmw_edge.runtime.sources.streams.time", times)

    def opener(*_: object) -> Any:
        opened.append(clock[0])
        return next(cameras)

    with caplog.at_level(logging.WARNING):
        found = 0
        for item in LiveStream(0, None, opener):
            found += item is not None
            if found == 4:
                break
    # Ten seconds are the longest, and when it was back it is tried soon again.
    assert np.diff(opened) == pytest.approx([0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 0.5], abs=0.11)
    words = ["camera 0 was lost af", "camera 0 is back aft"]
    assert [record.getMessage()[:20] for record in caplog.records] == words * 2


class Clip(Camera):
    """A video of 10 frames a second whose frames have these times; `count` is what its head says."""

    def __init__(self, times: Sequence[float], count: int) -> None:
        super().__init__(len(times))
        self._times, self._count = iter(times), count

    def get(self, what: int) -> float:
        if what == cv2.CAP_PROP_POS_MSEC:
            return 1000 * next(self._times)
        return self._count if what == cv2.CAP_PROP_FRAME_COUNT else 10.0


def test_a_video_that_opencv_opens_and_cannot_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not damaged is not called so."""
    fourcc = float(cv2.VideoWriter.fourcc(*"AV01"))
    monkeypatch.setattr(Clip, "get", lambda _, what: fourcc if what == cv2.CAP_PROP_FOURCC else 10.0)
    assert frames(VideoFile("phone.mp4")._frames(Clip([], 20))) == (  # type: ignore[arg-type]
        [],
        [
            "There is no readable frame in phone.mp4: it is damaged, or OpenCV cannot decode AV1 here: make it H.264 "
            "with ffmpeg."
        ],
    )


def test_times_that_a_video_does_not_tell_follow_its_rate() -> None:
    found, reasons = frames(VideoFile("clip.mp4")._frames(Clip([0, 0, 0.05, 0.4, 0.4], 5)))  # type: ignore[arg-type]
    assert [frame.time_s for frame in found] == pytest.approx([0, 0.1, 0.2, 0.4, 0.5]) and not reasons


@pytest.mark.parametrize(
    ("times", "count", "lost"),
    [
        ([*np.arange(13) / 10, 1.4], 20, ""),  # the last one stays until 1.5, half a second before the end
        ([*np.arange(13) / 10, 1.3], 20, "0.6 s before its end"),
        (np.arange(985) / 10, 1000, ""),  # of a long one a fiftieth may be missing
        (np.arange(975) / 10, 1000, "2.5 s before its end"),
    ],
)
def test_a_tail_is_lost_from_half_a_second_and_a_fiftieth_on(times: Sequence[float], count: int, lost: str) -> None:
    found, reasons = frames(VideoFile("clip.mp4")._frames(Clip(list(times), count)))  # type: ignore[arg-type]
    assert len(found) == len(times) and bool(reasons) is bool(lost) and all(lost in reason for reason in reasons)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (0, "There is no camera 0 here, or another program has it: check the cable, and ls /dev/video"),
        ("rtsp://me:secret@localhost/x", "Cannot reach rtsp://localhost/x: check the address, the network"),
    ],
)
def test_a_camera_that_is_not_there(target: int | str, text: str) -> None:
    with pytest.raises(NotAvailableError, match=text):
        next(iter(LiveStream(target, None, lambda *_: None)))
