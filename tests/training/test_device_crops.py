"""Crops made on the device are those of the loader's workers, but for the rounding of a warp."""

import dataclasses
from collections import Counter
from types import SimpleNamespace
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch
from official_augmentation import RTMW, RTMW3D
from small_runs import TINY, NoValidation, forget, small_recipe

from rtmw_edge.errors import BadInputError
from rtmw_edge.training import loop, stream
from rtmw_edge.training.augmentation import Augmentation, changed, drawn_changes
from rtmw_edge.training.device_crops import CropMaker, bgr_to_hsv, change, hsv_to_bgr, in_rounds, warped
from rtmw_edge.training.stream import Crops, PlannedSamples, Rendered, batches

CPU = torch.device("cpu")
RICH = Augmentation(hsv=0.4, colour=0.9, grey=0.3, blur=0.3, median_blur=0.3, dropout=0.5)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(loop, "Validation", NoValidation)
    yield
    forget()


class Drawn:
    """A renderer of smooth pictures that counts whom it draws."""

    counts: ClassVar[Counter[int]] = Counter()

    def __init__(self, split, seed, backgrounds=None):
        self.seed = seed

    def person(self, index, size):
        self.counts[index] += 1
        rng = np.random.default_rng([self.seed, index])
        width, height = size
        coarse = rng.integers(0, 256, (9, 7, 3)).astype(np.uint8)
        points = rng.uniform((0, 0), size, (133, 2)).astype(np.float32)
        person = SimpleNamespace(
            box=np.array([4, 6, width - 8, height - 5], np.float32),
            keypoints=points,
            visible=rng.integers(0, 3, 133).astype(np.uint8),
            metres=rng.uniform(1, 3, (133, 3)).astype(np.float32),
        )
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        return SimpleNamespace(image=image, people=(person,), camera=np.eye(3))


def crops_of(augmentation, *, reuse=4.0, window=1024, lanes=2, span=12, size=(64, 96)):
    recipe = dataclasses.replace(small_recipe("steps=9"), augmentation=augmentation, late_augmentation=RTMW)
    return Crops(Rendered(5, reuse, (80, 120), window=window, lanes=lanes, span=span), recipe, size, 48)


def ring(crops, most):
    """The samples of `crops` as planned, and what makes them, at most so many at a time."""
    maker = CropMaker((64, 96), crops.source.in_use(most), CPU)
    return PlannedSamples(crops, maker.capacity), maker


def both(crops, planned, maker, positions):
    """What the workers make of these positions, and the device."""
    rows = [crops[position] for position in positions]
    made, points, weights, skipped = planned.__getitems__(positions)
    for column, whole in enumerate((points, weights, skipped), start=1):
        assert torch.equal(torch.stack([row[column] for row in rows]), whole)
    return torch.stack([row[0] for row in rows]), maker(made), made


@pytest.mark.parametrize("augmentation", [Augmentation(), RICH, RTMW])
@pytest.mark.parametrize("size", [(64, 96), (64, 96, 64)])
def test_the_device_makes_the_crops_of_the_workers(monkeypatch, augmentation, size):
    monkeypatch.setattr(stream, "Renderer", Drawn)
    planned, maker = ring(crops_of(augmentation, size=size), 12)
    apart = []
    for batch in range(6):  # the last ones have the late augmentation
        host, device, made = both(crops_of(augmentation, size=size), planned, maker, range(batch * 12, batch * 12 + 12))
        assert device.dtype == torch.uint8 and device.shape == (12, 96, 64, 3)
        assert [arrived.lane for arrived in made.arrived] == [batch % 2]
        apart.append((host.int() - device.int()).abs().flatten())
    off = torch.cat(apart).float()
    assert off.mean() < 0.5 and off.quantile(0.99) <= 3


