"""Crop geometry against the official affine transforms, and what bad boxes, images and files are told."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtmw_edge import crops
from rtmw_edge.errors import BadInputError


@pytest.fixture(scope="module")
def affine(reference_dir: Path) -> list[dict]:
    return json.loads((reference_dir / "functions.json").read_text())["affine"]


def test_boxes_and_points_go_where_the_official_pipeline_puts_them(affine: list[dict]) -> None:
    for case in affine:
        size = tuple(case["input_size"])
        centers, scales = crops.box_to_crop([case["bbox_xyxy"]], size)
        assert centers[0] == pytest.approx(case["center"], abs=1e-4)
        assert scales[0] == pytest.approx(case["scale"], abs=1e-4)
        matrix = crops.warp_matrix(centers[0], scales[0], size)
        points = np.array(case["points"])
        inside = points @ matrix[:, :2].T + matrix[:, 2]
        assert np.abs(inside - case["transformed"]).max() < 1e-3
        assert np.abs(crops.to_image(inside[None], centers, scales, size)[0] - points).max() < 1e-3


def test_rotation_is_that_of_three_point_affine() -> None:
    """mmpose's get_warp_matrix: centre, a point half a width above it, and the third corner of the right angle."""
    center, scale, angle = np.array([70.0, 40.0]), np.array([90.0, 120.0]), np.deg2rad(30)
    up = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ [0, -scale[0] / 2]
    source = np.array([center, center + up, center + up + [up[1], -up[0]]])
    middle = np.array([96.0, 128.0])
    target = np.array([middle, (96, 128 - 96), (0, 128 - 96)])
    expected = cv2.getAffineTransform(source.astype(np.float32), target.astype(np.float32))
    assert crops.warp_matrix(center, scale, (192, 256), 30) == pytest.approx(expected, abs=1e-4)


def test_third_coordinate_is_kept() -> None:
    points = crops.to_image([[[96, 128, 0.7]]], [[10, 20]], [[75, 100]], (192, 256))
    assert points[0, 0] == pytest.approx([10, 20, 0.7])


def test_no_boxes() -> None:
    centers, scales = crops.box_to_crop(np.zeros((0, 4)), (192, 256))
    assert centers.shape == scales.shape == (0, 2)
    assert crops.to_image(np.zeros((0, 133, 2)), centers, scales, (192, 256)).shape == (0, 133, 2)


def test_crop_writes_into_the_buffer() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 48, 3), np.uint8)
    buffer = np.zeros((2, 256, 192, 3), np.uint8)
    written = crops.crop(image, (24, 32), (48, 64), (192, 256), out=buffer[1])
    assert np.shares_memory(written, buffer)
    assert np.array_equal(buffer[1], crops.crop(image, (24, 32), (48, 64), (192, 256)))
    assert not buffer[0].any()


def test_crop_is_black_outside_and_exact_at_unit_scale() -> None:
    image = np.random.default_rng(0).integers(1, 255, (256, 192, 3), np.uint8)
    assert np.array_equal(crops.crop(image, (96, 128), (192, 256), (192, 256)), image)
    shifted = crops.crop(image, (96 + 100, 128), (192, 256), (192, 256))
    assert np.array_equal(shifted[:, :92], image[:, 100:]) and not shifted[:, 92:].any()


