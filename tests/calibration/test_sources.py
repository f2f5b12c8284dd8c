"""Calibration sources: the crops that a runner would see, in a fixed order, written down; bad sources refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from rtmw_edge.calibration import open_source
from rtmw_edge.calibration.sources import batches

from rtmw_edge.crops import box_to_crop, crop
from rtmw_edge.errors import BadInputError

SIZE = (96, 128)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs in an order that is not that of their making, a note, and a hidden file."""
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(2)
    for name, shape in (("b.png", (60, 80, 3)), ("a.jpg", (200, 100, 3)), ("c.png", (50, 50))):
        cv2.imwrite(str(images / name), rng.integers(0, 256, shape, np.uint8))
    (images / "notes.txt").write_text("not an image")
    return images


def test_whole_images_are_padded_crops_in_the_order_of_names(folder: Path) -> None:
    found = list(open_source(str(folder)).crops(SIZE))
    assert [image.shape for image in found] == [(128, 96, 3)] * 3
    for image, name in zip(found, ("a.jpg", "b.png", "c.png"), strict=True):
        photo = cv2.imread(str(folder / name))
        centers, scales = box_to_crop([[0, 0, photo.shape[1], photo.shape[0]]], SIZE)
        assert np.array_equal(image, crop(photo, centers[0], scales[0], SIZE)), name


def test_the_manifest_names_each_file_and_its_hash(folder: Path) -> None:
    source = open_source(str(folder))
    assert sum(1 for _ in source.crops(SIZE)) == 3
    manifest = source.manifest()
    assert manifest["source"] == "folder"
    assert manifest["images"] == [
        {"path": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(), "people": 1}
        for name in ("a.jpg", "b.png", "c.png")
    ]
    assert str(folder) not in json.dumps(manifest), "where the folder lies must not change the table"


def test_boxes_give_one_crop_a_person(folder: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"a.jpg": [[10, 20, 60, 150], [5, 5, 90, 190]], "b.png": []}))
    source = open_source(str(folder), boxes=boxes)
    found = list(source.crops(SIZE))
    photo = cv2.imread(str(folder / "a.jpg"))
    centers, scales = box_to_crop([[10, 20, 60, 150], [5, 5, 90, 190]], SIZE)
    assert len(found) == 2
    for image, center, scale in zip(found, centers, scales, strict=True):
        assert np.array_equal(image, crop(photo, center, scale, SIZE))
    assert [image["people"] for image in source.manifest()["images"]] == [2, 0, 0]


def test_batches_hold_every_crop_once(folder: Path) -> None:
    sizes = [len(batch) for batch in batches(open_source(str(folder)), SIZE, size=2)]
    assert sizes == [2, 1]


def test_rendered_people_are_the_same_every_time() -> None:
    pytest.importorskip("numba")
    first, second = open_source("synthetic:2"), open_source("synthetic:2")
    for one, other in zip(first.crops((192, 256)), second.crops((192, 256)), strict=True):
        assert one.shape == (256, 192, 3) and np.array_equal(one, other)
    manifest = first.manifest()
    assert manifest == second.manifest()
    assert {key: manifest[key] for key in ("source", "split", "seed")} == {
        "source": "synthetic:2",
        "split": "calibration",
        "seed": 0,
    }
    assert len(manifest["sha256"]) == 64


@pytest.mark.parametrize("text", ["synthetic:0", "synthetic:", "synthetic:many", "synthetic:-3", "synthetic:1.5"])
def test_a_count_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInputError) as caught:
        open_source(text)
    assert str(caught.value) == (
        f"Calibration source '{text}' is not synthetic:N with N of at least 1; try synthetic:200."
    )


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        open_source(str(tmp_path / "absent"))
    assert str(caught.value) == (
        f"There is no folder '{tmp_path / 'absent'}' to calibrate on; give one with images, or synthetic:200."
    )


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=f"There is no image in the folder '{tmp_path}'"):
        open_source(str(tmp_path))


def test_an_image_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "aa.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(BadInputError, match=r"Cannot decode .*aa\.png as an image"):
        list(open_source(str(folder)).crops(SIZE))


def test_boxes_of_other_images_are_refused(folder: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"other.jpg": [[1, 2, 3, 4]]}))
    with pytest.raises(BadInputError, match="has no boxes for any of the images"):
        open_source(str(folder), boxes=boxes)


def test_a_box_outside_its_image_is_refused(folder: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"b.png": [[500, 500, 600, 600]]}))
    with pytest.raises(BadInputError, match=r"^b\.png: Box 0 \(500, 500, 600, 600\) lies wholly outside the 80x60"):
        list(open_source(str(folder), boxes=boxes).crops(SIZE))


def test_boxes_for_rendered_people_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="Boxes go with a folder of images, and synthetic:5 knows its own"):
        open_source("synthetic:5", boxes=tmp_path / "boxes.json")