def test_a_picture_is_sent_once(monkeypatch):
    monkeypatch.setattr(stream, "Renderer", Drawn)
    monkeypatch.setattr(stream, "FIRST", 4)
    planned, maker = ring(crops_of(RICH, window=16, lanes=1), 12)
    sent = Counter()
    host = crops_of(RICH, window=16, lanes=1)
    for start in range(0, 600, 12):
        positions = range(start, start + 12)
        crops, device, made = both(host, planned, maker, positions)
        assert (crops.int() - device.int()).abs().float().mean() < 1
        sent.update(made.arrived[0].numbers.tolist())
    assert set(sent.values()) == {1}
    assert max(sent) > 4 * planned.capacity  # the ring went round


def test_a_batch_may_bring_nobody_new(monkeypatch):
    monkeypatch.setattr(stream, "Renderer", Drawn)
    planned, maker = ring(crops_of(RICH), 12)
    first = maker(planned.__getitems__(list(range(12)))[0])
    again, *_ = planned.__getitems__(list(range(12)))
    assert again.arrived[0].numbers.shape == (0,)
    assert torch.equal(maker(again), first)


def test_two_workers_may_serve_a_lane_in_turns(monkeypatch):
    monkeypatch.setattr(stream, "Renderer", Drawn)
    workers = [ring(crops_of(RICH, window=16, lanes=1), 12) for _ in range(2)]
    maker, host = workers[0][1], crops_of(RICH, window=16, lanes=1)
    for number in range(40):
        crops, device, _ = both(host, workers[number // 3 % 2][0], maker, range(number * 12, number * 12 + 12))
        assert (crops.int() - device.int()).abs().float().mean() < 1


def test_a_run_of_small_passes_may_go_on_in_large_ones(monkeypatch):
    monkeypatch.setattr(stream, "Renderer", Drawn)
    planned, maker = ring(crops_of(RICH, window=16, lanes=1, reuse=2.0), 96)
    host = crops_of(RICH, window=16, lanes=1, reuse=2.0)
    assert planned.capacity < 16 + 96
    for start in range(0, 960, 96):
        crops, device, made = both(host, planned, maker, range(start, start + 96))
        persons = made.arrived[0].persons
        assert int(persons.max() - persons.min()) < planned.capacity
        assert (crops.int() - device.int()).abs().float().mean((1, 2, 3)).max() < 3


@pytest.mark.slow
def test_workers_send_people_to_the_device():
    crops = crops_of(Augmentation(), reuse=3.0)
    planned, maker = ring(crops, 12)
    made_batches = list(batches(planned, [list(range(12)), list(range(12, 24))], workers=2, pin=False))
    for number, (made, points, weights, _) in enumerate(made_batches):
        rows = [crops[position] for position in range(number * 12, number * 12 + 12)]
        assert torch.allclose(torch.stack([row[1] for row in rows]), points, atol=1e-3)  # other threads of BLAS
        assert torch.equal(torch.stack([row[2] for row in rows]), weights)
        off = (torch.stack([row[0] for row in rows]).int() - maker(made).int()).abs().float()
        assert off.mean() < 0.5 and off.mean((1, 2, 3)).max() < 3
    assert len(made_batches) == 2


def test_a_worker_renders_every_person_once(monkeypatch):
    monkeypatch.setattr(stream, "Renderer", Drawn)
    monkeypatch.setattr(stream, "FIRST", 4)
    monkeypatch.setattr(Drawn, "counts", Counter())
    planned, _ = ring(crops_of(RICH, window=16, lanes=1, span=48), 48)
    for start in range(0, 960, 48):
        planned.__getitems__(list(range(start, start + 48)))
    assert set(Drawn.counts.values()) == {1}
    assert len(Drawn.counts) == 960 // 4 + stream.FIRST


def test_a_batch_over_several_lanes_and_a_run_that_goes_on_elsewhere(monkeypatch):
    monkeypatch.setattr(stream, "Renderer", Drawn)
    planned, maker = ring(crops_of(RICH), 30)
    host, device, made = both(crops_of(RICH), planned, maker, range(5000, 5030))
    assert [arrived.lane for arrived in made.arrived] == [0, 1]
    assert (host.int() - device.int()).abs().float().mean() < 1


def test_a_warp_is_that_of_opencv():
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (12, 10, 3)).astype(np.uint8), (160, 200), interpolation=cv2.INTER_CUBIC)
    matrix = np.array([[0.7, -0.2, 30.0], [0.25, 0.8, -20.0]])
    ours = warped(torch.from_numpy(picture)[None], torch.tensor(matrix, dtype=torch.float32)[None], (96, 128))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    theirs = cv2.warpAffine(picture, matrix, (96, 128), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    off = np.abs(ours[0].permute(1, 2, 0).numpy() - theirs)
    assert (theirs == 0).all(-1).any() and off.mean() < 0.3 and np.percentile(off, 99.5) <= 3


def test_hue_saturation_and_value_are_those_of_opencv():
    colours = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    colours[:20] = colours[:20, :, :1]  # greys
    as_tensor = torch.from_numpy(colours).permute(2, 0, 1)[None].float()
    theirs = cv2.cvtColor(colours, cv2.COLOR_BGR2HSV)
    assert np.array_equal(bgr_to_hsv(as_tensor)[0].permute(1, 2, 0).numpy(), theirs)
    back = hsv_to_bgr(torch.from_numpy(theirs).permute(2, 0, 1)[None].float())[0].permute(1, 2, 0).numpy()
    assert np.abs(back - cv2.cvtColor(theirs, cv2.COLOR_HSV2BGR)).max() <= 1


@pytest.mark.parametrize("kind", ["photometric", "hsv", "colour", "grey", "blur", "median_blur", "dropout"])
def test_every_change_is_that_of_opencv(kind):
    names = ("photometric", "hsv", "colour", "grey", "blur", "median_blur", "dropout")
    only = dataclasses.replace(RTMW3D, **{name: float(name == kind) for name in names})
    crops = [
        cv2.resize(np.random.default_rng(n).integers(0, 256, (9, 7, 3)).astype(np.uint8), (48, 64)) for n in range(30)
    ]
    plans = [drawn_changes(only, (48, 64), np.random.default_rng(n)) for n in range(30)]
    assert all(plans)
    stacked = torch.stack([torch.from_numpy(crop) for crop in crops]).permute(0, 3, 1, 2).float()
    made = stacked.clone()
    change(made, *in_rounds(plans))
    expected = np.stack([changed(crop, plan) for crop, plan in zip(crops, plans, strict=True)])
    off = np.abs(made.permute(0, 2, 3, 1).numpy() - expected)
    assert not torch.equal(made, stacked)
    assert off.max() <= 2 and (off > 1).mean() < 0.01


def test_a_batch_without_changes_stays_as_it_is():
    crops = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5).float()
    made = crops.clone()
    change(made, *in_rounds([[], []]))
    assert torch.equal(made, crops)


