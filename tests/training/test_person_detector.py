"""The person detector's training: pictures and their boxes, who answers for whom, and going on after a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rtmw_edge.errors import BadInputError
from rtmw_edge.models.person_detector import Prediction, cells
from rtmw_edge.training.person_detector import augmentation, loop, scenes
from rtmw_edge.training.person_detector.loss import Truth, assign, losses, overlaps
from rtmw_edge.training.person_detector.scenes import Pool, Scene


def bright(x0: int, y0: int, x1: int, y1: int) -> Scene:
    """A dark picture with one bright person, who fills the box."""
    image = np.zeros((90, 120, 3), np.uint8)
    image[y0:y1, x0:x1] = 255
    return Scene(image, np.array([[x0, y0, x1, y1]], np.float32), np.ones(1, np.float32))


EMPTY = Scene(np.full((90, 120, 3), 60, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def test_boxes_follow_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is cropped, flipped and put together, each box holds what is bright, and bright is nothing else."""
    monkeypatch.setattr(augmentation, "_spoil", lambda image, rng: image)
    pool = [bright(20, 10, 50, 80), bright(70, 30, 100, 60), EMPTY]
    rng = np.random.default_rng(0)
    people = 0
    for _ in range(60):
        picture = augmentation.compose(pool, rng, (128, 96))
        assert picture.image.shape == (96, 128, 3) and picture.image.dtype == np.uint8
        seen = picture.image[..., 0] > 200
        claimed = np.zeros_like(seen)
        for x0, y0, x1, y1 in picture.boxes:
            columns, rows = slice(max(0, int(x0) - 1), int(x1) + 2), slice(max(0, int(y0) - 1), int(y1) + 2)
            claimed[rows, columns] = True
            people += 1
        assert not (seen & ~claimed).any()
        if len(picture.boxes) == 1 and not picture.ignored[0]:
            ys, xs = np.nonzero(seen)
            found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert picture.boxes[0] == pytest.approx(found, abs=1.5) or (picture.image == 60).any()
    assert people > 60


def test_who_hardly_shows_does_not_count() -> None:
    hidden = Scene(bright(20, 10, 50, 80).image, np.array([[20, 10, 50, 80]], np.float32), np.array([0.01], np.float32))
    pictures = [augmentation.compose([hidden], np.random.default_rng(seed), (128, 96)) for seed in range(5)]
    assert all(picture.ignored.all() for picture in pictures)


def test_overlaps_by_hand() -> None:
    first, second = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 0, 15, 10], [20, 0, 30, 10]])
    iou, giou = overlaps(first, second)
    assert iou.tolist() == pytest.approx([50 / 150, 0]) and giou.tolist() == pytest.approx([1 / 3, -10 / 30])


def said(boxes: torch.Tensor, logits: torch.Tensor) -> Prediction:
    return Prediction(boxes[None], logits[None])


def one_person(ignored: bool = False) -> Truth:
    return Truth(torch.tensor([[[8.0, 8, 40, 56]]]), torch.tensor([[True]]), torch.tensor([[ignored]]))


def test_cells_in_a_box_answer_for_it() -> None:
    middles, _ = cells(64, 64)
    count = len(middles)
    perfect = said(torch.tensor([8.0, 8, 40, 56]).expand(count, 4), torch.zeros(count))
    wanted = assign(perfect, one_person(), (64, 64))
    held = wanted.scores[0] > 0
    inside = ((middles > torch.tensor([8.0, 8])) & (middles < torch.tensor([40.0, 56]))).all(1)
    assert held.sum() == 10 and (inside | ~held).all() and wanted.scores[0][held].tolist() == pytest.approx([1.0] * 10)
    assert wanted.weight.all() and (wanted.boxes[0][held] == torch.tensor([8.0, 8, 40, 56])).all()


