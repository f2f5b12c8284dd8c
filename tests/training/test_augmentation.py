"""Crops for training: where keypoints land, what a flip does to left, right and depth, how large the changes are."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from official_augmentation import RTMW

from rtmw_edge.crops import box_to_crop, crop
from rtmw_edge.data.instances import Instance
from rtmw_edge.errors import BadInputError
from rtmw_edge.keypoints import FLIP
from rtmw_edge.training import augmentation
from rtmw_edge.training.augmentation import (
    Augmentation,
    augmented,
)

SIZE = (192, 256)
NONE = Augmentation(
    flip=0.0, rotation=0.0, scale=(1.0, 1.0), shift=0.0, shift_probability=0.0,
    colour=0.0, grey=0.0, blur=0.0, dropout=0.0,
)  # fmt: skip
"""No change at all: the crop that the runtime makes."""
cv2.setNumThreads(1)
PICTURE = np.random.default_rng(5).integers(0, 256, (480, 640, 3), dtype=np.uint8)


def sample_rng(*key):
    return np.random.default_rng(key)


def photometric(crop, settings, rng):
    return augmentation.changed(crop, augmentation.drawn_changes(settings, crop.shape[1::-1], rng))


def changed(**values):
    return dataclasses.replace(NONE, **values)


def person(*, whole=True, visible=None, keypoints=None, metres=None, box=(180, 60, 420, 440)):
    rng = np.random.default_rng(1)
    points = rng.uniform([180, 60], [420, 440], (133, 2)) if keypoints is None else keypoints
    return Instance(
        image=PICTURE,
        box=np.array(box, np.float32),
        keypoints=np.asarray(points, np.float32),
        visible=np.full(133, 2, np.uint8) if visible is None else np.asarray(visible, np.uint8),
        metres=metres,
        camera=None,
        source="test",
        whole=whole,
    )


def frame_of(instance, augmentation, seed):
    """Shown side over the padded box's, rotation in degrees, shift of the middle in padded boxes."""
    _, points, _ = augmented(PICTURE, instance, SIZE, augmentation, sample_rng(3, 0, seed))
    source = np.column_stack([instance.keypoints, np.ones(133)])
    affine = np.linalg.lstsq(source, points.astype(np.float64), rcond=None)[0].T
    zoom = np.hypot(affine[0, 0], affine[1, 0])
    x0, y0, x1, y1 = instance.box
    wide = max((x1 - x0) * 1.25, (y1 - y0) * 1.25 * 0.75)
    middle = np.linalg.solve(affine[:, :2], np.array(SIZE) / 2 - affine[:, 2])
    shift = (middle - [(x0 + x1) / 2, (y0 + y1) / 2]) / (np.array([x1 - x0, y1 - y0]) * 1.25)
    return SIZE[0] / zoom / wide, np.rad2deg(np.arctan2(affine[1, 0], affine[0, 0])), shift


def frames(instance, augmentation, count=600):
    scales, turns, shifts = zip(*(frame_of(instance, augmentation, i) for i in range(count)), strict=True)
    return np.array(scales), np.array(turns), np.array(shifts)


def test_without_augmentation_keypoints_land_where_the_official_transform_puts_them(reference_dir):
    for case in json.loads((reference_dir / "functions.json").read_text())["affine"]:
        points = np.zeros((133, 2))
        points[:5] = case["points"]
        size = tuple(case["input_size"])
        instance = person(box=case["bbox_xyxy"], keypoints=points)
        image, found, weights = augmented(PICTURE, instance, size, NONE, sample_rng(0, 0, 0))
        assert np.abs(found[:5] - case["transformed"]).max() < 2e-3
        # The figures are float32, so the grid of 1/32 pixel that OpenCV samples on can differ here and there.
        assert np.abs(image.astype(int) - crop(PICTURE, case["center"], case["scale"], size)).mean() < 0.5
        assert image.shape == (size[1], size[0], 3) and weights.shape == (133, 2)


