"""A cell: one point of the product that a sweep goes through, and the hashes of everything that goes into it.

A cell is two jobs, accuracy and speed. A job's id is the hash of its inputs: weights, table or calibration, target,
precision, grid, tool versions, the code of the converters, device, data. The same id means the same result, so that a
finished job is never done again, and cells that differ only in threads share one bundle and one accuracy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rtmw_edge.calibration.evaluation_images import held_out
from rtmw_edge.calibration.people import Labelled, in_folder

from .. import __version__
from ..errors import BadInputError
from ..evaluation.datasets import dataset_named
from ..files import sha256_of
from ..fleet.work import ACCURACY, SPEED
from ..runtime.environment import environment
from ..runtime.machine import REFERENCE, distributions, installed
from .code import PEERS, SCALES, code_sha256, writers
from .config import TORCH

EXPORT = "export"
"""The kind of a job that boards have none of; theirs are ACCURACY and SPEED."""

LEFT_OUT = "\0"
"""In place of a calibration that a label does without."""


@dataclass(frozen=True)
class Cell:
    """One point of the product. Its fields are its name, which stays the same from one release to the next.

    Empty or 0 is what does not apply or the default: `weights` the shipped or fetched ones, `grid`, `method` and
    `calibration` of precisions without them, `count` all people of the calibration, `calibrator` this toolkit's own,
    `table` the name of a trained pair, or of a trial of a search, `threads` all cores, `images` all, `board` this
    machine.
    """

    variant: str
    weights: str
    target: str
    precision: str
    grid: str = ""
    method: str = ""
    calibration: str = ""
    count: int = 0
    bias_correction: bool = False
    calibrator: str = ""
    table: str = ""
    device: str = "cpu"
    threads: int = 0
    data: str = ""
    images: int = 0
    board: str = ""

    @property
    def lane(self) -> str:
        """The precision, and for int8 and w8a16 where the scales come from: "int8 PTQ", "int8 QAT"."""
        if self.calibration:
            return f"{self.precision} PTQ"
        return f"{self.precision} QAT" if self.table else self.precision

    @property
    def calibrated(self) -> str:
        """How the scales were calibrated: "percentile synthetic:200 of 50"; "" where they were not."""
        words = [self.calibrator, self.method, self.calibration, f"of {self.count}" if self.count else ""]
        words += ["bias-corrected" if self.bias_correction else ""]
        return " ".join(word for word in words if word)

    @property
    def label(self) -> str:
        """What tells a cell from its neighbours: "onnx int8 PTQ affine percentile synthetic:200"."""
        grid = self.grid if self.grid != self.precision else ""
        words = [self.target, self.lane, grid, self.calibrated, self.table, self.weights, self.place]
        return " ".join(word for word in words if word)

    @property
    def place(self) -> str:
        """Where it is timed, as far as a sweep says so: "cuda 4 threads on nano"; "" on all cores of this machine."""
        threads = {0: "", 1: "1 thread"}.get(self.threads, f"{self.threads} threads")
        board = f"on {self.board}" if self.board else ""
        return " ".join(word for word in (self.device if self.device != "cpu" else "", threads, board) if word)

    @property
    def wherever(self) -> Cell:
        """The cell without what accuracy is measured on, which changes nothing of its time and is one for a run."""
        return replace(self, data="", images=0)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def short_labels(cells: Sequence[Cell]) -> dict[Cell, str]:
    """Labels without the method, the calibration and the threads where all cells that have one have the same."""
    methods = {cell.method for cell in cells if cell.method}
    sources = {cell.calibration for cell in cells if cell.calibration}
    same_threads = len({cell.threads for cell in cells}) == 1
    found = {}
    for cell in cells:
        short = replace(cell, threads=0) if same_threads else cell
        short = replace(short, method="") if len(methods) == 1 else short
        # Marked, not sought: its words may be those of another field.
        short = replace(short, calibration=LEFT_OUT) if len(sources) == 1 and cell.calibration else short
        found[cell] = short.label.replace(f" {LEFT_OUT}", "")
    return found


@dataclass(frozen=True)
class Inputs:
    """The files that a cell reads, beside what its fields say, and the float cells that it is held to.

    `base` is the fp32 cell that accuracy is compared with, `paced_by` the one that speed is; None where there is none.
    `base_weights` are those of the float network, which training with quantization began with. `data` and
    `calibration` are the cell's with the paths that lead to their files from here.
    """

    weights: Path
    base_weights: Path
    table: Path | None = None
    base: Cell | None = None
    paced_by: Cell | None = None
    data: str = ""
    calibration: str = ""

    @property
    def held_out(self) -> tuple[str, ...]:
        """What accuracy is measured on, for `calibration.open_source` to refuse."""
        return held_out(self.data)


@dataclass(frozen=True)
class Planned:
    """A cell with its inputs and the hashes that identify its results."""

    cell: Cell
    inputs: Inputs
    bundle_key: str
    table_key: str
    accuracy_id: str
    speed_id: str
    files: tuple[tuple[Path, str], ...] = ()

    def check_files(self) -> None:
        """Raise BadInputError when weights or table are not those that the hashes are of any more."""
        for path, sha256 in self.files:
            if sha256_of(path) != sha256:
                raise BadInputError(f"{path} changed while the sweep ran; run it again to measure what it is now.")

    @property
    def export_id(self) -> str:
        """Of the job that exports for a board; on this machine, whoever needs the bundle first exports it."""
        return digest({"kind": EXPORT, "bundle": self.bundle_key})


def identified(
    cell: Cell, inputs: Inputs, requirements: tuple[str, ...], board: Mapping[str, str] | None = None
) -> Planned:
    """The cell with its hashes; `requirements` are the distributions that its export imports.

    `board` is the environment of the cell's board, None while no worker of it has joined.
    """
    scales = {
        "variant": cell.variant,
        "weights": file_sha256(inputs.weights),
        "grid": cell.grid,
        "method": cell.method,
        "calibration": [calibration_sha256(inputs.calibration), cell.count, cell.bias_correction, cell.calibrator],
        "code": _code(cell, SCALES),
        "tools": installed("torch", "numpy"),
    }
    exported = {
        **scales,
        "table": file_sha256(inputs.table) if inputs.table else "",
        "target": cell.target,
        "precision": cell.precision,
        "code": _code(cell, writers(cell.target)),
        "tools": installed(*requirements),
    }
    bundle_key = digest(exported)
    runs = {"bundle": bundle_key, "device": cell.device, "runtime": _runtime(cell, board)}
    accuracy = {**runs, "kind": ACCURACY, "data": _data_of(inputs.data), "images": cell.images}
    if inputs.base_weights != inputs.weights:
        accuracy["compared_with"] = file_sha256(inputs.base_weights)
    pace = [inputs.paced_by.wherever.to_dict(), _runtime(inputs.paced_by, board)] if inputs.paced_by else []
    where = _machine(board or {}) if cell.board else machine()
    speed = {**runs, "kind": SPEED, "threads": cell.threads, "pace": pace, "machine": where}
    paths = dict.fromkeys(path for path in (inputs.weights, inputs.base_weights, inputs.table) if path is not None)
    files = tuple((path, file_sha256(path)) for path in paths)
    return Planned(cell, inputs, bundle_key, digest(scales), digest(accuracy), digest(speed), files)


def _runtime(cell: Cell, board: Mapping[str, str] | None) -> dict[str, Any]:
    """The versions of what runs the cell's bundle, where it runs."""
    names = distributions(REFERENCE if cell.target == TORCH else cell.target)
    if not cell.board:
        return dict(installed(*names))
    return {"board": cell.board, **{name: (board or {}).get(name) for name in names}}


