"""The flip test on a runner whose keypoints all sit on the crop's one bright pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError
from rtmw_edge.evaluation.flip import Flip, FlipTest, flip_logits
from rtmw_edge.keypoints import FLIP
from rtmw_edge.runtime import Description, Engine, Model, Runner
from rtmw_edge.simcc import decode, encode


class BrightPixel:
    """Logits of keypoint k peak at the bright pixel with height 1 + k."""

    input_size = (192, 256)

    def logits(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        flat = crops[..., 0].reshape(len(crops), -1).argmax(axis=1)
        points = np.stack([flat % 192, flat // 192], axis=1)
        labels = encode(np.repeat(points[:, None], 133, axis=1), np.ones((len(crops), 133)), self.input_size)
        height = np.arange(1, 134, dtype=np.float32)[:, None]
        return labels.x * height, labels.y * height


class BrightPixelEngine(Engine):
    """The same as an engine."""

    runtime, devices = "bright pixel", ("cpu",)

    def __init__(self) -> None:
        super().__init__(Model("b", "none", "fp32", (192, 256), (384, 512), None, None), "cpu", 1, batch=8, fixed=False)

    def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        return BrightPixel().logits(crops)

    def describe(self) -> Description:
        return Description(self.runtime, "1", "cpu", 1, {}, 0)


def _crops() -> NDArray[np.uint8]:
    crops = np.zeros((2, 256, 192, 3), np.uint8)
    crops[0, 100, 30] = crops[1, 7, 150] = 255
    return crops


def test_mirror_comes_back_half_a_pixel_to_the_right() -> None:
    crops = _crops()
    x, y = flip_logits(BrightPixel(), crops)
    plain_x, plain_y = BrightPixel().logits(crops)
    height = np.arange(1, 134)
    assert np.allclose(y, plain_y / height[:, None] * ((height + height[FLIP]) / 2)[:, None], rtol=1e-5)
    mirrored = 2 * x[0, 0] - plain_x[0, 0]
    assert mirrored.argmax() == plain_x[0, 0].argmax() + 1 == 61
    keypoints, _ = decode([x, y])
    assert set(np.unique(keypoints[0, :, 0])) <= {30.0, 30.5} and set(np.unique(keypoints[0, :, 1])) == {100.0}


def test_aligned_the_mirror_comes_back_where_it_belongs() -> None:
    crops = _crops()
    plain_x, plain_y = BrightPixel().logits(crops)
    x, y = flip_logits(BrightPixel(), crops, Flip.ALIGNED)
    height = np.arange(1, 134)[:, None]
    mean = (height + height[FLIP]) / 2
    assert np.allclose(x[..., :-1], (plain_x / height * mean)[..., :-1], rtol=1e-5)
    assert np.allclose(y, plain_y / height * mean, rtol=1e-5)
    keypoints, _ = decode([x, y])
    assert set(np.unique(keypoints[0, :, 0])) == {30.0} and set(np.unique(keypoints[1, :, 0])) == {150.0}


def test_flip_test_of_an_image() -> None:
    image = np.zeros((256, 192, 3), np.uint8)
    image[100, 30] = 255
    # This box, padded by 1.25, is the image itself.
    box = np.array([[96 - 76.8, 128 - 102.4, 96 + 76.8, 128 + 102.4]], np.float32)
    runner = Runner(BrightPixelEngine())
    poses = FlipTest(runner)(image, box, np.array([0.5], np.float32))
    assert np.abs(poses.keypoints[0] - (30.25, 100)).max() <= 0.2501
    assert poses.box_scores.tolist() == [0.5]
    assert len(FlipTest(runner)(image, np.zeros((0, 4), np.float32))) == 0


def test_the_flip_test_decodes_as_its_runner_does() -> None:
    """The official mean of two equal peaks, a bin apart, has its top between the bins."""
    image = np.zeros((256, 192, 3), np.uint8)
    image[100, 30] = 255
    box = np.array([[96 - 76.8, 128 - 102.4, 96 + 76.8, 128 + 102.4]], np.float32)
    plain, refined = (
        FlipTest(Runner(BrightPixelEngine(), subbin=subbin))(image, box).keypoints[0, 0, 0] for subbin in (False, True)
    )
    assert plain in (30.0, 30.5) and refined == pytest.approx(30.25, abs=0.01)


def test_three_axes_are_refused() -> None:
    class Deep(BrightPixel):
        def logits(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
            x, y = super().logits(crops)
            return x, y, x

    with pytest.raises(BadInputError, match="The flip test works on 2D variants only: leave --flip out"):
        flip_logits(Deep(), _crops())
