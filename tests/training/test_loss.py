"""The losses against figures of the official implementation, against plain autograd, and across batches and ranks."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rtmw_edge.errors import BadInputError
from rtmw_edge.keypoints import BONE_PARENTS
from rtmw_edge.simcc import encode, encode_3d
from rtmw_edge.training.loss import LABEL_BETA, BoneLoss, SimccLoss, mean_near_peak, part_weights

SIZE = (192, 256)
SIZE_3D = (288, 384, 288)


def tensor(array):
    return torch.from_numpy(np.asarray(array, dtype=np.float32))


def kl_loss(logits, labels, weights, *, beta=1.0):
    """The official loss of one axis, for arbitrary labels: scalar, summed over samples, divided by the joints.

    Args:
        logits: (N, K, bins) raw predictions.
        labels: (N, K, bins) unnormalised Gaussians in 0..1.
        weights: (N, K) weight of every joint, 0 for those that are not labelled.
    """
    target = F.softmax(labels * LABEL_BETA, dim=-1)
    divergence = F.kl_div(F.log_softmax(logits * beta, dim=-1), target, reduction="none").mean(dim=-1)
    return (divergence * weights).sum() / labels.shape[1]


@pytest.fixture(scope="module")
def figures(reference_dir):
    return json.loads((reference_dir / "functions.json").read_text())["losses"]


@pytest.fixture(scope="module")
def case_2d(reference_dir):
    with np.load(reference_dir / "simcc2d-256x192.npz") as data:
        logits = [tensor(data[f"logits_{axis}"]).requires_grad_() for axis in "xy"]
        labels = [tensor(data[f"labels_{axis}"]) for axis in "xy"]
        return logits, labels, tensor(data["weights"]), tensor(data["keypoints"]), tensor(data["visible"])


@pytest.fixture(scope="module")
def case_3d(reference_dir):
    with np.load(reference_dir / "simcc3d-384x288.npz") as data:
        logits = [tensor(data[f"logits_{axis}"]) for axis in "xyz"]
        depth = (data["keypoints_3d"][..., 2] - data["root_z"]) / data["z_range"]
        points = np.concatenate([data["keypoints"], (depth[..., None] + 1) * 144], axis=-1)
        return logits, tensor(points), tensor(data["visible"])


def random_case(seed, count=3, size=SIZE, low=5.0):
    rng = np.random.default_rng(seed)
    points = rng.uniform(low, np.array(size) - low, (count, 133, len(size)))
    weights = (rng.random((count, 133)) < 0.7).astype(np.float32)
    logits = [tensor(rng.normal(0, 3, (count, 133, 2 * side))) for side in size]
    return logits, tensor(points), tensor(weights)


def test_kl_loss_equals_the_official_figures(figures, case_2d):
    logits, labels, weights, _, _ = case_2d
    weights = weights * part_weights({"face": 0.5})
    total = sum(kl_loss(line.detach(), label, weights) for line, label in zip(logits, labels, strict=True))
    assert float(total) == pytest.approx(figures["kl_2d"], rel=1e-6)


def test_the_loss_from_coordinates_equals_the_official_figures_and_gradients(figures, case_2d):
    """To 1e-4: the figures come from labels that were stored in half precision."""
    logits, _, _, points, visible = case_2d
    loss = SimccLoss(SIZE, part_weights({"face": 0.5}), official_scaling=True)
    value = loss(logits, points, visible)
    assert float(value.detach()) == pytest.approx(figures["kl_2d"], rel=1e-4)
    for line, axis in zip(torch.autograd.grad(value, logits), "xy", strict=True):
        assert float(line.norm()) == pytest.approx(figures[f"kl_2d_grad_norm_{axis}"], rel=3e-4)


def test_three_axes_equal_the_official_figure(figures, case_3d):
    logits, points, visible = case_3d
    loss = SimccLoss(SIZE_3D, part_weights({}), beta=10.0, official_scaling=True)
    assert float(loss(logits, points, visible)) == pytest.approx(figures["kl_3d"], rel=1e-6)


def test_without_depth_the_third_axis_counts_for_nothing(case_3d):
    logits, points, visible = case_3d
    flat = torch.stack([visible, visible, torch.zeros_like(visible)], dim=-1)
    unknown = points.clone()
    unknown[..., 2] = 1
    labels = encode_3d(points[..., :2].numpy(), visible.numpy(), None, (288, 384))
    expected = sum(
        float(kl_loss(line, tensor(label), tensor(weight), beta=10.0))
        for line, label, weight in zip(
            logits, (labels.x, labels.y, labels.z), (labels.weights, labels.weights, labels.z_weights), strict=True
        )
    )
    official = SimccLoss(SIZE_3D, part_weights({}), beta=10.0, official_scaling=True)
    assert float(official(logits, unknown, flat)) == pytest.approx(expected, rel=1e-5)
    # In our own scaling such a batch weighs what it would weigh in 2D.
    whole = SimccLoss(SIZE_3D, part_weights({}), beta=10.0)(logits, unknown, flat)
    plane = SimccLoss(SIZE_3D[:2], part_weights({}), beta=10.0)(logits[:2], points[..., :2], visible)
    assert float(whole) == pytest.approx(float(plane), rel=1e-6)


@pytest.mark.parametrize(
    ("beta", "kind", "tolerance"), [(1.0, "float32", 1e-5), (10.0, "float32", 1e-5), (1.0, "bfloat16", 8e-3)]
)
def test_value_and_gradient_equal_those_of_plain_autograd(beta, kind, tolerance):
    logits, points, weights = random_case(0)
    logits = [line.to(getattr(torch, kind)).requires_grad_() for line in logits]
    labels = encode(points.numpy(), weights.numpy(), SIZE)
    plain = sum(
        kl_loss(line.float(), tensor(label), weights, beta=beta) * line.shape[-1] * 133 / weights.sum()
        for line, label in zip(logits, (labels.x, labels.y), strict=True)
    )
    fast = SimccLoss(SIZE, part_weights({}), beta=beta)(logits, points, weights)
    assert float(fast.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
    for ours, theirs in zip(torch.autograd.grad(fast, logits), torch.autograd.grad(plain, logits), strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours.float() - theirs.float()).norm() < tolerance * theirs.float().norm()


def test_autocast_changes_nothing():
    case = random_case(4)
    loss = SimccLoss(SIZE, part_weights({}))
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(*case)
    assert inside.dtype == torch.float32 and torch.equal(inside, loss(*case))


def test_the_loss_has_its_minimum_where_logits_are_ten_times_the_label():
    points = np.full((1, 133, 2), 50.0, dtype=np.float32)
    labels = encode(points, np.ones((1, 133)), SIZE)
    logits = [10 * tensor((labels.x, labels.y)[axis]) + 3 for axis in range(2)]
    loss = SimccLoss(SIZE, part_weights({}))
    arguments = torch.from_numpy(points), torch.ones(1, 133)
    assert abs(float(loss(logits, *arguments))) < 1e-4
    assert float(loss([logits[0].roll(2, -1), logits[1]], *arguments)) > 0.1
    warm = SimccLoss(SIZE, part_weights({}), beta=10.0)
    assert abs(float(warm([line / 10 for line in logits], *arguments))) < 1e-4


def test_the_batch_changes_the_official_scaling_alone():
    logits, points, weights = random_case(1)
    twice = [line.repeat(2, 1, 1) for line in logits], points.repeat(2, 1, 1), weights.repeat(2, 1)
    ours = SimccLoss(SIZE, part_weights({}))
    assert float(ours(*twice)) == pytest.approx(float(ours(logits, points, weights)), rel=1e-5)
    official = SimccLoss(SIZE, part_weights({}), official_scaling=True)
    assert float(official(*twice)) == pytest.approx(2 * float(official(logits, points, weights)), rel=1e-5)


@pytest.mark.parametrize("make", [SimccLoss, BoneLoss], ids=["kl", "bone"])
def test_two_ranks_with_the_common_total_give_the_gradient_of_the_whole_batch(make):
    """Ranks average their gradients, so each divides by the mean of the ranks' totals."""
    size = (192, 256, 192)
    logits, points, weights = random_case(2, count=4, size=size)
    weights[2:, 40:] = 0  # one half has far fewer labels
    loss = make(size, part_weights({"face": 0.5}), beta=10.0) if make is SimccLoss else make(size)
    logits = [line.requires_grad_() for line in logits]
    whole = torch.autograd.grad(loss(logits, points, weights), logits)
    halves = (slice(0, 2), slice(2, 4))
    total = sum(loss.total(points[half], weights[half]) for half in halves) / 2
    values = [loss([line[half] for line in logits], points[half], weights[half], total) for half in halves]
    averaged = torch.autograd.grad(sum(values) / 2, logits)
    for ours, theirs in zip(averaged, whole, strict=True):
        assert (ours - theirs).norm() < 1e-5 * theirs.norm()


