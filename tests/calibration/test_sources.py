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
from rtmw_edge.poses import COCO_FIELDS

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


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


SIZES = {"a.jpg": {"width": 100, "height": 200}, "b.png": {"width": 80, "height": 60}}
"""Of the photographs that are annotated."""


def coco_file(path: Path, people: list[tuple[str, list[float]]], sizes: dict[str, dict[str, int]] = SIZES) -> Path:
    """A COCO-WholeBody annotation file of people with a file name and a bbox each, all keypoints in its middle."""
    names = list(dict.fromkeys(name for name, _ in people))
    images = [{"id": i, "file_name": name, **sizes.get(name, {})} for i, name in enumerate(names)]
    annotations = []
    for name, box in people:
        middle = [box[0] + box[2] / 2, box[1] + box[3] / 2, 2.0]
        joints = {field: middle * count for field, count in zip(COCO_FIELDS.values(), (17, 6, 68, 21, 21), strict=True)}
        annotations.append({"image_id": names.index(name), "bbox": box, "area": 1.0, "iscrowd": 0, **joints})
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_whole_images_are_padded_crops_in_the_order_of_names(folder: Path) -> None:
    source = open_source(str(folder))
    found = list(source.crops(SIZE))
    assert [image.shape for image in found] == [(128, 96, 3)] * 3 and len(source) == 3
    for image, name in zip(found, ("a.jpg", "b.png", "c.png"), strict=True):
        photo = cv2.imread(str(folder / name))
        centers, scales = box_to_crop([[0, 0, photo.shape[1], photo.shape[0]]], SIZE)
        assert np.array_equal(image, crop(photo, centers[0], scales[0], SIZE)), name


def test_the_manifest_names_each_file_and_its_hash(folder: Path) -> None:
    source = open_source(str(folder))
    crops = list(source.crops(SIZE))
    manifest = source.manifest()
    assert manifest["source"] == "folder"
    assert manifest["images"] == [
        {"path": name, "sha256": sha256(folder / name), "boxes": [None]} for name in ("a.jpg", "b.png", "c.png")
    ]
    assert manifest["selection"] == {"taken": 3, "of": 3, "how": "all", "seed": 0}
    assert manifest["crops_sha256"] == hashlib.sha256(b"".join(image.tobytes() for image in crops)).hexdigest()
    assert list(map(len, source.crops(SIZE))) == [128] * 3 and source.manifest() == manifest, (
        "a second pass is no other"
    )
    assert str(folder) not in json.dumps(manifest), "where the folder lies must not change the table"


def test_rendered_people_are_of_the_calibration_split_and_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr("rtmw_edge.data.synthetic.Renderer", lambda split, seed: asked.append((split, seed)))
    assert len(open_source("synthetic:2", seed=3)) == 2 and asked == [("calibration", 3)]


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
    assert [(image["path"], image["boxes"]) for image in source.manifest()["images"]] == [
        ("a.jpg", [[10, 20, 60, 150], [5, 5, 90, 190]])
    ]


def test_people_of_coco_wholebody(folder: Path, tmp_path: Path) -> None:
    people = [
        ("a.jpg", [10.0, 20.0, 50.0, 130.0]),
        ("b.png", [4.0, 5.0, 30.0, 40.0]),
        ("a.jpg", [5.0, 5.0, 80.0, 180.0]),
    ]
    annotations = coco_file(tmp_path / "people.json", people)
    source = open_source(f"coco:{annotations}:{folder}")
    found = list(source.crops(SIZE))
    for image, (name, (x, y, width, height)) in zip(found, people, strict=True):
        centers, scales = box_to_crop([[x, y, x + width, y + height]], SIZE)
        assert np.array_equal(image, crop(cv2.imread(str(folder / name)), centers[0], scales[0], SIZE))
    assert [(image["path"], len(image["boxes"])) for image in source.manifest()["images"]] == [
        ("a.jpg", 2),
        ("b.png", 1),
    ]


def test_a_picture_of_another_size_than_annotated_is_refused(folder: Path, tmp_path: Path) -> None:
    """Its labels lie elsewhere then, and scales would be chosen from crops of the backdrop."""
    people = [("a.jpg", [10.0, 20.0, 50.0, 130.0])]
    annotations = coco_file(tmp_path / "people.json", people, {"a.jpg": {"width": 200, "height": 400}})
    source = open_source(f"coco:{annotations}:{folder}")
    with pytest.raises(BadInputError, match=r"a\.jpg has 100x200 pixels and is annotated as 200x400: take the file"):
        list(source.crops(SIZE))


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
    assert {key: manifest[key] for key in ("source", "split", "render_seed", "people")} == {
        "source": "synthetic:2",
        "split": "calibration",
        "render_seed": 0,
        "people": [0, 1],
    }
    assert len(manifest["crops_sha256"]) == 64


