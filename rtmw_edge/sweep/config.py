"""What to sweep: a TOML file read into a dataclass that refuses unknown keys and names.

variants = ["rtmw-n-256x192"]
targets = ["onnx", "ncnn"]
precisions = ["fp32", "int8"]
data = "synthetic:val:500"
calibration = ["synthetic:200"]

[[exclude]]
target = "ncnn"
precision = "int8"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rtmw_edge.calibration import Method
from rtmw_edge.calibration.ranges import PERCENTILE
from rtmw_edge.quantization import GRIDS
from rtmw_edge.targets import ON_CPUS, TARGETS, Precision
from rtmw_edge.targets.peers import OURS, PEERS

from ..errors import BadInputError, unknown
from ..evaluation.gates import DEFAULT
from ..evaluation.whole_body_ap import EVALUATED_PARTS, WHOLE
from ..fleet.link import LOCAL, check_name
from ..models.variants import variant_named
from ..runtime.devices import check_device, check_threads
from ..toml_files import read_toml
from .budget import Budget

TORCH = "torch"
"""A target of sweeps alone: the PyTorch network itself, which exists in fp32 and is never exported."""

SHIPPED = "shipped"
"""As a table: those that come with the package's own weights."""

DATA = "synthetic:val"
CALIBRATION = "synthetic:200"

BUDGET = 'budget = "hands<=0.5,body<=0.5,whole<=0.5"'

RULE_KEYS = (
    "variant", "weights", "target", "precision", "grid", "calibrator", "method", "calibration", "count",
    "bias_correction", "table", "device", "threads", "board",
)  # fmt: skip
"""What [[include]] and [[exclude]] may speak of: the fields of a cell."""


@dataclass(frozen=True)
class TablePair:
    """A result of quantization-aware training: a quantization table and the weights that belong together.

    Weights None are the variant's own, a table None are those that ship with them, one for each grid.
    """

    name: str
    variant: str
    weights: Path | None = None
    table: Path | None = None


