"""`rtmw-edge doctor`: what is installed, what really opens, what to install for the rest."""

from __future__ import annotations


def doctor() -> None:
    """Show which engines and devices really open here.

    Each is tried with a small model; what is missing comes with the command that installs it.
    """
    import os
    import platform

    from rich.table import Table

    from .. import __version__
    from ..runtime import machine, processor
    from .console import Console

    console = Console(highlight=False, soft_wrap=True)
    core = machine.installed("numpy", "opencv-python-headless", "opencv-python", "typer", "rich")
    versions = ", ".join(f"{name} {found}" for name, found in core.items() if found)
    flags = ", ".join(processor.int8_flags()) or "none known"
    console.print(f"rtmw-edge {__version__}, Python {platform.python_version()}, {platform.platform()}")
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, int8 instructions: {flags}")
    console.print(versions)

    engines = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("engine", "runs", "version", "devices that open", ""):
        engines.add_column(name, no_wrap=bool(name), overflow="fold")  # what to install must be whole
    for state in machine.engine_states():
        failed = "\n".join(f"{device}: {reason}" for device, reason in state.failed.items())
        engines.add_row(
            state.name,
            state.runs,
            state.version or "-",
            ", ".join(state.devices) or "-",
            failed if state.version else state.install,
        )
    console.print("", engines, "")

    commands = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("command", "ready", "missing", "install"):
        commands.add_column(name, no_wrap=name in ("ready", "install"))
    for extra, (command, distributions) in machine.EXTRAS.items():
        missing = [name for name, found in machine.installed(*distributions).items() if found is None]
        install = f'pip install "rtmw-edge[{extra}]"' if missing else ""
        commands.add_row(command, "no" if missing else "yes", ", ".join(missing), install)
    console.print(commands, "")
    console.print(_builtin())


def _builtin() -> str:
    """Does the ready bundle open and compute rightly here?"""
    from ..errors import RtmwEdgeError
    from ..runtime import load

    try:
        with load("builtin") as runner:
            ran = runner.describe()
    except RtmwEdgeError as error:
        return f"builtin bundle: {error}"
    return f"builtin bundle: {runner.model.variant}, verified; {ran.int8} of {ran.convolutions} convolutions in int8"