def test_a_count_chooses_and_the_manifest_says_whom() -> None:
    pytest.importorskip("numba")
    first, second = (open_source("synthetic:6", count=2, seed=3) for _ in range(2))
    looked: list[tuple[int, int]] = []
    chosen = first.choose((48, 64), lambda done, total: looked.append((done, total)))
    assert len(first) == len(chosen) == 2 and looked == [(done, 6) for done in range(1, 7)]
    crops = [list(source.crops((48, 64))) for source in (first, second)]
    assert np.array_equal(crops[0], crops[1]) and first.manifest() == second.manifest()
    assert first.manifest()["people"] == chosen and first.manifest()["render_seed"] == 3
    assert first.manifest()["selection"] == {
        "taken": 2,
        "of": 6,
        "how": "cover (farthest points over parts, pose, size and light)",
        "seed": 3,
    }


@pytest.mark.parametrize("text", ["synthetic:0", "synthetic:", "synthetic:many", "synthetic:-3", "synthetic:1.5"])
def test_a_count_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInputError) as caught:
        open_source(text)
    assert str(caught.value) == (
        f"Calibration source '{text}' is not synthetic:N with N of 1 to 100000; try synthetic:200."
    )
    with pytest.raises(BadInputError, match="A count of 0 leaves nobody to calibrate on; pass at least 1"):
        open_source("synthetic:2", count=0)


@pytest.mark.parametrize("text", ["synthetic:val", "synthetic:val:100"])
def test_the_people_that_accuracy_is_measured_on_are_refused(text: str) -> None:
    with pytest.raises(BadInputError) as caught:
        open_source(text)
    assert str(caught.value) == (
        f"'{text}' holds the people that accuracy is measured on; calibrate on others, such as synthetic:200."
    )


def test_an_evaluation_image_is_refused_by_its_bytes(folder: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "val"
    held_out.mkdir()
    (held_out / "renamed.png").write_bytes((folder / "b.png").read_bytes())
    (held_out / "as-long.png").write_bytes(bytes((folder / "c.png").stat().st_size))
    annotations = coco_file(tmp_path / "val.json", [("renamed.png", [1.0, 2.0, 30.0, 40.0])])
    for text in (str(held_out), f"coco:{annotations}:{held_out}"):
        with pytest.raises(BadInputError) as caught:
            open_source(str(folder), evaluation=["synthetic:val", text])
        assert str(caught.value) == (
            f"'{folder / 'b.png'}' is the evaluation image 'renamed.png' of {text}; calibrate on images that "
            "accuracy is not measured on."
        )
    (held_out / "renamed.png").unlink()
    assert len(open_source(str(folder), evaluation=[str(held_out)])) == 3
    with pytest.raises(BadInputError, match=r"1 of 1 evaluation images are not there, .*renamed\.png\. Correct 'coco:"):
        open_source(str(folder), evaluation=[f"coco:{annotations}:{held_out}"])
    people = coco_file(tmp_path / "people.json", [("a.jpg", [1.0, 2.0, 30.0, 40.0])])
    with pytest.raises(BadInputError, match=r"a\.jpg' is the evaluation image 'a\.jpg' of"):
        open_source(f"coco:{people}:{folder}", evaluation=[str(folder)])


def test_an_evaluation_set_that_is_none_is_refused(folder: Path, tmp_path: Path) -> None:
    for text in (str(tmp_path / "absent"), f"coco:{tmp_path / 'absent.json'}:{folder}", "h3wb:some.npz", "coco:x"):
        with pytest.raises(BadInputError, match=f"There is no evaluation set '{text}'; "):
            open_source(str(folder), evaluation=[text])
    (tmp_path / "bad.json").write_text('{"images": [{"id": 1}]}')
    with pytest.raises(BadInputError, match=r"bad\.json lists no images \(KeyError: 'file_name'\)"):
        open_source(str(folder), evaluation=[f"coco:{tmp_path / 'bad.json'}:{folder}"])


def test_a_coco_source_that_is_none_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"Calibration source 'coco:x' is not coco:ANNOTATIONS\.json:IMAGES"):
        open_source("coco:x")
    with pytest.raises(
        BadInputError, match=r"There is no annotation file '.*absent\.json' to calibrate on; write coco:"
    ):
        open_source(f"coco:{tmp_path / 'absent.json'}:{folder}")
    annotations = coco_file(tmp_path / "people.json", [("a.jpg", [1.0, 2.0, 30.0, 40.0])])
    with pytest.raises(BadInputError, match=r"There is no image folder '.*absent' to calibrate on; write coco:"):
        open_source(f"coco:{annotations}:{tmp_path / 'absent'}")
    with pytest.raises(BadInputError, match="Boxes go with a folder of images, and coco:"):
        open_source(f"coco:{annotations}:{folder}", boxes=annotations)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        open_source(str(tmp_path / "absent"))
    assert str(caught.value) == (
        f"There is no folder '{tmp_path / 'absent'}' to calibrate on; give one with images, or synthetic:200."
    )


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=f"There is no image in the folder '{tmp_path}'"):
        open_source(str(tmp_path))


def test_a_folder_without_people_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps({"a.jpg": []}))
    with pytest.raises(BadInputError, match=f"There is nobody to calibrate on in '{folder}'"):
        open_source(str(folder), boxes=tmp_path / "boxes.json")


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
