"""The comparison as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from sentinode.atomic import write_text
from sentinode.learning.comparison import Change
from sentinode.learning.verdict import interval


def write_page(path: Path, record: Mapping[str, Any], changes: Sequence[Change]) -> None:
    """Write the page of a comparison.

    Args:
        path: the file.
        record: the content of ``learned.json``.
        changes: its figures.

    Raises:
        OutputError: it cannot be written.
    """
    template = resources.files("sentinode.learning").joinpath("learned.html.j2").read_text(encoding="utf-8")
    css = resources.files("sentinode.slides.results").joinpath("pages.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    text = environment.from_string(template).render(record=record, css=css, rows=rows(changes))
    write_text(path, text + "\n")


def rows(changes: Sequence[Change]) -> list[tuple[str, ...]]:
    """The figures as a table without its head: name, old, new, how sure, how many, outcome, note."""
    table = []
    for change in changes:
        slides = change.unit == "slides"
        figures = (f"{value:.0f}" if slides else f"{value:.4f}" for value in (change.old, change.new))
        sure = f"{change.difference:+.0f}, p = {change.p:.2g}" if slides else interval(change)
        table.append((change.name, *figures, sure, f"{change.n:,} {change.unit}", change.outcome, change.note))
    return table
