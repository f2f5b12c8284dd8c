"""`rtmw-edge run` on real files: what it writes, what it refuses, and that one bad image never stops the others."""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtmw_edge.keypoints import NAMES
from rtmw_edge.poses import Poses
from rtmw_edge.runtime.onnx_session import session_options

WHOLE = ("--detector", "none")
"""The tiny network finds crosses, which the builtin detector does not take for people."""


def cross(x: int = 110, y: int = 190, width: int = 300, height: int = 400) -> NDArray[np.uint8]:
    """A dark image with a bright cross at (x, y), which all keypoints of the tiny network find."""
    image = np.full((height, width, 3), 20, np.uint8)
    image[max(y - 2, 0) : y + 3] = 200
    image[:, max(x - 2, 0) : x + 3] = 200
    return image


@pytest.fixture()
def photos(tmp_path: Path) -> Path:
    """A folder of two photographs."""
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.jpg"), cross())
    cv2.imwrite(str(folder / "b.png"), cross(200, 90))
    return folder


def people(path: Path, image: int = 0) -> list[dict[str, Any]]:
    """The people of one image of a written document."""
    return json.loads(path.read_text())["images"][image]["people"]


def test_poses_and_pictures(cli: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path) -> None:
    done = cli(
        "run",
        tiny_bundle,
        *WHOLE,
        photos,
        "--json",
        tmp_path / "poses.json",
        "--save",
        tmp_path / "out",
        "--threads",
        1,
    )
    assert done.code == 0 and done.err == ""
    assert f"{photos / 'a.jpg'}  1 person" in done.out and " ms" in done.out
    assert "2 images, " in done.out and "(median) on ONNX Runtime, cpu" in done.out
    assert f"pictures: {tmp_path / 'out'}" in done.out and f"poses: {tmp_path / 'poses.json'}" in done.out
    document = json.loads((tmp_path / "poses.json").read_text())
    assert (document["format"], document["version"], document["failed"]) == ("rtmw-edge poses", 1, [])
    assert document["model"] == {"variant": "tiny", "target": "onnx", "precision": "fp32", "runtime": "ONNX Runtime"}
    assert document["keypoint_names"] == list(NAMES)
    first = document["images"][0]
    assert (first["file"], first["width"], first["height"]) == (str(photos / "a.jpg"), 300, 400)
    (person,) = first["people"]
    assert person["box"] == [0, 0, 300, 400] and person["box_score"] == 1
    points = np.array(person["keypoints"])
    assert points.shape == (133, 3) and np.abs(points[:, :2] - [110, 190]).max() < 8
    assert (points[:, 2] > 0).all() and (points[:, 2] <= 1).all() and 0 < person["score"] <= 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".rtmw-edge", "a.jpg", "b.png"]
    drawn = cv2.imread(str(tmp_path / "out" / "b.png"))
    assert drawn.shape == (400, 300, 3) and not np.array_equal(drawn, cross(200, 90))


def test_nothing_kept_is_said(cli: Callable[..., Any], tiny_bundle: Path, photos: Path) -> None:
    done = cli("run", tiny_bundle, *WHOLE, photos / "a.jpg")
    assert done.code == 0 and "Nothing was kept: add --save DIR for pictures, --json FILE for the poses." in done.out


def test_boxes(cli: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"a.jpg": [[60, 80, 180, 280, 0.5], [0, 0, 300, 400]]}))
    out = tmp_path / "poses.json"
    done = cli("run", tiny_bundle, photos, "--boxes", boxes, "--json", out)
    assert done.code == 0
    assert "a.jpg  2 people" in done.out and f"(not in {boxes})" in done.out.splitlines()[1]
    assert "b.png  0 people  " in done.out
    assert [person["box_score"] for person in people(out, 0)] == [0.5, 1] and people(out, 1) == []


def test_a_bad_image_is_named_and_the_rest_goes_on(
    cli: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "aa-broken.jpg").write_bytes((photos / "a.jpg").read_bytes()[:200])
    (photos / "ab-empty.png").touch()
    out, missing = tmp_path / "poses.json", photos / "none.jpg"
    done = cli("run", tiny_bundle, *WHOLE, photos, missing, "--json", out)
    assert done.code == 2
    assert f"Cannot decode {photos / 'aa-broken.jpg'} as an image" in done.err
    assert f"Cannot decode {photos / 'ab-empty.png'} as an image" in done.err
    assert f"error: There is no image {missing}" in done.err
    assert "3 of 5 images could not be used: aa-broken.jpg, ab-empty.png, none.jpg; the others are done." in done.err
    document = json.loads(out.read_text())
    assert [Path(image["file"]).name for image in document["images"]] == ["a.jpg", "b.png"]
    assert [Path(failure["file"]).name for failure in document["failed"]] == [
        "aa-broken.jpg",
        "ab-empty.png",
        "none.jpg",
    ]


def test_a_box_outside_one_image_fails_that_image(
    cli: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"a.jpg": [[900, 900, 950, 950]], "b.png": [[0, 0, 300, 400]]}))
    done = cli("run", tiny_bundle, photos, "--boxes", boxes)
    assert done.code == 2
    assert f"{photos / 'a.jpg'}: Box 0 (900, 900, 950, 950) lies wholly outside the 300x400 image" in done.err
    assert "b.png  1 person" in done.out


