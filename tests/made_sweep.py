"""A store of a sweep that nobody ran: records with figures that a test can count on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rtmw_edge.evaluation.gates import read_gate
from rtmw_edge.sweep.cells import Cell
from rtmw_edge.sweep.rows import PART_ORDER
from rtmw_edge.sweep.run import gate_document
from rtmw_edge.sweep.store import FAILED, OK, Record, Store

VARIANT = "rtmw-n-256x192"
ENVIRONMENT = {"rtmw-edge": "0.1.0", "processor": "a <processor>", "cores": "2", "int8 instructions": "avx2"}

BOARD = {"board": "Made Pi", "system": "Linux-6.6.31-v8+-aarch64-with-glibc2.36"}


@dataclass(frozen=True)
class Made:
    """One cell's figures: AP in points, the same for every part but those in `ap`; ratio to float with its interval."""

    cell: Cell
    whole: float = 30.0
    ap: Mapping[str, float] = field(default_factory=dict)
    ms: float = 10.0
    ratio: tuple[float, float, float] = (1.0, 0.98, 1.02)
    noisy: tuple[str, ...] = ()
    megabytes: float = 20.0
    int8: int = 0
    reason: str = ""
    seed: int = 0
    mpjpe: float | None = None


def cell(target: str, precision: str = "fp32", **more: Any) -> Cell:
    """A cell on 40 rendered people."""
    return Cell(
        **{"variant": VARIANT, "weights": "", "data": "synthetic:val:40", **more}, target=target, precision=precision
    )


def int8(target: str, **more: Any) -> Cell:
    """A calibrated int8 cell."""
    return cell(target, "int8", **{"grid": "common", "method": "percentile", "calibration": "synthetic:8", **more})


SWEEP = (
    Made(cell("onnx"), ms=10.0, megabytes=23.0),
    Made(int8("onnx"), 29.8, {"face": 27.0}, 5.0, (0.5, 0.48, 0.52), megabytes=7.0, int8=80),
    Made(int8("onnx", grid="affine"), 29.9, {}, 6.0, (0.6, 0.58, 0.62), megabytes=7.0, int8=80),
    Made(cell("onnx", "w8", grid="w8"), 30.0, {}, 11.0, (1.1, 1.05, 1.15), megabytes=7.0),
    Made(cell("openvino"), ms=8.0, ratio=(0.8, 0.78, 0.82), megabytes=23.0),
    Made(int8("openvino"), 29.9, {}, 8.1, (1.01, 0.99, 1.03), megabytes=7.0),
    Made(cell("ncnn"), reason="it said <no> & stopped"),
)
"""Good int8 on the affine grid of onnx, no gain on openvino, a failure on ncnn."""


def store_of(
    folder: Path,
    sweep: tuple[Made, ...] = SWEEP,
    environment: Mapping[str, str] = ENVIRONMENT,
    board: Mapping[str, str] = BOARD,
) -> Path:
    """A new run of `sweep` in the store at `folder`."""
    floats = {_float(made.cell): made.cell for made in sweep if made.cell.precision == "fp32"}
    with Store.create(folder) as store:
        number = store.last_record()
        entries, records = [], []
        for made in sweep:
            base = floats.get(_float(made.cell))
            base = None if base == made.cell else base
            pace = base or (floats[_float(replace(made.cell, target="onnx"))] if made.cell.target != "onnx" else None)
            number += 1
            jobs = f"accuracy {number}", f"speed {number}"
            entries.append(
                {
                    "cell": made.cell.to_dict(),
                    "base": base.to_dict() if base else None,
                    "accuracy": jobs[0],
                    "speed": jobs[1],
                }
            )
            records += [_accuracy(made, jobs[0]), _speed(made, jobs[1], pace)]
        document = {
            "cells": entries,
            "not_possible": [{"what": "ncnn w8a16", "reason": "ncnn has fp32, fp16, int8"}],
            "gate": gate_document(read_gate()),
            "environment": dict(environment),
            "boards": {made.cell.board: dict(board) for made in sweep if made.cell.board},
        }
        run = store.begin(document)
        for record in records:
            store.finish(Record(record.job, record.status, record.data, record.arrays, run=run))
    return folder


def _float(cell: Cell) -> tuple[object, ...]:
    """What a cell shares with the float cell that it is compared with."""
    return cell.target, cell.board, cell.device, cell.threads


def samples(made: Made, part: str) -> np.ndarray:
    """Resampled AP in 0..1: what all runs on these images share, and a little that is the cell's own."""
    shared = np.random.default_rng(1).normal(0, 2.0, 1000)
    own = np.random.default_rng([made.seed, *made.cell.label.encode()]).normal(0, 0.1, 1000)
    return ((made.ap.get(part, made.whole) + shared + own) / 100).astype(np.float32)


def _accuracy(made: Made, job: str) -> Record:
    if made.reason:
        return Record(job, FAILED, {"reason": made.reason})
    arrays = {f"ap {part}": samples(made, part) for part in PART_ORDER}
    ap = {}
    for part in PART_ORDER:
        low, high = np.quantile(arrays[f"ap {part}"].astype(np.float64), [0.025, 0.975])
        ap[part] = {"value": made.ap.get(part, made.whole) / 100, "low": float(low), "high": float(high)}
    data: dict[str, Any] = {
        "bundle": "x",
        "megabytes": made.megabytes,
        "dataset": made.cell.data,
        "images": 40,
        "ap": ap,
        "px": {"whole": {"p99": {"value": 1.5, "low": 1.0, "high": 2.0}}},
        "runs": {"runtime": f"Runtime of {made.cell.target}", "version": "1", "kernels": {"k": 80}, "int8": made.int8},
    }
    if made.mpjpe is not None:
        drawn = np.random.default_rng(2).normal(made.mpjpe, 1.0, 1000)
        arrays["mpjpe whole"] = drawn.astype(np.float32)
        data["mpjpe"] = {"whole": {"value": made.mpjpe, "low": made.mpjpe - 2, "high": made.mpjpe + 2}}
    return Record(job, OK, data, arrays)


def _speed(made: Made, job: str, pace: Cell | None) -> Record:
    if made.reason:
        return Record(job, FAILED, {"reason": "Not timed: there is no accuracy to go with it."})
    ratio, low, high = made.ratio
    data = {
        "ms_p50": made.ms,
        "ms_p90": 1.2 * made.ms,
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "spread": 0.03,
        "noisy": list(made.noisy),
        "threads": made.cell.threads or 2,
        "memory_mb": 100.0,
        "paced_by": pace.to_dict() if pace else None,
    }
    return Record(job, OK, data)
