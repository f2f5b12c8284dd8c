"""Measuring units of a real, small network: what is measured, what it equals, and that nothing is measured twice."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_study
import torch
from numpy.typing import NDArray
from rtmw_edge.quantization.fake import fake_quantize, weights_sha256
from rtmw_edge.targets.rewrites import Deployable
from small_runs import TINY

from rtmw_edge.crops import box_to_crop, crop, to_image
from rtmw_edge.errors import BadInputError
from rtmw_edge.evaluation import evaluate
from rtmw_edge.poses import Poses
from rtmw_edge.simcc import decode
from rtmw_edge.sweep.sensitivity.crop_set import CropSet, average_precision
from rtmw_edge.sweep.sensitivity.findings import Way
from rtmw_edge.sweep.sensitivity.partial_run import PartialRuns, logits_of
from rtmw_edge.sweep.sensitivity.study import Study, Subject

PARTS = ["body", "foot", "face", "left_hand", "right_hand", "whole"]


def runner_of(network: Deployable) -> Callable[..., Poses]:
    """The network as `evaluate` takes it, image by image."""

    def run(image: NDArray[np.uint8], boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Poses:
        centers, scales = box_to_crop(boxes, TINY.input_size)
        crops = np.stack([crop(image, *place, TINY.input_size) for place in zip(centers, scales, strict=True)])
        keypoints, confidence = decode(logits_of(network, crops))
        return Poses(to_image(keypoints, centers, scales, TINY.input_size), confidence, boxes, scores)

    return run


def test_the_float_network_finds_its_own_labels(study: Study) -> None:
    found = study.baseline(Way.FLOAT)
    assert list(found.ap) == PARTS and all(ap == pytest.approx(100) for ap in found.ap.values())
    assert all(max(near.measures.values()) == 0 for near in found.distances.values())
    assert study.baseline(Way.INT8).ap["whole"] < 60


@pytest.mark.parametrize(("way", "unit"), [(Way.ALONE, "backbone.stem"), (Way.ALL_BUT, "neck.bottom_up_blocks.0")])
def test_a_finding_is_what_evaluate_says_of_the_mixed_table(study: Study, way: Way, unit: str) -> None:
    subject = study.subject
    mine = subject.units(by_block=True)[unit]
    floats = mine if way is Way.ALL_BUT else [name for name in subject.quantized if name not in mine]
    network = fake_quantize(subject.network, subject.table.leaving_in_float(floats))
    expected = average_precision(evaluate(runner_of(network), tiny_study.clouds()))
    found = study.finding(way, unit)
    assert found is not None and found.ap == pytest.approx(expected, abs=1e-9)


def test_units_together_hold_every_convolution_once(study: Study) -> None:
    subject = study.subject
    layers, blocks = subject.units(), subject.units(by_block=True)
    assert list(layers) == list(subject.network.convolutions()) and all(layers[name] == (name,) for name in layers)
    assert sorted(name for names in blocks.values() for name in names) == sorted(layers) and len(blocks) == 16
    less = replace(subject, table=subject.table.leaving_in_float(["backbone.stem.0.conv"]))
    assert len(less.units()) == len(layers) - 1


def test_a_second_study_of_the_same_runs_nothing(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "findings.jsonl"
    path.write_bytes(study.path.read_bytes())

    def never(*_: object) -> None:
        raise AssertionError("this was measured before")

    monkeypatch.setattr(PartialRuns, "__init__", never)
    again = Study(study.subject, study.crops, path)
    again.run(again.subject.units(by_block=True))
    assert again.finding(Way.ALONE, "backbone.stem") == study.finding(Way.ALONE, "backbone.stem")
    for other in (
        Study(replace(study.subject, kinds=("weight",)), study.crops, path),
        Study(
            replace(study.subject, table=study.subject.table.leaving_in_float(["head.conv_dec.conv"])),
            study.crops,
            path,
        ),
        Study(study.subject, study.crops, path, proxy_crops=3),
    ):
        assert other.finding(Way.ALONE, "backbone.stem") is None


def test_labels_and_crops_make_the_key(crop_set: CropSet) -> None:
    labels = tiny_study.clouds().keypoints.copy()
    assert CropSet.of(tiny_study.Clouds(labels), TINY.input_size).sha256 == crop_set.sha256
    labels[3, 40, 1] += 0.25
    assert CropSet.of(tiny_study.Clouds(labels), TINY.input_size).sha256 != crop_set.sha256


def test_the_proxy_alone_runs_on_fewer_crops(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Study(study.subject, study.crops, tmp_path / "findings.jsonl", proxy_crops=3, proxy_only=True)
    ran: list[int] = []
    run = PartialRuns.run
    monkeypatch.setattr(
        PartialRuns, "run", lambda *a: (lambda logits: (ran.append(len(logits[0])), logits)[1])(run(*a))
    )
    units = {"head.conv_dec": quick.subject.units(by_block=True)["head.conv_dec"]}
    quick.run(units)
    found = quick.finding(Way.ALONE, "head.conv_dec")
    assert ran == [3, 3] and found is not None and found.ap == {} and found.distances["whole"].flips > 0
    assert list(quick.baseline(Way.INT8).ap) == PARTS


def test_a_network_that_is_sure_of_nothing_is_refused(study: Study, tmp_path: Path) -> None:
    blind = copy.deepcopy(study.subject.network)
    with torch.no_grad():
        blind.head.cls_x.weight.zero_()
    table = replace(study.subject.table, weights_sha256=weights_sha256(blind))
    with pytest.raises(BadInputError, match="The float network is sure of no keypoint in clouds"):
        Study(Subject(blind, table), study.crops, tmp_path / "findings.jsonl").baseline(Way.FLOAT)


def test_losses_of_a_mixed_network_have_paired_intervals(study: Study) -> None:
    floats = study.subject.quantized[:40]
    losses = study.ap_losses(floats)
    found = study.mixed(floats)
    for part, lost in losses.items():
        assert lost.value == pytest.approx(100 - found.ap[part]) and lost.low <= lost.value <= lost.high
    nothing = study.ap_losses(study.subject.quantized)
    assert all((lost.value, lost.low, lost.high) == (0, 0, 0) for lost in nothing.values())


def test_a_killed_study_loses_one_unit_at_most(study: Study, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(tiny_study.__file__)), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(5):  # one line before the first network, then one before every unit
            assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGKILL)
    path = tmp_path / "findings.jsonl"
    with path.open("a") as file:
        file.write('{"key": "cut off in the mid')
    resumed = Study(study.subject, study.crops, path)
    units = list(resumed.subject.units(by_block=True))
    kept = [unit for unit in units if resumed.finding(Way.ALONE, unit)]
    assert kept == units[: len(kept)] and 3 <= len(kept) <= 4
    for unit in kept:
        assert resumed.finding(Way.ALONE, unit) == study.finding(Way.ALONE, unit)
    assert path.read_text().endswith("}\n")
