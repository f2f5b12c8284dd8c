"""A device against a reference, both of which answer labels: figures that are known before they are measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from label_runners import contender

from rtmw_edge.errors import BadInputError, VerificationError
from rtmw_edge.evaluation import evaluate
from rtmw_edge.evaluation.agreement import Agreement
from rtmw_edge.evaluation.datasets import Dataset, Item, SyntheticPeople
from rtmw_edge.evaluation.gates import parse_gate, read_gate
from rtmw_edge.evaluation.validate import _without_folders, validate
from rtmw_edge.evaluation.validation import Validation
from rtmw_edge.evaluation.worst_crops import CANDIDATES, WORST, WorstCrops
from rtmw_edge.keypoints import PARTS
from rtmw_edge.runtime.detection import Detections

PEOPLE = 6


@pytest.fixture(scope="module")
def people() -> SyntheticPeople:
    return SyntheticPeople(PEOPLE)


@pytest.fixture(scope="module")
def moved(people: SyntheticPeople) -> Validation:
    """The device has both hands 3 pixels to the right."""
    device = contender(people, moved={"left_hand": 3.0, "right_hand": 3.0})
    gate = parse_gate({"body": {"ap_drop": 0.5, "px_p99": 1.0}, "left_hand": {"ap_drop": 1.0, "px_p90": 2.0}}, "mine")
    return validate(contender(people, "truth"), device, people, gate)


def test_the_same_runner_twice_loses_nothing(people: SyntheticPeople) -> None:
    result = validate(contender(people, "truth"), contender(people), people, read_gate())
    assert result.gate.passed and result.worst == ()
    assert all((ap.drop.value, ap.drop.low, ap.drop.high) == (0, 0, 0) for ap in result.ap.values())
    assert all(part.flipped.value == 0 and part.px["p99"].value == 0 for part in result.agreement.values())
    assert result.gate.sentence().startswith("The gate 'default' passed against truth on synthetic:val:6, 6 images.")


def test_two_runners_that_find_nobody_are_not_approved(people: SyntheticPeople) -> None:
    """Pictures of another size than their labels, or two dead networks: nothing was lost of nothing."""
    lost = {part: 90.0 for part in PARTS}
    result = validate(contender(people, "truth", moved=lost), contender(people, moved=lost), people, read_gate())
    assert result.ap["whole"].reference.value == result.ap["whole"].drop.value == 0
    assert not result.gate.passed and all(check.value is None for check in result.gate.checks)
    assert (
        "whole: AP points lost cannot be measured, as nobody is labelled or the reference finds none (at most 0.5)"
        in result.gate.sentence()
    )


class Feet(Dataset):
    """The same people, of whom the first `labelled` have their feet labelled, or other `rows`."""

    def __init__(self, people: SyntheticPeople, labelled: int, rows: slice = PARTS["foot"]) -> None:
        self.name, self._people, self._labelled, self._rows = people.name, people, labelled, rows

    def __len__(self) -> int:
        return len(self._people)

    def __iter__(self) -> Iterator[Item]:
        for index, item in enumerate(self._people):
            visible = item.people.visible.copy()
            visible[:, self._rows] = 2 * (index < self._labelled)
            yield replace(item, people=replace(item.people, visible=visible))


@pytest.mark.parametrize(("labelled", "passed"), [(4, False), (5, True)])
def test_a_strict_gate_believes_no_interval_of_few_images(people: SyntheticPeople, labelled: int, passed: bool) -> None:
    """Drawn again, one image gives the same figure every time: an interval of no width, of which nothing is known."""
    gate = parse_gate({"foot": {"ap_drop": 1.0}, "body": {"ap_drop": 1.0}}, "mine")
    both = [contender(people, name) for name in ("truth", "device")]
    strict = validate(*both, Feet(people, labelled), gate, strict=True)
    assert strict.ap["foot"].images == labelled and [check.passed for check in strict.gate.checks] == [passed, True]
    words = "foot: AP points lost cannot be measured, as fewer than 5 images have it or the reference finds none"
    assert (words in strict.gate.sentence()) is not passed
    both = [contender(people, name) for name in ("truth", "device")]
    assert validate(*both, Feet(people, labelled), gate).gate.passed, "the plain rule goes by the figure"


@pytest.mark.parametrize(("labelled", "passed"), [(4, False), (5, True)])
@pytest.mark.parametrize(
    ("variant", "measure", "hipless"),
    [("rtmw-n-256x192", "px_p99", 0), ("rtmw3d-n-256x192", "mpjpe_percent", 1)],  # the hips of one are out of sight
)
def test_few_images_are_too_few_for_pixels_and_millimetres_too(
    people: SyntheticPeople, variant: str, measure: str, hipless: int, labelled: int, passed: bool
) -> None:
    some = Feet(people, labelled + hipless, PARTS["left_hand"])
    gate = parse_gate({"left_hand": {measure: 1.0}}, "mine")
    both = [contender(some, name, variant) for name in ("truth", "device")]  # type: ignore[arg-type]
    found = validate(*both, some, gate, strict=True)
    assert [check.passed for check in found.gate.checks] == [passed]
    figures = found.agreement if measure == "px_p99" else found.mpjpe
    assert figures["left_hand"].images == labelled


def test_images_of_any_number_are_drawn_again_each_by_itself(people: SyntheticPeople, moved: Validation) -> None:
    """An image's number is a name: COCO's go far beyond the count of images, and the bootstrap draws among those."""

    class Numbered(SyntheticPeople):
        def __iter__(self):  # type: ignore[no-untyped-def]
            return (replace(item, image_id=139 + 7 * item.image_id) for item in people)

    device = contender(people, moved={"left_hand": 3.0, "right_hand": 3.0})
    found = validate(contender(people, "truth"), device, Numbered(PEOPLE), read_gate())
    assert found.agreement == moved.agreement and found.ap == moved.ap
    assert {crop.image_id for crop in found.worst} <= set(range(139, 139 + 7 * PEOPLE, 7))


def test_a_part_that_nobody_has_is_in_no_table(people: SyntheticPeople) -> None:
    class Twice(Feet):
        def __iter__(self) -> Iterator[Item]:
            for item in super().__iter__():
                yield from (item, item)

    both = [contender(Twice(people, 0), name) for name in ("truth", "device")]  # type: ignore[arg-type]
    result = validate(*both, Feet(people, 0), parse_gate({"body": {"ap_drop": 99.0}}, "mine"), flip=True)
    for parts in (result.ap, *result.flip_ap.values()):
        assert "foot" not in parts and "body" in parts


def test_moved_hands_are_found_where_they_are(moved: Validation) -> None:
    assert moved.agreement["left_hand"].px["p50"].value == moved.agreement["right_hand"].px["p90"].value == 3.0
    assert moved.agreement["left_hand"].flipped_far.value == 1 and moved.agreement["body"].flipped.value == 0
    assert moved.ap["left_hand"].drop.value > 5 and moved.ap["body"].drop.value == 0
    drop = moved.ap["left_hand"].drop
    assert 0 < drop.low <= drop.value <= drop.high, "the interval is of what the device lost, not of what it won"
    assert [check.passed for check in moved.gate.checks] == [True, True, False, False] and not moved.gate.passed
    assert "left hand: 3.00 px off (90th percentile) (at most 2; 95 % 3.00 to 3.00)" in moved.gate.sentence()


def test_each_side_is_as_good_as_evaluate_says(people: SyntheticPeople, moved: Validation) -> None:
    alone = evaluate(contender(people, moved={"left_hand": 3.0, "right_hand": 3.0}).runner, people, intervals=True)
    assert moved.device.evaluation.parts == alone.parts
    low, high = alone.ap_interval["left_hand"]
    assert (moved.ap["left_hand"].device.low, moved.ap["left_hand"].device.high) == pytest.approx(
        (100 * low, 100 * high)
    )


def test_the_worst_crops_are_the_farthest_apart(people: SyntheticPeople, moved: Validation) -> None:
    assert 1 <= len(moved.worst) <= min(PEOPLE, WORST)
    assert [crop.px for crop in moved.worst] == sorted((crop.px for crop in moved.worst), reverse=True)
    crop = moved.worst[0]
    assert crop.crop.shape == (256, 192, 3)
    difference = crop.device - crop.reference
    assert np.abs(difference[crop.sure][:, 1]).max() == 0 and difference[91:][crop.sure[91:], 0].tolist() == [
        3.0
    ] * int(crop.sure[91:].sum())
    sure = crop.sure
    assert crop.px == pytest.approx(3 * sure[91:].sum() / sure.sum())


def test_json_is_plain_and_whole(moved: Validation) -> None:
    found = json.loads(json.dumps(moved.to_dict(), allow_nan=False))
    assert found["gate"]["checks"][2]["measure"] == "ap_drop" and not found["gate"]["passed"]
    assert found["ap"]["left_hand"]["drop"]["value"] == moved.ap["left_hand"].drop.value
    assert found["agreement"]["whole"]["px"]["p99"]["value"] == 3.0
    assert found["device"]["ran"]["int8"] == 3 and found["reference"]["name"] == "truth"
    assert found["worst"][0]["px"] == moved.worst[0].px


def test_depth_counts_in_millimetres_and_percent(people: SyntheticPeople) -> None:
    variant = "rtmw3d-n-256x192"
    gate = parse_gate({"whole": {"mpjpe_percent": 3.0}}, "deep")
    result = validate(
        contender(people, "truth", variant), contender(people, variant=variant, deeper=0.05), people, gate
    )
    figures = [
        evaluate(contender(people, variant=variant, deeper=metres).runner, people).mpjpe["whole"].root
        for metres in (0, 0.05)
    ]
    whole = result.mpjpe["whole"]
    assert (whole.reference.value, whole.device.value) == pytest.approx(figures)
    assert whole.percent.value == pytest.approx(100 * (figures[1] / figures[0] - 1))
    assert whole.percent.low <= whole.percent.value <= whole.percent.high
    assert not result.gate.passed and result.ap["whole"].drop.value == 0
    shallow = validate(contender(people, "truth", variant), contender(people, variant=variant), people, gate)
    assert shallow.gate.passed and shallow.mpjpe["whole"].percent.value == 0


def test_images_that_are_all_alike_leave_no_doubt(people: SyntheticPeople) -> None:
    """Whichever are drawn again, every figure is the same: its interval is the figure itself, in its own unit."""
    one = max(people, key=lambda item: (item.people.visible > 0).sum())

    class Alike(SyntheticPeople):
        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter([replace(one, image_id=image) for image in range(PEOPLE)])

    alike, variant = Alike(PEOPLE), "rtmw3d-n-256x192"
    device = contender(alike, variant=variant, moved={"left_hand": 3.0}, deeper=0.05)
    result = validate(contender(alike, "truth", variant), device, alike, read_gate())
    figures = [getattr(ap, side) for ap in result.ap.values() for side in ("reference", "device", "drop")]
    figures += [getattr(part, side) for part in result.mpjpe.values() for side in ("reference", "device", "percent")]
    assert len(figures) == 3 * (6 + 5)
    for figure in figures:
        assert (figure.low, figure.high) == pytest.approx((figure.value, figure.value))
    for part in result.ap:
        scores = [side.evaluation.parts[part].ap for side in (result.reference, result.device)]
        found = [result.ap[part].reference.value, result.ap[part].device.value]
        assert found == pytest.approx([100 * ap for ap in scores])
    assert result.ap["left_hand"].device.value < result.ap["left_hand"].reference.value


def test_the_flip_test_shows_what_it_does(people: SyntheticPeople) -> None:
    """A mirror image that is answered with the crop's own labels puts everybody on the wrong side: AP must fall."""

    class Twice(SyntheticPeople):
        """Every person once for the crop and once for its mirror image."""

        def __iter__(self):  # type: ignore[no-untyped-def]
            for item in people:
                yield from (item, item)

    result = validate(contender(Twice(PEOPLE), "truth"), contender(Twice(PEOPLE)), people, read_gate(), flip=True)
    assert list(result.flip_ap) == ["none", "official", "aligned"]
    plain = result.flip_ap["none"]["body"]
    assert plain[0] == plain[1] > 90 > result.flip_ap["official"]["body"][0]
    assert result.device.evaluation.flip == "official"
    assert result.ap["body"].device.value == result.flip_ap["official"]["body"][1]


