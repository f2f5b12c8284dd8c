"""TOML files that users write, read or refused in one sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .errors import BadInputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_toml", "tomllib"]


def read_toml(path: Path, what: str, otherwise: str = "") -> dict[str, Any]:
    """The document at `path`, which is a `what` ("sweep") for messages; `otherwise`: what to do where there is none.

    Raises BadInputError for a file that is not there, cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInputError(f"There is no {what} at {path}: check the path{otherwise}.") from None
    except OSError as error:
        raise BadInputError(f"Cannot read the {what} {path}: {error.strerror}.") from error
    except ValueError as error:
        raise BadInputError(f"The {what} {path} is not TOML: {error}.") from error
