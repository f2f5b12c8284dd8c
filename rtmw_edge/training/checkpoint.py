"""The whole state of a run in one file, written whole or not at all, and the folder that one process writes."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import __version__
from ..errors import BadInputError
from ..files import MARKER, atomic_write, mark_directory

log = logging.getLogger(__name__)

NAME = "last.pt"
RECIPE = "recipe.json"
LAST, BEST = "weights.safetensors", "best.safetensors"
WRITTEN = (NAME, RECIPE, LAST, BEST, "train.csv", "validation.csv", "start.json", "table.json", "best.json")
"""What is in the folder of a run."""
FORMAT = 3
FIXED = ("variant", "optimizer", "batch", "seed", "reuse", "window", "distillation", "quantization")
"""What a run cannot change on its way: its state or the order of its samples hang on it."""

AT_THE_START = ("weights", "backbone", "table", "calibration")
"""What a run was given to begin with and needs no more: who leaves it out on the way changes nothing."""

State = dict[str, Any]
Given = Mapping[str, "str | None"]
"""What a run was given beside its recipe, by the name of the option: a digest or a description; None for nothing."""


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Make `out` the folder of a run, keep other processes out, and remove what a kill left half-written there.

    The system lets go when this process ends, however it ends. Raises BadInputError when another one is at work.
    """
    if not (out / MARKER).exists():
        mark_directory(out, f"a run of rtmw-edge {__version__}")
    with (out / MARKER).open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by the loader's workers, as flock's would
        except (BlockingIOError, PermissionError):
            raise BadInputError(f"Another process trains in '{out}'; wait for it, or choose another --out.") from None
        except OSError as error:
            log.info("'%s' cannot be locked (%s)", out, error.strerror)
        for name in WRITTEN:
            for leftover in out.glob(f".{name}.*"):  # atomic_write's
                leftover.unlink(missing_ok=True)
        yield


def check_alone(out: Path) -> None:
    """Raise BadInputError when another process is at work in `out`, which need not be there, and is left as it is."""
    if (out / MARKER).exists():
        with alone(out):
            pass


def write(out: Path, state: State) -> None:
    """Write `state` to the folder `out`; an earlier one stays until the new one is complete."""
    with atomic_write(out / NAME) as path:
        save_state({"format": FORMAT, **state}, path)


def check_finite(network: nn.Module, step: int, saved: int) -> None:
    """Raise BadInputError when weights are no numbers any more; `saved` is the step of the checkpoint, 0 without."""
    values = [value for value in network.state_dict().values() if value.is_floating_point()]
    if not torch.stack([value.isfinite().all() for value in values]).all():
        kept = f"{NAME} of step {saved} is kept" if saved else "nothing was saved before"
        raise BadInputError(
            f"The weights became NaN or infinite by step {step}, and {kept}; lower lr, or set precision=fp32, and run "
            "the command again."
        )


def save_state(state: State, path: Path) -> None:
    """torch.save, which hides behind a RuntimeError of its own what the system said, as that the disk is full."""
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            reason = error.__context__
            while reason is not None and not isinstance(reason, OSError):
                reason = reason.__context__
            if reason is not None:
                raise reason from error
            raise


def read(out: Path, recipe: dict[str, Any], device: torch.device) -> State | None:
    """The state in the folder `out`, None where there is none.

    Raises BadInputError when it cannot be read, or belongs to a run that differs in what is fixed.
    """
    path = out / NAME
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
    ran, runs = (bool(one["quantization"]) for one in (state["recipe"], recipe))
    if ran != runs:
        commands = "train", "qat"
        raise BadInputError(f"'{out}' holds a run of {commands[ran]}, not of {commands[runs]}; choose another --out.")
    for name in FIXED:
        held, wanted = state["recipe"][name], recipe[name]
        if held != wanted:
            raise BadInputError(f"'{out}' holds a run with {name} {held}, not {wanted}; choose another --out.")
    return state


def tell_changes(held: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    """Say what of its recipe a run goes on without; a new one was `held` nothing."""
    for key, value in recipe.items():
        if key in held and held[key] != value:
            log.warning("the run goes on with %s %s instead of %s", key, value, held[key])


def check_given(out: Path, held: Given, given: Given) -> None:
    """Raise BadInputError when the run in `out` was `held` something else than it is `given` now."""
    for name, value in given.items():
        left_out = value is None and name in AT_THE_START
        if name in held and held[name] != value and not left_out:
            raise BadInputError(
                f"'{out}' holds a run with --{name} {held[name] or 'left out'}, not {value or 'left out'}; choose "
                "another --out."
            )