def test_detected_boxes_and_images_of_nobody(people: SyntheticPeople) -> None:
    """Half the images have no detection: those people are missed by both, and nothing is run."""
    boxes = {item.image_id: item.people.boxes.astype(np.float32) for item in people if item.image_id % 2}
    found = {image: Detections(box, np.ones(1, np.float32)) for image, box in boxes.items()}

    class Odd(SyntheticPeople):
        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter([item for item in people if item.image_id % 2])

    result = validate(contender(Odd(PEOPLE), "truth"), contender(Odd(PEOPLE)), people, read_gate(), detections=found)
    assert result.device.evaluation.people == PEOPLE // 2 and result.device.evaluation.images == PEOPLE
    assert 20 < result.ap["body"].reference.value < 80 and result.ap["body"].drop.value == 0


@pytest.mark.parametrize(
    ("dataset", "named"),
    [
        ("synthetic:val:40", "synthetic:val:40"),
        ("coco:/a/labels.json:/b/val2017", "coco:labels.json:val2017"),
        ("coco:labels.json:.", "coco:labels.json:."),
        ("h3wb:/a/file.npz:/b/h36m:S5,S6", "h3wb:file.npz:h36m:S5,S6"),
        (
            "h3wb:/a/file.npz:/b/h36m:S7:{subject}/{action}.{camera}/{frame:06d}.jpg",
            "h3wb:file.npz:h36m:S7:{subject}/{action}.{camera}/{frame:06d}.jpg",
        ),
    ],
)
def test_a_verdict_names_its_data_without_folders(dataset: str, named: str) -> None:
    assert _without_folders(dataset) == named