@pytest.mark.parametrize("turned", [False, True])
def test_a_picture_too_long_for_opencv_4_is_cut_as_any_other(monkeypatch: pytest.MonkeyPatch, turned: bool) -> None:
    """OpenCV 4 refuses to warp 32,767 pixels, and OpenCV 5 takes them."""
    warp, seen = cv2.warpAffine, []
    monkeypatch.setattr(
        cv2, "warpAffine", lambda image, *rest, **more: seen.append(image) or warp(image, *rest, **more)
    )
    small = cv2.blur(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8), (5, 5))
    long = np.zeros((90, 40_000, 3), np.uint8)
    long[:, -120:] = small
    center, scale, away = np.array([80.0, 40.0]), np.array([90.0, 120.0]), np.array([40_000.0 - 120, 0])
    if turned:
        small, long = (np.ascontiguousarray(image.transpose(1, 0, 2)) for image in (small, long))
        center, away = center[::-1], away[::-1]
    wanted = crops.crop(small, center, scale, (192, 256)).astype(int)
    assert np.abs(crops.crop(long, center + away, scale, (192, 256)) - wanted).max() <= 1
    crops.crop(long, [20_000, 45], [50_000, 66_667], (192, 256))  # all of it
    crops.crop(long, [-500, -500], [90, 120], (192, 256))  # nothing
    assert max(max(image.shape) for image in seen) < 32_767


def test_one_pixel_image_gives_a_crop() -> None:
    image = np.full((1, 1, 3), 200, np.uint8)
    boxes = crops.check_boxes([[-0.5, -0.5, 0.5, 0.5]], image.shape)
    centers, scales = crops.box_to_crop(boxes, (192, 256))
    assert crops.crop(image, centers[0], scales[0], (192, 256)).max() == 200


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("photo.jpg", "The image is a str, not an array: pass a uint8 BGR array (height, width, 3)."),
        (np.zeros((4, 4)), "The image is float64 of shape (4, 4), not uint8 BGR (height, width, 3)"),
        (np.zeros((4, 4, 4), np.uint8), "The image is uint8 of shape (4, 4, 4), not uint8 BGR"),
        (np.zeros((4, 4, 3), np.uint16), "convert it with rtmw_edge.crops.to_bgr8."),
        (np.zeros((4, 4, 4), np.uint8), "convert it with rtmw_edge.crops.to_bgr8."),
        (np.zeros((4, 4, 3), np.float32), "scale it to 0..255, and put the colours last."),
        (np.zeros((1, 4, 4, 3), np.uint8), "pass one image at a time."),
        (np.zeros((0, 4, 3), np.uint8), "The image of shape (0, 4, 3) is empty: pass one of at least 1x1 pixel."),
    ],
)
def test_bad_images_are_refused(image: np.ndarray, text: str) -> None:
    with pytest.raises(BadInputError) as raised:
        crops.check_image(image)
    assert text in str(raised.value)


@pytest.mark.parametrize(
    ("boxes", "text"),
    [
        ([[1, 2, np.nan, 4]], "Box 0 (1, 2, nan, 4) holds a value that is not finite: drop it."),
        ([[0, 0, 9, 9], [5, 5, 5, 9]], "Box 1 (5, 5, 5, 9) is empty or inverted: pass x1 < x2 and y1 < y2."),
        ([[9, 9, 1, 1]], "Box 0 (9, 9, 1, 1) is empty or inverted"),
        ([[-1e12, 0, 1e12, 9]], "Box 0 (-1e+12, 0, 1e+12, 9) reaches farther than 16777216 pixels: drop it."),
        (
            [[30, 2, 40, 8]],
            "Box 0 (30, 2, 40, 8) lies wholly outside the 20x10 image: drop it or check its coordinates.",
        ),
        ([[-8, -8, -1, -1]], "lies wholly outside the 20x10 image"),
        ([[-8, 2, -1, 8]], "lies wholly outside the 20x10 image"),
        ([[2, -8, 8, -1]], "lies wholly outside the 20x10 image"),
        ([[2, 30, 8, 40]], "lies wholly outside the 20x10 image"),
        ([1, 2, 3, 4], "The boxes have shape (4,), not (N,4): pass x1, y1, x2, y2 a person."),
        ([[1, 2], [3]], "The boxes are not numbers: pass an array (N,4) of x1, y1, x2, y2."),
        ("all", "The boxes are not numbers"),
    ],
)
def test_bad_boxes_are_refused(boxes: list, text: str) -> None:
    with pytest.raises(BadInputError) as raised:
        crops.check_boxes(boxes, (10, 20, 3))
    assert text in str(raised.value)


