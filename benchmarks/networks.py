"""What the benchmarks have in common that export a variant and time it: their options, and its weights."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from rtmw_edge.errors import BadInputError
from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import save_safetensors
from rtmw_edge.models.variants import variant_named
from rtmw_edge.models.weights import find

TESTS = Path(__file__).parents[1] / "tests"


def timing_options(description: str | None, targets: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The options that all of them take, and with `targets` which of these, and how int8 is calibrated."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="rtmw-n-256x192")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processor-time", action="store_true", help="count this process's time, not the clock's")
    if targets:
        parser.add_argument("--targets", nargs="+", default=list(targets), choices=targets)
        parser.add_argument("--calibration", default="synthetic:16", help="of int8; times hardly depend on it")
    return parser


def weights_for(variant: str, weights: Path | None, folder: Path) -> tuple[Path, bool]:
    """The file of weights: the user's, the shipped or fetched one, or one filled from its own names; and whether they
    were trained. Untrained ones take the same time and find nobody.
    """
    try:
        return find(variant_named(variant), weights), True
    except BadInputError:
        if weights is not None:
            raise
    sys.path.insert(0, str(TESTS))
    from reference_weights import fill

    path = folder / f"{variant}.safetensors"
    save_safetensors(fill(build(variant)), path, torch.float32)
    return path, False