def test_no_flip_test_in_3d(people: SyntheticPeople) -> None:
    both = [contender(people, variant="rtmw3d-n-256x192") for _ in range(2)]
    with pytest.raises(BadInputError, match=r"^The flip test works on 2D variants only: leave --flip out\.$"):
        validate(*both, people, read_gate(), flip=True)


def test_a_device_that_answers_nonsense_is_named_with_its_image(people: SyntheticPeople) -> None:
    device = contender(people)
    device.runner.engine.run = lambda crops: [np.full((1, 133, n), np.nan, np.float32) for n in (384, 512)]  # type: ignore[method-assign]
    with pytest.raises(VerificationError) as raised:
        validate(contender(people, "truth"), device, people, read_gate())
    assert raised.value.exit_code == 1 and str(raised.value) == (
        "device answers image 0 with logits that are not finite, which nothing can be compared with: export it again, "
        "or run it on another device."
    )


def test_a_mirror_image_that_is_answered_with_nonsense_is_named_too(people: SyntheticPeople) -> None:
    device = contender(people)
    heights = iter([1.0, np.inf])
    device.runner.engine.run = lambda crops: (
        [np.full((1, 133, n), next(heights), np.float32) for n in (384,)]
        + [  # type: ignore[method-assign]
            np.ones((1, 133, 512), np.float32)
        ]
    )
    with pytest.raises(VerificationError, match=r"^device answers image 0 with logits that are not finite"):
        validate(contender(people, "truth"), device, people, read_gate(), flip=True)


