"""3D runners on rendered people: MPJPE in the camera's frame, from the runner's poses to the command's table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from reference_weights import fill

from rtmw_edge.cli import main
from rtmw_edge.crops import box_to_crop, warp_matrix
from rtmw_edge.evaluation import evaluate
from rtmw_edge.evaluation.datasets import Item, Labels3D, SyntheticPeople
from rtmw_edge.evaluation.evaluate import Evaluator, boxes_to_run, clipped_boxes
from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import save_safetensors
from rtmw_edge.models.variants import variant_named
from rtmw_edge.poses import Poses
from rtmw_edge.runtime import Description, Engine, Model, Runner, torch_runner
from rtmw_edge.simcc import encode_3d

PEOPLE = 4


class DeepOracle:
    """Answers the labels of the one person an image, as a 3D runner does: pixels, and metres from the hip middle.

    `shift` (3,) is added: pixels, pixels, metres.
    """

    def __init__(self, dataset: SyntheticPeople, shift: tuple[float, float, float] = (0, 0, 0)) -> None:
        self._answers: dict[bytes, NDArray[np.floating]] = {}
        for item in dataset:
            assert item.labels_3d is not None
            z = item.labels_3d.metres[..., 2:].astype(np.float64)
            relative = z - z[:, [11, 12]].mean(axis=1, keepdims=True)
            answer = np.concatenate([item.people.keypoints, relative], axis=2) + shift
            self._answers[clipped_boxes(item, np.array([0])).tobytes()] = answer

    def __call__(self, image: NDArray[np.uint8], boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Poses:
        return Poses(self._answers[boxes.tobytes()], np.ones((1, 133)), boxes, scores)

    def describe(self) -> Description:
        return Description("oracle", "1", "cpu", 1, {}, 0)


@pytest.fixture(scope="module")
def dataset() -> SyntheticPeople:
    return SyntheticPeople(PEOPLE)


def _labelled(item: Item) -> NDArray[np.bool_]:
    return item.people.visible[0] > 0


def test_the_labels_have_no_error(dataset: SyntheticPeople) -> None:
    result = evaluate(DeepOracle(dataset), dataset)
    assert list(result.mpjpe) == ["body", "face", "left_hand", "right_hand", "hands", "whole"]
    for errors in result.mpjpe.values():
        # Pixels are float32: some thousandths of a millimetre.
        assert -1 < max(errors.plain, errors.root, errors.part_root, errors.procrustes) < 0.05
    assert result.parts["whole"].ap == pytest.approx(1) and result.pck["whole"] == 1


class LabelEngine(Engine):
    """Answers the crops of the dataset's people, in order, with the training labels of their keypoints."""

    runtime, devices = "labels", ("cpu",)

    def __init__(self, dataset: SyntheticPeople) -> None:
        variant = variant_named("rtmw3d-n-256x192")
        bins = tuple(variant.bins.values())
        model = Model(variant.name, "none", "fp32", variant.input_size, bins, variant.z_range, None)
        super().__init__(model, "cpu", None, batch=1, fixed=False)
        self._items = iter(dataset)

    def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        item = next(self._items)
        assert item.labels_3d is not None
        size = self.model.input_size
        centers, scales = box_to_crop(clipped_boxes(item, np.array([0])), size)
        matrix = warp_matrix(centers[0], scales[0], size)
        points = item.people.keypoints @ matrix[:, :2].T + matrix[:, 2]
        labels = encode_3d(points, item.people.visible > 0, item.labels_3d.metres, size)
        assert labels.z is not None
        return labels.x, labels.y, labels.z

    def describe(self) -> Description:
        return Description(self.runtime, "1", "cpu", None, {}, 0)


def test_training_labels_decode_to_metres_within_half_a_bin(dataset: SyntheticPeople) -> None:
    """From the labels that training makes through decoding, image pixels and the camera to MPJPE: rounding is left.

    A bin of the depth axis is 2 * 2174 mm / 384 = 11.3 mm, so its rounding costs 0 to 5.7 mm, 2.8 mm in the mean.
    """
    inside = evaluate(Runner(LabelEngine(dataset)), dataset).mpjpe
    assert 2.5 < inside["whole"].plain < 7 and 2 < inside["hands"].plain < 7
    assert inside["whole"].root < 9


def test_people_whose_depth_nobody_knows_are_left_out(dataset: SyntheticPeople) -> None:
    """A hip that was not measured: nobody can say how far away the person is, whatever else is labelled."""

    class Hipless(SyntheticPeople):
        def __iter__(self):  # type: ignore[no-untyped-def]
            for item in dataset:
                metres = item.labels_3d.metres.copy()
                metres[:, 11] = np.nan
                yield replace(item, labels_3d=Labels3D(metres, item.labels_3d.camera)) if item.image_id == 1 else item

    known = [item for item in dataset if item.image_id != 1]
    evaluator = Evaluator("three of four")
    oracle = DeepOracle(dataset, (1, 0, 0.1))
    for item in known:
        evaluator.add(item, oracle(item.image, *boxes_to_run(item, None)))
    assert evaluate(oracle, Hipless(PEOPLE)).mpjpe == evaluator.result().mpjpe


