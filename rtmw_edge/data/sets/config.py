"""A data configuration: TOML that lists the sets to train on, and the sets opened.

root = "/data"                # optional: what the sets' roots count from; else the folder of this file
cache = "/data/cache"         # optional: where opened sets are kept, read-only and shared between processes

[[set]]
kind = "wflw"
root = "WFLW"
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import BadInputError, unknown
from ...toml_files import read_toml
from .cache import cached
from .kinds import kind_named
from .mapping import mapping_of
from .table import AnnotatedSet, Collector


@dataclass(frozen=True)
class SetConfig:
    """One set of a configuration. What is left out, empty or 0 becomes the kind's own (kinds.KINDS).

    Attributes:
        kind: which reader. root: the set's folder. name: by default the kind; two sets need two names.
        annotations: file below root, or a folder of .json files; {scene} stands for each of `scenes`.
        images: folder below root. every: keep every n-th image. scenes: of UBody. subjects: of H3WB.
    """

    kind: str
    root: Path
    name: str = ""
    annotations: str = ""
    images: str = ""
    every: int = 0
    scenes: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kind = kind_named(self.kind)
        object.__setattr__(self, "name", self.name or self.kind)
        for key in ("annotations", "images", "every", "scenes", "subjects"):
            object.__setattr__(self, key, getattr(self, key) or getattr(kind, key))

    def files(self) -> list[Path]:
        """The annotation files, whether they are there or not, but for a folder, whose .json files are listed.

        Hidden ones are not among them: a Mac leaves a `._labels.json` beside `labels.json` on other disks.
        """
        found: list[Path] = []
        for scene in self.scenes if "{scene}" in self.annotations else ("",):
            path = self.root / self.annotations.replace("{scene}", scene)
            found += sorted(path.glob("[!.]*.json")) if path.is_dir() else [path]
        return found


@dataclass(frozen=True)
class DataConfig:
    """The sets, in the file's order, and the folder of the cache (None: no cache)."""

    sets: tuple[SetConfig, ...]
    cache: Path | None = None


def read_config(path: Path) -> DataConfig:
    """The configuration in a TOML file; BadInputError for a broken file, an unknown key or a wrong value.

    Relative paths count from the file's folder, those of sets from its `root`.
    """
    document = read_toml(path, "data configuration")
    try:
        return _parsed(document, path.parent)
    except BadInputError as error:
        raise BadInputError(f"In {path}: {error}") from None


def _parsed(document: dict[str, Any], folder: Path) -> DataConfig:
    for key in document:
        if key not in ("root", "cache", "set"):
            raise unknown("key of a data configuration", key, ["root", "cache", "set"])
    tables = document.get("set")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise BadInputError("The data configuration names no set: write a [[set]] with kind and root for each.")
    root = folder / _value("root", document.get("root", ""), str)
    sets = tuple(_set(table, root) for table in tables)
    names = [entry.name for entry in sets]
    for name in names:
        if names.count(name) > 1:
            raise BadInputError(f"Two sets have the name '{name}': give one of them another with name = \"...\".")
    cache = _value("cache", document.get("cache", ""), str)
    return DataConfig(sets, folder / cache if cache else None)


def _set(table: dict[str, Any], root: Path) -> SetConfig:
    fields = [field.name for field in dataclasses.fields(SetConfig)]
    for key in table:
        if key not in fields:
            raise unknown("key of a [[set]]", key, fields)
    for key in ("kind", "root"):
        if key not in table:
            raise BadInputError(f"A [[set]] lacks its '{key}': write {key} = \"...\".")
    kind = kind_named(_value("kind", table["kind"], str))
    values: dict[str, Any] = {}
    for key, value in table.items():
        values[key] = _value(key, value, {"every": int, "scenes": tuple, "subjects": tuple}.get(key, str))
    for key in ("scenes", "subjects"):
        if values.get(key) and not getattr(kind, key):
            raise BadInputError(f"A set of the kind '{table['kind']}' has no {key}: leave that key out.")
    if values.get("every", 1) < 1:
        raise BadInputError(f"every = {values['every']} keeps no image: write 1 for all, 10 for every tenth.")
    return SetConfig(**{**values, "root": root / values["root"]})


def _value(key: str, value: Any, kind: type) -> Any:
    if kind is tuple:
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            return tuple(value)
        raise BadInputError(f"{key} = {value!r} is not a list of texts.")
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadInputError(f"{key} = {value!r} is not {'a text' if kind is str else 'a whole number'}.")
    return value


def open_set(config: SetConfig, cache: Path | None = None) -> AnnotatedSet:
    """The set, read from its annotation files, or from the cache when they have not changed since.

    No image is opened. Raises BadInputError when an annotation file is missing or broken, or holds nothing usable.
    """
    files = config.files()
    if not files:
        raise BadInputError(f"No .json file lies in {config.root / config.annotations}: check `annotations`.")
    companions = [path for file in files for path in kind_named(config.kind).companions(file)]
    mapping = mapping_of(config.kind)
    made_of = [dataclasses.asdict(config), mapping.source.tolist(), mapping.target.tolist()]
    return cached(cache, config.name, made_of, [*files, *companions], lambda: _read(config, files))


def _read(config: SetConfig, files: list[Path]) -> AnnotatedSet:
    kind = kind_named(config.kind)
    collector = Collector(mapping_of(config.kind), config.every)
    for path in files:
        kind.read(path, collector, config.images, config.subjects)
    folder = config.root if "{" in config.images else config.root / config.images
    return collector.table(config.name, folder, kind.whole)


def open_sets(config: DataConfig) -> list[AnnotatedSet]:
    """Every set of a configuration, in its order; BadInputError names the first that cannot be opened."""
    return [open_set(entry, config.cache) for entry in config.sets]