def test_two_and_three_axes_cannot_be_compared(people: SyntheticPeople) -> None:
    with pytest.raises(BadInputError, match=r"^The reference rtmw-n-256x192 takes 192x256 crops to \(384, 512\) b"):
        validate(contender(people, "truth"), contender(people, variant="rtmw3d-n-256x192"), people, read_gate())


def test_networks_of_other_sizes_are_refused(people: SyntheticPeople) -> None:
    with pytest.raises(BadInputError, match=r"The reference rtmw-m-256x192 takes 192x256 crops .* 288x384 to "):
        validate(
            contender(people, "truth", "rtmw-m-256x192"), contender(people, "d", "rtmw-l-384x288"), people, read_gate()
        )


def test_a_crop_that_nobody_is_sure_of_is_not_the_worst() -> None:
    """Of many crops, those that are far apart on what the reference only guesses are left out."""
    rng = np.random.default_rng(0)
    agreement, worst = Agreement(), WorstCrops()
    apart = []
    for index in range(CANDIDATES + 40):
        guessed = index % 3 == 0
        peak = 10.0 if not guessed else 1.0
        step = 60 if guessed else int(rng.integers(0, 9))
        apart += [] if guessed else [step / 2]
        bins = np.full((1, 133), 20)
        line, moved = np.zeros((2, 1, 133, 100), np.float32)
        np.put_along_axis(line, bins[..., None], peak, axis=2)
        np.put_along_axis(moved, bins[..., None] + step, peak, axis=2)
        crops = np.full((1, 4, 4, 3), index, np.uint8)
        worst.add(index, agreement.add(index, (line, line), (moved, line)), crops, (line, line), (moved, line))
    found = worst.result(agreement)
    assert len(found) == WORST and all(crop.image_id % 3 for crop in found)
    assert [crop.px for crop in found] == sorted(apart, reverse=True)[:WORST]
    assert all((crop.crop == crop.image_id).all() and crop.sure.all() for crop in found)


def test_of_several_people_in_an_image_the_right_one_is_shown() -> None:
    """The first is where the reference has them, and does not enter the list; a keypoint it guesses does not count."""
    line, moved = np.zeros((2, 3, 133, 100), np.float32)
    steps = np.array([0, 2, 6])
    np.put_along_axis(line, np.full((3, 133, 1), 20), 10.0, axis=2)
    np.put_along_axis(moved, np.broadcast_to(20 + steps[:, None, None], (3, 133, 1)), 10.0, axis=2)
    line[:, 132] *= 0.01
    moved[:, 132] = np.roll(moved[:, 132], 50, axis=1)
    agreement, worst = Agreement(), WorstCrops()
    crops = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((4, 4, 3), np.uint8)
    worst.add(5, agreement.add(0, (line, line), (moved, line)), crops, (line, line), (moved, line))
    crops[:] = 99  # the runner's buffer, which the next image takes
    found = worst.result(agreement)
    assert [(crop.px, int(crop.crop.max()), float(crop.device[0, 0])) for crop in found] == [(3, 2, 13), (1, 1, 11)]
