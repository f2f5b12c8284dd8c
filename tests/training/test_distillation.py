"""DWPose's two stages: values against float64 formulas, who gets a gradient, what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from small_runs import TINY_3D, forget, small_recipe

from rtmw_edge.errors import BadInputError
from rtmw_edge.models import build
from rtmw_edge.models.variants import Variant
from rtmw_edge.training.distillation import alignment, feature_loss, logit_loss, take_trunk
from rtmw_edge.training.objective import LabelLoss, Lesson, Student

SMALL = Variant("small", (64, 64), 0.167, 0.125, 0, 0.0)
LARGE = Variant("large", (64, 64), 0.167, 0.25, 0, 0.0)
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def random_logits(seed, scale=2.0, bins=(96, 128)):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.normal(0, scale, (3, 133, count)).astype(np.float32)) for count in bins]


def divergences(student, teacher, beta):
    """(N, 133) sum over bins of t (log t - log s), in float64, for every axis."""
    lines = []
    for ours, theirs in zip(student, teacher, strict=True):
        logs, logt = (log_softmax(beta * line.double().numpy(), axis=-1) for line in (ours, theirs))
        lines.append((np.exp(logt) * (logt - logs)).sum(axis=-1))
    return lines


@pytest.mark.parametrize("bins", [(96, 128), (96, 128, 96)], ids=["2d", "3d"])
@pytest.mark.parametrize("beta", [1.0, 10.0])
def test_logits_are_compared_as_in_dwpose(beta, bins):
    student, teacher = random_logits(0, bins=bins), random_logits(1, bins=bins)
    # 0.1 / K times, per axis, the mean over samples of the sum over joints.
    expected = sum(0.1 / 133 * line.sum(axis=1).mean() for line in divergences(student, teacher, beta))
    assert float(logit_loss(student, teacher, beta=beta)) == pytest.approx(expected, rel=1e-5)
    assert float(logit_loss(student, teacher, beta=beta, weight=1.0)) == pytest.approx(10 * expected, rel=1e-5)
    assert float(logit_loss(teacher, teacher, beta=beta)) == pytest.approx(0, abs=1e-5)


def test_the_gradient_is_the_difference_of_the_probabilities():
    student, teacher = random_logits(2, bins=(96,)), random_logits(3, bins=(96,))
    student[0].requires_grad_()
    teacher[0].requires_grad_()
    logit_loss(student, teacher, beta=10.0).backward()
    probabilities = [torch.softmax(10 * line[0].detach().double(), dim=-1) for line in (student, teacher)]
    expected = 0.1 * 10 / (3 * 133) * (probabilities[0] - probabilities[1])
    assert (student[0].grad - expected).norm() < 1e-5 * expected.norm()
    assert teacher[0].grad is None


def test_a_doubled_batch_changes_neither_loss():
    student, teacher = random_logits(4), random_logits(5)
    twice = [[line.repeat(2, 1, 1) for line in lines] for lines in (student, teacher)]
    assert float(logit_loss(*twice, beta=1.0)) == pytest.approx(float(logit_loss(student, teacher, beta=1.0)), rel=1e-5)
    ours, theirs = torch.randn(2, 8, 4, 3), torch.randn(2, 8, 4, 3)
    assert float(feature_loss(ours.repeat(2, 1, 1, 1), theirs.repeat(2, 1, 1, 1))) == pytest.approx(
        float(feature_loss(ours, theirs)), rel=1e-5
    )


def test_features_are_compared_as_in_dwpose():
    ours, theirs = torch.zeros(2, 8, 4, 3), torch.full((2, 8, 4, 3), 2.0)
    assert float(feature_loss(ours, theirs)) == pytest.approx(7e-5 * 8 * 4 * 3 * 4, rel=1e-6)
    assert float(feature_loss(ours.bfloat16(), theirs)) == pytest.approx(7e-5 * 8 * 4 * 3 * 4, rel=1e-6)


def test_the_first_stage_trains_student_and_alignment_and_leaves_the_teacher():
    torch.manual_seed(0)
    student, network = build(SMALL).train(), build(LARGE)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    lesson = Lesson(network, stage=1, beta=1.0)
    assert not network.training and not any(p.requires_grad for p in lesson.parameters())
    align = alignment(student, network)
    assert (align.in_channels, align.out_channels, align.kernel_size) == (128, 256, (1, 1)) and align.bias is not None
    logits, features = lesson.answers(IMAGES)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(logits, network(IMAGES), strict=True))
    ours = student.neck(student.backbone(IMAGES))
    loss = feature_loss(align(ours[-1]), features[-1]) + logit_loss(student.head(ours), logits, beta=1.0)
    loss.backward()
    # A distilled trunk learns from both, and the head's classifiers from the logits.
    for parameter in (align.weight, align.bias, student.backbone.stem[0].conv.weight, student.head.cls_x.weight):
        assert float(parameter.grad.norm()) > 0
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert isinstance(alignment(build(LARGE), network), torch.nn.Identity)


def test_the_lesson_of_the_first_stage_fades_with_the_share_left():
    torch.manual_seed(0)
    network, teacher = build(SMALL), build(LARGE)
    student, lesson = Student(network, alignment(network, teacher)).eval(), Lesson(teacher, stage=1, beta=10.0)
    with torch.no_grad():
        whole, half, nothing = (float(lesson(IMAGES, student(IMAGES), share)) for share in (1.0, 0.5, 0.0))
    assert whole > 0 and half == pytest.approx(whole / 2) and nothing == 0


def test_the_lesson_is_of_features_at_stride_32_and_of_logits():
    torch.manual_seed(0)
    network, teacher = build(SMALL), build(LARGE)
    student, lesson = Student(network, alignment(network, teacher)).eval(), Lesson(teacher, stage=1, beta=10.0)
    with torch.no_grad():
        logits, features, aligned = student(IMAGES)
        theirs, their_features = lesson.answers(IMAGES)
        assert torch.equal(aligned, student.align(features[1])) and aligned.shape == their_features[1].shape
        expected = feature_loss(aligned, their_features[1]) + logit_loss(logits, theirs, beta=10.0)
        assert float(lesson(IMAGES, (logits, features, aligned), 1.0)) == pytest.approx(float(expected))
        second = Lesson(network, stage=2, beta=10.0)  # the student has its trunk, and here another head
        answers = student.network.head(features)
        expected = logit_loss(theirs, answers, beta=10.0, weight=1.0)
        assert float(second(IMAGES, (theirs, features, aligned), 0.3)) == pytest.approx(float(expected)), "never fades"


@pytest.mark.parametrize(
    "overrides",
    [
        ["official_batch=0", "bone_weight=0.0"],
        ["official_batch=1024", "bone_weight=0.0"],
        ["official_batch=0", "bone_weight=0.5"],
        ["official_batch=1024", "bone_weight=0.5"],
    ],
    ids=str,
)
def test_the_losses_of_passes_add_up_to_that_of_the_batch(overrides):
    """Whatever a pass has of the samples, and of the joints and bones that count: totals are those of the step."""
    recipe = small_recipe(f"variant={TINY_3D.name}", *overrides)
    forget()
    loss = LabelLoss(SimpleNamespace(variant=TINY_3D), recipe)
    generator = torch.Generator().manual_seed(0)
    logits = tuple(torch.randn(8, 133, 2 * size, generator=generator) for size in TINY_3D.pixels)
    points = torch.rand(8, 133, 3, generator=generator) * torch.tensor(TINY_3D.pixels)
    weights = (torch.rand(8, 133, 1, generator=generator) > 0.4) * torch.tensor([1.0, 1.0, 0.5])
    weights[:2, :, 2] = 0
    whole = loss(logits, points, weights, loss.totals([(points, weights)]), 1.0)
    if loss.bones is not None:  # joints and bones are divided by what each of them weighs
        alone = loss.simcc(logits, points, weights) + 0.5 * loss.bones(logits, points, weights)
        scale = 1024 / 8 if recipe.official_batch else 1
        assert float(whole) == pytest.approx(scale * float(alone), rel=1e-5)
    parts = [slice(0, 2), slice(2, 8)]
    totals = loss.totals([(points[part], weights[part]) for part in parts])
    found = sum(
        loss(tuple(line[part] for line in logits), points[part], weights[part], totals, (part.stop - part.start) / 8)
        for part in parts
    )
    assert float(found) == pytest.approx(float(whole), rel=1e-5) and float(whole) > 0.1


def test_the_second_stage_trains_a_fresh_head_on_the_teacher_s_trunk():
    torch.manual_seed(0)
    network, first = build(SMALL), build(SMALL)
    fresh = network.head.cls_x.weight.detach().clone()
    take_trunk(network, first)
    assert torch.equal(network.head.cls_x.weight, fresh) and not torch.equal(fresh, first.head.cls_x.weight)
    for part in ("backbone", "neck"):
        ours, theirs = getattr(network, part).state_dict(), getattr(first, part).state_dict()
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    trained = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {"head"}
    with torch.no_grad():  # a fresh head answers alike everywhere; a trained one has peaks
        for classifier in (first.head.cls_x, first.head.cls_y):
            classifier.weight.mul_(100)
    student, lesson = Student(network, frozen=True).train(), Lesson(first, stage=2, beta=1.0)
    assert not network.backbone.training and not network.neck.training and network.head.training
    assert not student(IMAGES)[1][1].requires_grad, "a frozen trunk only answers"
    optimizer = torch.optim.Adam(network.head.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = lesson(IMAGES, student(IMAGES), 0.0)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_what_does_not_fit_is_refused():
    tall = Variant("tall", (64, 96), 0.167, 0.125, 0, 0.0)
    with pytest.raises(BadInputError) as caught:
        alignment(build(SMALL), build(tall))
    assert str(caught.value) == (
        "tall cannot teach small: its logits are x 128 y 192 and the student's x 128 y 128. "
        "Choose a teacher of the same input size and axes."
    )
    deep = Variant("deep", (64, 64), 0.167, 0.125, 0, 0.0, ("x", "y", "z"))
    with pytest.raises(BadInputError, match="deep cannot teach small: its logits are x 128 y 128 z 128"):
        alignment(build(SMALL), build(deep))
    with pytest.raises(BadInputError, match="Stage 2 of small needs the small of stage 1 as its teacher, not large"):
        take_trunk(build(SMALL), build(LARGE))