def test_a_mirrored_crop_is_the_crop_of_the_mirrored_picture():
    instance = person(visible=np.arange(133) % 3)
    flipped = changed(flip=1.0)
    image, points, weights = augmented(PICTURE, instance, SIZE, flipped, sample_rng(0, 0, 0), hidden_weight=0.5)
    x0, y0, x1, y1 = instance.box
    mirrored = cv2.flip(PICTURE, 1)
    center, scale = box_to_crop([639 - x1, y0, 639 - x0, y1], SIZE)
    expected = crop(mirrored, center[0], scale[0], SIZE)
    assert np.abs(image.astype(int) - expected).mean() < 0.5
    zoom = SIZE[0] / scale[0, 0]
    there = (np.column_stack([639 - instance.keypoints[:, 0], instance.keypoints[:, 1]]) - center) * zoom + [96, 128]
    assert np.abs(points - there[FLIP]).max() < 1e-3
    assert weights[:, 0].tolist() == [(0.0, 0.5, 1.0)[FLIP[k] % 3] for k in range(133)]


def test_a_flip_gives_every_joint_the_depth_of_its_own_side():
    metres = np.random.default_rng(2).uniform([-1, -1, 3], [1, 1, 5], (133, 3)).astype(np.float32)
    instance = person(metres=metres)
    _, plain, _ = augmented(PICTURE, instance, (*SIZE, 192), NONE, sample_rng(0, 0, 0))
    _, mirrored, weights = augmented(PICTURE, instance, (*SIZE, 192), changed(flip=1.0), sample_rng(0, 0, 0))
    # The left wrist (9) was the right one (10): where it lies in the picture, and how far away, go together.
    assert mirrored[9, 0] == pytest.approx(SIZE[0] - plain[10, 0], abs=1e-3)
    assert mirrored[9, 2] == plain[10, 2] != plain[9, 2]
    assert np.array_equal(mirrored[:, 2], plain[FLIP, 2])
    assert (weights == 1).all()


def test_depth_is_the_official_codec_s(reference_dir):
    with np.load(reference_dir / "simcc3d-384x288.npz") as data:
        metres, labels, weight = data["keypoints_3d"][0], data["labels_z"][0], data["weight_z"][0]
    instance = person(metres=metres.astype(np.float32))
    _, points, _ = augmented(PICTURE, instance, (288, 384, 288), NONE, sample_rng(0, 0, 0))
    shown = weight > 0
    peaks = labels[shown].astype(np.float32).argmax(axis=1)
    inside = (peaks > 0) & (peaks < 575)
    assert inside.sum() > 50
    assert np.array_equal(np.rint(2 * points[shown, 2])[inside], peaks[inside])


def test_depth_weighs_nothing_where_it_is_not_known():
    size = (*SIZE, 192)
    _, points, weights = augmented(PICTURE, person(), size, NONE, sample_rng(0, 0, 0))
    assert (points[:, 2] == 1).all() and (weights == [1, 1, 0]).all()
    metres = np.full((133, 3), 4.0, np.float32)
    metres[20, 2] = np.nan
    _, points, weights = augmented(PICTURE, person(metres=metres), size, NONE, sample_rng(0, 0, 0))
    assert weights[20].tolist() == [1, 1, 0] and weights[:, 2].sum() == 132
    assert points[0, 2] == 96 and np.isfinite(points).all()
    metres[11] = 0  # a hip that a set left out: no root, so no depth at all
    _, _, weights = augmented(PICTURE, person(metres=metres), size, NONE, sample_rng(0, 0, 0))
    assert (weights[:, 2] == 0).all()


def test_the_first_stage_moves_the_box_as_specified():
    colourless = dataclasses.replace(RTMW, photometric=0.0, blur=0.0, median_blur=0.0, dropout=0.0)
    scales, turns, shifts = frames(person(), dataclasses.replace(colourless, half_body=0.0, flip=0.0))
    assert 0.5 <= scales.min() < 0.55 and 1.45 < scales.max() <= 1.5
    # A normal truncated at one standard deviation has one of 0.5396; here times 0.5, and times 90 degrees.
    assert scales.std() == pytest.approx(0.5 * 0.5396, rel=0.07)
    turned = np.abs(turns) > 1e-3
    assert turned.mean() == pytest.approx(0.6, abs=0.06)
    assert np.abs(turns).max() <= 90 and turns[turned].std() == pytest.approx(90 * 0.5396, rel=0.1)
    moved = np.abs(shifts).max(axis=1) > 1e-4
    assert moved.mean() == pytest.approx(0.3, abs=0.06)
    assert np.abs(shifts).max() <= 0.16 + 1e-4 and shifts[moved].std() == pytest.approx(0.16 * 0.5396, rel=0.12)