def test_every_kind_of_image(cli: Callable[..., Any], tiny_bundle: Path, tmp_path: Path) -> None:
    """Grey, 16 bits and alpha are the same picture; EXIF turns it; one pixel is an image too."""
    folder, image = tmp_path / "kinds", cross()
    folder.mkdir()
    cv2.imwrite(str(folder / "alpha.png"), np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]))
    cv2.imwrite(str(folder / "deep.png"), image.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "grey.png"), image[..., 0])
    cv2.imwrite(str(folder / "plain.png"), image)
    # Orientation 6: the camera lay on its side, and the viewer turns the stored picture clockwise.
    _, turned = cv2.imencode(".jpg", cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE), [cv2.IMWRITE_JPEG_QUALITY, 100])
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    exif = b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\x00\x00" + tiff
    (folder / "turned.jpg").write_bytes(turned.tobytes()[:2] + exif + turned.tobytes()[2:])
    cv2.imwrite(str(folder / "x1.png"), np.full((1, 1, 3), 200, np.uint8))
    lying = cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)
    for name, picture in {
        "y-alpha.png": np.dstack([lying, np.full(lying.shape[:2], 255, np.uint8)]),
        "y-deep.png": lying.astype(np.uint16) * 257,
        "y-both.png": np.dstack([lying, np.full(lying.shape[:2], 255, np.uint8)]).astype(np.uint16) * 257,
    }.items():
        png = cv2.imencode(".png", picture)[1].tobytes()
        chunk = b"eXIf" + tiff
        chunk = len(tiff).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        (folder / name).write_bytes(png[:33] + chunk + png[33:])
    done = cli("run", tiny_bundle, *WHOLE, folder, "--json", tmp_path / "poses.json", "--save", tmp_path / "out")
    assert done.code == 0
    plain = np.array(people(tmp_path / "poses.json", 3)[0]["keypoints"])
    for index, name in enumerate(["alpha", "deep", "grey"]):
        assert np.array_equal(np.array(people(tmp_path / "poses.json", index)[0]["keypoints"]), plain), name
    upright = np.array(people(tmp_path / "poses.json", 4)[0]["keypoints"])
    assert np.abs(upright[:, :2] - [110, 190]).max() < 8
    assert json.loads((tmp_path / "poses.json").read_text())["images"][4]["height"] == 400
    assert len(people(tmp_path / "poses.json", 5)) == 1
    for index in (6, 7, 8):
        assert np.array_equal(np.array(people(tmp_path / "poses.json", index)[0]["keypoints"]), plain), index


def test_a_second_run_replaces_its_own(
    cli: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("run", tiny_bundle, *WHOLE, photos, "--save", out, "--json", tmp_path / "p.json")
    assert cli(*arguments).code == 0
    first = (out / "a.jpg").stat().st_ino
    assert cli(*arguments).code == 0
    assert (out / "a.jpg").stat().st_ino != first and len(list(out.iterdir())) == 3


def test_images_of_one_name_from_two_folders(
    cli: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("a.jpg", "b.tif"):
        cv2.imwrite(str(other / name), cross())
    assert cli("run", tiny_bundle, *WHOLE, photos, other, "--save", tmp_path / "out").code == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*")) == [
        ".rtmw-edge", "a-2.jpg", "a.jpg", "b-2.png", "b.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (lambda out: (out.mkdir(), (out / "thesis.tex").touch()), "it is not empty and not a folder of this command"),
        (lambda out: (out.mkdir(), (out / ".rtmw-edge").write_text("x"), (out / "x").touch()), "it is not empty and"),
        (lambda out: out.touch(), "it is a file. Choose another --save"),
    ],
)
def test_a_folder_that_holds_something_else(
    cli: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path, prepare: Callable[[Path], Any], text: str
) -> None:
    out = tmp_path / "out"
    prepare(out)
    before = sorted(tmp_path.rglob("*"))
    done = cli("run", tiny_bundle, *WHOLE, photos, "--save", out)
    assert done.code == 2 and text in done.err and done.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_the_sources_are_never_overwritten(cli: Callable[..., Any], tiny_bundle: Path, photos: Path) -> None:
    original = (photos / "a.jpg").read_bytes()
    assert cli("run", tiny_bundle, *WHOLE, photos, "--save", photos).code == 2
    assert (photos / "a.jpg").read_bytes() == original


