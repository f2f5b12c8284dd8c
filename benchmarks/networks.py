"""Weights for timing a variant: the user's, the shipped or fetched ones, or some filled from their own names."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from rtmw_edge.errors import BadInputError
from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import save_safetensors
from rtmw_edge.models.variants import variant_named
from rtmw_edge.models.weights import find

TESTS = Path(__file__).parents[1] / "tests"


def weights_for(variant: str, weights: Path | None, folder: Path) -> tuple[Path, bool]:
    """The file of weights, and whether they were trained. Untrained ones take the same time and find nobody."""
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
