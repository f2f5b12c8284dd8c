"""What `run` is given: images, folders, patterns, and the file of boxes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rtmw_edge.errors import BadInputError
from rtmw_edge.runtime.boxes import MAX_BYTES, BoxFile
from rtmw_edge.runtime.sources import find_images, open_sources


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", "c.jpeg", "._a.png"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "d.jpg").touch()
    return tmp_path


def test_a_folder_is_its_images_by_name(folder: Path) -> None:
    assert [path.name for path in find_images(folder)] == ["a.png", "b.JPG", "c.jpeg"]


def test_sources_keep_their_order_and_are_taken_once(folder: Path) -> None:
    found = open_sources([folder / "c.jpeg", folder, folder / "missing.jpg", folder / "notes.txt"])
    names = ["c.jpeg", "a.png", "b.JPG", "missing.jpg", "notes.txt"]
    assert [source.origin.name for source in found] == [str(folder / name) for name in names]


def test_sources_may_be_whatever_can_be_iterated(folder: Path) -> None:
    assert [source.origin.name for source in open_sources(folder.glob("a*.png"))] == [str(folder / "a.png")]
    with pytest.raises(BadInputError, match="There is nothing to run on"):
        open_sources(folder.glob("*.gif"))
    with pytest.raises(BadInputError, match=r"Sources are a list of names, and this is one: pass \['0'\]"):
        open_sources(0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("*.gif", r"No file matches '.*\*\.gif': check the pattern and the folder"),
        ("photo?.jpg", r"No file matches '.*photo\?\.jpg'"),
        ("deeper/none", r"There is no image or video in the folder '.*none': it needs .bmp, .jp2, .jpeg"),
    ],
)
def test_what_gives_no_image(folder: Path, name: str, text: str) -> None:
    (folder / "deeper" / "none").mkdir()
    with pytest.raises(BadInputError, match=text):
        open_sources([folder / name])
    with pytest.raises(BadInputError, match=r"There is no image in the folder '.*none': it needs .bmp, .jp2, .jpeg"):
        find_images(folder / "deeper" / "none")


def read(tmp_path: Path, document: object) -> BoxFile:
    path = tmp_path / "boxes.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return BoxFile(str(path))  # as from Python; the command gives a Path


def test_corners_by_file(tmp_path: Path) -> None:
    boxes = read(
        tmp_path, {"a.jpg": [[1, 2, 30, 40], [5, 6, 70, 80, 0.5]], "folder/b.jpg": [], "b.jpg": [[0, 0, 1, 1, 0]]}
    )
    assert boxes.of("somewhere/a.jpg") == [(1, 2, 30, 40, 1), (5, 6, 70, 80, 0.5)]
    assert boxes.of("folder/b.jpg") == [] and boxes.of("b.jpg") == [(0, 0, 1, 1, 0)]
    assert boxes.of("c.jpg") is None


def test_names_are_matched_in_any_spelling_of_their_path(tmp_path: Path) -> None:
    boxes = read(tmp_path, {"./pics//a.jpg": [[1, 2, 30, 40]], "http://h/x/clip.mp4#12": [[0, 0, 1, 1]]})
    assert boxes.of("pics/a.jpg") == boxes.of("./pics/a.jpg") == [(1, 2, 30, 40, 1)]
    assert boxes.of("http://h/x/clip.mp4#12") == [(0, 0, 1, 1, 1)]
    boxes.check_matches(["http://h/x/clip.mp4"])


def test_coco_detections_that_name_the_file(tmp_path: Path) -> None:
    entries = [
        {"file_name": "a.jpg", "bbox": [10, 20, 30, 40], "score": 0.9, "category_id": 1},
        {"file_name": "a.jpg", "bbox": [1, 1, 1, 1], "score": 0.8, "category_id": 18},
        {"file_name": "b.jpg", "bbox": [0, 0, 5, 5]},
    ]
    boxes = read(tmp_path, entries)
    assert boxes.of("a.jpg") == [(10, 20, 40, 60, 0.9)]
    assert boxes.of("b.jpg") == [(0, 0, 5, 5, 1)]


def test_people_of_one_image_are_together_however_a_coco_file_lists_it(tmp_path: Path) -> None:
    """Its path in two spellings, and an image that is listed twice: joined files are like that."""
    boxes = [{"file_name": "a.jpg", "bbox": [1, 2, 3, 4]}, {"file_name": "./a.jpg", "bbox": [5, 6, 7, 8]}]
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 7, "file_name": "./a.jpg"}, {"id": 8, "file_name": "a.jpg"}]
    people = [{"image_id": number, "bbox": box["bbox"]} for number, box in zip((7, 8), boxes, strict=True)]
    for document in (boxes, {"images": images, "annotations": people}):
        assert read(tmp_path, document).of("a.jpg") == [(1, 2, 4, 6, 1), (5, 6, 12, 14, 1)]


def test_crowds_are_nobody_s_box(tmp_path: Path) -> None:
    crowd = {"bbox": [0, 0, 9, 9], "iscrowd": 1}
    listed = read(tmp_path, [{"file_name": "a.jpg", **crowd}, {"file_name": "a.jpg", "bbox": [1, 2, 3, 4]}])
    images = [{"id": 7, "file_name": "a.jpg"}]
    people = [{"image_id": 7, **crowd}, {"image_id": 7, "bbox": [1, 2, 3, 4], "iscrowd": 0}]
    annotated = read(tmp_path, {"images": images, "annotations": people})
    assert listed.of("a.jpg") == annotated.of("a.jpg") == [(1, 2, 4, 6, 1)]


def test_coco_annotations(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "empty.jpg"}]
    boxes = read(tmp_path, {"images": images, "annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4], "category_id": 1}]})
    assert boxes.of("a.jpg") == [(1, 2, 4, 6, 1)]
    assert boxes.of("empty.jpg") == []


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("{", r"The boxes in .*boxes\.json cannot be read \(Expecting property name"),
        ("[" * 100_000, r"cannot be read \(nested too deeply\): write"),
        ("7", r"\(it holds neither an object nor a list\): write \{\"photo.jpg\": \[\[x1, y1, x2, y2\], ...\]\}"),
        ('{"a.jpg": [[NaN, 0, 1, 1]]}', r"\(a box of 'a\.jpg' holds a value that is not finite\)"),
        ('{"a.jpg": [[0, 0, 1, 1' + "0" * 400 + "]]}", r"\(int too large to convert to float\)"),
        ('{"a.jpg": [[0, 0, 1, 1]], "a.jpg": [[2, 2, 3, 3]]}', r"\('a\.jpg' is there twice\): write"),
        ({"a.jpg": [[0, 0, 1, 1]], "./a.jpg": [[2, 2, 3, 3]]}, r"\('a\.jpg' is there twice\): write"),
        (
            {"images": [{"id": 7, "file_name": name} for name in ("a.jpg", "b.jpg")], "annotations": []},
            r"\(the image id 7 is that of 'a\.jpg' and of 'b\.jpg'\): write",
        ),
        ({"a.jpg": [[1, 2, 3]]}, r"\(a box of 'a\.jpg' has 3 numbers instead of 4, or 5 with a score\)"),
        ({"a.jpg": [[1, 2, 3, 4, 95]]}, r"\(the score 95 of 'a\.jpg' is not in 0\.\.1\)"),
        ({"a.jpg": [[1, 2, "3", 4]]}, r"\(a box of 'a\.jpg' is not a list of numbers\)"),
        ({"a.jpg": [1, 2, 3, 4]}, r"\(a box of 'a\.jpg' is not a list of numbers\)"),
        ({"a.jpg": 3}, r"boxes\.json cannot be read \(it has another form\): write"),
        ({"a.jpg": None}, r"boxes\.json cannot be read \(it has another form\): write"),
        ([{"image_id": 3, "bbox": [1, 2, 3, 4]}], r"\(no 'file_name'\)"),
        ([{"file_name": "a.jpg"}], r"\(no 'bbox'\)"),
        ([{"file_name": "a.jpg", "bbox": [1, 2, 3]}], r"\(the bbox of entry 0 has 3 numbers instead of 4\)"),
        ([3], r"\(it has another form\)"),
        ({"images": [], "annotations": [{"image_id": 9, "bbox": [0, 0, 1, 1]}]}, r"\(no 9\)"),
    ],
)
def test_what_is_no_box(tmp_path: Path, document: object, text: str) -> None:
    with pytest.raises(BadInputError, match=text):
        read(tmp_path, document)


def test_no_boxes_file_and_one_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"There is no boxes file .*none\.json: check the path"):
        BoxFile(tmp_path / "none.json")
    with pytest.raises(BadInputError, match=r"Cannot read the boxes file .*: Is a directory"):
        BoxFile(tmp_path)
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(BadInputError, match=r"has more than 536870912 bytes: split it"):
        BoxFile(huge)


def test_frames_that_nobody_asked_for_are_told(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({name: [] for name in ("clip.mp4#1", "clip.mp4#9", "clip.mp4", "other.mp4#2")}))
    listed = BoxFile(path)
    assert listed.of("clip.mp4#1") == [] and listed.of("clip.mp4#2") is None
    assert listed.frames_not_asked_for(["a/clip.mp4"]) == ["clip.mp4#9"]


def test_boxes_of_other_images(tmp_path: Path) -> None:
    boxes = read(tmp_path, {"a.png": []})
    with pytest.raises(
        BadInputError, match=r"has no boxes for any of the images: it speaks of 'a\.png', not of 'a\.jpg'"
    ):
        boxes.check_matches(["a.jpg"])
    boxes.check_matches(["a.jpg", "a.png"])
