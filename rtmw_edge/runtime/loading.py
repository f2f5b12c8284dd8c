"""Open a bundle as a `Runner`: find it, check it, open its engine, and let the engine prove itself on a golden crop."""

from __future__ import annotations

from pathlib import Path

from .. import bundle as bundles
from ..errors import BadInputError, importing
from . import verification
from .devices import check_device, check_threads, open_engine
from .runner import Runner

BUILTIN = "builtin"
"""The name of the ready bundle that comes with the package."""

BUILTIN_DIRECTORY = Path(__file__).parents[1] / "builtin"


def load(
    bundle: str | Path = BUILTIN,
    device: str = "cpu",
    threads: int | None = None,
    *,
    verify: bool = True,
    subbin: bool = False,
    spin: bool = True,
    streams: int | None = None,
) -> Runner:
    """Open `bundle` (a directory, a .zip or "builtin", the one in the package) as a Runner.

    `device`: "cpu", "cuda", "tensorrt", "gpu" or "npu". `threads`: None for all cores, as the runtime counts them. With
    `verify` one golden crop is run and compared. `subbin` refines coordinates between the half-pixel bins. Pass
    `spin=False` where other threads work beside it, as a `Pipeline`'s do: those of the runtime that wait then give
    their core to them.
    `streams` people of a call run side by side, each on its share of the threads of a CPU; None: two, where there are
    two threads and the model is small (64 MB). The answers are the same.

    Raises BadInputError for a bundle that is not there and for arguments that cannot be; BundleError, which is one too,
    for a bundle that is damaged or not one; NotAvailableError when its runtime or the device is missing;
    VerificationError when the runtime computes it wrong.

    >>> runner = load("builtin", threads=2)                             # doctest: +SKIP
    """
    opened = open_bundle(bundle)
    try:
        engine = open_engine(opened, device, threads, spin=spin, streams=streams)
        if verify:
            verification.check(engine, opened, verification.verify(engine, opened, crops=1))
    except BaseException:
        opened.close()
        raise
    return Runner(engine, opened, subbin=subbin)


def torch_runner(variant: str, weights: Path | None = None, device: str = "cpu", threads: int | None = None) -> Runner:
    """The reference: `variant` in PyTorch, as a Runner like any other; None takes the embedded or fetched weights.

    Raises NotAvailableError without torch, and BadInputError for an unknown variant or a wrong file.
    """
    check_device(device)
    check_threads(threads)
    with importing("The reference runner", "rtmw-edge[torch]"):
        from .torch_engine import open_torch
    return Runner(open_torch(variant, weights, device, threads))


def open_bundle(bundle: str | Path) -> bundles.Bundle:
    """Read and check the bundle at a path, or the one in the package for "builtin"."""
    return bundles.read(builtin_path() if str(bundle) == BUILTIN else bundle)


def builtin_path() -> Path:
    """Where the ready bundle of this installation lies, a directory or a .zip."""
    found = sorted(BUILTIN_DIRECTORY.glob("rtmw-*"))
    if not found:
        raise BadInputError(
            "This installation has no builtin bundle; install rtmw-edge from a release (pip install rtmw-edge), "
            "or make a bundle with rtmw-edge export."
        )
    return found[0]
