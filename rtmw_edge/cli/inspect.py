"""`rtmw-edge inspect`: what a bundle is, and what runs of it here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .options import BundleName

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..bundle.manifest import Convolutions
    from ..errors import NotAvailableError


def inspect(
    bundle: BundleName = "builtin",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, tensorrt, gpu or npu.", show_default="cpu")] = None,
) -> None:
    """Print what a bundle is and what runs of it here.

    That is: what it was made with, and how many convolutions the runtime on this machine does in int8. Exits with 3
    when a --device was named that is not there.
    """
    from rich.table import Table

    from ..runtime import open_bundle
    from .console import Console

    with open_bundle(bundle) as opened:
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        runs, missing = _what_runs(opened, device or "cpu")
        for name, value in (*_facts(opened), ("runs here", runs)):
            table.add_row(name, value)
        Console(highlight=False).print(table)
        if missing is not None and device is not None:
            raise missing


def _facts(bundle: Bundle) -> list[tuple[str, str]]:
    """The manifest, line by line."""
    manifest = bundle.manifest
    model, score = manifest.input, manifest.score
    outputs = ", ".join(f"{axis} '{output.name}' {output.bins} bins" for axis, output in manifest.outputs.items())
    files = [f"{file.path}  {file.size / 1e6:.2f} MB  sha256 {file.sha256[:16]}..." for file in manifest.files]
    return [
        ("bundle", str(bundle.source)),
        ("variant", manifest.variant),
        ("target", manifest.target),
        ("precision", manifest.precision + (f", grid '{manifest.grid}'" if manifest.grid else "")),
        ("input", f"'{model.name}' {' x '.join(map(str, model.shape))} {model.color} {model.dtype} {model.layout}"),
        ("outputs", outputs + (f", depth within {manifest.z_range:.3f} m" if manifest.z_range else "")),
        ("score", f"1 / (1 + exp(-({score.a:g} s + {score.b:g})))" if score else "not calibrated"),
        ("in the file", _in_the_file(manifest.convolutions)),
        ("files", "\n".join(files)),
        ("weights", f"sha256 {manifest.weights_sha256[:16]}..."),
        ("table", f"sha256 {manifest.table_sha256[:16]}..." if manifest.table_sha256 else "none"),
        ("scales", manifest.scales or "none"),
        ("gate", manifest.gates.sentence() if manifest.gates else "none was applied"),
        ("made by", ", ".join([manifest.created_by, *(f"{name} {v}" for name, v in manifest.tools.items())])),
    ]


def _in_the_file(convolutions: Convolutions) -> str:
    return (
        f"{convolutions.int8} of {convolutions.total} convolutions in int8, "
        f"{100 * convolutions.int8_macs:.1f} % of their multiply-accumulates"
    )


def _what_runs(bundle: Bundle, device: str) -> tuple[str, NotAvailableError | None]:
    """What the runtime itself says of the opened model, or why it cannot be opened here, with the error."""
    from ..errors import NotAvailableError
    from ..runtime import open_engine

    try:
        with open_engine(bundle, device) as engine:
            ran = engine.describe()
    except NotAvailableError as error:
        return str(error), error
    kernels = [f"{count:5d}  {kernel}" for kernel, count in ran.kernels.items()]
    threads = {None: "", 1: ", 1 thread"}.get(ran.threads, f", {ran.threads} threads")
    lines = [ran.int8_share, f"{ran.runtime} {ran.version} on {ran.device}{threads}", *kernels, ran.note]
    return "\n".join(line for line in lines if line), None
