"""The result type: shapes, selection, and the formats it turns into."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import sys
import types

import numpy as np
import pytest

from rtmw_edge.errors import BadInputError, NotAvailableError
from rtmw_edge.keypoints import PARTS
from rtmw_edge.poses import Poses


@pytest.fixture(params=[2, 3])
def poses(request: pytest.FixtureRequest) -> Poses:
    rng = np.random.default_rng(0)
    return Poses(
        rng.uniform(0, 100, (3, 133, request.param)),
        rng.uniform(0.3, 9, (3, 133)),
        [[0, 0, 9, 9]] * 3,
        np.array([0.5, 1, 0.25]),
    )


def test_arrays_are_read_only_copies() -> None:
    keypoints = np.zeros((1, 133, 3))
    poses = Poses(keypoints, np.ones((1, 133)), np.zeros((1, 4)), np.ones(1))
    keypoints[:] = 7
    assert not poses.keypoints.any() and poses.keypoints.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        poses.keypoints[0, 0, 0] = 1
    with pytest.raises(AttributeError):
        poses.scores = np.zeros((1, 133))  # type: ignore[misc]
    for again in (pickle.loads(pickle.dumps(poses)), copy.deepcopy(poses), copy.copy(poses)):
        assert np.array_equal(again.scores, poses.scores) and not again.scores.flags.writeable


def test_parts(poses: Poses) -> None:
    assert np.array_equal(np.concatenate([poses.part(name) for name in PARTS], axis=1), poses.keypoints)
    with pytest.raises(BadInputError, match=r"Unknown part 'lefthand'; did you mean 'left_hand'\?"):
        poses.part("lefthand")


def test_selection(poses: Poses) -> None:
    assert len(poses) == 3
    assert np.array_equal(poses[-1].keypoints, poses.keypoints[2:])
    assert np.array_equal(poses[np.array(1)].keypoints, poses.keypoints[1:2])
    assert len(poses[1:]) == 2 and len(poses[[]]) == 0
    assert poses[poses.box_scores > 0.4].box_scores.tolist() == [0.5, 1]
    assert [float(person.box_scores[0]) for person in poses] == [0.5, 1, 0.25]
    with pytest.raises(IndexError):
        poses[3]


def test_empty() -> None:
    assert len(Poses.empty()) == 0 and Poses.empty(3).keypoints.shape == (0, 133, 3)
    assert Poses.empty().to_coco(1) == [] and Poses.empty().instance_scores().shape == (0,)


@pytest.mark.parametrize(
    ("field", "shape", "text"),
    [
        ("keypoints", (2, 17, 2), "Poses of 2 people need keypoints of shape (2, 133, 2), not (2, 17, 2)."),
        ("keypoints", (2, 133, 4), "Poses of 2 people need keypoints of shape (2, 133, 2), not (2, 133, 4)."),
        ("scores", (2,), "Poses of 2 people need scores of shape (2, 133), not (2,)."),
        ("boxes", (1, 4), "Poses of 2 people need boxes of shape (2, 4), not (1, 4)."),
        ("box_scores", (), "Poses of 2 people need box_scores of shape (2,), not ()."),
    ],
)
def test_shapes_that_disagree_are_refused(field: str, shape: tuple[int, ...], text: str) -> None:
    arrays = {
        "keypoints": np.zeros((2, 133, 2)),
        "scores": np.ones((2, 133)),
        "boxes": np.zeros((2, 4)),
        "box_scores": np.ones(2),
    }
    with pytest.raises(BadInputError) as raised:
        Poses(**{**arrays, field: np.zeros(shape)})
    assert str(raised.value) == text


def test_not_finite_is_refused() -> None:
    with pytest.raises(
        BadInputError, match="Poses hold scores that are not finite: the network or its input is damaged"
    ):
        Poses(np.zeros((1, 133, 2)), np.full((1, 133), np.nan), np.zeros((1, 4)), np.ones(1))


def test_instance_score_is_the_mean_of_confident_keypoints() -> None:
    scores = np.full((2, 133), 0.2)
    scores[0, :3] = 0.4, 0.6, 8
    poses = Poses(np.zeros((2, 133, 2)), scores, np.zeros((2, 4)), [0.5, 1])
    assert poses.instance_scores() == pytest.approx([0.5 * 3, 0])


def test_to_coco(poses: Poses) -> None:
    results = poses.to_coco(image_id=np.int64(42))  # type: ignore[arg-type]
    assert json.loads(json.dumps(results)) == results
    assert {(result["image_id"], result["category_id"]) for result in results} == {(42, 1)}
    lengths = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
    assert {name: len(results[0][name]) for name in lengths} == {name: 3 * count for name, count in lengths.items()}
    joined = np.array([[value for name in lengths for value in result[name]] for result in results]).reshape(3, 133, 3)
    assert np.array_equal(joined[..., :2].astype(np.float32), poses.keypoints[..., :2])
    assert np.array_equal(joined[..., 2].astype(np.float32), poses.scores)
    assert results[1]["score"] == pytest.approx(float(poses.instance_scores()[1]))


@pytest.mark.parametrize("name", ["confidence", "keypoint_confidence"])
def test_to_supervision(poses: Poses, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Under the field's name before and since supervision 0.29."""
    fake = types.SimpleNamespace(KeyPoints=dataclasses.make_dataclass("KeyPoints", ["xy", name]))
    monkeypatch.setitem(sys.modules, "supervision", fake)
    converted = poses.to_supervision()
    assert np.array_equal(converted.xy, poses.keypoints[..., :2])
    assert np.array_equal(getattr(converted, name), poses.scores)
    sure = np.full(poses.scores.shape, 0.25, np.float32)
    assert np.array_equal(getattr(poses.to_supervision(sure), name), sure)
    made = dataclasses.make_dataclass("KeyPoints", ["xy", name, "detection_confidence"])
    monkeypatch.setitem(sys.modules, "supervision", types.SimpleNamespace(KeyPoints=made))
    assert np.array_equal(poses.to_supervision().detection_confidence, poses.box_scores)


def test_to_supervision_without_it(poses: Poses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(NotAvailableError, match=r"This needs supervision, which is not installed\. Run: pip install"):
        poses.to_supervision()


def test_printed_they_are_a_few_words() -> None:
    assert repr(Poses.empty()) == "<Poses of 0 people, 2D>"
    one = Poses(np.zeros((1, 133, 3)), np.zeros((1, 133)), np.zeros((1, 4)), np.zeros(1))
    assert repr(one) == "<Poses of 1 person, 3D>"


def test_what_is_imported_on_first_use_is_listed() -> None:
    import rtmw_edge

    assert {"load", "Poses", "Wholebody"} <= set(dir(rtmw_edge))
