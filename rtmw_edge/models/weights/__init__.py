"""Where the weights of a variant are: shipped in this folder, fetched into the cache, or named by the user.

A shipped variant is files here: `NAME.safetensors`, `NAME.md` (its model card), `NAME.json`, whose `score` holds the
(a, b) of the calibrated score 1 / (1 + exp(-(a * logit + b))), and `NAME.GRID.table.json`, the quantization table that
its fine-tuning with quantization ended with.
"""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import BadInputError
from ...files import cache_dir
from ..variants import VARIANTS, Variant, variant_named

FOLDER = Path(__file__).parent


def embedded(variant: str | Variant) -> Path | None:
    """The weights of `variant` that ship in the package, if any."""
    path = FOLDER / f"{_named(variant).name}.safetensors"
    return path if path.is_file() else None


def shipped_table(variant: str | Variant, grid: str) -> Path | None:
    """The quantization table on `grid` that ships with the embedded weights of `variant`, if any."""
    path = FOLDER / f"{_named(variant).name}.{grid}.table.json"
    return path if path.is_file() else None


def shipped_tables(variant: str | Variant) -> list[Path]:
    """All quantization tables that ship with the embedded weights of `variant`, one a grid."""
    return sorted(FOLDER.glob(f"{_named(variant).name}.*.table.json"))


def cached(variant: str | Variant) -> Path | None:
    """The official file of `variant` that `rtmw-edge fetch` put into the cache, if any."""
    official = _named(variant).official
    path = None if official is None else cache_dir() / official.file_name
    return path if path is not None and path.is_file() else None


def find(variant: str | Variant, explicit: Path | None = None, option: str = "--weights") -> Path:
    """The weights to use: `explicit`, which the command line calls `option`, else the shipped ones, else the fetched.

    The shipped ones by another path (relative, a link) are these: table and score that ship with them are found by it.
    Raises BadInputError that says how to get them when there are none.
    """
    variant = _named(variant)
    if explicit is not None:
        if not Path(explicit).is_file():
            raise BadInputError(f"There are no weights at '{explicit}'. Pass {option} a .pth or .safetensors file.")
        shipped = embedded(variant)
        return shipped if shipped is not None and shipped.samefile(explicit) else Path(explicit)
    path = embedded(variant) or cached(variant)
    if path is not None:
        return path
    if variant.official is not None:
        raise BadInputError(
            f"The weights of {variant.name} are not here: run 'rtmw-edge fetch {variant.name}', or pass {option} FILE."
        )
    with_weights = [name for name in VARIANTS if embedded(name)]
    ready = f" (weights ship with: {', '.join(with_weights)})" if with_weights else ""
    raise BadInputError(
        f"No weights are published for {variant.name}{ready}: train them with 'rtmw-edge train', or pass {option} FILE."
    )


def score_calibration(variant: str | Variant) -> tuple[float, float] | None:
    """(a, b) of the calibrated score for the shipped weights of `variant`; None when nothing was fitted."""
    path = FOLDER / f"{_named(variant).name}.json"
    if not path.is_file():
        return None
    score = json.loads(path.read_text()).get("score")
    return (float(score["a"]), float(score["b"])) if score else None


def _named(variant: str | Variant) -> Variant:
    return variant_named(variant) if isinstance(variant, str) else variant
