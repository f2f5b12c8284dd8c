"""A training recipe: TOML read into a frozen dataclass that refuses unknown keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import BadInputError, unknown
from ..keypoints import PARTS
from ..models.variants import variant_named
from ..toml_files import read_toml, tomllib
from .augmentation import Augmentation

SYNCHRONIZED = {"none": (), "neck": ("neck",), "all": ("neck", "backbone", "head")}
"""The parts of the network whose batch norms span the ranks."""
CHOICES: dict[str, Iterable[str]] = {
    "optimizer": ("adamw", "muon"),
    "precision": ("fp32", "bf16"),
    "synchronized": SYNCHRONIZED,
    "crops": ("auto", "host", "device"),
}
LEARNED_GRIDS = ("common", "affine")
LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("steps", "epochs", "micro", "late", "official_batch"), (0, 10**9)),
    **dict.fromkeys(("batch", "warmup", "ema_ramp", "validate_every", "checkpoint_every", "window"), (1, 10**9)),
    **dict.fromkeys(("clip", "bone_weight", "labels", "logits", "features"), (0, 10**6)),
    "seed": (0, 2**31 - 1),
    "lr": (1e-9, 1),
    "lr_end": (0, 1),
    "scale_lr": (0, 1),
    "weight_decay": (0, 100),
    "ema_decay": (0, 0.999999),
    "beta": (0.01, 1000),
    "dropout": (0, 0.99),
    "reuse": (1, 10**6),
    "occluded_weight": (0, 1),
    **dict.fromkeys(PARTS, (0, 10**6)),
}
"""The least and the most of every number in a recipe; NaN and infinity lie nowhere."""


def _check_limits(name: str, value: Any) -> None:
    low, high = LIMITS[name.rpartition(".")[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadInputError(f"The recipe's {name} is {value!r}; it must lie in {low}..{high}.")


def _check_table(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise BadInputError(f"The recipe's {name} is {value!r}; it must be a table: [{name}].")


@dataclass(frozen=True)
class Distillation:
    """DWPose's distillation (spec 4.6): the teacher's variant and which of the two stages.

    Stage 1: a student beside a frozen teacher. Stage 2: the teacher is the student of stage 1, and a fresh head learns
    from it on its own frozen trunk.
    """

    teacher: str
    stage: int = 1

    def __post_init__(self) -> None:
        variant_named(self.teacher)
        if self.stage not in (1, 2):
            raise BadInputError(f"The recipe's distillation.stage is {self.stage}; DWPose has the stages 1 and 2.")


@dataclass(frozen=True)
class Quantization:
    """Fine-tuning with quantization in the loop: on which grid, and what is learned from the float model beside it.

    Attributes:
        scale_lr: learning rate of the activations' scales (of their logarithms) where that of the weights is `lr`.
        labels: weight of the labels' loss.
        logits: weight of the KL divergence from the float model's logits; 1 weighs a joint as its label does.
        features: weight of the squared distance from the float model's features, of which DWPose's is 1.
    """

    grid: str = "common"
    scale_lr: float = 1e-2
    labels: float = 1.0
    logits: float = 1.0
    features: float = 1.0

    def __post_init__(self) -> None:
        if self.grid not in LEARNED_GRIDS:
            raise unknown("grid to train on", self.grid, LEARNED_GRIDS)
        for name in ("scale_lr", "labels", "logits", "features"):
            _check_limits(f"quantization.{name}", getattr(self, name))


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run but where its data lie.

    Attributes:
        steps, epochs: the length, in one or the other; rendered people are endless and have no epochs. `late` and
            `validate_every` count in the same.
        batch: samples of one optimiser step, over all ranks and accumulated passes.
        micro: samples of one pass of one rank; 0 for batch / ranks, so that nothing is accumulated.
        optimizer: "adamw" or "muon" (see `optimizer.Optimizer`).
        warmup: steps; then the learning rate stays until half of the run and falls as a cosine to `lr_end`.
        clip: the longest gradient; 0 for any.
        precision: "bf16" (autocast) or "fp32".
        synchronized: which batch norms span the ranks: "none", "neck" (official) or "all".
        official_batch: 0 for a loss that no batch size changes; N for the official sum over the samples of one device
            with a batch of N (spec 4.1), whatever `batch` and `micro` are.
        beta: temperature of the predictions, 1 for RTMW, 10 for RTMW3D.
        bone_weight: weight of the bone lengths in 3D.
        dropout: on the head's attention matrix.
        crops: where crops of rendered people are made: "host" by the loader's workers, "device" where the network is
            (the same crops but for rounding), "auto" for the device where it is a GPU. The device then holds the people
            in use as well.
        reuse: how often a rendered person is used on average, each time with another augmentation.
        window: rendered people of every worker among whom samples choose at a time, 0.23 MB each for crops of 256x192
            and 0.52 MB for 384x288. The larger, the longer until a person is used again.
        occluded_weight: weight of joints that are hidden; visible ones weigh 1.
        late: the last epochs (steps) have `late_augmentation`, which is the second stage of `augmentation` with what
            the TOML changes in it.
        validation: what to validate on, as `rtmw-edge evaluate --data` takes it.
    """

    variant: str
    steps: int = 0
    epochs: int = 0
    batch: int = 64
    micro: int = 0
    optimizer: str = "adamw"
    lr: float = 1e-3
    lr_end: float = 2.5e-5
    warmup: int = 300
    weight_decay: float = 0.05
    clip: float = 35.0
    ema_decay: float = 0.9995
    ema_ramp: int = 500
    precision: str = "bf16"
    compile: bool = False
    synchronized: str = "neck"
    official_batch: int = 0
    beta: float = 1.0
    bone_weight: float = 0.0
    dropout: float = 0.0
    crops: str = "auto"
    reuse: float = 2.0
    window: int = 1024
    occluded_weight: float = 0.5
    seed: int = 0
    late: int = 0
    validation: str = "synthetic:val:200"
    validate_every: int = 500
    checkpoint_every: int = 250
    part_weights: dict[str, float] = field(default_factory=lambda: {"face": 0.5})
    augmentation: Augmentation = field(default_factory=Augmentation)
    late_augmentation: Augmentation | None = None
    distillation: Distillation | None = None
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        variant_named(self.variant)
        if (self.steps > 0) == (self.epochs > 0):
            raise BadInputError(
                f"The recipe has steps {self.steps} and epochs {self.epochs}; exactly one of them must be above 0."
            )
        for one in dataclasses.fields(self):
            if one.name in LIMITS:
                _check_limits(one.name, getattr(self, one.name))
        if self.lr_end > self.lr:
            raise BadInputError(f"The recipe's lr_end {self.lr_end} is above its lr {self.lr}; lower it.")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), choices)
        _check_table("part_weights", self.part_weights)
        for part, weight in self.part_weights.items():
            if part not in PARTS:
                raise unknown("part in part_weights", part, PARTS)
            _check_limits(f"part_weights.{part}", weight)
        if self.bone_weight and "z" not in variant_named(self.variant).axes:
            raise BadInputError(
                f"The recipe's bone_weight is {self.bone_weight}, but {self.variant} has no depth; set it to 0."
            )
        if self.dropout and self.quantization is not None:
            raise BadInputError(f"The recipe's dropout is {self.dropout}, but [quantization] has none; set it to 0.")
        if self.late_augmentation is None:
            object.__setattr__(self, "late_augmentation", self.augmentation.second_stage())


