"""Is what runs on a device still the model that was approved? The same crops through a reference and a device.

>>> from rtmw_edge.evaluation.gates import read_gate
>>> validate(reference, device, open_dataset("synthetic:val:100"), read_gate()).gate.passed    # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bundle import GateReport
from ..bundle.gate_report import FEWEST_IMAGES
from ..errors import BadInputError, VerificationError
from ..poses import Poses
from ..runtime import Runner
from ..runtime.engine import Logits
from ..runtime.runner import Cut
from .agreement import Agreement, PartAgreement
from .datasets import Dataset, Detected, Item
from .evaluate import Evaluator, Progress, boxes_to_run
from .flip import NOT_IN_3D, Flip, mean_logits, mirrored_logits
from .gates import Figures, Gate
from .intervals import Weights, estimate, resamples, weighted_means
from .mpjpe import COLUMNS, MM, ROWS
from .validation import PartAp, PartMpjpe, Side, Validation
from .whole_body_ap import EVALUATED_PARTS
from .worst_crops import WorstCrops

POINTS = 100.0
ROOT = COLUMNS.index("root")


@dataclass(frozen=True, eq=False)
class Contender:
    """A runner with the name that the user gave it ("torch:cpu", "builtin") and the hash of its float weights."""

    name: str
    runner: Runner
    weights_sha256: str


def validate(
    reference: Contender,
    device: Contender,
    dataset: Dataset,
    gate: Gate,
    *,
    strict: bool = False,
    detections: Detected | None = None,
    flip: bool = False,
    on_progress: Progress | None = None,
) -> Validation:
    """Run every person of `dataset` through both runners, on the very same crops, and judge the device by `gate`.

    Boxes are the labelled ones, or `detections`. With `flip` the official flip test is in all figures of both, and
    `flip_ap` shows what it did. `on_progress(done, total)` is called after every image.

    Raises BadInputError for two networks whose crops or bins differ, and for a flip test in 3D; VerificationError for
    a side whose answers are not finite.
    """
    _check_comparable(reference.runner, device.runner)
    in_3d = reference.runner.model.z_range is not None
    if flip and in_3d:
        raise BadInputError(NOT_IN_3D)
    kinds: tuple[Flip | None, ...] = (None, *Flip) if flip else (None,)
    judged = Flip.OFFICIAL if flip else None
    sides = [_Run(contender, dataset, detections, kinds) for contender in (reference, device)]
    agreement = Agreement()
    worst = WorstCrops()
    for index, item in enumerate(dataset):
        try:
            cut = reference.runner.cut(item.image, *boxes_to_run(item, detections))
            lines = [side.add(item, cut) for side in sides]
        except BadInputError as error:
            raise BadInputError(f"Image {item.image_id}: {error}") from error
        ours, theirs = (line[judged] for line in lines)
        worst.add(item.image_id, agreement.add(index, ours, theirs), cut.crops, ours, theirs)
        if on_progress is not None:
            on_progress(index + 1, len(dataset))
    weights = resamples(len(dataset))
    ours_scored, theirs_scored = (side.evaluators[judged] for side in sides)
    ap = _aps(ours_scored, theirs_scored, weights)
    mpjpe = _mpjpes(ours_scored, theirs_scored, weights)
    agreed = agreement.result(weights)
    figures = _figures(ap, agreed, mpjpe, FEWEST_IMAGES if strict else 1)
    checks = gate.judge(figures, in_3d=in_3d, strict=strict)
    return Validation(
        reference=sides[0].side(judged),
        device=sides[1].side(judged),
        gate=GateReport(
            gate=gate.name,
            reference=reference.name,
            data=_without_folders(dataset.name),
            images=len(dataset),
            strict=strict,
            passed=all(check.passed for check in checks),
            checks=checks,
        ),
        ap=ap,
        agreement=agreed,
        mpjpe=mpjpe,
        flip_ap=_flip_aps(*sides) if flip else {},
        worst=worst.result(agreement),
    )


class _Run:
    """One contender on its way through the data, scored once for every kind of flip test (None: without)."""

    def __init__(
        self, contender: Contender, dataset: Dataset, detections: Detected | None, kinds: tuple[Flip | None, ...]
    ) -> None:
        self.contender = contender
        self._ran = contender.runner.describe()  # before the work: it may fail
        self.evaluators = {kind: Evaluator(dataset.name, detections=detections, flip=kind) for kind in kinds}

    def add(self, item: Item, cut: Cut) -> dict[Flip | None, Logits]:
        """Run and score one image; the logits of every kind."""
        runner = self.contender.runner
        lines: dict[Flip | None, Logits] = {None: runner.logits(cut.crops)}
        self._check_finite(lines[None], item)
        if len(self.evaluators) > 1:
            mirrored = mirrored_logits(runner, cut.crops)
            self._check_finite(mirrored, item)
            lines |= {kind: mean_logits(lines[None], mirrored, kind) for kind in Flip}
        for kind, evaluator in self.evaluators.items():
            evaluator.add(item, runner.poses(lines[kind], cut) if len(cut.crops) else Poses.empty())
        return lines

    def _check_finite(self, logits: Logits, item: Item) -> None:
        if not all(np.isfinite(line).all() for line in logits):
            raise VerificationError(
                f"{self.contender.name} answers image {item.image_id} with logits that are not finite, which nothing "
                "can be compared with: export it again, or run it on another device."
            )

    def side(self, kind: Flip | None) -> Side:
        model, contender = self.contender.runner.model, self.contender
        return Side(
            name=contender.name,
            variant=model.variant,
            target=model.target,
            precision=model.precision,
            weights_sha256=contender.weights_sha256,
            ran=self._ran,
            evaluation=self.evaluators[kind].result(),
        )


def _check_comparable(reference: Runner, device: Runner) -> None:
    one, other = reference.model, device.model
    if (one.input_size, one.bins) != (other.input_size, other.bins):
        raise BadInputError(
            f"The reference {one.variant} takes {one.input_size[0]}x{one.input_size[1]} crops to {one.bins} bins, and "
            f"{other.variant} takes {other.input_size[0]}x{other.input_size[1]} to {other.bins}: the same crops cannot "
            "go through both. Compare networks of one input size, both in 2D or both in 3D."
        )


def _aps(reference: Evaluator, device: Evaluator, weights: Weights) -> dict[str, PartAp]:
    ours, theirs = reference.result().parts, device.result().parts
    found = {}
    for part in EVALUATED_PARTS:
        if ours[part].ap >= 0:
            samples = [POINTS * side.resampled_ap(part, weights) for side in (reference, device)]
            values = [POINTS * side[part].ap for side in (ours, theirs)]
            found[part] = PartAp(
                reference.images_with(part),
                estimate(values[0], samples[0]),
                estimate(values[1], samples[1]),
                estimate(values[0] - values[1], samples[0] - samples[1]),
            )
    return found


def _mpjpes(reference: Evaluator, device: Evaluator, weights: Weights) -> dict[str, PartMpjpe]:
    if reference.mpjpe is None or device.mpjpe is None:
        return {}
    found = {}
    once = np.ones((1, weights.shape[1]), np.int32)
    for part in ROWS:
        values, samples = [], []
        for errors in (reference.mpjpe.people(part), device.mpjpe.people(part)):
            sums, counts = MM * errors.sums[:, ROOT], errors.counts[:, ROOT]
            values.append(float(weighted_means(sums, counts, errors.images, once)[0]))
            samples.append(weighted_means(sums, counts, errors.images, weights))
        if np.isfinite(values).all() and values[0] > 0:
            found[part] = PartMpjpe(
                len(np.unique(errors.images[errors.counts[:, ROOT] > 0])),
                estimate(values[0], samples[0]),
                estimate(values[1], samples[1]),
                estimate(100 * (values[1] / values[0] - 1), 100 * (samples[1] / samples[0] - 1)),
            )
    return found


def _figures(
    ap: dict[str, PartAp], agreement: dict[str, PartAgreement], mpjpe: dict[str, PartMpjpe], fewest: int
) -> Figures:
    """What a gate may judge: what at least `fewest` images show. A reference that finds nobody has nothing to lose."""
    figures = {
        (part, "ap_drop"): found.drop
        for part, found in ap.items()
        if found.reference.value > 0 and found.images >= fewest
    }
    for part, apart in agreement.items():
        if apart.images >= fewest:
            figures |= {(part, f"px_{name}"): px for name, px in apart.px.items()}
    return figures | {(part, "mpjpe_percent"): found.percent for part, found in mpjpe.items() if found.images >= fewest}


def _flip_aps(*sides: _Run) -> dict[str, dict[str, tuple[float, float]]]:
    found = {}
    for kind in sides[0].evaluators:
        parts = [side.evaluators[kind].result().parts for side in sides]
        found[str(kind) if kind else "none"] = {
            part: (POINTS * parts[0][part].ap, POINTS * parts[1][part].ap)
            for part in EVALUATED_PARTS
            if parts[0][part].ap >= 0
        }
    return found


def _without_folders(dataset: str) -> str:
    """The data set's name without where its files lie: "coco:annotations.json:val2017"."""
    kind, *words = dataset.split(":", 4 if dataset.startswith("h3wb:") else 2)
    # What follows file and folder are H3WB's subjects and the pattern of its frames, which has slashes and colons.
    return ":".join([kind, *(Path(word).name or word for word in words[:2]), *words[2:]])