def test_a_good_answer_costs_less() -> None:
    middles, strides = cells(64, 64)
    good_boxes = torch.tensor([8.0, 8, 40, 56]).expand(len(middles), 4)
    bad_boxes = torch.cat([middles - strides[:, None], middles + strides[:, None]], dim=1)
    scores = assign(said(good_boxes, torch.zeros(len(middles))), one_person(), (64, 64)).scores[0]
    sure = torch.where(scores > 0, 9.0, -9.0)
    good, bad = (
        losses(said(good_boxes, sure), one_person(), (64, 64)),
        losses(said(bad_boxes, -sure), one_person(), (64, 64)),
    )
    assert good.box < 1e-5 and good.score < 0.01 and bad.box > 0.2 and bad.score > 5


def test_nobody_asks_for_the_ignored() -> None:
    middles, _ = cells(64, 64)
    boxes = torch.tensor([8.0, 8, 40, 56]).expand(len(middles), 4)
    wanted = assign(said(boxes, torch.zeros(len(middles))), one_person(ignored=True), (64, 64))
    inside = ((middles > torch.tensor([8.0, 8])) & (middles < torch.tensor([40.0, 56]))).all(1)
    assert not wanted.scores.any() and torch.equal(wanted.weight[0] == 0, inside)


def test_pictures_without_people_have_a_loss() -> None:
    middles, _ = cells(64, 64)
    nobody = Truth(torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.bool), torch.zeros(1, 0, dtype=torch.bool))
    found = losses(said(torch.zeros(len(middles), 4), torch.zeros(len(middles))), nobody, (64, 64))
    assert found.box == 0 and found.score > 0


@pytest.fixture()
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Ten rendered scenes on disk."""
    monkeypatch.setattr(scenes, "SHARD", 10)
    drawn = Pool(tmp_path / "pool")
    drawn.grow(10)
    return drawn


def test_a_pool_is_drawn_once(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [len(pool[index].boxes) for index in range(10)]
    assert all(1 <= count <= 4 for count in counts[:7]) and min(counts[7:9]) >= 5 and counts[9] == 0
    assert pool[0].image.shape == (336, 448, 3) and (pool[0].boxes[:, 2:] > pool[0].boxes[:, :2]).all()
    monkeypatch.setattr(scenes, "render", lambda *_: pytest.fail("drawn again"))
    again = Pool(tmp_path / "pool")
    again.grow(10)
    assert np.array_equal(again[3].image, pool[3].image) and np.array_equal(again[3].boxes, pool[3].boxes)


def test_a_killed_run_goes_on_as_if_it_had_not(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SIZES", ((64, 64),))
    monkeypatch.setattr(loop, "INPUT", (64, 64))
    monkeypatch.setattr(loop, "scenes", lambda count, mixed: [])
    options = {"batch": 2, "validate_every": 100}
    whole = loop.train(tmp_path / "whole", pool, loop.Options(steps=4, **options))  # type: ignore[arg-type]

    class Killed(Exception):
        pass

    real = loop.batch_of

    def until_two(pool: Pool, options: loop.Options, step: int) -> object:
        if step == 2:
            raise Killed
        return real(pool, options, step)

    monkeypatch.setattr(loop, "batch_of", until_two)
    with pytest.raises(Killed):
        loop.train(tmp_path / "two", pool, loop.Options(steps=4, save_every=2, **options))  # type: ignore[arg-type]
    monkeypatch.setattr(loop, "batch_of", real)
    resumed = loop.train(tmp_path / "two", pool, loop.Options(steps=4, **options))  # type: ignore[arg-type]
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, resumed.state_dict()[name], atol=1e-6), name
    assert torch.equal(loop.trained(tmp_path / "two").state_dict()["heads.0.score.bias"], resumed.heads[0].score.bias)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        BadInputError, match=r"There are no scenes to learn from: draw some first, with --scenes 1000\."
    ):
        loop.train(tmp_path, Pool(tmp_path / "none"), loop.Options())
    with pytest.raises(BadInputError, match=r"There is no run in '.*': train one first, with the same --out\."):
        loop.trained(tmp_path)