def test_good_boxes() -> None:
    assert crops.check_boxes([], (10, 20)).shape == (0, 4)
    partly = crops.check_boxes([[-5, -5, 3, 40]], (10, 20))
    assert partly.dtype == np.float32 and partly.tolist() == [[-5, -5, 3, 40]]


def test_any_image_becomes_8_bit_bgr() -> None:
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    assert np.array_equal(crops.to_bgr8(grey), np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(crops.to_bgr8(grey[..., None]), crops.to_bgr8(grey))
    deep = np.array([[[0, 32896, 65535]]], np.uint16)
    assert crops.to_bgr8(deep).tolist() == [[[0, 128, 255]]]
    alpha = np.array([[[100, 200, 50, 128], [1, 2, 3, 255], [9, 9, 9, 0]]], np.uint8)
    assert crops.to_bgr8(alpha).tolist() == [[[50, 100, 25], [1, 2, 3], [0, 0, 0]]]
    with pytest.raises(BadInputError, match=r"Cannot turn an image of float64 and shape \(2, 2\) into 8-bit BGR"):
        crops.to_bgr8(np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("name", "channels", "dtype"),
    [
        ("grey.png", 1, np.uint8),
        ("grey16.png", 1, np.uint16),
        ("colour16.png", 3, np.uint16),
        ("alpha.png", 4, np.uint8),
        ("alpha16.tiff", 4, np.uint16),
    ],
)
def test_files_of_every_depth_are_read(tmp_path: Path, name: str, channels: int, dtype: type) -> None:
    array = np.full((5, 7, channels), 128 * (257 if dtype is np.uint16 else 1), dtype)
    if channels == 4:
        array[..., 3] = np.iinfo(dtype).max
    assert cv2.imwrite(str(tmp_path / name), array)
    image = crops.read_image(tmp_path / name)
    assert image.shape == (5, 7, 3) and (image == 128).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_exif_orientation_is_heeded(tmp_path: Path, channels: int) -> None:
    """Orientation 6: the camera was turned, the picture is to be shown rotated by 90 degrees clockwise."""
    ok, jpeg = cv2.imencode(".jpg", np.zeros((8, 16, channels), np.uint8))
    assert ok
    tiff = b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\x00\x00" + tiff
    data = jpeg.tobytes()
    path = tmp_path / "turned.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    assert crops.read_image(path).shape == (16, 8, 3)


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (2, lambda picture: picture[:, ::-1]),
        (6, lambda picture: np.rot90(picture, -1)),
        (7, lambda picture: np.rot90(picture.transpose(1, 0, 2), 2)),
    ],
)
def test_exif_turns_and_mirrors_what_has_alpha(
    tmp_path: Path, orientation: int, turned: Callable[[np.ndarray], np.ndarray]
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 9, 4), np.uint8)
    png = cv2.imencode(".png", picture)[1].tobytes()
    chunk = b"eXIf" + b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path = tmp_path / "alpha.png"
    path.write_bytes(png[:33] + chunk + png[33:])
    assert np.array_equal(crops.read_image(path), crops.to_bgr8(turned(picture)))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"There is no image .*nowhere\.jpg: check the path\."):
        crops.read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(BadInputError, match=r"Cannot read the image .*Is a directory"):
        crops.read_image(tmp_path)
    for name, data in {"empty.png": b"", "text.jpg": b"no image", "cut.png": b"\x89PNG\r\n\x1a\n"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadInputError, match=rf"Cannot decode .*{name} as an image: it is damaged, empty, of"):
            crops.read_image(tmp_path / name)


def test_a_kind_of_pixels_that_is_not_taken_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "depth.tiff"
    cv2.imwrite(str(path), np.zeros((6, 5, 3), np.float32))
    with pytest.raises(BadInputError, match=r"depth\.tiff: Cannot turn an image of float32 and shape \(6, 5, 3\)"):
        crops.read_image(path)