def _data_of(data: str) -> list[str]:
    """What accuracy is measured on, wherever its files lie: the data set's name without their paths, and their hash."""
    files = data_sha256(data)
    kind, *places = data.split(":")
    return [kind, *places[2:], files] if files else [data]


def digest(value: object) -> str:
    """sha256 of canonical JSON, with the version of the tool."""
    text = json.dumps([__version__, value], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=64)
def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, as they were when it was first asked for."""
    return sha256_of(path)


@lru_cache(maxsize=16)
def calibration_sha256(source: str) -> str:
    """What a calibration source holds: the text of a rendered one, names and bytes of a folder's images, and of
    labelled people the bytes of their annotations, names and sizes of their images.
    """
    if source.startswith("coco:"):
        _, annotations, images = source.split(":", 2)
        return _of_files(Path(annotations), Labelled(Path(annotations), Path(images)).files())
    folder = Path(source)
    if not source or not folder.is_dir():
        return source
    return digest([(path.name, file_sha256(path)) for path in in_folder(folder).files()])


@lru_cache(maxsize=16)
def data_sha256(data: str) -> str:
    """A data set that has files: the bytes of its annotations, names and sizes of its images; "" for rendered people.

    Not the bytes of the images, which may be hundreds of gigabytes.
    """
    files = [*dataset_named(data).image_files]
    if not files:
        return ""
    _, annotations, *_ = data.split(":")
    return _of_files(Path(annotations), files)


def _of_files(annotations: Path, images: Sequence[Path]) -> str:
    # Of a sweep of the first images, the others may be missing.
    return digest([file_sha256(annotations), [(path.name, path.stat().st_size) for path in images if path.is_file()]])


def _code(cell: Cell, roots: tuple[str, ...]) -> str:
    """The code that decides what is in the cell's table or bundle; that of PyTorch's own cells writes neither."""
    if cell.target == TORCH:
        return ""
    quantized = ("quantization",) if cell.grid or cell.calibrator else ()
    calibrated = ("calibration",) if cell.calibration else ()
    peers = (PEERS,) if cell.calibrator else ()
    return code_sha256((*roots, *peers), ("targets", *quantized, *calibrated), () if peers else (PEERS,))


@lru_cache(maxsize=1)
def machine() -> str:
    """The machine that times are of: processor and cores."""
    return _machine(environment())


def _machine(facts: Mapping[str, str]) -> str:
    return " x ".join(facts[name] for name in ("board", "processor", "cores") if name in facts)
