"""A bench whose bundles run on boards: what a board is asked, and the figures that its answer comes to.

Accuracy is scored here, from the peaks that the board sends back for crops that it was sent: it needs neither the data
set nor what scores it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtmw_edge.targets.base import OnStep

from .. import bundle
from ..errors import NotAvailableError, RtmwEdgeError
from ..evaluation.datasets import Dataset
from ..evaluation.evaluate import boxes_to_run
from ..fleet.alike import Facts, unlike
from ..fleet.parcels import pack_bundle, pack_crops
from ..fleet.peaks import logits_of
from ..fleet.work import SPEED
from ..runtime import Description, Engine, Model, Runner
from .bench import Bench, Found, about
from .boards import PARCELS
from .cells import Planned
from .store import Job, Store

CROPS_A_PARCEL = 256


class Replies(Engine):
    """Answers crops in the order in which a board got them: with its peaks (N,133,axes) and scores (N,133)."""

    runtime = "a board"
    devices = ("cpu",)

    def __init__(self, model: Model, bins: NDArray[np.int16], scores: NDArray[np.float32]) -> None:
        super().__init__(model, "cpu", None, batch=1 << 30, fixed=False)
        self._bins, self._scores, self._next = bins, scores, 0

    def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        mine = slice(self._next, self._next + len(crops))
        self._next += len(crops)
        return logits_of(self._bins[mine], self._scores[mine], self.model.bins)

    def describe(self) -> Description:
        return Description(self.runtime, "", self.device, None, {}, 0)


class Remote(Bench):
    """Asks and scores for the cells of boards; `facts` are the environments that those were planned with."""

    def __init__(self, store: Store, planned: Sequence[Planned], threads: int, facts: Mapping[str, Facts]) -> None:
        super().__init__(store, planned, threads)
        self.facts = facts
        self._parcels = store.folder / PARCELS
        self._bundles: dict[Path, str] = {}
        self._crops: dict[object, list[str]] = {}

    def board(self, job: Job) -> str:
        """The board that a job is for."""
        return self._jobs[job.id].cell.board

    def request(self, job: Job, on_step: OnStep) -> dict[str, Any]:
        """What to ask the board (`fleet.work.do`); its parcels lie ready then."""
        planned = self._jobs[job.id]
        cell = planned.cell
        path = self.bundle(planned, on_step)
        asked: dict[str, Any] = {"kind": job.kind, "bundle": self._bundle_parcel(path), "device": cell.device}
        if job.kind == SPEED:
            partner = self._partner(planned, on_step)
            reference = None if partner is planned else self._bundle_parcel(self.bundle(partner, on_step))
            return {**asked, "reference": reference, "threads": cell.threads}
        return {**asked, "crops": self._crop_parcels(planned, path, on_step), "threads": 0}

    def found(self, job: Job, answer: Mapping[str, Any], on_step: OnStep) -> Found:
        """The figures that an answer comes to; raises RtmwEdgeError for a refusal."""
        planned = self._jobs[job.id]
        difference = unlike(self.facts[planned.cell.board], answer["environment"])
        if difference:
            raise RtmwEdgeError(
                f"The worker that did this is unlike the first of {planned.cell.board} ({difference}); give it another "
                "--board, and run the sweep again with --retry."
            )
        if "refused" in answer:
            kind = NotAvailableError if answer["exit_code"] == NotAvailableError.exit_code else RtmwEdgeError
            raise kind(answer["refused"])
        data = {**answer["data"], "environment": dict(answer["environment"])}
        if job.kind == SPEED:
            partner = self._partner(planned, on_step)
            return {**data, "paced_by": None if partner is planned else partner.cell.to_dict()}, {}
        path = self.bundle(planned, on_step)
        with np.load(io.BytesIO(answer["arrays"]), allow_pickle=False) as arrays:
            engine = Replies(_model(path), arrays["bins"], arrays["scores"])
        figures, samples = self._evaluated(planned, Runner(engine), on_step)
        return {**about(path), **data, **figures}, samples

    def _bundle_parcel(self, path: Path) -> str:
        if path not in self._bundles:
            self._bundles[path] = pack_bundle(path, self._parcels)
        return self._bundles[path]

    def _crop_parcels(self, planned: Planned, path: Path, on_step: OnStep) -> list[str]:
        """The crops of the cell's people, the same for all cells of one input size."""
        model = _model(path)
        key = planned.inputs.data, planned.cell.images, model.input_size
        if key not in self._crops:
            on_step("cutting people")
            dataset = self._dataset(planned)
            self._crops[key] = [pack_crops(crops, self._parcels) for crops in _parcels(_crops(model, dataset))]
        return self._crops[key]


def _model(path: Path) -> Model:
    with bundle.read(path) as opened:
        return Model.of(opened.manifest)


def _crops(model: Model, dataset: Dataset) -> Iterator[NDArray[np.uint8]]:
    """The crops (N,H,W,3) of each image's labelled people, as an evaluation on this machine cuts them."""
    runner = Runner(Replies(model, np.zeros((0, 133, 0), np.int16), np.zeros((0, 133), np.float32)))
    for item in dataset:
        boxes, scores = boxes_to_run(item, None)
        if len(boxes):
            yield runner.cut(item.image, boxes, scores).crops.copy()


def _parcels(crops: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """The same crops in arrays of at least CROPS_A_PARCEL, but for the last."""
    waiting: list[NDArray[np.uint8]] = []
    for some in crops:
        waiting.append(some)
        if sum(map(len, waiting)) >= CROPS_A_PARCEL:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