@dataclass(frozen=True)
class SearchConfig:
    """What a search adds to a sweep. Of every list of choices the first is where it begins.

    Attributes:
        budget: points of AP that each part may lose against fp32, as `rtmw-edge sensitivity --budget` takes it.
        part: whose AP is to be high; time, against fp32 in turns, is to be low.
        trials: different settings to measure, those where it begins included.
        percentiles: of the methods percentile and best, in percent.
        groups: convolutions by the beginning of their names, "backbone.stem", that are left in float together or not;
            None for every stage, or for none where there is a `sensitivity`.
        sensitivity: a sensitivity.csv, whose units are left in float from the most sensitive one on, up to `most`.
        seed: of what is tried next.
    """

    budget: Budget
    part: str = WHOLE
    trials: int = 40
    percentiles: tuple[float, ...] = (PERCENTILE, 99.99, 99.9999)
    groups: tuple[str, ...] | None = None
    sensitivity: Path | None = None
    most: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.part not in EVALUATED_PARTS:
            raise unknown("part of [search]", self.part, EVALUATED_PARTS)
        for percentile in self.percentiles:
            if not 50 < percentile <= 100:
                raise BadInputError(f"The search's percentile {percentile:g} is not above 50 and at most 100.")
        for name, least in (("trials", 1), ("most", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise BadInputError(f"The search's {name} is {getattr(self, name)}; write {least} or more.")


@dataclass(frozen=True)
class SweepConfig:
    """The axes of a sweep, in the order of its cells, and the rules that thin their product out.

    Attributes:
        weights: by variant, files to sweep over by name; a variant without any takes the shipped or fetched ones.
        grids: of int8; empty for each target's own first one. Other precisions have one grid each.
        data: what accuracy is measured on, as `rtmw-edge evaluate --data` takes it; `images` of it, 0 for all.
        calibration: sources as `rtmw-edge calibrate` takes them; `counts`, where given, replace N of synthetic:N, and
            say how many people are chosen from another source.
        folder: what the paths in `data` and `calibration` count from; these stay as the file has them, for they are
            names of cells, which do not change with the folder that a sweep is started from.
        calibrators: "ours", and tools that quantize by themselves (`targets.peers`), beside it in one table.
        tables: pairs that take part in int8 (or w8a16) beside what calibration gives.
        threads: of the timed runs; 0 for as many as the machine has cores.
        boards: where cells run: "local", and names that workers of a fleet announce.
        gate: a file of limits per part; None for the default gate.
        include, exclude: a cell stays that matches an include, if there are any, and no exclude. A rule maps fields of
            a cell to the values that match.
        search: what `--search` adds; a sweep without it takes no notice.
    """

    variants: tuple[str, ...]
    targets: tuple[str, ...] = ON_CPUS
    precisions: tuple[str, ...] = ("fp32", "int8")
    weights: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    grids: tuple[str, ...] = ()
    data: str = DATA
    images: int = 0
    calibration: tuple[str, ...] = (CALIBRATION,)
    folder: Path = Path()
    methods: tuple[str, ...] = ("percentile",)
    counts: tuple[int, ...] = ()
    bias_correction: tuple[bool, ...] = (False,)
    calibrators: tuple[str, ...] = (OURS,)
    tables: tuple[TablePair, ...] = ()
    devices: tuple[str, ...] = ("cpu",)
    threads: tuple[int, ...] = (0,)
    boards: tuple[str, ...] = (LOCAL,)
    gate: Path | None = None
    include: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    exclude: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    search: SearchConfig | None = None

    def __post_init__(self) -> None:
        for name in (*self.variants, *self.weights, *(pair.variant for pair in self.tables)):
            variant_named(name)
        for name in self.targets:
            _check_target(name)
        for name in self.precisions:
            Precision.named(name)
        of_int8 = [grid.name for grid in GRIDS.values() if grid.precision == "int8"]
        for name in self.grids:
            if name not in of_int8:
                raise unknown("grid of int8", name, of_int8)
        for name in self.methods:
            Method.named(name)
        for name in self.calibrators:
            if name not in (OURS, *PEERS):
                raise unknown("calibrator", name, (OURS, *PEERS))
        for device in self.devices:
            check_device(device)
        for threads in self.threads:
            check_threads(threads or None)
        for name in self.boards:
            check_name(name)
        for count in self.counts:
            if count < 1:
                raise BadInputError(f"A calibration count of {count} leaves nothing to calibrate on; write at least 1.")
        if self.images < 0:
            raise BadInputError(f"The sweep's images is {self.images}; write 0 for all, or how many to evaluate on.")

    @property
    def away(self) -> tuple[str, ...]:
        """The boards that are not this machine."""
        return tuple(name for name in self.boards if name != LOCAL)

    @property
    def sources(self) -> tuple[tuple[str, int], ...]:
        """The calibration sources, and how many people to choose from each, 0 for all; one for each of `counts`."""
        found: list[tuple[str, int]] = []
        for source in self.calibration:
            rendered = source.partition(":")[0] == "synthetic"
            for count in self.counts or (0,):
                found.append((f"synthetic:{count}", 0) if rendered and count else (source, count))
        return tuple(dict.fromkeys(found))


def read_config(path: Path) -> SweepConfig:
    """The sweep in a TOML file; BadInputError for a broken file, an unknown key or name, or a wrong value."""
    document = read_toml(path, "sweep")
    try:
        return parse_config(document, path.parent)
    except BadInputError as error:
        raise BadInputError(f"In {path}: {error}") from None


def parse_config(document: Mapping[str, Any], folder: Path) -> SweepConfig:
    """The sweep in a TOML document; relative paths count from `folder`."""
    readers: dict[str, Callable[[str, Any], Any]] = {
        "variants": _texts,
        "targets": _texts,
        "precisions": _texts,
        "grids": _texts,
        "calibration": _texts,
        "methods": _texts,
        "calibrators": _texts,
        "bias_correction": lambda key, value: _many(key, value, bool),
        "devices": _texts,
        "boards": _texts,
        "counts": _numbers,
        "threads": _numbers,
        "data": _text,
        "images": _number,
        "weights": lambda key, value: _weights(value, folder),
        "tables": lambda key, value: _pairs(_entries(key, value), folder),
        "gate": lambda key, value: None if _text(key, value) == DEFAULT else folder / value,
        "include": lambda key, value: tuple(_rule(key, entry) for entry in _entries(key, value)),
        "exclude": lambda key, value: tuple(_rule(key, entry) for entry in _entries(key, value)),
        "search": lambda key, value: _search(value, folder),
    }
    for key in document:
        if key not in readers:
            raise unknown("key of a sweep", key, sorted(readers))
    values = {key: readers[key](key, value) for key, value in document.items()}
    if not values.get("variants"):
        raise BadInputError('The sweep names no variant: write variants = ["rtmw-n-256x192"].')
    return SweepConfig(folder=folder, **values)


def _search(section: Any, folder: Path) -> SearchConfig:
    if not isinstance(section, dict):
        raise BadInputError(f"The sweep's search is {section!r}; write [search], and below it {BUDGET}.")
    readers: dict[str, Callable[[str, Any], Any]] = {
        "budget": lambda key, value: Budget.parse(_text(key, value)),
        "part": _text,
        "trials": _number,
        "percentiles": lambda key, value: tuple(map(float, _many(key, value, float))),
        "groups": lambda key, value: () if value == [] else _texts(key, value),
        "sensitivity": lambda key, value: folder / _text(key, value),
        "most": _number,
        "seed": _number,
    }
    for key in section:
        if key not in readers:
            raise unknown("key of [search]", key, readers)
    if "budget" not in section:
        raise BadInputError(f"The [search] has no budget, which says what may be lost; write {BUDGET}.")
    return SearchConfig(**{key: readers[key](f"search.{key}", value) for key, value in section.items()})


KINDS = {str: "text in quotes", int: "a whole number", bool: "true or false", float: "a number"}


def _one(key: str, value: Any, kind: type) -> Any:
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise BadInputError(f"The sweep's {key} is {value!r}; it must be {KINDS[kind]}.")
    if value == "":
        raise BadInputError(f"The sweep's {key} is an empty text; leave it out for the default, or write what it is.")
    return value


def _many(key: str, value: Any, kind: type) -> tuple[Any, ...]:
    """A list of distinct values; one value alone is a list of one."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise BadInputError(f"The sweep's {key} is empty; leave it out for the default, or write at least one.")
    return tuple(dict.fromkeys(_one(key, item, kind) for item in values))


def _text(key: str, value: Any) -> str:
    return str(_one(key, value, str))


def _number(key: str, value: Any) -> int:
    return int(_one(key, value, int))


def _texts(key: str, value: Any) -> tuple[str, ...]:
    return _many(key, value, str)


def _numbers(key: str, value: Any) -> tuple[int, ...]:
    return _many(key, value, int)


def _entries(key: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise BadInputError(f"The sweep's {key} is {value!r}; write one [[{key}]] for each.")
    return value


def source_in(folder: Path, text: str) -> str:
    """A calibration source whose folders and files count from `folder`; "synthetic:N" stays."""
    kind, separator, _ = text.partition(":")
    if separator and kind in ("synthetic", "coco"):
        return data_in(folder, text)
    return text if text == "synthetic" else str(folder / text)


def data_in(folder: Path, text: str) -> str:
    """coco:ANNOTATIONS:IMAGES and h3wb:FILE[:ROOT[:SUBJECTS]] have files; rendered people have none."""
    kind, *places = text.split(":")
    if kind not in ("coco", "h3wb"):
        return text
    return ":".join([kind, *(str(folder / place) if place else "" for place in places[:2]), *places[2:]])


def _weights(value: Any, folder: Path) -> dict[str, dict[str, Path]]:
    """[weights] "VARIANT" = "FILE" or a list of files, or {name = "FILE"}; a file's name is that of its stem."""
    if not isinstance(value, dict):
        raise BadInputError(f'The sweep\'s weights is {value!r}; write [weights] with lines VARIANT = "FILE".')
    found: dict[str, dict[str, Path]] = {}
    for variant, entry in value.items():
        if isinstance(entry, dict):
            named = {name: folder / _one(f"weights of {variant}", text, str) for name, text in entry.items()}
        else:
            files = [folder / text for text in _texts(f"weights of {variant}", entry)]
            named = {path.stem: path for path in files}
            if len(named) < len(files):
                raise BadInputError(f"Two files of the weights of {variant} have one name; write {{name = FILE}}.")
        found[variant] = named
    return found


def _pairs(entries: list[dict[str, Any]], folder: Path) -> tuple[TablePair, ...]:
    """[[tables]]: name, variant, table = "FILE" and weights = "FILE", or table = "shipped" for those of the package."""
    names = [item.name for item in fields(TablePair)]
    found: list[TablePair] = []
    for entry in entries:
        for key in entry:
            if key not in names:
                raise unknown("key of [[tables]]", key, names)
        texts = {name: _one(f"tables.{name}", text, str) for name, text in entry.items()}
        lacking = [name for name in names if name not in texts and name != "weights"]
        if lacking:
            raise BadInputError(f"A [[tables]] of the sweep lacks {lacking[0]}; it needs {', '.join(names)}.")
        if any(pair.name == texts["name"] and pair.variant == texts["variant"] for pair in found):
            raise BadInputError(f"Two [[tables]] have the name '{texts['name']}'; give one of them another.")
        weights = folder / texts["weights"] if "weights" in texts else None
        table = None if texts["table"] == SHIPPED else folder / texts["table"]
        found.append(TablePair(texts["name"], texts["variant"], weights, table))
    return tuple(found)


def _rule(key: str, entry: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    for name in entry:
        if name not in RULE_KEYS:
            raise unknown(f"field of [[{key}]]", name, RULE_KEYS)
    if not entry:
        raise BadInputError(f"A [[{key}]] of the sweep is empty; it must name a field of a cell, such as target.")
    rule = {name: value if isinstance(value, list) else [value] for name, value in entry.items()}
    for name, values in rule.items():
        for value in values:
            if not isinstance(value, (str, int)):
                raise BadInputError(f"The {name} of a [[{key}]] is {value!r}; write the value of a cell, or a list.")
            if isinstance(value, str):
                _check_value(name, value)
    return {name: tuple(map(str, values)) for name, values in rule.items()}


def _check_value(name: str, value: str) -> None:
    """Refuse what no cell can have in a field of a rule; "" is the field that does not apply."""
    checks: dict[str, Callable[[str], object]] = {
        "variant": variant_named,
        "target": _check_target,
        "precision": Precision.named,
        "method": Method.named,
        "device": check_device,
        "board": check_name,
    }
    if value and name in checks:
        checks[name](value)


def _check_target(name: str) -> None:
    if name not in (*TARGETS, TORCH):
        raise unknown("target", name, (*TARGETS, TORCH))


def matches(rule: Mapping[str, tuple[str, ...]], values: Mapping[str, object]) -> bool:
    """Whether every field that the rule names has one of its values."""
    return all(str(values[name]) in wanted for name, wanted in rule.items())
