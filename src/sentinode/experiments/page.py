"""The page of an experiment: what it says in a sentence, pictures, tables, and what to bear in mind."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from sentinode.atomic import make_folder, write_text
from sentinode.csv_tables import write_rows
from sentinode.evaluation.charts import STYLE

Row = tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """A chart with its heading, and a sentence on how to read it."""

    heading: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table with its heading: the first row is its head. A ``folded`` one is opened by a click."""

    heading: str
    rows: Sequence[Row]
    folded: bool = False

    def is_text(self, column: int) -> bool:
        """Whether the cells of a column are words, which begin at the left, and not numbers."""
        return all(row[column][:1].isalpha() for row in self.rows[1:])


@dataclass(frozen=True)
class Page:
    """An experiment's page.

    Attributes:
        title: of the page.
        lead: what was found, in a sentence or two.
        pictures: charts.
        tables: figures.
        notes: what to bear in mind, as sentences.
    """

    title: str
    lead: str
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()

    def html(self) -> str:
        """One file, which needs no other."""
        package = resources.files("sentinode.experiments")
        template = package.joinpath("page.html.j2").read_text(encoding="utf-8")
        css = resources.files("sentinode.slides.results").joinpath("pages.css").read_text(encoding="utf-8")
        environment = jinja2.Environment(
            autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        return environment.from_string(template).render(page=self, css=css, style=STYLE) + "\n"


def write_results(folder: Path, stem: str, record: dict[str, Any], rows: Sequence[Row], page: Page) -> Path:
    """Write ``STEM.json``, ``STEM.csv`` (the rows, a head first) and ``STEM.html``.

    Returns:
        The page.

    Raises:
        OutputError: the folder cannot be written.
    """
    make_folder(folder)
    lines = io.StringIO()
    write_rows(lines, rows)
    write_text(folder / f"{stem}.json", json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    write_text(folder / f"{stem}.csv", lines.getvalue())
    write_text(folder / f"{stem}.html", page.html())
    return folder / f"{stem}.html"
