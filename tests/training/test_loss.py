"""The loss against figures computed by the official implementation, and its precomputed form against the plain one."""

import json

import numpy as np
import torch

from rtmw_edge.simcc import encode
from rtmw_edge.training.loss import SimccLoss, kl_loss, part_weights


def test_kl_loss_equals_the_official_figures(reference_dir):
    figures = json.loads((reference_dir / "functions.json").read_text())["losses"]["kl_2d"]
    data = np.load(reference_dir / "simcc2d-256x192.npz")
    weights = torch.from_numpy(data["weights"].astype(np.float32)) * part_weights({"face": 0.5})
    total = sum(
        kl_loss(
            torch.from_numpy(data[f"logits_{a}"].astype(np.float32)),
            torch.from_numpy(data[f"labels_{a}"].astype(np.float32)),
            weights,
        )
        for a in "xy"
    )
    expected = figures if isinstance(figures, float) else figures["loss"]
    assert abs(float(total) - expected) < 1e-4 * abs(expected)


def test_precomputed_targets_equal_the_plain_loss():
    rng = np.random.default_rng(0)
    size = (192, 256)
    points = rng.uniform([5, 5], [185, 250], (3, 133, 2)).astype(np.float32)
    weights = (rng.random((3, 133)) < 0.7).astype(np.float32)
    logits = [torch.from_numpy(rng.normal(0, 3, (3, 133, 2 * s)).astype(np.float32)) for s in size]
    labels = encode(points, weights, size)
    plain = sum(
        kl_loss(
            logits[a],
            torch.from_numpy(np.asarray((labels.x, labels.y)[a], dtype=np.float32)),
            torch.from_numpy(weights),
        )
        * 2
        * size[a]
        for a in range(2)
    )
    fast = SimccLoss(size, part_weights({}))(logits, torch.from_numpy(points), torch.from_numpy(weights))
    assert abs(float(fast) - float(plain) * 133 / weights.sum()) < 1e-4 * float(fast)


def test_the_loss_has_its_minimum_where_logits_are_ten_times_the_label():
    points = np.full((1, 133, 2), 50.0, dtype=np.float32)
    weights = np.ones((1, 133), dtype=np.float32)
    labels = encode(points, weights, (192, 256))
    logits = [10 * torch.from_numpy(np.asarray((labels.x, labels.y)[a], dtype=np.float32)) + 3 for a in range(2)]
    loss = SimccLoss((192, 256), part_weights({}))
    arguments = torch.from_numpy(points), torch.from_numpy(weights)
    assert abs(float(loss(logits, *arguments))) < 1e-4
    assert float(loss([logits[0].roll(2, -1), logits[1]], *arguments)) > 0.1


def test_joints_outside_the_grid_and_unlabelled_ones_weigh_nothing():
    points = torch.full((1, 133, 2), 50.0)
    weights = torch.zeros(1, 133)
    weights[0, :2] = 1
    points[0, 1] = torch.tensor([400.0, 50.0])
    logits = [torch.randn(1, 133, 384), torch.randn(1, 133, 512)]
    loss = SimccLoss((192, 256), part_weights({}))
    first = loss(logits, points, weights)
    logits[0][0, 1:] += torch.randn(132, 384)
    assert torch.equal(first, loss(logits, points, weights))
