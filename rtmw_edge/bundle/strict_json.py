"""JSON read strictly: duplicate keys, NaN, unknown keys, wrong types and values out of range are all refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from .errors import BundleError, Reason, shown
from .limits import MAX_NAME_LENGTH, MAX_TEXT_LENGTH

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")
"""A name without separators: it can be no path, no option and no hidden file."""

SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def refuse(message: str) -> NoReturn:
    """Raise the one error that a bad manifest gives."""
    raise BundleError(Reason.BAD_MANIFEST, message)


def parse(text: bytes, source: str) -> dict[str, Any]:
    """The JSON object in `text` (UTF-8). Raises BundleError on anything that JSON readers disagree about."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys: dict[str, Any] = {}
        for key, value in pairs:
            if key in keys:
                refuse(f"{source} has the key {shown(key)} twice; export the bundle again.")
            keys[key] = value
        return keys

    def constant(name: str) -> NoReturn:
        refuse(f"{source} holds {name}, which is no JSON number; export the bundle again.")

    try:
        data = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:  # ValueError covers bad UTF-8, bad JSON and endless integers
        refuse(f"{source} is not valid JSON ({shown(str(error))}); export the bundle again.")
    if not isinstance(data, dict):
        refuse(f"{source} must hold a JSON object, not {type(data).__name__}; export the bundle again.")
    return data


class Fields:
    """One JSON object being taken apart: every field is asked for by type and range, and `finish` refuses the rest."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            refuse(f"{where} must be an object, not {shown(data)}; export the bundle again.")
        self._data: dict[str, Any] = data
        self._where = where
        self._seen: set[str] = set()

    def _take(self, name: str) -> Any:
        if name not in self._data:
            refuse(f"{self._where} lacks '{name}'; export the bundle again.")
        self._seen.add(name)
        return self._data[name]

    def _wrong(self, name: str, value: Any, expected: str) -> NoReturn:
        refuse(f"{self._where} has {name} = {shown(value)}, but it must be {expected}; export the bundle again.")

    def text(self, name: str, choices: Iterable[str] | None = None) -> str:
        """Printable text of 1 to MAX_TEXT_LENGTH characters, one of `choices` when given."""
        value = self._take(name)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT_LENGTH or not value.isprintable():
            self._wrong(name, value, f"printable text of 1 to {MAX_TEXT_LENGTH} characters")
        if choices is not None and value not in (names := list(choices)):
            self._wrong(name, value, "one of " + ", ".join(names))
        return value

    def name(self, name: str) -> str:
        """A name as NAME has it, of at most MAX_NAME_LENGTH characters."""
        value = self._take(name)
        if not is_name(value):
            self._wrong(name, value, f"a plain name of at most {MAX_NAME_LENGTH} letters, digits, '.', '_', '+' or '-'")
        return str(value)

    def sha256(self, name: str) -> str:
        value = self._take(name)
        if not isinstance(value, str) or not SHA256.match(value):
            self._wrong(name, value, "a sha256 of 64 lower-case hexadecimal digits")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        value = self._take(name)
        if type(value) is not int or not low <= value <= high:  # bool is an int to isinstance
            self._wrong(name, value, f"a whole number from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        value = self._take(name)
        if type(value) not in (int, float) or not low <= value <= high:  # NaN compares false, so it is refused too
            self._wrong(name, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def boolean(self, name: str) -> bool:
        value = self._take(name)
        if type(value) is not bool:
            self._wrong(name, value, "true or false")
        return bool(value)

    def is_null(self, name: str) -> bool:
        """Whether the field, which must be there, is null; the field counts as read only when it is."""
        if name in self._data and self._data[name] is not None:
            return False
        return self._take(name) is None

    def fields(self, name: str) -> Fields:
        return Fields(self._take(name), f"{self._where}, '{name}',")

    def entries(self, name: str, low: int, high: int) -> list[Fields]:
        """A list of `low` to `high` objects."""
        value = self._take(name)
        if not isinstance(value, list) or not low <= len(value) <= high:
            self._wrong(name, value, f"a list of {low} to {high} entries")
        return [Fields(item, f"{self._where}, '{name}' entry {index},") for index, item in enumerate(value)]

    def names(self) -> list[str]:
        """The keys of this object, in the order of the file."""
        return list(self._data)

    def finish(self) -> None:
        """Refuse the keys that nobody asked for."""
        unknown = sorted(set(self._data) - self._seen)
        if unknown:
            refuse(f"{self._where} has the unknown key {shown(unknown[0])}; export the bundle again.")


def is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_NAME_LENGTH and NAME.match(value) is not None
