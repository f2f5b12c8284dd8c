"""`rtmw-edge export`: weights into the bundle of one runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInputError
from .boards import picked
from .calibrate import TABLE_HEAD

if TYPE_CHECKING:
    from ..calibration import Source
    from ..evaluation.datasets import Dataset
    from ..evaluation.gates import Gate


COUNTED = ("calibrating, ", "gate, ")
"""How steps begin that count, which only a terminal is shown."""


def export(
    variant: Annotated[str, typer.Argument(help="Variant, e.g. rtmw-n-256x192; see 'rtmw-edge models'.")],
    out: Annotated[Path, typer.Option(help="The bundle to write: a folder, or a .zip.")],
    target: Annotated[str | None, typer.Option(help="onnx, openvino, tflite, ncnn or tensorrt.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, int8, int8-mixed, w8 or w8a16.", show_default="fp32")
    ] = None,
    board: Annotated[
        str | None, typer.Option(help="Choose what is left open for this board, and say why; see 'boards'.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A .pth or .safetensors file; default: shipped or fetched.")
    ] = None,
    grid: Annotated[
        str | None, typer.Option(help="common, affine or full; default: the target's own for the precision.")
    ] = None,
    calibrator: Annotated[
        str, typer.Option(help="ours, or a tool that quantizes by itself: nncf (openvino), ort (onnx), aeq (tflite).")
    ] = "ours",
    calibration: Annotated[
        str | None,
        typer.Option(
            help="For int8: images as for 'calibrate'.",
            show_default="the table that the weights were trained with, or synthetic:200",
        ),
    ] = None,
    boxes: Annotated[Path | None, typer.Option(help="Person boxes for a calibration folder, as for 'run'.")] = None,
    method: Annotated[
        str | None, typer.Option(help="How ranges are chosen, as for 'calibrate'.", show_default="percentile")
    ] = None,
    table: Annotated[Path | None, typer.Option(help="For int8: take the scales from this table instead.")] = None,
    keep_float: Annotated[
        list[str] | None, typer.Option(help="For int8-mixed: a convolution to leave in float; may be repeated.")
    ] = None,
    save_table: Annotated[
        Path | None, typer.Option(help="Write the scales, and the images they are from, here.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Crops that the graph takes at once.")] = 1,
    gate: Annotated[
        str | None, typer.Option(help="Compare with the float network and apply this gate: a TOML file, or 'default'.")
    ] = None,
    gate_data: Annotated[
        str | None,
        typer.Option(help="What the gate is applied on, as --data of 'validate'.", show_default="synthetic:val"),
    ] = None,
) -> None:
    """Convert a network to a runtime's format: a bundle.

    Golden outputs that prove it on the board are in it. With --gate the bundle is compared with its own float network,
    and its manifest keeps the verdict; the exit code is 1 when a limit is broken.
    """
    from ..calibration import open_source
    from ..calibration.evaluation_images import held_out
    from ..evaluation import open_dataset
    from ..evaluation.gates import read_gate
    from ..files import check_writable
    from ..targets import TARGETS
    from ..targets.export import export as run_export
    from .console import Console

    console = Console(stderr=True)
    if board is not None:
        target, precision, grid = picked(console, board, target, precision, grid)
    if target is None:
        raise BadInputError(f"Name what to export for: --target {', '.join(TARGETS)}, or --board pi5.")
    if gate is None and gate_data is not None:
        raise BadInputError(f"--gate-data {gate_data} is for --gate: pass both, or leave it out.")
    if save_table is not None:
        check_writable(save_table, TABLE_HEAD)
    limits = None if gate is None else (read_gate(gate), open_dataset(gate_data or "synthetic:val"))
    source: str | Source | None = calibration
    if calibration is not None and gate_data is not None:
        source = open_source(calibration, boxes=boxes, evaluation=held_out(gate_data))
    with console.status("starting") as status:

        def on_step(step: str) -> None:
            status.update(step)
            if not console.is_terminal and not step.startswith(COUNTED):
                console.print(step)

        run_export(
            variant,
            target,
            precision or "fp32",
            out,
            weights=weights,
            grid=grid,
            calibrator=calibrator,
            calibration=source,
            boxes=boxes,
            method=method,
            table=table,
            floats=keep_float or (),
            save_table=save_table,
            batch=batch,
            on_step=on_step,
        )
        status.update("verifying")
        _report(out)
        if limits is not None:
            _apply_gate(out, *limits, weights, on_step)


def _apply_gate(out: Path, gate: Gate, dataset: Dataset, weights: Path | None, on_step: Callable[[str], None]) -> None:
    """Compare the bundle at `out` with its float network, write the verdict into it, and raise it when it is bad."""
    from ..bundle import record_gates
    from ..errors import VerificationError
    from ..evaluation.validate import Contender, validate
    from ..runtime import load
    from .references import open_reference

    with load(out) as runner:
        assert runner.bundle is not None
        manifest = runner.bundle.manifest
        with open_reference("torch:cpu", manifest, str(out), weights=weights) as (truth, _):
            found = validate(
                truth,
                Contender(out.name, runner, manifest.weights_sha256),
                dataset,
                gate,
                on_progress=lambda done, total: on_step(f"gate, {done} of {total} images"),
            )
    record_gates(out, found.gate, manifest)
    if not found.gate.passed:
        raise VerificationError(f"{found.gate.sentence()} The bundle is kept at {out}, and its manifest says so.")
    print(found.gate.sentence())


def _report(out: Path) -> None:
    """Print what was written, and how its own runtime does on the golden crops where it is installed."""
    from ..errors import NotAvailableError, VerificationError
    from ..runtime import open_bundle, open_engine, verification

    with open_bundle(out) as opened:
        manifest = opened.manifest
        size = sum(file.size for file in manifest.files if file.role != "golden")
        tools = ", ".join(f"{name} {version}" for name, version in manifest.tools.items())
        print(f"{out}: {manifest.variant} {manifest.target} {manifest.precision}, {size / 1e6:.1f} MB")
        print(f"convolutions in int8: {manifest.convolutions.int8} of {manifest.convolutions.total}")
        if manifest.scales is not None:
            print(f"scales from: {manifest.scales}")
        print(f"converted with {tools}")
        try:
            engine = open_engine(opened, "cpu", None)
        except NotAvailableError as error:
            print(f"not verified on this machine: {error}")
            return
        try:
            found = verification.verify(engine, opened)
            verification.check(engine, opened, found)
        except VerificationError as error:
            raise VerificationError(
                f"{error} The bundle is kept, for a device whose runtime computes it right."
            ) from error
        finally:
            engine.close()
        rms, pixels = max(crop.relative_rms for crop in found), max(crop.keypoint_px_p99 for crop in found)
        sure = sum(crop.sure for crop in found)
        keypoints = f", {sure} sure keypoints within {pixels:.2g} px (99th percentile)" if sure else ""
        print(f"verified: logits within {rms:.2g} (relative rms){keypoints}")
