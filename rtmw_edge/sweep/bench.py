"""What is done for a cell: export (kept by content), verify on the golden crops, evaluate per part, time in turns."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtmw_edge.calibration import open_source
from rtmw_edge.quantization import GRIDS, Table
from rtmw_edge.targets import Precision
from rtmw_edge.targets.base import OnStep

from .. import bundle
from ..errors import BadInputError, RtmwEdgeError
from ..evaluation import open_dataset
from ..evaluation.agreement import Agreement
from ..evaluation.datasets import Dataset
from ..evaluation.evaluate import Evaluator, boxes_to_run
from ..evaluation.intervals import Estimate, estimate, resamples, weighted_means
from ..evaluation.mpjpe import COLUMNS, ROWS
from ..evaluation.whole_body_ap import EVALUATED_PARTS
from ..files import temporary_prefix
from ..fleet.work import SPEED, verified
from ..poses import Poses
from ..runtime import Runner, load, torch_runner
from ..runtime.engine import Logits
from ..runtime.pacing import paced, peak_memory_mb
from ..runtime.processor import cores
from .cells import EXPORT, Planned
from .config import TORCH
from .store import Job, Store

logger = logging.getLogger(__name__)

Found = tuple[dict[str, Any], dict[str, NDArray[Any]]]
"""A record's data and arrays."""

COMPARED = 100
"""Images whose keypoints are compared with those of the PyTorch network."""