def test_too_deep_is_a_plain_error_only(dataset: SyntheticPeople) -> None:
    """Everybody 0.1 m too far: plain errors of 0.1 m along the rays; aligned, what the wider rays spread."""
    result = evaluate(DeepOracle(dataset, (0, 0, 0.1)), dataset).mpjpe["whole"]
    expected = []
    for item in dataset:
        assert item.labels_3d is not None
        metres = item.labels_3d.metres[0][_labelled(item)].astype(np.float64)
        # The same pixel 0.1 m farther along z lies farther along its whole ray (X/Z, Y/Z, 1).
        expected.append(100 * np.linalg.norm(metres / metres[:, 2:], axis=1))
    assert result.plain == pytest.approx(np.concatenate(expected).mean(), abs=0.05)
    assert result.procrustes < 0.25 * result.root < 10 < 100 < result.plain


def test_a_pixel_costs_what_the_camera_says(dataset: SyntheticPeople) -> None:
    """A pixel aside is Z / f metres aside, and nothing when the hips are put together in people of one depth."""
    result = evaluate(DeepOracle(dataset, (1, 0, 0)), dataset).mpjpe["whole"]
    expected = []
    for item in dataset:
        assert item.labels_3d is not None
        depth = item.labels_3d.metres[0, _labelled(item), 2].astype(np.float64)
        expected.append(1000 * depth / item.labels_3d.camera[0, 0])
    assert result.plain == pytest.approx(np.concatenate(expected).mean(), abs=0.05)
    assert 0 <= result.root < 0.3 * result.plain


def test_detected_boxes_and_two_dimensions_have_none(dataset: SyntheticPeople) -> None:
    found = {item.image_id: boxes_to_run(item, None) for item in dataset}
    assert evaluate(DeepOracle(dataset), dataset, detections=found).mpjpe == {}
    deep = DeepOracle(dataset)

    def flat(image: NDArray[np.uint8], boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Poses:
        poses = deep(image, boxes, scores)
        return Poses(poses.keypoints[..., :2], poses.scores, boxes, scores)

    assert evaluate(flat, dataset).mpjpe == {}


def test_people_of_unknown_depth_are_left_out(dataset: SyntheticPeople) -> None:
    oracle = DeepOracle(dataset, (0, 0, 0.2))
    items = list(dataset)
    metres = items[0].labels_3d.metres.copy()  # type: ignore[union-attr]
    metres[0, 11] = np.nan
    first = Item(0, items[0].image, items[0].people, Labels3D(metres, items[0].labels_3d.camera))  # type: ignore[union-attr]

    class Some(SyntheticPeople):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield from self._items

    without, alone = Some(2, [first, items[1]]), Some(1, [items[1]])
    assert evaluate(oracle, without).mpjpe == evaluate(oracle, alone).mpjpe


def test_keypoints_of_unknown_depth_do_not_count() -> None:
    (item,) = SyntheticPeople(1)
    assert item.labels_3d is not None
    joint = np.flatnonzero(_labelled(item))[-1]
    metres = item.labels_3d.metres.copy()
    metres[0, joint] = np.nan
    visible = item.people.visible.copy()
    visible[0, joint] = 0
    errors = []
    for people, truth in ((item.people, metres), (replace(item.people, visible=visible), item.labels_3d.metres)):
        evaluator = Evaluator("one person")
        poses = DeepOracle(SyntheticPeople(1), (0, 0, 0.1))(item.image, clipped_boxes(item, np.array([0])), np.ones(1))
        evaluator.add(replace(item, people=people, labels_3d=Labels3D(truth, item.labels_3d.camera)), poses)
        errors.append(evaluator.result().mpjpe)
    assert errors[0] == errors[1] and errors[0]["whole"].plain > 0


def test_command_prints_and_writes_millimetres(
    dataset: SyntheticPeople, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = nullcontext(DeepOracle(dataset, (0, 0, 0.1)))
    monkeypatch.setattr("rtmw_edge.runtime.load", lambda bundle, device, threads: runner)
    out = tmp_path / "out.json"
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "builtin", "--data", f"synthetic:val:{PEOPLE}", "--json", str(out)])
    assert not stop.value.code
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("MPJPE", "part, mm", "plain", "hips aligned", "Procrustes", "hands"))
    written = json.loads(out.read_text())["mpjpe"]
    assert written["whole"]["plain"] > 100 > written["whole"]["root"] > 0
    assert f"{written['whole']['plain']:.1f}" in printed


def test_a_real_3d_network_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rtmw3d-n with weights of noise, from file to figures: it finds nobody, and everything is finite."""
    save_safetensors(fill(build("rtmw3d-n-256x192")), tmp_path / "noise.safetensors")
    with torch_runner("rtmw3d-n-256x192", weights=tmp_path / "noise.safetensors") as runner:
        people = SyntheticPeople(2)
        poses = [runner(item.image, clipped_boxes(item, np.array([0]))) for item in people]
        result = evaluate(runner, people)
    assert all(pose.keypoints.shape == (1, 133, 3) for pose in poses)
    assert max(abs(pose.keypoints[..., 2]).max() for pose in poses) <= 1.01 * runner.model.z_range  # type: ignore[operator]
    assert 200 < result.mpjpe["whole"].plain < 5000
    assert result.mpjpe["whole"].procrustes < result.mpjpe["whole"].plain
