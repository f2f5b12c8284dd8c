"""`rtmw-edge models`: the variants, what they cost, how accurate they are, where their weights are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..models.variants import Variant

PARTS = ("whole", "body", "foot", "face", "hand")


def models(
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List the variants, their size, AP, and where weights are.

    Parameters, GMAC, and the AP per part that was published.
    """
    import json

    from ..models.variants import VARIANTS

    rows = [describe(variant) for variant in VARIANTS.values()]
    if json_:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


def describe(variant: Variant) -> dict[str, Any]:
    """One row: sizes in pixels, parameters, 1e9 multiply-accumulates, AP 0..1 with its source, and the weights.

    `weights` is a path or None; `origin` says whether it is shipped, fetched, to be fetched or to be trained.
    """
    from ..models.weights import cached, embedded

    official = variant.official
    published = official.published if official else None
    shipped, fetched = embedded(variant), cached(variant)
    path = shipped or fetched
    origin = "package" if shipped else "cache" if fetched else "fetch" if official else "train"
    return {
        "variant": variant.name,
        "input": {"width": variant.input_size[0], "height": variant.input_size[1]},
        "axes": list(variant.axes),
        "parameters": variant.parameters,
        "gmac": variant.gmac,
        "published_ap": {part: getattr(published, part) for part in PARTS} if published else None,
        "published_by": published.source if published else None,
        "weights": str(path) if path else None,
        "origin": origin,
        "url": official.url if official else None,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from .console import Console

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("variant", no_wrap=True)
    for name in ("M params", "GMAC", *PARTS):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("weights", overflow="fold")
    for row in rows:
        published = row["published_ap"] or {}
        parts = [published.get(part) for part in PARTS]
        table.add_row(
            row["variant"],
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['gmac']:.2f}",
            *("-" if value is None else f"{100 * value:.1f}" for value in parts),
            {"package": "in the package", "cache": row["weights"], "fetch": "to fetch", "train": "to train"}[
                row["origin"]
            ],
        )
    console = Console()
    console.print(table)
    console.print("To fetch: rtmw-edge fetch VARIANT. To train: rtmw-edge train.", highlight=False)
    console.print(
        "AP (%) on COCO-WholeBody v1.0 val as published by the authors (MMPose model zoo); 2D with flip test."
    )
