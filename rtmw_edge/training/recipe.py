"""A training recipe: TOML read into a frozen dataclass that refuses unknown keys."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import BadInputError, unknown
from ..keypoints import PARTS
from ..models.variants import variant_named

OPTIMIZERS = ("adamw", "muon")

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a rendered image on its way to a crop. Probabilities in 0..1; sizes as parts of the box."""

    flip: float = 0.5
    rotation: float = 0.5
    rotation_degrees: float = 40.0
    scale: tuple[float, float] = (0.75, 1.3)
    shift: float = 0.08
    colour: float = 0.8
    grey: float = 0.05
    blur: float = 0.1
    dropout: float = 0.3


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    Attributes:
        steps: optimiser steps in all; flat learning rate until half of them, then a cosine to `lr_end`.
        optimizer: "adamw" or "muon" (see `optimizer.Optimizer`).
        reuse: how many times a rendered image is used, each time with another augmentation.
        occluded_weight: weight of joints that are hidden; visible ones weigh 1.
    """

    variant: str
    steps: int
    batch: int = 64
    optimizer: str = "adamw"
    lr: float = 1e-3
    lr_end: float = 2.5e-5
    warmup: int = 300
    weight_decay: float = 0.05
    clip: float = 35.0
    ema_decay: float = 0.9995
    ema_ramp: int = 500
    reuse: float = 2.0
    occluded_weight: float = 0.5
    seed: int = 0
    beta: float = 1.0
    validate_every: int = 500
    validate_crops: int = 200
    checkpoint_every: int = 250
    part_weights: dict[str, float] = field(default_factory=lambda: {"face": 0.5})
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        variant_named(self.variant)
        for name in ("steps", "batch", "warmup", "validate_every", "validate_crops", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise BadInputError(f"The recipe's {name} is {getattr(self, name)}; it must be at least 1.")
        if not (0 < self.lr < 1 and 0 <= self.lr_end <= self.lr):
            raise BadInputError(f"The recipe's lr {self.lr} and lr_end {self.lr_end} must obey 0 <= lr_end <= lr < 1.")
        if self.reuse < 1:
            raise BadInputError(f"The recipe's reuse is {self.reuse}; an image is used at least once.")
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        for part in self.part_weights:
            if part not in PARTS:
                raise unknown("part in part_weights", part, PARTS)


def _fill(cls: type, values: dict[str, Any], where: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    ready: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise unknown(f"recipe key in {where}", key, fields)
        if key == "augmentation":
            value = _fill(Augmentation, value, "[augmentation]")
        default = fields[key].default
        expected = type(default) if default is not dataclasses.MISSING else {"steps": int, "variant": str}.get(key)
        if expected is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if expected is tuple:
            value = tuple(value) if isinstance(value, list) else value
        if expected is not None and not isinstance(value, expected):
            raise BadInputError(f"The recipe's {key} is {value!r}; it must be of type {expected.__name__}.")
        ready[key] = value
    missing = [n for n in ("variant", "steps") if n in fields and n not in ready]
    if missing:
        raise BadInputError(f"The recipe lacks {', '.join(missing)}; add it to {where}.")
    return cls(**ready)


def shipped_recipes() -> dict[str, Path]:
    """Recipes inside the package by name."""
    folder = Path(str(resources.files(__package__).joinpath("recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by the name of a shipped one or the path of a TOML file; `overrides` are "key=value" in TOML.

    >>> read_recipe("rtmw-n-256x192", ["steps=10"]).steps
    10
    """
    shipped = shipped_recipes()
    path = shipped.get(name, Path(name))
    if not path.is_file():
        if path.suffix == ".toml":
            raise BadInputError(f"There is no recipe at '{name}'; give a TOML file or one of: {', '.join(shipped)}.")
        raise unknown("recipe", name, shipped)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"The recipe '{path}' is not valid TOML: {error}.") from error
    for text in overrides:
        key, sign, value = text.partition("=")
        if not sign:
            raise BadInputError(f"The override '{text}' is not of the form key=value.")
        try:
            parsed = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            parsed = value
        target = values
        *parents, last = key.strip().split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = parsed
    return _fill(Recipe, values, f"'{path.name}'")
