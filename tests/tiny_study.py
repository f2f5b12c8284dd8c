"""A whole network small enough to be run a hundred times, and people whose labels are what it answers in float.

    python tiny_study.py OUT     studies it block by block, with the findings in OUT/findings.jsonl

Prints "running" before every network, so that a test can kill it in between.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from calm_network import calm_network
from rtmw_edge.targets.rewrites import deployable
from small_deployable import absmax_table, smooth_crops
from small_runs import TINY, register

from rtmw_edge.crops import to_image
from rtmw_edge.evaluation.datasets import Dataset, Item
from rtmw_edge.evaluation.whole_body_ap import People
from rtmw_edge.simcc import decode
from rtmw_edge.sweep.sensitivity.crop_set import CropSet
from rtmw_edge.sweep.sensitivity.partial_run import logits_of
from rtmw_edge.sweep.sensitivity.study import Study, Subject

PEOPLE = 8
WIDTH, HEIGHT = TINY.input_size
BOX = np.array([10, 10, 10 + WIDTH / 1.25, 10 + HEIGHT / 1.25], np.float32)
"""Its crop has the network's size: a pixel of the crop is one of the image."""

COARSE = np.float32(4)
"""Activations have scales so many times too wide, so that int8 hurts."""


class Clouds(Dataset):
    """One person each in eight pictures; `keypoints` (8,133,2) in image pixels are the labels."""

    name = "clouds"

    def __init__(self, keypoints: np.ndarray) -> None:
        self.keypoints = keypoints
        self.images = smooth_crops(PEOPLE, (WIDTH + 20, HEIGHT + 20))

    def __len__(self) -> int:
        return PEOPLE

    def __iter__(self) -> Iterator[Item]:
        for index, image in enumerate(self.images):
            labels = self.keypoints[index][None], np.ones((1, 133)), BOX[None], np.array([40.0]), np.zeros(1, bool)
            yield Item(index, image, People(*labels))


@cache
def clouds() -> Clouds:
    """The data set, labelled by the float network, whose AP is 100 therefore."""
    unlabelled = CropSet.of(Clouds(np.zeros((PEOPLE, 133, 2))), TINY.input_size)
    keypoints, _ = decode(logits_of(subject().network, unlabelled.crops))
    return Clouds(to_image(keypoints, unlabelled.centers, unlabelled.scales, TINY.input_size))


@cache
def subject() -> Subject:
    """The network, and a table that is too coarse for it."""
    register()
    network = deployable(calm_network(TINY.name))
    table = absmax_table(network, smooth_crops(PEOPLE, TINY.input_size))
    coarse = {
        point: entry if point.endswith("weight") else replace(entry, scale=entry.scale * COARSE)
        for point, entry in table.entries.items()
    }
    return Subject(network, replace(table, entries=coarse))


def main(out: str) -> None:
    torch.set_num_threads(1)
    study = Study(subject(), CropSet.of(clouds(), TINY.input_size), Path(out) / "findings.jsonl")

    def say(*_: object) -> None:
        sys.stdout.write("running\n")
        sys.stdout.flush()

    study.run(study.subject.units(by_block=True), say)


if __name__ == "__main__":
    main(sys.argv[1])
