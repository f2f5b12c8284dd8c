"""The frame of a sweep's and a study's page: title, style and script inside, so that the one file needs no network."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..files import atomic_write

HEAD = (
    '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>rtmw-edge: "
)
"""What they begin with."""

STYLE = Path(__file__).with_name("page.css")


def write_page(path: Path, title: str, parts: Iterable[str], styles: Iterable[Path], script: str = "") -> None:
    """Write the HTML of `parts` below the `title`, which is text; `styles` are CSS files beside that of all pages."""
    style = "".join(file.read_text(encoding="utf-8") for file in (STYLE, *styles))
    title, body = html.escape(title), "\n".join(part for part in parts if part)
    script = f"<script>{script}</script>\n" if script else ""
    page = f"{HEAD}{title}</title><style>{style}</style>\n<h1>{title}</h1>\n{body}\n{script}</html>\n"
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def facts_table(facts: Mapping[str, str]) -> str:
    """Names and values below each other, such as an environment's."""
    lines = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
    return f'<table class="facts">{lines}</table>'