class Bench:
    """Does jobs in one process. Networks' answers and data sets are kept from one job to the next.

    Args:
        planned: all cells of the sweep. threads: of evaluation; timed runs have their cell's own.
    """

    def __init__(self, store: Store, planned: Sequence[Planned], threads: int) -> None:
        self.store, self.threads = store, threads
        self._jobs = {cell.accuracy_id: cell for cell in planned} | {cell.speed_id: cell for cell in planned}
        self._jobs |= {cell.export_id: cell for cell in planned}
        self._cells = {cell.cell: cell for cell in planned}
        self._datasets: dict[tuple[str, int], Dataset] = {}
        self._reference: tuple[object, list[Logits]] = (None, [])

    def __call__(self, job: Job, on_step: OnStep) -> Found:
        """The figures of one job; raises RtmwEdgeError where there are none."""
        planned = self._jobs[job.id]
        if job.kind == EXPORT:
            return {"bundle": self.bundle(planned, on_step).name}, {}
        found = self.speed(planned, on_step) if job.kind == SPEED else self.accuracy(planned, on_step)
        planned.check_files()
        return found

    def bundle(self, planned: Planned, on_step: OnStep) -> Path:
        """The cell's bundle, exported unless it is there already; one of content, whoever asked for it first."""
        from rtmw_edge.targets.export import export

        cell, inputs = planned.cell, planned.inputs
        path = self.store.folder / "bundles" / planned.bundle_key[:16]
        with self.store.lock(f"bundle {planned.bundle_key}"):
            if _readable(path):
                return path
            for leftover in path.parent.glob(f"{temporary_prefix(path)}*"):  # of an export that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            scales: dict[str, Any] = {"grid": cell.grid or None}
            if cell.calibrator:
                scales = {"calibrator": cell.calibrator, "calibration": inputs.calibration}
            elif cell.grid:
                scales["table"] = inputs.table or self._table(planned, on_step)
            exported = export(
                cell.variant, cell.target, cell.precision, path, weights=inputs.weights, on_step=on_step, **scales
            )
            try:
                planned.check_files()
            except BadInputError:
                shutil.rmtree(exported)  # under this name, of the files that there were, it would be taken for theirs
                raise
            return exported

    def accuracy(self, planned: Planned, on_step: OnStep) -> Found:
        """Verify the bundle, then AP (and MPJPE) per part with intervals, and the distance from the PyTorch network."""
        data = about(self.bundle(planned, on_step)) if planned.cell.target != TORCH else {}
        on_step("verifying")
        with self._open(planned, self.threads, on_step) as runner:
            data |= verified(runner)
            figures, arrays = self._evaluated(planned, runner, on_step)
            return {**data, **figures}, arrays

    def speed(self, planned: Planned, on_step: OnStep) -> Found:
        """Time the cell in turns with its float reference, and weigh a process that does nothing else."""
        cell = planned.cell
        threads = cell.threads or cores()
        partner = self._partner(planned, on_step)
        with self._open(planned, threads, on_step) as runner, self._open(partner, threads, on_step) as reference:
            on_step("timing")
            found = paced(runner, reference)
        memory = None
        if cell.target != TORCH:
            memory = peak_memory_mb(self.bundle(planned, on_step), cell.device, threads)
        paced_by = None if partner is planned else partner.cell.to_dict()
        return {**found, "threads": threads, "memory_mb": memory, "paced_by": paced_by}, {}

    def _partner(self, planned: Planned, on_step: OnStep) -> Planned:
        """The float cell to take turns with; the cell itself where there is none, and for fp32 where none works.

        Raises RtmwEdgeError where that of another precision does not work: its time alone says nothing of quantizing.
        """
        if planned.inputs.paced_by is None:
            return planned
        partner = self._cells[planned.inputs.paced_by]
        try:
            if partner.cell.target != TORCH:
                self.bundle(partner, on_step)
        except RtmwEdgeError as error:
            if planned.cell.precision != Precision.FP32:
                raise
            logger.info("timed alone, as %s does not work: %s", partner.cell.label, error)
            return planned
        return partner

    def _open(self, planned: Planned, threads: int, on_step: OnStep) -> Runner:
        cell = planned.cell
        if cell.target == TORCH:
            return torch_runner(cell.variant, planned.inputs.weights, cell.device, threads)
        return load(self.bundle(planned, on_step), cell.device, threads, verify=False)

    def _table(self, planned: Planned, on_step: OnStep) -> Table | None:
        """One calibration for all targets that want this grid from this source."""
        from rtmw_edge.targets.export import load_deployable
        from rtmw_edge.targets.scales import calibrate

        cell, inputs = planned.cell, planned.inputs
        if not inputs.calibration:
            return None
        path = self.store.folder / "tables" / f"{planned.table_key[:16]}.json"
        with self.store.lock(f"table {planned.table_key}"):
            if not path.exists():
                source = open_source(inputs.calibration, count=cell.count or None, evaluation=inputs.held_out)
                network = load_deployable(cell.variant, inputs.weights)
                calibrate(
                    network, source, grid=GRIDS[cell.grid], method=cell.method, bias_correction=cell.bias_correction,
                    on_step=on_step,
                ).save(path)  # fmt: skip
            return Table.load(path)

    def _evaluated(self, planned: Planned, runner: Runner, on_step: OnStep) -> Found:
        dataset = self._dataset(planned)
        reference = self._answers(planned, dataset, on_step)
        evaluator, agreement = Evaluator(dataset.name), Agreement()
        for index, item in enumerate(dataset):
            if index % 10 == 0:
                on_step(f"evaluating, {index} of {len(dataset)}")
            poses, logits = answer(runner, item)
            evaluator.add(item, poses)
            if index < len(reference) and logits:
                agreement.add(index, reference[index], logits)
        result = evaluator.result()
        weights = resamples(result.images)
        samples = {f"ap {part}": evaluator.resampled_ap(part, weights) for part in EVALUATED_PARTS}
        data = {
            "dataset": dataset.name,
            "images": result.images,
            "people": result.people,
            "ap": {part: asdict(estimate(result.parts[part].ap, samples[f"ap {part}"])) for part in EVALUATED_PARTS},
            "ar": {part: scores.ar for part, scores in result.parts.items()},
            "pck": result.pck,
            "px": {
                part: {name: asdict(figure) for name, figure in found.px.items()}
                for part, found in agreement.result(resamples(len(reference))).items()
            },
        }
        if evaluator.mpjpe is not None:
            column = COLUMNS.index("root")
            found: dict[str, Estimate] = {}
            for row in ROWS:
                people = evaluator.mpjpe.people(row)
                sums, counts = 1e3 * people.sums[:, column], people.counts[:, column]
                samples[f"mpjpe {row}"] = weighted_means(sums, counts, people.images, weights)
                found[row] = estimate(result.mpjpe[row].root, samples[f"mpjpe {row}"])
            data["mpjpe"] = {row: asdict(figure) for row, figure in found.items()}
        return data, {name: line.astype(np.float32) for name, line in samples.items()}

    def _dataset(self, planned: Planned) -> Dataset:
        data, images = key = planned.inputs.data, planned.cell.images
        if key not in self._datasets:
            self._datasets[key] = open_dataset(data, images or None)
        return self._datasets[key]

    def _answers(self, planned: Planned, dataset: Dataset, on_step: OnStep) -> list[Logits]:
        """The PyTorch network's logits for the first images; those of one network are kept."""
        cell, weights = planned.cell, planned.inputs.base_weights
        key = cell.variant, weights, planned.inputs.data, cell.images
        if self._reference[0] != key:
            found = []
            with torch_runner(cell.variant, weights, threads=self.threads) as runner:
                for index, item in zip(range(COMPARED), dataset, strict=False):
                    on_step(f"running the PyTorch network, {index} of {min(COMPARED, len(dataset))}")
                    found.append(answer(runner, item)[1])
            self._reference = key, found
        return self._reference[1]


def answer(runner: Runner, item: Any) -> tuple[Poses, Logits]:
    """The poses of an image's labelled people, and the logits that they are from; () where nobody is."""
    boxes, scores = boxes_to_run(item, None)
    if not len(boxes):
        return Poses.empty(), ()
    cut = runner.cut(item.image, boxes, scores)
    logits = runner.engine.infer(cut.crops)
    return runner.poses(logits, cut), logits


def _readable(path: Path) -> bool:
    try:
        with bundle.read(path):
            return True
    except RtmwEdgeError:
        return False  # none, or a damaged one of ours that is written again; anything else, export refuses


def about(path: Path) -> dict[str, Any]:
    """Facts of a bundle that its figures should stand beside."""
    with bundle.read(path) as opened:
        manifest = opened.manifest
        files = [entry for entry in manifest.files if entry.role in bundle.ROLES[manifest.target]]
        hashes = " ".join(entry.sha256 for entry in files)
        facts: Mapping[str, Any] = json.loads(manifest.to_json())
        return {
            "bundle": path.name,
            "megabytes": sum(entry.size for entry in files) / 1e6,
            "files_sha256": hashlib.sha256(hashes.encode()).hexdigest(),
            "weights_sha256": manifest.weights_sha256,
            "table_sha256": manifest.table_sha256,
            "tools": facts["tools"],
            "convolutions": facts["convolutions"],
        }
