"""Readers of the annotated sets on tiny files: where each joint goes, and what is left out and counted."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from set_files import HEIGHT, WIDTH, annotation, document, grid, interhand, opened, whole_body

from rtmw_edge.data.sets import KINDS, SetConfig, open_set
from rtmw_edge.data.sets.mapping import mapping_of
from rtmw_edge.errors import BadInputError
from rtmw_edge.keypoints import FLIP

SPEC_PAIRS = {
    "halpe": (136, [(16, 16), (20, 17), (21, 20), (22, 18), (23, 21), (24, 19), (25, 22), (26, 23), (135, 132)], 133),
    "aic": (14, [(0, 6), (5, 9), (11, 15)], 12),
    "crowdpose": (14, [(0, 5), (5, 10), (11, 16)], 12),
    "mpii": (16, [(0, 16), (5, 15), (10, 10), (15, 9)], 12),
    "jhmdb": (15, [(3, 6), (6, 11), (14, 15)], 12),
    "posetrack18": (17, [(0, 0), (3, 3), (16, 16)], 15),
    "humanart": (21, [(16, 16), (17, 99), (18, 120), (19, 17), (20, 20)], 21),
    "wflw": (98, [(0, 23), (32, 39), (33, 40), (42, 45), (60, 59), (72, 68), (95, 90)], 68),
    "300w": (68, [(0, 23), (67, 90)], 68),
    "cofw": (29, [(0, 40), (1, 49), (8, 59), (9, 68), (28, 31)], 21),
    "lapa": (106, [(0, 23), (32, 39), (66, 59), (84, 71), (103, 90)], 68),
    "interhand26m": (42, [(0, 116), (3, 113), (4, 120), (20, 112), (21, 95), (41, 91)], 42),
}
"""Joints of a set, some of the pairs that the specification's table names, and how many are mapped."""


