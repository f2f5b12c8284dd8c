"""`rtmw-edge benchmark`: how long a bundle takes here, step by step; and two such records beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Device, Threads

if TYPE_CHECKING:
    from ..runtime.benchmark import Benchmark


def benchmark(
    bundle: Annotated[str | None, typer.Argument(help="A bundle (directory or .zip), or 'builtin'.")] = None,
    device: Device = "cpu",
    threads: Threads = None,
    streams: Annotated[
        int | None,
        typer.Option(
            help="People of a call who run side by side, each on a share of the threads.",
            show_default="2 where model and threads allow",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="People in a call.", min=1)] = 1,
    duration: Annotated[
        float | None, typer.Option(help="Seconds to measure for at least; at least 100 calls too.", show_default="10")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the whole record to this file.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Two such records, side by side; measures nothing.")
    ] = None,
    across: Annotated[
        bool, typer.Option("--across", help="Compare although machine or versions differ, and say how.")
    ] = False,
) -> None:
    """Time crop, inference, decode and the whole call of a bundle.

    Warms up, then measures call after call for --duration and 100 calls, whichever is later. The record holds machine,
    versions, memory, temperatures and frequencies.
    """
    from ..errors import BadInputError

    if compare is not None:
        if (bundle, device, threads, streams, batch, duration, json_file) != (None, "cpu", None, None, 1, None, None):
            raise BadInputError("--compare reads two records and measures nothing: leave out all but --across.")
        return _compare(*compare, across)
    if bundle is None:
        raise BadInputError("There is nothing to measure: name a bundle, or 'builtin', or --compare A.json B.json.")
    if across:
        raise BadInputError("--across goes with --compare: leave it out.")
    _measure(bundle, device, threads, streams, batch, duration, json_file)


def _measure(
    bundle: str,
    device: str,
    threads: int | None,
    streams: int | None,
    batch: int,
    duration: float | None,
    json_file: Path | None,
) -> None:
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    from ..files import check_writable
    from ..runtime import load
    from ..runtime.benchmark import HEAD, SECONDS
    from ..runtime.benchmark import benchmark as run_benchmark
    from .console import bar

    if json_file is not None:
        check_writable(json_file, HEAD)
    columns = (TextColumn("measuring"), BarColumn(), TimeRemainingColumn())
    with (
        load(bundle, device=device, threads=threads, streams=streams) as runner,
        bar(*columns) as progress,
    ):
        task = progress.add_task("measuring", total=1.0)
        result = run_benchmark(
            runner,
            people=batch,
            seconds=SECONDS if duration is None else duration,
            on_progress=lambda share: progress.update(task, completed=share),
        )
    if json_file is not None:
        result.save(json_file)
    _print(result)


def _print(result: Benchmark) -> None:
    from ..runtime import Description

    ran = Description(**result.runs)
    print(_title(result))
    steps = {step: (times.p50, times.p90, times.p99, times.mean) for step, times in result.steps.items()}
    _print_steps(("p50", "p90", "p99", "mean"), steps)
    for line in (
        f"{result.calls} calls in {result.seconds:.1f} s, {result.people_per_second:.1f} people/s",
        f"{ran.runtime} {ran.version}: {ran.int8_share}",
        f"peak memory {result.peak_memory_mb:.0f} MB",
        _heat(result),
    ):
        print(line)
    if result.busy:
        print(
            f"Other programs were at work (load {result.load:.1f}) before this began: measure again on a quiet machine."
        )


def _print_steps(columns: Sequence[str], steps: Mapping[str, Sequence[float]]) -> None:
    """A table of figures by step; a line parts the whole call from what it consists of."""
    from rich.table import Table

    from .console import Console

    table = Table()
    table.add_column("step, ms")
    for name in columns:
        table.add_column(name, justify="right")
    for step, figures in steps.items():
        table.add_row(step, *(f"{figure:.2f}" for figure in figures), end_section=step == "decode")
    Console(highlight=False).print(table)


def _title(result: Benchmark) -> str:
    model, settings = result.model, result.settings
    threads, people = settings["threads"], settings["people"]
    work = {None: "its own threads", 1: "1 thread"}.get(threads, f"{threads} threads")
    whom = "1 person a call" if people == 1 else f"{people} people a call"
    if people > 1 and settings["streams"] > 1:
        whom += f", {settings['streams']} side by side"
    return f"{model['variant']} {model['target']} {model['precision']} on {settings['device']}, {work}, {whom}"


def _heat(result: Benchmark) -> str:
    """Temperatures and frequencies before and after, where the board tells."""
    parts = []
    for name, before in result.before.temperature_c.items():
        parts.append(f"{name} {before:.0f} to {result.after.temperature_c.get(name, before):.0f} C")
    if result.before.frequency_mhz and result.after.frequency_mhz:
        parts.append(
            f"slowest core {min(result.before.frequency_mhz):.0f} to {min(result.after.frequency_mhz):.0f} MHz"
        )
    if result.after.throttled is not None:
        parts.append(f"throttled {result.after.throttled}")
    return "; ".join(parts) or "this machine tells no temperature and no frequency"


def _compare(one: Path, other: Path, across: bool) -> None:
    from ..errors import BadInputError
    from ..runtime.benchmark import Benchmark
    from ..runtime.environment import differences

    first, second = Benchmark.load_file(one), Benchmark.load_file(other)
    differing = differences(first.environment, second.environment)
    if differing and not across:
        raise BadInputError(
            f"{one} and {other} were measured in different environments ({'; '.join(differing)}): measure both in "
            "one, or pass --across to compare them all the same."
        )
    print(f"A: {_title(first)}\nB: {_title(second)}")
    steps = {}
    for step, mine in first.steps.items():
        theirs = second.steps[step]
        steps[step] = (mine.p50, theirs.p50, theirs.p50 / mine.p50, mine.p90, theirs.p90, theirs.p90 / mine.p90)
    _print_steps(("A p50", "B p50", "B / A", "A p90", "B p90", "B / A"), steps)
    for name, result in (("A", first), ("B", second)):
        if result.busy:
            print(f"{name} was measured while other programs were at work (load {result.load:.1f}).")
    if differing:
        print("Across environments, so the ratios are of both together:")
        print("\n".join(f"  {line}" for line in differing))
