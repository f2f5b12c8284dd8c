"""What data sets and detection files are, and what bad ones are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_files import document, write_images

from rtmw_edge.data.annotators import annotated
from rtmw_edge.data.synthetic import Renderer
from rtmw_edge.errors import BadInputError
from rtmw_edge.evaluation import open_dataset, read_detections
from rtmw_edge.evaluation.datasets import SyntheticPeople
from rtmw_edge.training.validation import Validation

BOTH = (annotated, np.asarray)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    (tmp_path / "labels.json").write_text(json.dumps(document(images=3)))
    write_images(tmp_path, 3)
    return tmp_path / "labels.json"


def test_coco(labels: Path) -> None:
    dataset = open_dataset(f"coco:{labels}:{labels.parent}")
    items = list(dataset)
    assert len(dataset) == 3 and [item.image_id for item in items] == [0, 1, 2]
    first = json.loads(labels.read_text())["annotations"][0]
    x, y, width, height = first["bbox"]
    assert items[0].people.boxes[0] == pytest.approx([x, y, x + width, y + height])
    assert items[0].people.keypoints[0, 17].tolist() == first["foot_kpts"][:2]
    assert items[0].people.visible[0, 132] == first["righthand_kpts"][-1]
    assert items[0].image.shape == (320, 320, 3)
    assert len(open_dataset(f"coco:{labels}:{labels.parent}", limit=2)) == 2


def test_synthetic() -> None:
    assert len(open_dataset("synthetic:val")) == 500
    assert len(open_dataset("synthetic:val:100", limit=7)) == 7
    assert open_dataset("synthetic:val:100").name == "synthetic:val:100"


def test_synthetic_people_are_labelled_and_kept() -> None:
    dataset = SyntheticPeople(2)
    first, again = list(dataset), list(dataset)
    assert all(a is b for a, b in zip(first, again, strict=True)), "rendered once"
    for item in first:
        assert item.image.dtype == np.uint8 and item.people.keypoints.shape == (1, 133, 2)
        assert (item.people.visible > 0).sum() > 20 and item.people.areas[0] > 100
    (second,) = SyntheticPeople(1, first=1)
    assert np.array_equal(second.image, first[1].image) and second.image_id == 0
    assert SyntheticPeople(1, first=1).name == "synthetic:val:1 from 1"


def test_rendered_people_are_labelled_as_annotators_would() -> None:
    """A hand that is hardly seen has no label; the renderer knows where it is all the same."""
    renderer = Renderer("val")
    hidden = next(k for k in range(50) if not np.array_equal(*(f(renderer.person(k).people[0].visible) for f in BOTH)))
    (item,) = SyntheticPeople(1, first=hidden)
    assert np.array_equal(item.people.visible[0], annotated(renderer.person(hidden).people[0].visible))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imagenet", "Unknown data set 'imagenet'. Choose one of: synthetic, coco, h3wb."),
        ("synthetic:vaal", "Unknown split of rendered people 'vaal'; did you mean 'val'? Choose one of: val."),
        (
            "synthetic:val:0",
            "Cannot read the data set 'synthetic:val:0': write synthetic:val or synthetic:val:N with N of 1 to 20000.",
        ),
        ("synthetic:val:20001", "write synthetic:val or synthetic:val:N with N of 1 to 20000."),
        ("synthetic:val:" + "9" * 5000, "write synthetic:val or synthetic:val:N with N of 1 to 20000."),
        ("synthetic:val:many", "Cannot read the data set 'synthetic:val:many'"),
        ("coco:labels.json", "Cannot read the data set 'coco:labels.json': write coco:ANNOTATIONS.json:IMAGE_FOLDER."),
        ("h3wb:", "Cannot read the data set 'h3wb:': write h3wb:h3wb_train_bbox.npz:HUMAN36M_FOLDER."),
        ("h3wb:nowhere.npz", "There is no H3WB file at nowhere.npz: check the path."),
        ("coco:nowhere.json:.", "There are no annotations at nowhere.json: check the path."),
    ],
)
def test_bad_names(text: str, message: str) -> None:
    with pytest.raises(BadInputError) as raised:
        open_dataset(text)
    assert message in str(raised.value)


def test_bad_limit() -> None:
    with pytest.raises(BadInputError, match="A limit of 0 images leaves nothing to evaluate: pass at least 1"):
        open_dataset("synthetic:val", limit=0)


def test_bad_annotations(labels: Path) -> None:
    folder = labels.parent
    sentence = r"There is no image folder .*missing: it is the last part of coco:ANNOTATIONS:IMAGES; check the path\."
    with pytest.raises(BadInputError, match=sentence):
        open_dataset(f"coco:{labels}:{folder / 'missing'}")
    labels.write_text("{")
    with pytest.raises(BadInputError, match=r"The annotations .*labels\.json are not JSON"):
        open_dataset(f"coco:{labels}:{folder}")
    labels.write_text("[]")
    with pytest.raises(
        BadInputError, match="is no COCO annotation file: it needs the lists 'images' and 'annotations'"
    ):
        open_dataset(f"coco:{labels}:{folder}")
    body_only = document(images=1)
    for annotation in body_only["annotations"]:
        del annotation["foot_kpts"]
    labels.write_text(json.dumps(body_only))
    with pytest.raises(
        BadInputError, match=r"holds no COCO-WholeBody labels \(KeyError: 'foot_kpts'\): use the whole-"
    ):
        open_dataset(f"coco:{labels}:{folder}")


def _faulty(field: str, value: object) -> dict[str, Any]:
    content = document(images=2)
    content["annotations"][0][field] = value
    return content


FOOT = "ValueError: foot_kpts has 15 numbers, not 18"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("area", None, "ValueError: an area of image 0 is no finite number"),
        ("area", 1e300, "ValueError: an area of image 0 is no finite number"),
        ("bbox", [1, 2, float("nan"), 4], "ValueError: a bbox of image 0 is no finite number"),
        ("keypoints", [float("nan"), 5, 2] * 17, "ValueError: a keypoint of image 0 is no finite number"),
        ("keypoints", [1, 5, float("inf")] * 17, "ValueError: a flag of image 0 is no finite number"),
        ("image_id", 0.5, "ValueError: the image id 0.5 is no whole number"),
        ("image_id", "a-1", "ValueError: the image id 'a-1' is no whole number"),
        ("foot_kpts", [0] * 15, FOOT),
        ("foot_kpts", "abc", "ValueError: could not convert"),
    ],
)
def test_labels_that_nobody_could_meet_are_refused(labels: Path, field: str, value: object, message: str) -> None:
    labels.write_text(json.dumps(_faulty(field, value)))
    with pytest.raises(BadInputError) as raised:
        open_dataset(f"coco:{labels}:{labels.parent}")
    assert f"{labels} holds no COCO-WholeBody labels ({message}" in str(raised.value)


@pytest.mark.parametrize("area", [0, -1])
def test_people_of_no_area_are_refused(labels: Path, area: int) -> None:
    labels.write_text(json.dumps(_faulty("area", area)))
    sentence = r"labels\.json gives a person of image 0 an `area` that is not above 0, so that OKS could never find it"
    with pytest.raises(BadInputError, match=sentence):
        open_dataset(f"coco:{labels}:{labels.parent}")


def test_an_unlabelled_keypoint_may_be_anywhere(labels: Path) -> None:
    labels.write_text(json.dumps(_faulty("keypoints", [float("nan"), float("nan"), 0] * 17)))
    assert len(open_dataset(f"coco:{labels}:{labels.parent}")) == 2


def test_parts_whose_faults_cancel_out_are_refused(labels: Path) -> None:
    content = document(images=2)
    first = content["annotations"][0]
    first["face_kpts"], first["foot_kpts"] = first["foot_kpts"][-3:] + first["face_kpts"], first["foot_kpts"][:-3]
    labels.write_text(json.dumps(content))
    with pytest.raises(BadInputError) as raised:
        open_dataset(f"coco:{labels}:{labels.parent}")
    assert FOOT in str(raised.value)


def test_an_image_of_no_whole_number_is_refused(labels: Path) -> None:
    content = document(images=2)
    content["images"][0]["id"] = float("inf")
    labels.write_text(json.dumps(content))
    with pytest.raises(BadInputError, match=r"holds no COCO-WholeBody labels \(OverflowError: cannot convert float "):
        open_dataset(f"coco:{labels}:{labels.parent}")


def test_ids_as_text_are_those_as_numbers(labels: Path) -> None:
    content = document(images=3)
    for image in content["images"]:
        image["id"] = f"{image['id']:012}"
    labels.write_text(json.dumps(content))
    items = list(open_dataset(f"coco:{labels}:{labels.parent}"))
    assert [item.image_id for item in items] == [0, 1, 2]
    assert sum(len(item.people) for item in items) == len(content["annotations"])


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (
            (0, 1, 1),
            "lists 2 images of the id 1, so that nobody can tell who is on which: give every image an id of its own, "
            "and list it once.",
        ),
        (
            (100, 101, 102),
            "labels nobody on any of the 3 images that it lists: there is nothing to evaluate on. Check that the "
            "`image_id` of its annotations are the `id` of its images.",
        ),
    ],
)
def test_images_that_nobody_can_be_told_of_are_refused(labels: Path, ids: tuple[int, ...], reason: str) -> None:
    content = document(images=3)
    for image, number in zip(content["images"], ids, strict=True):
        image["id"] = number
    labels.write_text(json.dumps(content))
    with pytest.raises(BadInputError) as raised:
        open_dataset(f"coco:{labels}:{labels.parent}")
    assert str(raised.value) == f"{labels} {reason}"


def test_a_file_without_images_is_refused(labels: Path) -> None:
    labels.write_text(json.dumps({**document(images=1), "images": []}))
    with pytest.raises(BadInputError) as raised:
        open_dataset(f"coco:{labels}:{labels.parent}")
    assert str(raised.value) == f"{labels} lists no image: there is nothing to evaluate on. Check the file."


def test_missing_image_is_named(labels: Path) -> None:
    (labels.parent / "1.png").unlink()
    with pytest.raises(BadInputError, match=r"There is no image .*1\.png"):
        list(open_dataset(f"coco:{labels}:{labels.parent}"))
    with pytest.raises(BadInputError, match=r"There is no image .*1\.png, of \d+ in coco:.*: check the path\."):
        open_dataset(f"coco:{labels}:{labels.parent}").check_images()
    (labels.parent / "elsewhere").mkdir()
    with pytest.raises(BadInputError, match=r"There is no image .*elsewhere/\d\.png and \d more, of"):
        Validation(f"coco:{labels}:{labels.parent / 'elsewhere'}")
    open_dataset("synthetic:val:3").check_images()


def test_an_image_of_another_size_than_annotated_is_refused(labels: Path) -> None:
    path = labels.parent / "1.png"
    cv2.imwrite(str(path), np.zeros((160, 320, 3), np.uint8))
    with pytest.raises(BadInputError) as raised:
        list(open_dataset(f"coco:{labels}:{labels.parent}"))
    assert str(raised.value) == (
        f"The image {path} has 320x160 pixels and is annotated as 320x320: take the file that was annotated, not a "
        "resized or turned copy."
    )
    unlisted = json.loads(labels.read_text())
    for image in unlisted["images"]:
        del image["width"], image["height"]
    labels.write_text(json.dumps(unlisted))
    assert len(list(open_dataset(f"coco:{labels}:{labels.parent}"))) == 3


def test_detections(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    rows = [
        {"image_id": 4, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 4, "category_id": 2, "bbox": [9, 9, 9, 9], "score": 0.5},
        {"image_id": 4, "category_id": 1, "bbox": [9, 9, 9, 9], "score": 0},
    ]
    path.write_text(json.dumps(rows))
    boxes, scores = read_detections(path, SyntheticPeople(5))[4]
    assert boxes.tolist() == [[1, 2, 4, 6]] and scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("7", "holds no detections (TypeError"),
        ('[{"image_id": 1}]', "holds no detections (KeyError: 'bbox'): it must be a list of"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, NaN, 4], "score": 1}]', "of image 1 is not finite"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 1e39, 4], "score": 1}]', "of image 1 is not finite"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1e99}]', "of image 1 is not finite"),
        (
            '[{"image_id": 1, "category_id": Infinity, "bbox": [1, 2, 3, 4], "score": 1}]',
            "holds no detections (OverflowError: cannot convert float infinity to integer)",
        ),
        (
            '[{"image_id": 1.5, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]',
            "holds no detections (ValueError: the image id 1.5 is no whole number)",
        ),
        ("nothing", "are not JSON"),
    ],
)
def test_bad_detections(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(BadInputError) as raised:
        read_detections(path, SyntheticPeople(2))
    assert message in str(raised.value)