@pytest.mark.parametrize("kind", SPEC_PAIRS)
def test_the_mapping_is_the_specifications(kind: str) -> None:
    joints, pairs, mapped = SPEC_PAIRS[kind]
    mapping = mapping_of(kind)
    assert mapping.joints == joints and len(mapping.source) == len(mapping.target) == mapped
    table = dict(zip(mapping.source.tolist(), mapping.target.tolist(), strict=True))
    assert {source: table[source] for source, _ in pairs} == dict(pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_every_mapping_is_one_to_one_and_symmetric(kind: str) -> None:
    mapping = mapping_of(kind)
    # The wrists of SMPL-X are also the roots of its hands.
    twice = 2 if kind == "ubody3d" else 0
    assert len(set(mapping.source)) + twice == len(set(mapping.target)) == len(mapping.target)
    assert mapping.source.max() < mapping.joints and mapping.target.max() < 133
    assert set(FLIP[mapping.target]) == set(mapping.target), "what is labelled on one side is labelled on the other"


@pytest.mark.parametrize("kind", ["halpe", "aic", "crowdpose", "posetrack18", "300w", "wflw", "cofw", "lapa"])
def test_joints_land_where_the_table_says(tmp_path: Path, kind: str) -> None:
    joints, pairs, mapped = SPEC_PAIRS[kind]
    labels = document([annotation(joints, center=[100, 120], scale=0.5)])
    table = opened(tmp_path, kind, labels)
    instance = table[0]
    assert np.count_nonzero(instance.visible) == mapped and set(instance.visible) <= {0, 2}
    for source, target in pairs:
        assert instance.keypoints[target].tolist() == grid(joints)[source].tolist()
    assert (instance.keypoints[instance.visible == 0] == 0).all()
    assert instance.image == tmp_path / "1.png" and instance.source == kind
    assert instance.metres is None and instance.camera is None
    assert instance.whole is (kind not in ("300w", "wflw", "cofw", "lapa"))
    # WFLW and 300W have a square of 200 pixels times their scale, the others x, y, width, height.
    expected = [50, 70, 150, 170] if kind in ("wflw", "300w") else [10, 20, 210, 240]
    assert instance.box.tolist() == expected


@pytest.mark.parametrize("kind", ["coco-wholebody", "ubody"])
def test_whole_body_fields_are_joined(tmp_path: Path, kind: str) -> None:
    table = opened(tmp_path, kind, document([whole_body()]), every=1)
    assert np.array_equal(table[0].keypoints, grid(133).astype(np.float32))
    # COCO's body tells hidden (1) from visible; a face, hand or foot with 1 is labelled, no more is known.
    body = 1 if kind == "coco-wholebody" else 2
    assert table[0].visible.tolist() == [body] * 17 + [2] * 116


def test_fields_whose_faults_cancel_out_are_malformed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One keypoint of the foot in the face's list: 133 in all, and every one from there on another."""
    labels = whole_body()
    labels["face_kpts"] = labels["foot_kpts"][-3:] + labels["face_kpts"]
    labels["foot_kpts"] = labels["foot_kpts"][:-3]
    labels["id"] = 77
    table = opened(tmp_path, "coco-wholebody", document([whole_body(), labels]))
    assert len(table) == 1 and table.skipped == {"malformed": 1}
    sentence = "the first malformed one is annotation 77: foot_kpts has 15 numbers, not 18"
    assert caplog.messages == [f"coco-wholebody: {sentence}"]
    del labels["foot_kpts"]
    with pytest.raises(BadInputError, match=r"\(1 malformed; annotation 77: it has no 'foot_kpts'\)"):
        opened(tmp_path, "coco-wholebody", document([labels]))


def test_any_hand_score_above_zero_is_a_label(tmp_path: Path) -> None:
    labels = whole_body()
    labels["righthand_kpts"][2::3] = [0.04] * 20 + [0.0]
    assert opened(tmp_path, "coco-wholebody", document([labels]))[0].visible[112:].tolist() == [2] * 20 + [0]


def test_a_hand_whose_wrist_was_not_found_has_no_label(tmp_path: Path) -> None:
    """InterHand has the right hand first and the wrists last; without one, the places of a hand are guesses."""
    valid = [1] * 42
    valid[20] = valid[21] = 0  # the wrist of the right hand, and one joint of the left
    visible = open_set(interhand(tmp_path, valid))[0].visible
    assert not visible[112:].any() and visible[95] == 0 and visible[91:112].tolist().count(2) == 20


def test_human_art_uses_its_21_joints_below_its_own_folder(tmp_path: Path) -> None:
    labels = annotation(17, keypoints_21=annotation(21, flag=1)["keypoints"])
    instance = opened(tmp_path, "humanart", document([labels], name="HumanArt/images/{}.jpg"))[0]
    assert instance.image == tmp_path / "images/1.jpg"
    assert instance.keypoints[99].tolist() == grid(21)[17].tolist() and instance.visible[99] == 1


def test_matlabs_coordinates_count_from_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    instance = opened(tmp_path / "jhmdb", "jhmdb", document([annotation(15)]))[0]
    assert instance.keypoints[6].tolist() == (grid(15)[3] - 1).tolist()
    assert instance.box.tolist() == [9, 19, 209, 239]
    person = {"image": "a.jpg", "center": [100, 120], "scale": 0.5, "joints": grid(16).tolist()}
    person["joints_vis"] = [1] * 15 + [0]
    instance = opened(tmp_path / "mpii", "mpii", [person])[0]
    assert instance.keypoints[16].tolist() == (grid(16)[0] - 1).tolist()
    assert instance.visible[16] == 2 and instance.visible[9] == 0
    table = opened(tmp_path / "mpii", "mpii", [person, {**person, "scale": None}, 5])
    assert len(table) == 1 and table.skipped == {"malformed": 2}
    assert caplog.text.count("mpii: the first malformed one is annotation 1: ") == 1
    # 200 * 0.5 pixels about (100, 120), moved down by 15 * 0.5, and one to the upper left.
    assert instance.box.tolist() == [49, 76.5, 149, 176.5]


def test_boxes_are_clipped_to_the_image(tmp_path: Path) -> None:
    table = opened(tmp_path, "aic", document([annotation(14, bbox=[-30, 10, 5000, 5000])]))
    assert table[0].box.tolist() == [0, 10, WIDTH - 1, HEIGHT - 1]


def test_posetracks_files_of_one_video_list_no_sizes(tmp_path: Path) -> None:
    labels = document([annotation(17, bbox=[-30, 10, 5000, 5000])])
    for image in labels["images"]:
        del image["width"], image["height"]
    table = opened(tmp_path, "posetrack18", labels)
    assert table.skipped == {} and table[0].size is None
    assert table[0].box.tolist() == [-30, 10, 4970, 5010], "there is nothing to cut it to"


BAD = {
    "crowd": [annotation(14, iscrowd=1)],
    "no keypoint labelled": [annotation(14, flag=0)],
    "bad box": [
        annotation(14, bbox=[10, 20, float("nan"), 30]),
        annotation(14, bbox=[10, 20, 0, 30]),
        annotation(14, bbox=[10, 20, -5, 30]),
        annotation(14, bbox=[WIDTH + 50, 20, 30, 30]),
    ],
    "keypoint not finite": [annotation(14, keypoints=[float("nan"), 1, 2] * 14)],
    "image not listed": [annotation(14, image_id=99), annotation(14, image_id=None)],
    "malformed": [
        "no dictionary",
        annotation(13),
        annotation(14, bbox=None),
        annotation(14, bbox=[1, 2, 3]),
        annotation(14, keypoints="abc"),
        {"image_id": 1},
    ],
}


@pytest.mark.parametrize("reason", BAD)
def test_what_is_bad_is_counted_and_left_out(tmp_path: Path, reason: str) -> None:
    table = opened(tmp_path, "aic", document([annotation(14), *BAD[reason], annotation(14)]))
    assert len(table) == 2 and table.images == 1
    assert table.skipped == {reason: len(BAD[reason])}


def test_ids_as_text_are_those_as_numbers(tmp_path: Path) -> None:
    """As `evaluate` takes them."""
    labels = document([annotation(14, image_id="000000000002"), annotation(14, image_id=1)], images=2)  # type: ignore
    labels["images"][0]["id"] = "1"
    table = opened(tmp_path, "aic", labels)
    assert [table[index].image.name for index in range(2)] == ["2.png", "1.png"] and table.skipped == {}


def test_people_on_two_images_of_one_id_are_left_out(tmp_path: Path) -> None:
    """Files joined by hand: the last image would get everybody's labels."""
    labels = document([annotation(14, image_id=1), annotation(14, image_id=2)], images=2)
    listed = labels["images"]
    labels["images"] = [listed[0], {**listed[0], "file_name": "other.png"}, listed[1], listed[1]]
    table = opened(tmp_path, "aic", labels)
    assert len(table) == 1 and table[0].image.name == "2.png"
    assert table.skipped == {"image id of two files": 1}


@pytest.mark.parametrize("name", ["\ud800.png", "a\0.png"])
def test_a_name_that_no_file_can_have_is_left_out(tmp_path: Path, name: str) -> None:
    labels = document([annotation(14, image_id=1), annotation(14, image_id=2)], images=2)
    labels["images"][0]["file_name"] = name
    table = opened(tmp_path, "aic", labels)
    assert len(table) == 1 and table.skipped == {"malformed": 1}


def test_a_hidden_nan_does_no_harm(tmp_path: Path) -> None:
    labels = annotation(14)
    labels["keypoints"][:3] = [float("nan"), float("nan"), 0]
    instance = opened(tmp_path, "aic", document([labels]))[0]
    assert instance.visible[6] == 0 and np.isfinite(instance.keypoints).all()


def test_every_nth_image_by_place_or_by_id(tmp_path: Path) -> None:
    people = [annotation(14, image_id=i) for i in range(1, 8) for _ in range(2)]
    table = opened(tmp_path / "aic", "aic", document(people, images=7), every=3)
    assert [table[i].image.name for i in range(len(table))] == ["1.png", "1.png", "4.png", "4.png", "7.png", "7.png"]
    people = [whole_body(image_id=i) for i in range(1, 31)]
    table = opened(tmp_path / "ubody", "ubody", document(people, images=30))
    assert [table[i].image.name for i in range(len(table))] == ["10.png", "20.png", "30.png"]


def test_every_nth_image_counts_through_the_files_of_a_folder(tmp_path: Path) -> None:
    for name in "abc":
        labels = document([annotation(17, image_id=i) for i in (1, 2)], images=2, name=f"{name}{{}}.png")
        (tmp_path / f"{name}.json").write_text(json.dumps(labels))
    table = open_set(SetConfig("posetrack18", tmp_path, annotations=".", every=4))
    assert [table[i].image.name for i in range(len(table))] == ["a1.png", "c1.png"]
    for name in "abc":
        person = {"center": [100, 120], "scale": 0.5, "joints": grid(16).tolist(), "joints_vis": [1] * 16}
        people = [{**person, "image": f"{name}{number}.png"} for number in (1, 1, 2)]
        (tmp_path / f"{name}.json").write_text(json.dumps(people))
    table = open_set(SetConfig("mpii", tmp_path, annotations=".", every=4))
    assert [table[i].image.name for i in range(len(table))] == ["a1.png", "a1.png", "c1.png", "c1.png"]


def test_scenes_and_folders_of_files_are_joined(tmp_path: Path) -> None:
    for scene in ("Movie", "Speech"):
        (tmp_path / "annotations" / scene).mkdir(parents=True)
        labels = document([whole_body(image_id=10)], images=10, name=f"/{scene}/{{}}.png")
        (tmp_path / "annotations" / scene / "train_annotations.json").write_text(json.dumps(labels))
    table = open_set(SetConfig("ubody", tmp_path, scenes=("Movie", "Speech")))
    assert [table[i].image for i in range(2)] == [tmp_path / f"images/{scene}/10.png" for scene in ("Movie", "Speech")]
    with pytest.raises(BadInputError, match=r"There are no annotations at .*ConductMusic/train_annotations.json"):
        open_set(SetConfig("ubody", tmp_path))
    for number in (1, 2):
        labels = document([annotation(17)], name=f"images/{number}.png")
        (tmp_path / f"{number}.json").write_text(json.dumps(labels))
    assert len(open_set(SetConfig("posetrack18", tmp_path, annotations="."))) == 2
    with pytest.raises(BadInputError, match=r"No \.json file lies in .*annotations"):
        open_set(SetConfig("posetrack18", tmp_path, annotations="annotations"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{oops", r"The annotations .*labels\.json are not JSON .*: download them again"),
        ("[1, 2]", r"labels\.json is no COCO annotation file: it needs the lists 'images' and 'annotations'"),
        ('{"images": [], "annotations": []}', r"The set 'aic' has no usable annotation \(the file is empty\)"),
        ('{"images": [{"id": "a"}], "annotations": []}', r"labels\.json has no image whose `id` is a whole number"),
        (
            json.dumps(document([annotation(17), annotation(14, iscrowd=1)])),
            r"The set 'aic' has no usable annotation \(1 crowd, 1 malformed; annotation 1: .*\): .* with 14 keypoints",
        ),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(BadInputError, match=message):
        open_set(SetConfig("aic", tmp_path, annotations="labels.json"))


def test_a_set_of_which_every_keeps_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(document([whole_body()])))
    with pytest.raises(BadInputError, match=r"\(the file is empty, or every = 10 keeps no image\)"):
        open_set(SetConfig("ubody", tmp_path, annotations="labels.json"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"There are no annotations at .*annotations/aic_train\.json: check `root`"):
        open_set(SetConfig("aic", tmp_path))
    (tmp_path / "labels.json").write_text("{}")
    with pytest.raises(BadInputError, match="is not MPII's annotation file: it must be a list of people"):
        open_set(SetConfig("mpii", tmp_path, annotations="labels.json"))


def test_a_set_is_compact_and_travels_to_workers(tmp_path: Path) -> None:
    people = [annotation(14, image_id=i) for i in range(1, 1001)]
    table = opened(tmp_path, "aic", document(people, images=1000, name="folder/ä{}.png"))
    sent = pickle.dumps(table)
    # 12 joints of 9 bytes, a box of 16, an image number, a name: under 200 bytes a person.
    assert len(sent) < 200 * len(table)
    again = pickle.loads(sent)
    assert again[999].image == tmp_path / "folder/ä1000.png"
    assert np.array_equal(again[999].keypoints, table[999].keypoints)
    with pytest.raises(IndexError):
        table[1000]
