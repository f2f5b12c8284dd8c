"""The runner: from image and boxes to poses, whatever the engine."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from numpy.typing import NDArray

from rtmw_edge.bundle import Bundle
from rtmw_edge.errors import BadInputError
from rtmw_edge.poses import Poses
from rtmw_edge.runtime import Description, Engine, Model, Runner, load


class DepthEngine(Engine):
    """Answers fixed bins on three axes: x 20, y 40 and z 0, 48 or 95 of 96."""

    runtime = "fixed answers"
    devices = ("cpu",)

    def __init__(self, score: tuple[float, float] | None = None) -> None:
        model = Model("tiny3d", "none", "fp32", (48, 64), (96, 128, 96), 2.0, score)
        super().__init__(model, "cpu", None, batch=2, fixed=True)

    def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        x, y, z = (np.zeros((2, 133, bins), np.float32) for bins in self.model.bins)
        x[:, :, 20], y[:, :, 40] = 0.5, 0.25
        z[:, 0, 0], z[:, 1, 48], z[:, 2:, 95] = 1, 1, 1
        return x, y, z

    def describe(self) -> Description:
        return Description(self.runtime, "1", "cpu", None, {}, 0)


def picture(x: int, y: int) -> NDArray[np.uint8]:
    """A dark 300x400 image with a bright cross that all keypoints find."""
    image = np.full((400, 300, 3), 20, np.uint8)
    image[y - 2 : y + 3] = 200
    image[:, x - 2 : x + 3] = 200
    return image


def test_crops_give_their_own_pixels(runner: Runner) -> None:
    poses = runner.crops(tiny_models.crops(3))
    assert np.array_equal(poses.keypoints, np.repeat(tiny_models.centers(3)[:, None], 133, axis=1))
    assert poses.boxes.tolist() == [[0, 0, 48, 64]] * 3 and poses.box_scores.tolist() == [1, 1, 1]


def test_image_and_box_give_image_pixels(runner: Runner) -> None:
    box = [60, 80, 180, 280]
    poses = runner(picture(110, 190), [box], [0.75])
    # The box is padded to 250 pixels of height over 64 of the crop: half a bin is two pixels of the image.
    assert np.abs(poses.keypoints - [110, 190]).max() <= 0.5 * 250 / 64
    assert poses.boxes.tolist() == [box] and poses.box_scores.tolist() == [0.75]
    assert poses.keypoints.dtype == np.float32 and poses.scores.shape == (1, 133)


def test_without_boxes_the_whole_image_is_one_person(runner: Runner) -> None:
    image = picture(110, 190)
    whole, boxed = runner(image), runner(image, [[0, 0, 300, 400]])
    assert np.array_equal(whole.keypoints, boxed.keypoints) and whole.boxes.tolist() == [[0, 0, 300, 400]]


def test_a_call_is_its_three_steps_and_cuts_into_one_buffer(runner: Runner) -> None:
    image, boxes = picture(110, 190), [[60, 80, 180, 280], [90, 150, 200, 330]]
    cut = runner.cut(image, boxes, [0.5, 0.25])
    stepwise = runner.poses(runner.engine.infer(cut.crops), cut)
    whole = runner(image, boxes, [0.5, 0.25])
    for field in ("keypoints", "scores", "boxes", "box_scores"):
        assert np.array_equal(getattr(stepwise, field), getattr(whole, field))
    assert np.shares_memory(cut.crops, runner.cut(image, boxes[:1]).crops)


def test_threads_may_share_a_runner(tiny_bundle: Path) -> None:
    crosses = [(60 + 9 * k, 80 + 12 * k) for k in range(20)]
    boxes = [[0, 0, 300, 400], [20, 30, 280, 390]]
    with load(tiny_bundle) as runner, ThreadPoolExecutor(4) as pool:
        alone = [runner(picture(*cross), boxes).keypoints for cross in crosses]
        for found, right in zip(pool.map(lambda at: runner(picture(*at), boxes), 5 * crosses), 5 * alone, strict=True):
            assert np.array_equal(found.keypoints, right)


def test_a_forked_process_is_told_to_open_its_own(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as stored:
        for path in tiny_bundle.iterdir():
            stored.write(path, path.name)
    with load(packed) as runner:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(
            BadInputError, match=r"opened before the process forked.*open one here with rtmw_edge\.load"
        ):
            runner(picture(60, 80))
        runner.close()
        monkeypatch.undo()
        assert runner.bundle is not None and runner.bundle.path("model").is_file(), "the parent's, and still in use"


def test_people_do_not_touch_each_other(runner: Runner) -> None:
    image = picture(110, 190)
    boxes = [[60, 80, 180, 280], [90, 150, 200, 330], [-40, -40, 300, 300]]
    together = runner(image, boxes)
    for index, box in enumerate(boxes):
        assert np.array_equal(together.keypoints[index], runner(image, [box]).keypoints[0])


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4))])
def test_zero_boxes_are_no_poses(runner: Runner, boxes: object) -> None:
    poses = runner(picture(110, 190), boxes)  # type: ignore[arg-type]
    assert len(poses) == 0 and poses.keypoints.shape == (0, 133, 2)
    assert runner.confidence(poses).shape == (0, 133)
    for crops in (np.zeros((0, 64, 48, 3), np.uint8), [], np.array([])):
        assert runner.crops(crops).keypoints.shape == (0, 133, 2)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match=r"The crops are uint8 of shape \(0, 8, 8, 3\)"):
        runner.crops(np.zeros((0, 8, 8, 3), np.uint8))
    with pytest.raises(BadInputError, match=r"The crops are of different sizes: pass all \(height, width, 3\)"):
        runner.crops([np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)])  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_a_tiny_image_has_a_pose(runner: Runner, size: tuple[int, int]) -> None:
    poses = runner(np.full((*size, 3), 128, np.uint8))
    assert len(poses) == 1 and np.isfinite(poses.keypoints).all()


@pytest.mark.parametrize(
    ("image", "boxes", "text"),
    [
        (np.zeros((40, 40), np.uint8), None, r"The image is uint8 of shape \(40, 40\), not uint8 BGR"),
        (picture(9, 9), [[500, 0, 600, 90]], "lies wholly outside the 300x400 image: drop it or check its coordinates"),
    ],
)
def test_bad_input_is_one_sentence(runner: Runner, image: NDArray, boxes: object, text: str) -> None:
    with pytest.raises(BadInputError, match=text):
        runner(image, boxes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        ([1, 1], r"There are 1 boxes and box scores of shape \(2,\): pass one score a box"),
        (["sure"], r"The box scores are not numbers: pass one in 0\.\.1 a box"),
        ([float("nan")], r"The box scores hold a value that is not finite: pass one in 0\.\.1 a box"),
    ],
)
def test_box_scores_must_match(runner: Runner, scores: list[object], text: str) -> None:
    with pytest.raises(BadInputError, match=text):
        runner(picture(9, 9), [[0, 0, 20, 20]], scores)  # type: ignore[arg-type]


def test_depth_comes_in_metres() -> None:
    runner = Runner(DepthEngine())
    poses = runner(np.zeros((64, 48, 3), np.uint8), [[0, 0, 48, 64]] * 3)
    assert poses.keypoints.shape == (3, 133, 3)
    # 96 bins are 48 pixels; pixel 24 is the hip middle, and the ends are 2 m away.
    assert poses.keypoints[2, :3, 2].tolist() == pytest.approx([-2, 0, 2 * (47.5 / 24 - 1)])
    assert runner(np.zeros((64, 48, 3), np.uint8), []).keypoints.shape == (0, 133, 3)


def test_confidence_is_calibrated(runner: Runner) -> None:
    poses = runner.crops(tiny_models.crops(1))
    assert runner.confidence(poses) == pytest.approx(1 / (1 + np.exp(-(2 * poses.scores - 1))), abs=1e-6)


def test_confidence_without_calibration_is_the_share_of_a_sure_logit() -> None:
    arrays = (np.zeros((1, 133, 2)), np.full((1, 133), 0.4), np.zeros((1, 4)), np.ones(1))
    runner = Runner(DepthEngine())
    assert runner.confidence(Poses(*arrays))[0, 0] == pytest.approx(0.4)
    runner.engine.model = Model("tiny", "none", "fp32", (48, 64), (96, 128), None, None)
    assert runner.confidence(Poses(*arrays))[0, 0] == pytest.approx(0.04)


def test_subbin_refines_between_half_pixels(tiny_bundle: Path) -> None:
    images = tiny_models.crops(2)
    with load(tiny_bundle, subbin=True) as fine, load(tiny_bundle) as coarse:
        refined, plain = fine.crops(images).keypoints, coarse.crops(images).keypoints
    assert np.abs(refined - plain).max() <= 0.5
    assert not np.array_equal(refined, plain) and np.array_equal(plain, np.round(plain * 2) / 2)


def test_subbin_refines_depth_too() -> None:
    class Leaning(DepthEngine):
        """The next bin is nearly as high."""

        def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
            x, y, z = super().run(crops)
            x[:, :, 21], z[:, 1, 49] = 0.4, 0.8
            return x, y, z

    image = np.zeros((1, 64, 48, 3), np.uint8)
    fine, plain = (Runner(Leaning(), subbin=subbin).crops(image).keypoints[0, 1] for subbin in (True, False))
    assert plain.tolist() == [10, 20, 0]
    assert 10 < fine[0] < 10.5 and fine[1] == 20 and 0 < fine[2] < 2 / 48


def test_close_also_closes_the_bundle(tiny_bundle: Path) -> None:
    runner, image = load(tiny_bundle), np.zeros((64, 48, 3), np.uint8)
    assert isinstance(runner.bundle, Bundle)
    runner.close()
    assert tiny_bundle.is_dir()
    for asked in (lambda: runner(image), lambda: runner.crops(image[None]), runner.describe):
        with pytest.raises(BadInputError, match=r"This runner is closed: open another with rtmw_edge\.load\(\)\."):
            asked()
    runner.close()