def test_joints_outside_the_grid_and_unlabelled_ones_weigh_nothing():
    points = torch.full((1, 133, 2), 50.0)
    weights = torch.zeros(1, 133)
    weights[0, :3] = 1
    points[0, 1] = torch.tensor([400.0, 50.0])
    points[0, 2] = torch.tensor([float("nan"), 50.0])
    logits = [torch.randn(1, 133, 384), torch.randn(1, 133, 512)]
    for official_scaling in (False, True):
        loss = SimccLoss(SIZE, part_weights({}), official_scaling=official_scaling)
        first = loss(logits, points, weights)
        assert torch.isfinite(first)
        changed = [logits[0].clone(), logits[1]]
        changed[0][0, 1:] += torch.randn(132, 384)
        assert torch.equal(first, loss(changed, points, weights))
        assert float(loss.total(points, weights)) == 1


def test_a_joint_just_outside_is_trained_in_the_official_scaling_alone():
    points = torch.tensor([[[-3.0, 50.0]]]).repeat(1, 133, 1)
    weights = torch.ones(1, 133)
    arguments = points, weights
    labels = encode(points.numpy(), weights.numpy(), SIZE)
    logits = [torch.randn(1, 133, 384), torch.randn(1, 133, 512)]
    expected = sum(
        float(kl_loss(line, tensor(label), tensor(labels.weights)))
        for line, label in zip(logits, (labels.x, labels.y), strict=True)
    )
    assert float(SimccLoss(SIZE, part_weights({}), official_scaling=True)(logits, *arguments)) == pytest.approx(
        expected
    )
    assert float(SimccLoss(SIZE, part_weights({}))(logits, *arguments)) == 0