def test_a_training_takes_its_crops_from_the_device(monkeypatch, tmp_path):
    monkeypatch.setattr(stream, "Renderer", Drawn)
    losses = {}
    for where in ("host", "device"):
        recipe = small_recipe("steps=3", f"crops={where}", f"variant={TINY.name}")
        trainer = loop.Trainer(recipe, tmp_path / where, workers=0)
        losses[where] = [record["loss"] for record in trainer.run()]
    assert losses["device"] == pytest.approx(losses["host"], rel=1e-2)
    assert losses["device"] != losses["host"]


def test_a_stopped_training_with_crops_from_the_device_goes_on_to_the_very_same_losses(monkeypatch, tmp_path):
    monkeypatch.setattr(stream, "Renderer", Drawn)

    def trainer(out):
        return loop.Trainer(small_recipe("steps=4", "crops=device"), tmp_path / out, workers=0)

    losses = [record["loss"] for record in trainer("whole").run()]
    records = trainer("parts").run()
    begun = [next(records)["loss"] for _ in range(2)]
    records.close()
    assert begun + [record["loss"] for record in trainer("parts").run()] == losses


def test_elsewhere_is_refused():
    with pytest.raises(BadInputError, match=r"Unknown crops 'gpu'\. Choose one of: auto, host, device\."):
        small_recipe("steps=3", "crops=gpu")