def test_the_second_stage_neither_shifts_nor_colours_nor_drops():
    stage = RTMW.second_stage()
    _, turns, shifts = frames(person(), dataclasses.replace(stage, half_body=0.0, flip=0.0), count=100)
    assert np.abs(shifts).max() < 1e-4 and np.abs(turns).max() > 45
    assert (stage.scale, stage.half_body, stage.blur, stage.median_blur) == ((0.5, 1.5), 0.3, 0.1, 0.1)
    still = dataclasses.replace(stage, blur=0.0, median_blur=0.0)
    assert all(np.array_equal(photometric(PICTURE, still, sample_rng(0, 0, i)), PICTURE) for i in range(20))


def test_faces_and_hands_are_shrunk_first():
    scales, turns, _ = frames(person(whole=False), NONE, count=300)
    assert scales.min() > 1.25 * 1.5 - 1e-6 and scales.max() <= 1.25 * 2.0 + 1e-6
    assert scales.mean() == pytest.approx(1.25 * 1.75, rel=0.01)
    assert np.abs(turns).max() < 1e-3


@pytest.mark.parametrize(
    ("labelled", "halves"),
    [
        (range(133), {"upper": 0.7, "lower": 0.3}),
        ([*range(11), 13], {"upper": 1.0}),
        ([0, *range(11, 23)], {"lower": 1.0}),
        (range(91, 133), {"box": 1.0}),
        (range(8), {"box": 1.0}),
    ],
    ids=["both", "upper", "lower", "no body", "too few"],
)
def test_half_body(labelled, halves):
    visible = np.zeros(133, np.uint8)
    visible[list(labelled)] = 1
    instance = person(visible=visible)
    expected = {"box": np.array([300.0, 250.0])}
    for name, half in (("upper", range(11)), ("lower", range(11, 23))):
        chosen = instance.keypoints[[k for k in half if visible[k]]]
        if len(chosen):
            expected[name] = chosen.mean(axis=0)
    counts = dict.fromkeys(expected, 0)
    for seed in range(200):
        scale, _, shift = frame_of(instance, changed(half_body=1.0), seed)
        middle = shift * np.array([240, 380]) * 1.25 + [300, 250]
        nearest = min(expected, key=lambda name: np.abs(expected[name] - middle).max())
        assert np.abs(expected[nearest] - middle).max() < 0.05
        counts[nearest] += 1
        if nearest != "box":
            half = range(11) if nearest == "upper" else range(11, 23)
            extent = np.ptp(instance.keypoints[[k for k in half if visible[k]]], axis=0) * 1.5
            assert scale * 380 * 1.25 * 0.75 == pytest.approx(max(extent[0], extent[1] * 0.75), rel=1e-3)
    for name, share in halves.items():
        assert counts[name] / 200 == pytest.approx(share, abs=0.1)


def test_half_body_happens_as_often_as_asked():
    scales, _, _ = frames(person(), changed(half_body=0.3))
    assert (np.abs(scales - 1) > 1e-3).mean() == pytest.approx(0.3, abs=0.06)


def test_dropout_blackens_one_box_of_20_to_40_percent_a_side():
    white = np.full((256, 192, 3), 255, np.uint8)
    sides = []
    for seed in range(60):
        black = photometric(white, changed(dropout=1.0, dropout_size=(0.2, 0.4)), sample_rng(0, 0, seed))[..., 0] == 0
        rows, columns = np.flatnonzero(black.any(axis=1)), np.flatnonzero(black.any(axis=0))
        assert black.sum() == len(rows) * len(columns) and np.ptp(rows) + 1 == len(rows)
        sides.append((len(rows) / 256, len(columns) / 192))
    assert 0.19 < np.min(sides) < 0.25 and 0.35 < np.max(sides) <= 0.4
    assert (white == 255).all(), "the argument stays as it is"