def test_a_network_of_other_axes_is_refused():
    logits, _, weights = random_case(3)
    with pytest.raises(BadInputError, match="The network gives 2 axes and the loss has 3: make the loss from"):
        SimccLoss((192, 256, 192), part_weights({}))(logits, torch.zeros(3, 133, 3), weights)


def sharp_logits(points, size, beta=10.0):
    """Logits whose softmax is the soft target of the points."""
    bins = [torch.arange(2 * side, dtype=torch.float32) for side in size]
    sigmas = np.sqrt(np.array(size) * 2 / 16).round(2)
    return [
        (torch.exp(-((bins[a] - torch.round(2 * points[..., a, None])) ** 2) / (2 * sigmas[a] ** 2)) * 10 / beta)
        for a in range(len(size))
    ]


def test_the_bone_loss_is_nothing_at_the_labels_and_equals_plain_lengths_beside_them():
    size = SIZE_3D
    _, points, _ = random_case(6, count=2, size=size, low=60.0)
    points = points.round()
    weights = torch.ones(2, 133)
    loss = BoneLoss(size)
    assert float(loss(sharp_logits(points, size), points, weights)) < 1e-3
    moved = points + torch.from_numpy(np.random.default_rng(8).integers(-30, 31, points.shape)).float()
    # Lengths of the plain coordinates, in bins, over sigma 6.
    child = np.array([k for k in range(133) if BONE_PARENTS[k] != k])
    assert len(child) == 112
    lengths = [np.linalg.norm(2 * (p[:, child] - p[:, BONE_PARENTS[child]]).numpy(), axis=-1) for p in (moved, points)]
    expected = np.abs(lengths[0] - lengths[1]).mean() / 6
    assert float(loss(sharp_logits(moved, size), points, weights)) == pytest.approx(expected, rel=2e-3)


def test_the_bone_loss_has_a_gradient_that_corrects_lengths():
    size = SIZE_3D
    _, points, _ = random_case(7, count=1, size=size, low=60.0)
    start = points + torch.from_numpy(np.random.default_rng(9).uniform(-6, 6, points.shape)).float()
    logits = [line.requires_grad_() for line in sharp_logits(start, size)]
    loss, weights = BoneLoss(size), torch.ones(1, 133)
    optimizer = torch.optim.Adam(logits, lr=0.01)
    first = loss(logits, points, weights)
    for _ in range(40):
        optimizer.zero_grad()
        value = loss(logits, points, weights)
        value.backward()
        optimizer.step()
    assert all(float(line.grad.norm()) > 0 for line in logits)
    assert float(value.detach()) < 0.5 * float(first.detach())


