"""The whole state of a run in one file, written whole or not at all."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch

from ..errors import BadInputError
from ..files import atomic_write
from .recipe import Recipe

NAME = "last.pt"
FORMAT = 2
FIXED = ("variant", "optimizer", "batch", "seed", "reuse", "window", "distillation", "quantization")
"""What a run cannot change on its way: its state or the order of its samples hang on it."""

DEFAULTS = {one.name: one.default for one in fields(Recipe) if one.default is not MISSING}

State = dict[str, Any]


def write(out: Path, state: State) -> None:
    """Write `state` to the folder `out`; an earlier one stays until the new one is complete."""
    with atomic_write(out / NAME) as path, path.open("wb") as file:  # given a path, torch hides that the disk is full
        torch.save({"format": FORMAT, **state}, file)


def read(out: Path, recipe: dict[str, Any], device: torch.device) -> State | None:
    """The state in the folder `out`, None where there is none; what a kill left half-written is removed.

    Raises BadInputError when it cannot be read, or belongs to a run that differs in what is fixed.
    """
    path = out / NAME
    for leftover in out.glob(f".{NAME}.*"):
        leftover.unlink(missing_ok=True)
    if not path.exists():
        return None
    try:
        state: State = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged zip or pickle raises nearly anything
        raise BadInputError(f"The checkpoint '{path}' cannot be read; choose another --out, or delete it.") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise BadInputError(
            f"The checkpoint '{path}' was written by another version; choose another --out, and begin from its "
            "weights.safetensors with --weights."
        )
    state["recipe"] = {**DEFAULTS, **state["recipe"]}  # a run of before there was a key had its default
    state.setdefault("validated", state["step"])
    for name in FIXED:
        held, wanted = state["recipe"][name], recipe[name]
        if held != wanted:
            raise BadInputError(f"'{out}' holds a run with {name} {held}, not {wanted}; choose another --out.")
    return state
