"""Two halves of a set: which crops, which ranges moved, and accuracy judged as everywhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from coco_files import document
from rtmw_edge.calibration.collect import Settings, collect, table_of
from rtmw_edge.calibration.judging import BATCH, Judge
from rtmw_edge.calibration.observing import normalized
from rtmw_edge.calibration.ranges import Method
from rtmw_edge.calibration.stability import Halves, compare, stability
from rtmw_edge.quantization import AFFINE, COMMON, Entry, Table
from rtmw_edge.targets.rewrites import deployable
from small_deployable import SmallDeployable, smooth_crops
from small_runs import TINY
from torch import nn

from rtmw_edge.crops import box_to_crop, crop, warp_matrix
from rtmw_edge.errors import BadInputError
from rtmw_edge.evaluation import evaluate
from rtmw_edge.evaluation.datasets import CocoWholeBody, SyntheticPeople
from rtmw_edge.evaluation.evaluate import clipped_boxes, labelled_people
from rtmw_edge.models import build
from rtmw_edge.models.variants import variant_named
from rtmw_edge.runtime import Runner
from rtmw_edge.runtime.torch_engine import TorchEngine
from rtmw_edge.simcc import encode

CROPS = smooth_crops(10, seed=5)


def test_halves_are_every_other_crop_however_they_are_batched(network: SmallDeployable) -> None:
    settings = Settings(Method.MINMAX)
    expected = [collect(network, [CROPS[half::2]], settings) for half in (0, 1)]
    for sizes in ([10], [3, 4, 3], [1] * 10):
        halves = Halves(network, COMMON)
        for batch in np.split(CROPS, np.cumsum(sizes)[:-1]):
            halves.add(batch)
        for seen, other in zip(halves.observed(), expected, strict=True):
            assert seen.crops == 5
            for point, entry in table_of(network, seen, settings).entries.items():
                np.testing.assert_allclose(entry.scale, other.entries[point].scale, rtol=1e-5)


def test_one_image_has_no_halves(network: SmallDeployable) -> None:
    halves = Halves(network, COMMON)
    halves.add(CROPS[:1])
    with pytest.raises(BadInputError) as caught:
        halves.observed()
    assert str(caught.value) == "One image cannot be split in two; give more images, or leave out --stability."


def affine_entry(low: float, high: float) -> Entry:
    scale, zero_point = AFFINE.activation(low, high)
    return Entry(scale, zero_point, low=-128, high=127)


def test_ranges_that_move_over_a_fifth_are_reported_with_both_ends() -> None:
    first = {
        "a:output": affine_entry(-1.0, 3.0),
        "b:output": affine_entry(-0.28, 5.0),
        "c:input": Entry(np.array([1.0])),
        "d:output": Entry(np.array([1.0]), source="fixed"),
        "d:weight": Entry(np.array([1.0, 2.0]), axis=0),
    }
    second = {
        **first,
        "a:output": affine_entry(-2.0, 3.0),
        "b:output": affine_entry(-0.28, 5.9),
        "c:input": Entry(np.array([1.5])),
        "d:weight": Entry(np.array([3.0, 9.0]), axis=0),
    }
    points, moved = compare(Table("small", first, "affine"), Table("small", second, "affine"))
    assert points == 3 and [change.point for change in moved] == ["c:input", "a:output"]
    assert moved[0].change == pytest.approx(0.5) and moved[1].change == pytest.approx(0.25, abs=0.01)
    assert moved[1].first == pytest.approx((-1.0, 3.0), abs=0.02)
    assert moved[1].second == pytest.approx((-2.0, 3.0), abs=0.02)


def test_people_of_one_image_are_judged_each_in_its_place(tmp_path: Path) -> None:
    """A network that answers the labels of every crop, which come many at a time from several images."""
    (tmp_path / "labels.json").write_text(json.dumps(document(images=8)))
    for number in range(8):
        colours = np.random.default_rng(number).integers(0, 256, (320, 320, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), colours)
    dataset, variant = CocoWholeBody(tmp_path / "labels.json", tmp_path), variant_named("rtmw-n-256x192")
    size, answers, crops = variant.input_size, [], []
    for item in dataset:
        chosen = labelled_people(item)
        for person, center, scale in zip(chosen, *box_to_crop(clipped_boxes(item, chosen), size), strict=True):
            matrix = warp_matrix(center, scale, size)
            points = item.people.keypoints[person] @ matrix[:, :2].T + matrix[:, 2]
            answers.append(encode(points[None], item.people.visible[person][None] > 0, size))
            crops.append(crop(item.image, center, scale, size))
    left = list(range(len(answers)))

    def network(batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        now, left[:] = left[: len(batch)], left[len(batch) :]
        assert torch.equal(batch, normalized(np.stack([crops[k] for k in now]), variant))
        lines = (np.concatenate([getattr(answers[k], axis) for k in now]) for axis in "xy")
        return tuple(8 * torch.from_numpy(line) for line in lines)

    found = Judge(dataset, variant).evaluate(network)
    assert found.people == len(answers) > max(8, BATCH) and not left
    assert found.pck["whole"] > 0.99 and found.parts["body"].ap > 0.95


@pytest.mark.slow
def test_accuracy_is_that_of_the_evaluation() -> None:
    pytest.importorskip("numba")
    torch.manual_seed(1)
    network = build(TINY)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.5)
    dataset = SyntheticPeople(5)
    expected = evaluate(Runner(TorchEngine(network.eval())), dataset)
    exact = deployable(network)
    judged = Judge(dataset, TINY).evaluate(exact)
    assert judged.images == expected.images and judged.people == expected.people
    for part, scores in expected.parts.items():
        assert judged.parts[part].ap == pytest.approx(scores.ap, abs=1e-6)
    assert judged.pck == pytest.approx(expected.pck, abs=0.01) and max(judged.pck.values()) > 0
    halves = Halves(exact, COMMON)
    halves.add(smooth_crops(4, TINY.input_size))
    first, second = (table_of(exact, seen, Settings()) for seen in halves.observed())
    done: list[tuple[int, int]] = []
    found = stability(exact, first, second, dataset, lambda *progress: done.append(progress))
    assert found.dataset == "synthetic:val:5" and done == [(5, 5), (5, 5)]
    assert found.ap.keys() == expected.parts.keys()
    document = found.to_dict()
    assert document["points"] == found.points > 100 and set(document["ap"]) == set(expected.parts)
    wider = {
        point: replace(entry, scale=entry.scale * 2) if point == "head.final_layer.conv:input" else entry
        for point, entry in first.entries.items()
    }
    assert [change.point for change in compare(first, replace(first, entries=wider))[1]] == [
        "head.final_layer.conv:input"
    ]