def test_a_bone_is_not_lengthened_by_a_little_weight_at_the_end_of_the_grid():
    """Where depth is uncertain that was the cheapest way to the right length, and its argmax lay two metres off."""
    size = SIZE_3D
    _, points, _ = random_case(7, count=1, size=size, low=60.0)
    logits = sharp_logits(points.round() + torch.tensor([0.0, 0.0, 7.0]), size)
    loss, weights = BoneLoss(size), torch.ones(1, 133)
    before = float(loss(logits, points, weights))
    logits[2][:, 9, -20:] = 0.9 * logits[2][:, 9].max()  # the left wrist
    logits[2].requires_grad_()
    value = loss(logits, points, weights)
    value.backward()
    assert float(value.detach()) == before
    assert float(logits[2].grad[:, 9, -20:].abs().max()) == 0


def test_bones_weigh_against_joints_what_they_do_whatever_the_scaling():
    """Published is a mean over bins: without it bones would be all that a run of RTMW3D-l learns."""
    size = (288, 384, 288)
    generator = torch.Generator().manual_seed(0)
    points = torch.tensor(size) * (0.2 + 0.6 * torch.rand(2, 133, 3, generator=generator))
    logits = [torch.randn(2, 133, 2 * pixels, generator=generator).requires_grad_() for pixels in size]

    def pull(loss):
        parts = torch.autograd.grad(loss(logits, points, torch.ones(2, 133)), logits)
        return float(torch.cat([part.flatten() for part in parts]).norm())

    ours = pull(BoneLoss(size)) / pull(SimccLoss(size, part_weights({}), beta=10.0))
    how = {"beta": 10.0, "official_scaling": True}
    assert pull(BoneLoss(size, **how)) / pull(SimccLoss(size, part_weights({}), **how)) == pytest.approx(ours, rel=0.25)


def test_the_bone_loss_leaves_out_unknown_axes_and_unlabelled_joints():
    size = SIZE_3D
    _, points, _ = random_case(7, count=1, size=size, low=60.0)
    logits = [line.requires_grad_() for line in sharp_logits(points + 5, size)]
    weights = torch.ones(1, 133, 3)
    weights[..., 2] = 0
    weights[:, 91:112] = 0
    loss = BoneLoss(size)
    value = loss(logits, points, weights)
    value.backward()
    assert float(logits[2].grad.abs().max()) == 0
    assert float(logits[0].grad[:, 91:112].abs().max()) == 0 and float(logits[0].grad[:, 112:].abs().max()) > 0
    plane = BoneLoss(size[:2])
    assert float(plane(logits[:2], points[..., :2], weights[..., 0]).detach()) == pytest.approx(
        float(value.detach()), rel=1e-6
    )
    assert float(loss(logits, points, torch.zeros(1, 133)).detach()) == 0


def test_a_depth_that_is_unknown_may_lie_anywhere():
    """Its weight is 0 on that axis alone, and what stands in its place is no reason to leave the joint out."""
    generator = torch.Generator().manual_seed(0)
    loss = SimccLoss((64, 64, 64), torch.ones(133))
    logits = [torch.randn(2, 133, 128, generator=generator) for _ in range(3)]
    points = 64 * torch.rand(2, 133, 3, generator=generator) - 0.3
    weights = torch.tensor([1.0, 1.0, 0.0]).expand(2, 133, 3)
    beyond = points.clone()
    beyond[..., 2] = torch.nan
    found, expected = (float(loss(logits, each, weights)) for each in (beyond, points))
    assert found == expected > 1


@pytest.mark.parametrize("peak", [0, 1, 5, 18, 19])
def test_the_mean_near_a_peak_at_the_edge_is_of_the_bins_that_are_there(peak):
    line = torch.randn(20, generator=torch.Generator().manual_seed(peak), dtype=torch.float64)
    line[peak] = 4.0
    bins = torch.arange(max(0, peak - 3), min(20, peak + 4))
    expected = (torch.softmax(line[bins], dim=0) * bins).sum()
    assert float(mean_near_peak(line, 3)) == pytest.approx(float(expected))
