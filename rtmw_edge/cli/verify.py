"""`rtmw-edge verify`: is what runs on this machine what was exported?"""

from __future__ import annotations

import typer

from .options import BundleName, Device, Threads


def verify(bundle: BundleName = "builtin", device: Device = "cpu", threads: Threads = None) -> None:
    """Re-run a bundle's golden crops on this machine.

    Every file is checked by size and sha256 first. The exit code is 1 when an answer is beyond the tolerance.
    """
    from rich.table import Table

    from ..keypoints import NUM_KEYPOINTS
    from ..runtime import load
    from ..runtime.verification import check
    from ..runtime.verification import verify as run_golden_crops
    from .console import Console

    with load(bundle, device=device, threads=threads, verify=False) as runner:
        assert runner.bundle is not None
        manifest, ran = runner.bundle.manifest, runner.describe()
        found = run_golden_crops(runner.engine, runner.bundle)
        tolerance = manifest.tolerance
        title = (
            f"{manifest.variant} {manifest.target} {manifest.precision} in {ran.runtime} {ran.version} on {ran.device}"
        )
        table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        table.add_column("golden crop")
        table.add_column("logits, relative rms", justify="right")
        table.add_column("keypoints, px (p99)", justify="right")
        table.add_column("sure of 133", justify="right")
        table.add_column("")
        for index, crop in enumerate(found):
            verdict = "good" if crop.within(tolerance) else "WRONG"
            pixels = f"{crop.keypoint_px_p99:.2f}" if crop.sure else "-"
            table.add_row(str(index), f"{crop.relative_rms:.2e}", pixels, str(crop.sure), verdict)
        table.add_row(
            "at most", f"{tolerance.relative_rms:.2e}", f"{tolerance.keypoint_px_p99:.2f}", "", "", style="dim"
        )
        Console(soft_wrap=True).print(table)
        if any(crop.sure < NUM_KEYPOINTS for crop in found):
            typer.echo(
                "Sure is a keypoint that no error within the tolerance moves; of others the logits are compared."
            )
        check(runner.engine, runner.bundle, found)
        files = len(manifest.files)
        typer.echo(
            f"Verified: {files} files by size and sha256, {len(found)} golden crops, {ran.int8} of "
            f"{ran.convolutions} convolutions in int8."
        )
