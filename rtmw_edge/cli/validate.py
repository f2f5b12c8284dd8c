"""`rtmw-edge validate`: is what runs on this device still the model that was approved?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import BundleName, Data, DetectionFile, Figures, Limit

if TYPE_CHECKING:
    from rich.table import Table

    from ..bundle.gate_report import GateCheck
    from ..evaluation.datasets import Dataset, Detected
    from ..evaluation.validate import Contender
    from ..evaluation.validation import Validation


def validate(
    bundle: BundleName,
    reference: Annotated[
        str, typer.Option(help="torch:cpu, torch:cuda, onnx:cpu, onnx:cuda, or another bundle.")
    ] = "torch:cpu",
    data: Data = "synthetic:val",
    weights: Annotated[
        Path | None, typer.Option(help="The weights that the bundle was exported from; default: shipped or fetched.")
    ] = None,
    detections: DetectionFile = None,
    gate: Annotated[str, typer.Option(help="A TOML file of limits per part, or 'default'.")] = "default",
    strict: Annotated[
        bool, typer.Option("--strict", help="Every limit must hold for the whole 95 % interval.")
    ] = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Figures with the official flip test; shows what it does.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write an HTML page with the worst crops.")] = None,
    json_file: Figures = None,
    device: Annotated[str, typer.Option(help="Device of the bundle: cpu, cuda, tensorrt, gpu or npu.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Threads of both.", min=1)] = None,
    limit: Limit = None,
) -> None:
    """Compare a bundle with a reference, and judge it by a gate.

    On the same crops: pixels apart, bins that flipped, AP per part of both with 95 % intervals, and in 3D MPJPE. The
    reference is checked against float64 first. The exit code is 1 when a limit of the gate is broken.
    """
    import time

    from ..errors import VerificationError
    from ..evaluation import open_dataset, read_detections
    from ..evaluation.gates import read_gate
    from ..evaluation.validate import Contender
    from ..evaluation.validate import validate as compare
    from ..evaluation.validation_report import check_ours, write_json, write_report
    from ..runtime import load
    from ..runtime.environment import environment
    from .console import bar
    from .references import open_reference

    check_ours(report, json_file)
    limits, dataset = read_gate(gate), open_dataset(data, limit)
    boxes = read_detections(detections, dataset) if detections else None
    begun = time.monotonic()
    with bar() as progress, load(bundle, device=device, threads=threads) as runner:
        assert runner.bundle is not None
        manifest = runner.bundle.manifest
        task = progress.add_task("opening", total=len(dataset))
        with open_reference(
            reference,
            manifest,
            bundle,
            weights=weights,
            threads=threads,
            on_step=lambda step: progress.update(task, description=step),
        ) as (truth, file):
            progress.update(task, description="checking the reference in float64")
            notes = [_check_in_float64(truth, file, dataset, boxes)]
            progress.update(task, description="comparing")
            result = compare(
                truth,
                Contender(Path(bundle).name, runner, manifest.weights_sha256),
                dataset,
                limits,
                strict=strict,
                detections=boxes,
                flip=flip,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
    if truth.weights_sha256 != manifest.weights_sha256:
        notes.append("The two were exported from different weights.")
    if left_out := result.device.evaluation.left_out_sentence():
        notes.append(left_out)
    notes.append(f"{time.monotonic() - begun:.0f} s for {len(dataset)} images on both sides.")
    where = environment()
    _print_tables(result, notes)
    if report:
        write_report(report, result, notes, where)
    if json_file:
        write_json(json_file, result, notes, where)
    if not result.gate.passed:
        raise VerificationError(result.gate.sentence())
    print(result.gate.sentence())


def _check_in_float64(truth: Contender, file: Path | None, dataset: Dataset, boxes: Detected | None) -> str:
    """The sentence on how far the reference is from float64; VerificationError when too far."""
    from importlib.util import find_spec

    from ..evaluation import double_precision

    if file is None:
        return f"{truth.name} was not checked against float64: it is not in float32, or its weights are not here."
    if find_spec("torch") is None:
        return f'{truth.name} was not checked against float64, for want of PyTorch: pip install "rtmw-edge[torch]".'
    crops = double_precision.first_crops(truth.runner, dataset, boxes)
    error = double_precision.relative_error(truth.runner, file, crops)
    double_precision.check(error, truth.name)
    return f"{truth.name} is {error:.1e} (relative rms of the logits, {len(crops)} crops) off float64."


def _print_tables(result: Validation, notes: list[str]) -> None:
    from .console import Console

    console = Console(soft_wrap=True)
    for table in _tables(result):
        console.print(table)
    for note in notes:
        console.print(note, highlight=False)


def _tables(result: Validation) -> list[Table]:
    from ..evaluation.validation_report import interval

    one, two = result.reference, result.device
    evaluation = two.evaluation
    title = (
        f"{two.name} ({two.ran.runtime}, {two.ran.int8} of {two.ran.convolutions} convolutions in int8) against "
        f"{one.name} on {result.gate.data}: {evaluation.images} images, {evaluation.people} people"
    )
    limits = {(check.part, check.measure): check for check in result.gate.checks}
    rows = []
    for part, ap in result.ap.items():
        check = limits.get((part, "ap_drop"))
        bound = "" if check is None else f"{check.limit:g} {_verdict(check)}"
        noise = ", within noise" if check is not None and check.within_noise else ""
        figures = (f"{ap.reference.value:.1f}", f"{ap.device.value:.1f}", interval(ap.drop, 2))
        rows.append([part, *figures, bound + noise])
    tables = [_table(title, ["AP, points", "reference", "device", "lost (95 %)", "at most"], rows)]
    rows = [
        [part, *(f"{px.value:.1f}" for px in found.px.values())]
        + [f"{100 * share.value:.1f} %" for share in (found.flipped, found.flipped_far)]
        + [f"{found.keypoints} of {found.of}"]
        for part, found in result.agreement.items()
    ]
    heads = ["apart, px", "p50", "p90", "p99", "other bin", "by more than one", "sure keypoints"]
    tables.append(_table("", heads, rows))
    if result.mpjpe:
        rows = [
            [part, f"{found.reference.value:.1f}", f"{found.device.value:.1f}", interval(found.percent)]
            for part, found in result.mpjpe.items()
        ]
        tables.append(_table("", ["MPJPE, hips aligned, mm", "reference", "device", "more, % (95 %)"], rows))
    if result.flip_ap:
        rows = [
            [part, *(f"{aps[part][side]:.1f}" for side in (0, 1) for aps in result.flip_ap.values())]
            for part in result.ap
        ]
        heads = [f"{side}\n{kind}" for side in ("reference", "device") for kind in result.flip_ap]
        tables.append(_table("", ["AP by flip test", *heads], rows))
    return tables


def _verdict(check: GateCheck) -> str:
    if check.value is None:
        return "BROKEN: not measurable"
    return "kept" if check.passed else "BROKEN"


def _table(title: str, heads: list[str], rows: list[list[str]]) -> Table:
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left", no_wrap=index < len(heads) - 1)
    for part, *cells in rows:
        table.add_row(part.replace("_", " "), *cells)
    return table