def test_a_picture_that_someone_put_into_the_folder(
    cli: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert cli("run", tiny_bundle, *WHOLE, photos / "a.jpg", "--save", out).code == 0
    (out / "b.png").write_bytes(b"mine")
    done = cli("run", tiny_bundle, *WHOLE, photos, "--save", out)
    assert done.code == 2 and f"Refusing to overwrite '{out / 'b.png'}': this command did not write it" in done.err
    assert (out / "b.png").read_bytes() == b"mine"


def test_json_over_something_else(cli: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text('{"a.jpg": []}')
    done = cli("run", tiny_bundle, photos, "--boxes", boxes, "--json", boxes)
    assert done.code == 2 and f"Refusing to overwrite '{boxes}': it holds no poses of this tool" in done.err
    assert boxes.read_text() == '{"a.jpg": []}'
    assert "it is a folder. Name a file" in cli("run", tiny_bundle, *WHOLE, photos, "--json", photos).err
    os.mkfifo(tmp_path / "pipe.npz")
    for option in ("--json", "--save"):
        done = cli("run", tiny_bundle, *WHOLE, photos, option, tmp_path / "pipe.npz")
        assert done.code == 2 and "pipe.npz': it is a device or a pipe. Name a file." in done.err


def test_a_full_disk(
    cli: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    done = cli("run", tiny_bundle, *WHOLE, photos, "--save", tmp_path / "out")
    assert done.code == 2 and "The disk is full while writing" in done.err and "a.jpg" in done.err
    monkeypatch.undo()
    opened = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r", *rest, **more: full() if mode == "wb" else opened(self, mode, *rest, **more),
    )
    done = cli("run", tiny_bundle, *WHOLE, photos, "--json", tmp_path / "poses.json")
    assert done.code == 2 and "The disk is full while writing" in done.err
    left = [path.name for path in tmp_path.rglob("*") if path.name.startswith((".a", ".poses", "poses"))]
    assert left == []


def test_interrupted_leaves_no_half_file(
    cli: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> Poses:
        raise KeyboardInterrupt

    monkeypatch.setattr("rtmw_edge.runtime.runner.Runner.__call__", interrupt)
    done = cli("run", tiny_bundle, *WHOLE, photos, "--json", tmp_path / "poses.json", "--save", tmp_path / "out")
    assert done.code == 130
    assert not (tmp_path / "poses.json").exists() and not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "There is nothing to run on: name an image, a folder, a video, a camera (0) or an address"),
        (["PHOTOS/*.gif"], 2, "No file matches"),
        (["PHOTOS", ""], 2, "A source is empty text (an unset variable of the shell?): name what to run on."),
        (["PHOTOS", "--threshold", "0.5"], 2, "--threshold is for pictures, and none are drawn: add --save"),
        (["PHOTOS", "--draw-ids", "--save", "out"], 2, "--draw-ids is for videos and cameras, and every source is an"),
        (["PHOTOS", "--draw-ids", "--save", "a.csv"], 2, "--draw-ids is for pictures, and none are drawn"),
        (["PHOTOS", "--threshold", "5"], 2, "The threshold 5 is not a score in 0..1"),
        (["PHOTOS", "--threshold", "nan"], 2, "The threshold nan is not a score in 0..1"),
        (["PHOTOS", "--device", "cuad"], 2, "Unknown device 'cuad'; did you mean 'cuda'?"),
        (["PHOTOS", "--device", "gpu"], 3, "ONNX Runtime has no device 'gpu'"),
        (["PHOTOS", "--threads", "0"], 2, "Cannot run on 0 threads"),
        (["PHOTOS", "--boxes", "PHOTOS/none.json"], 2, "There is no boxes file"),
    ],
)
def test_bad_usage_is_one_sentence(
    cli: Callable[..., Any], tiny_bundle: Path, photos: Path, arguments: list[str], code: int, text: str
) -> None:
    done = cli("run", tiny_bundle, *WHOLE, *(argument.replace("PHOTOS", str(photos)) for argument in arguments))
    assert done.code == code and text in done.err and done.err.count("\n") == 1
    assert done.err.startswith("error: ") and "Traceback" not in done.err


def test_no_bundle(cli: Callable[..., Any], photos: Path, tmp_path: Path) -> None:
    done = cli("run", tmp_path / "nothing", photos)
    assert done.code == 2 and "There is no bundle at" in done.err and "or use 'builtin'" in done.err


def test_a_photograph_in_the_place_of_the_bundle(cli: Callable[..., Any], photos: Path) -> None:
    photo = min(photos.iterdir())
    done = cli("run", photo)
    assert done.code == 2 and f"'{photo}' is no bundle. To run the builtin model on it: rtmw-edge run" in done.err


def test_an_unknown_detector_is_told_all_that_there_are(cli: Callable[..., Any], photos: Path) -> None:
    done = cli("run", "builtin", photos, "--detector", "builtn")
    assert done.code == 2 and "Unknown detector 'builtn'; did you mean 'builtin'?" in done.err
    assert "Choose one of: builtin, none, rtmdet-nano" in done.err


def test_threads_of_the_runtime_that_wait_leave_the_cores_to_drawing(
    cli: Callable[..., Any], tiny_bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []

    def options(threads: int | None = None, *, spin: bool = True) -> Any:
        told.append(spin)
        return session_options(threads, spin=spin)

    monkeypatch.setattr("rtmw_edge.runtime.onnx_engine.session_options", options)
    monkeypatch.setattr("rtmw_edge.runtime.detectors.detector.session_options", options)
    assert cli("run", tiny_bundle, photos).code == 0
    assert told == [False, False], "those of the detector and of the model"