def passes(recipe: Recipe, ranks: int) -> tuple[int, int]:
    """(samples of one pass of one rank, passes of one step); BadInputError where the batch cannot be dealt out."""
    micro = recipe.micro or recipe.batch // ranks
    count, rest = divmod(recipe.batch, max(1, micro) * ranks)
    if rest or not count:
        what = f"{ranks} ranks" + (f" in passes of {recipe.micro}" if recipe.micro else "")
        raise BadInputError(
            f"A batch of {recipe.batch} cannot be dealt out to {what}; set batch and micro so that batch is a multiple "
            "of micro times the ranks."
        )
    return micro, count


SECTIONS: dict[str, type] = {
    "augmentation": Augmentation,
    "late_augmentation": Augmentation,
    "distillation": Distillation,
    "quantization": Quantization,
}
TYPES = {"bool": bool, "int": int, "float": float, "str": str, "tuple[float, float]": tuple}
"""Those of values that are no tables, by the names that fields have for them."""


def _fill(cls: type, values: dict[str, Any], file: str, section: str = "") -> Any:
    where = f"[{section}]" if section else f"'{file}'"
    fields = {f.name: f for f in dataclasses.fields(cls)}
    ready: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise unknown(f"recipe key in {where}", key, fields)
        if key in SECTIONS:
            _check_table(key, value)
            value = _fill(SECTIONS[key], value, file, key)
        expected = TYPES.get(str(fields[key].type))
        if expected is float and type(value) is int:
            value = float(value)
        if expected is tuple and isinstance(value, list):
            value = tuple(value)
        if expected is not None and type(value) is not expected:
            name, kind = f"{section}.{key}".lstrip("."), "list" if expected is tuple else expected.__name__
            raise BadInputError(f"The recipe's {name} is {value!r}; it must be of type {kind}.")
        ready[key] = value
    required = [f.name for f in fields.values() if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in required if name not in ready]:
        raise BadInputError(f"The recipe lacks {', '.join(missing)}; add it to {where}.")
    if "late_augmentation" in ready:
        changes = {key: getattr(ready["late_augmentation"], key) for key in values["late_augmentation"]}
        first = ready.get("augmentation", Augmentation())
        ready["late_augmentation"] = dataclasses.replace(first.second_stage(), **changes)
    return cls(**ready)


