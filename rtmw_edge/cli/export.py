"""`rtmw-edge export`: weights into the bundle of one runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    variant: Annotated[str, typer.Argument(help="Variant, e.g. rtmw-n-256x192; see 'rtmw-edge models'.")],
    target: Annotated[str, typer.Option(help="onnx, openvino, tflite or ncnn.")],
    out: Annotated[Path, typer.Option(help="The bundle to write: a folder, or a .zip.")],
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8, int8-mixed, w8 or w8a16.")] = "fp32",
    weights: Annotated[
        Path | None, typer.Option(help="A .pth or .safetensors file; default: shipped or fetched.")
    ] = None,
    grid: Annotated[
        str | None, typer.Option(help="common, affine or full; default: the target's own for the precision.")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(help="For int8: a folder of images, or synthetic:N.", show_default="synthetic:200")
    ] = None,
    boxes: Annotated[Path | None, typer.Option(help="Person boxes for a calibration folder, as for 'run'.")] = None,
    method: Annotated[str, typer.Option(help="How ranges are chosen: minmax, percentile or mse.")] = "percentile",
    table: Annotated[Path | None, typer.Option(help="For int8: take the scales from this table instead.")] = None,
    keep_float: Annotated[
        list[str] | None, typer.Option(help="For int8-mixed: a convolution to leave in float; may be repeated.")
    ] = None,
    save_table: Annotated[
        Path | None, typer.Option(help="Write the scales, and the images they are from, here.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Crops that the graph takes at once.")] = 1,
) -> None:
    """Convert a network to a runtime's format, with the golden outputs that prove it."""
    from rich.console import Console

    from ..targets.export import export as run_export

    console = Console(stderr=True)
    with console.status("starting") as status:

        def on_step(step: str) -> None:
            status.update(step)
            if not console.is_terminal and not step.startswith("calibrating, "):
                console.print(step)

        run_export(
            variant,
            target,
            precision,
            out,
            weights=weights,
            grid=grid,
            calibration=calibration,
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


def _report(out: Path) -> None:
    """Print what was written, and how its own runtime does on the golden crops where it is installed."""
    from ..errors import NotAvailableError
    from ..runtime import open_bundle, open_engine, verification

    with open_bundle(out) as opened:
        manifest = opened.manifest
        size = sum(file.size for file in manifest.files if file.role != "golden")
        tools = ", ".join(f"{name} {version}" for name, version in manifest.tools.items())
        print(f"{out}: {manifest.variant} {manifest.target} {manifest.precision}, {size / 1e6:.1f} MB")
        print(f"convolutions in int8: {manifest.convolutions.int8} of {manifest.convolutions.total}")
        print(f"converted with {tools}")
        try:
            engine = open_engine(opened, "cpu", None)
        except NotAvailableError as error:
            print(f"not verified on this machine: {error}")
            return
        try:
            found = verification.verify(engine, opened)
            verification.check(engine, opened, found)
        finally:
            engine.close()
        rms, pixels = max(crop.relative_rms for crop in found), max(crop.keypoint_px_p99 for crop in found)
        print(f"verified: logits within {rms:.2g} (relative rms), keypoints within {pixels:.2g} px (99th percentile)")