def test_photometric_distortion_stays_in_its_ranges():
    """On a grey picture only brightness and contrast show: 100 becomes 34 (68 * 0.5) to 198 (132 * 1.5)."""
    grey = np.full((8, 8, 3), 100, np.uint8)
    values = np.array([photometric(grey, changed(photometric=1.0), sample_rng(0, 1, i))[0, 0, 0] for i in range(800)])
    assert 33 <= values.min() < 45 and 180 < values.max() <= 198
    assert (values == 100).mean() == pytest.approx(0.25, abs=0.05), "neither, in a quarter of the cases"
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 2] = 200
    orders = [photometric(red, changed(photometric=1.0), sample_rng(0, 2, i))[0, 0].argmax() for i in range(600)]
    assert np.mean(np.array(orders) != 2) == pytest.approx(1 / 3, abs=0.06), "a random order in half of the cases"


def test_the_jitter_of_3d_is_small():
    grey = np.full((8, 8, 3), 100, np.uint8)
    values = np.array([photometric(grey, changed(hsv=1.0), sample_rng(0, 1, i))[0, 0].max() for i in range(300)])
    assert 70 <= values.min() < 75 and 125 < values.max() <= 130
    assert (values == 100).mean() == pytest.approx(0.5, abs=0.1)


def test_blurs_happen_one_by_one():
    counts = [0, 0]
    for seed in range(200):
        for kind, name in enumerate(("blur", "median_blur")):
            out = photometric(PICTURE[:32, :32], changed(**{name: 0.5}), sample_rng(0, 0, seed))
            counts[kind] += int(out.std() < 0.75 * PICTURE.std())
    assert counts[0] / 200 == pytest.approx(0.5, abs=0.12) and counts[1] / 200 == pytest.approx(0.5, abs=0.12)


def test_a_sample_is_a_function_of_seed_epoch_and_index():
    def drawn(*key):
        return augmented(PICTURE, person(), SIZE, RTMW, sample_rng(*key))

    first, again = drawn(1, 2, 3), drawn(1, 2, 3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert not np.array_equal(first[1], drawn(*other)[1])


def test_keypoints_stay_on_what_they_mark():
    """A marker is painted per body joint; wherever flip, turn and zoom put it, the returned point is in its middle."""
    rng = np.random.default_rng(7)
    picture = np.zeros((480, 640, 3), np.uint8)
    points = rng.uniform([200, 80], [400, 420], (133, 2)).round()
    joint, twin = 9, int(FLIP[9])
    points[[joint, twin]] = [[230, 200], [370, 300]]
    for k, colour in ((joint, (255, 0, 0)), (twin, (0, 0, 255))):
        cv2.circle(picture, points[k].astype(int).tolist(), 6, colour, -1)
    seen = 0
    spread = changed(flip=0.5, rotation=1.0, rotation_degrees=90.0, scale=(0.7, 1.3), shift=0.16, shift_probability=1.0)
    for seed in range(40):
        image, found, _ = augmented(picture, person(keypoints=points), SIZE, spread, sample_rng(0, 0, seed))
        left_channel = image[..., 0].astype(float) * (image[..., 0] > image[..., 2])
        right_channel = image[..., 2].astype(float) * (image[..., 2] > image[..., 0])
        near = {abs(found[joint] - _middle(channel)).max() for channel in (left_channel, right_channel)}
        seen += min(near) < 0.3
    assert seen >= 36, "all but those that leave the crop"


def _middle(channel):
    total = channel.sum()
    if total == 0:
        return np.array([-99.0, -99.0])
    rows, columns = np.indices(channel.shape)
    return np.array([(columns * channel).sum(), (rows * channel).sum()]) / total


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"flip": 1.5}, "The augmentation's flip is 1.5; it lies in 0..1."),
        ({"scale": (0.0, 1.0)}, "The augmentation's scale is [0.0, 1.0]; give two numbers, 0 < low <= high <= 10."),
        ({"dropout_size": (0.4, 0.2)}, "The augmentation's dropout_size is [0.4, 0.2]; give two numbers"),
        ({"scale": (1.0,)}, "The augmentation's scale is [1.0]; give two numbers"),
        ({"shift": -0.1}, "The augmentation's shift is -0.1; it lies in 0..1."),
        ({"rotation_degrees": 200.0}, "The augmentation's rotation_degrees is 200.0; it lies in 0..180."),
    ],
)
def test_wrong_values_are_refused(values, sentence):
    with pytest.raises(BadInputError) as caught:
        Augmentation(**values)
    assert sentence in str(caught.value)