def shipped_recipes() -> dict[str, Path]:
    """Recipes inside the package by name."""
    folder = Path(str(resources.files(__package__).joinpath("recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _tables(path: Path) -> dict[str, Any]:
    """The TOML of a recipe over that of its `base`, if it names one: keys replace keys, tables join tables."""
    values = read_toml(path, "recipe")
    base = values.pop("base", None)
    if base is None:
        return values
    shipped = shipped_recipes()
    if not isinstance(base, str) or base not in shipped or shipped[base] == path:
        raise unknown("base of a recipe", str(base), [name for name in shipped if shipped[name] != path])
    below = _tables(shipped[base])
    above = dict(below)
    _one_length(below, values)
    _check_unit(above, {**below, **values}, values)
    for key, value in values.items():
        _put(below, key, value)
    return below


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set `key` in `values`; a table joins the one that is there."""
    there = values.get(key)
    values[key] = {**there, **value} if isinstance(there, dict) and isinstance(value, dict) else value


def _check_unit(before: dict[str, Any], after: dict[str, Any], given: Iterable[str]) -> None:
    """Raise BadInputError where a length in another unit would let other counts stand that were in the old one."""
    old, new = ("epochs" if "epochs" in values else "steps" for values in (before, after))
    kept = [f"{name}={before[name]}" for name in ("late", "validate_every") if name in before and name not in given]
    if old in before and old != new and kept:
        raise BadInputError(
            f"With {new} set, the recipe's {' and '.join(kept)} would count {new} and not {old}; set that too."
        )


def _one_length(values: dict[str, Any], changes: dict[str, Any]) -> None:
    """Drop the length in steps where `changes` count in epochs, and the other way round."""
    for given, other in (("steps", "epochs"), ("epochs", "steps")):
        if given in changes and other not in changes:
            values.pop(other, None)


def _override(values: dict[str, Any], text: str) -> None:
    """Set what "key=value" says in the tables of a recipe; a value that is no TOML is a text."""
    key, sign, value = text.partition("=")
    *parents, last = key.strip().split(".")
    if not sign or not all((*parents, last)):
        raise BadInputError(f"The override '{text}' is not of the form key=value.")
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value
    target = values
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise BadInputError(f"The override '{text}' goes into {parent}, which is a value and no table.")
    _put(target, last, parsed)
    if not parents:
        _one_length(values, {last: parsed})


def _path(name: str) -> Path:
    """The file of a recipe by the name of a shipped one, or by its own path."""
    shipped = shipped_recipes()
    path = shipped.get(name, Path(name))
    if not path.is_file():
        if path.suffix == ".toml":
            raise BadInputError(f"There is no recipe at '{name}'; give a TOML file or one of: {', '.join(shipped)}.")
        raise unknown("recipe", name, shipped)
    return path


def variant_of(name: str) -> Any:
    """The variant that a recipe names as it is written, None where it leaves that to overrides."""
    return _tables(_path(name)).get("variant")


def read_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by the name of a shipped one or the path of a TOML file; `overrides` are "key=value" in TOML.

    A recipe may begin with `base = "NAME"`, a shipped recipe whose values it changes. Setting `steps` unsets `epochs`
    and the other way round; `late` and `validate_every`, which count in the same, must then be set as well.

    >>> read_recipe("rtmw-n-256x192", ["steps=10"]).steps
    10
    """
    path = _path(name)
    values = _tables(path)
    before, given = dict(values), [text.partition("=")[0].strip() for text in overrides]
    for text in overrides:
        _override(values, text)
    _check_unit(before, values, given)
    if not values.get("late") and (late := [key for key in given if key.startswith("late_augmentation")]):
        raise BadInputError(
            f"{late[0]} would change nothing: the recipe's late is 0; set it to the last steps (epochs)."
        )
    return _fill(Recipe, values, path.name)
