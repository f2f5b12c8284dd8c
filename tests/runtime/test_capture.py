"""What OpenCV opens, in the spelling of each of its versions, and why it does not."""

from __future__ import annotations

import types
from pathlib import Path

import cv2
import pytest

from rtmw_edge.runtime.frames import Failure
from rtmw_edge.runtime.sources import capture
from rtmw_edge.runtime.sources.video import VideoFile


@pytest.mark.parametrize("version", ["4.11", "5.0"])
def test_opencv_is_silenced_as_its_version_spells_it(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    told: list[int] = []
    if version == "4.11":
        monkeypatch.setattr(cv2, "setLogLevel", told.append, raising=False)
        monkeypatch.delattr(cv2.utils, "logging", raising=False)
    else:
        monkeypatch.delattr(cv2, "setLogLevel", raising=False)
        monkeypatch.setattr(cv2.utils, "logging", types.SimpleNamespace(setLogLevel=told.append), raising=False)
    assert capture.open_capture("nothing.mp4") is None and told == [0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("http://127.0.0.1:9/x.mp4", "Cannot read http://127.0.0.1:9/x.mp4 as a video: nothing answers there, or"),
        ("text.mp4", "as a video: it is damaged, cut off before its index, or of an unknown format."),
        ("secret.mp4", "secret.mp4: Permission denied."),
    ],
)
def test_why_a_video_does_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    if "://" not in name:
        (tmp_path / name).write_text("no video")
        name = str(tmp_path / name)
    # Whoever may read everything, as in a container, is asked no permission.
    monkeypatch.setattr("os.access", lambda path, mode: "secret" not in str(path))
    (failure,) = VideoFile(name)
    assert isinstance(failure, Failure) and text in failure.reason
