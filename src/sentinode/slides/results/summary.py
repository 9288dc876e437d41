"""The pages of a batch: a table of its slides by score, and a page for each slide.

They stand by themselves: relative links, no script, no network, no time of day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import jinja2

from sentinode.atomic import write_text
from sentinode.errors import SlideError
from sentinode.slides.results.lesion_files import COLOURS
from sentinode.slides.results.lesions import CATEGORIES
from sentinode.slides.results.outputs import (
    DICOM,
    GEOJSON,
    HEATMAP,
    OME_TIFF,
    SMALL,
    TABLE,
    TOTALS,
    Totals,
    read_totals,
)
from sentinode.slides.results.staging import Patient
from sentinode.slides.scanning.manifest import DONE, TISSUE, read_states
from sentinode.slides.scanning.probability_map import ARRAY, QUALITY

PAGE = "index.html"

FILES = {
    GEOJSON: "lesions for QuPath",
    TABLE: "lesions as a table",
    OME_TIFF: "probabilities over the slide",
    DICOM: "the same for DICOM viewers",
    ARRAY: "the same for NumPy",
    QUALITY: "what cannot be judged, for NumPy",
    TISSUE: "the tissue that was scanned",
}
"""What a slide's page links to, where it is there."""

LONGEST = 200
"""Lesions that a slide's page lists; the table has all."""


@dataclass(frozen=True)
class Row:
    """A slide of the batch.

    Attributes:
        name: its folder.
        totals: what it came to, or None where it failed or is not yet scanned.
        reason: why there are no totals, or why they are those of an earlier call.
    """

    name: str
    totals: Totals | None = None
    reason: str = ""

    @property
    def link(self) -> str:
        """The folder as part of an address."""
        return quote(self.name)


def write_summary(folder: Path, *, patients: Sequence[Patient] = (), failed: Mapping[str, str] | None = None) -> Path:
    """Write ``index.html`` into a batch's folder and into each slide's.

    Args:
        folder: the batch's.
        patients: their stages, for a table below the slides.
        failed: why the files of some slides could not be written again, by their folders.

    Returns:
        The batch's page.

    Raises:
        SlideError: there is no slide.
        OutputError: a page cannot be written.
    """
    rows = read_rows(folder, failed=failed)
    if not rows:
        raise SlideError("there are no scanned slides here.", where=folder, hint="Name the --out folder of a scan.")
    for row in rows:
        if row.totals is not None:
            write_text(folder / row.name / PAGE, _slide_page(folder / row.name, row.totals))
    write_text(folder / PAGE, _render("summary.html.j2", rows=rows, patients=patients))
    return folder / PAGE


def read_rows(folder: Path, *, failed: Mapping[str, str] | None = None) -> list[Row]:
    """The slides of a batch: the highest score first, then those without one, then those that failed."""
    states = {state.name: state for state in read_states(folder)}
    written = {path.parent.name for path in folder.glob(f"*/{TOTALS}")}
    rows = {}
    for name in states.keys() | written:
        if name in states and states[name].state != DONE:
            rows[name] = Row(name, reason=states[name].reason or "not finished")
        elif name in written:
            rows[name] = Row(name, read_totals(folder / name))
        else:
            rows[name] = Row(name, reason="scanned; 'sentinode lesions' writes its files")
    for name, reason in (failed or {}).items():
        rows[name] = replace(rows[name], reason=f"'sentinode lesions' could not write its files: {reason}")

    def order(row: Row) -> tuple[bool, float, str]:
        score = row.totals.score if row.totals else None
        return row.totals is None, -1.0 * (-1.0 if score is None else score), row.name

    return sorted(rows.values(), key=order)


def _slide_page(folder: Path, totals: Totals) -> str:
    lines = (folder / TABLE).read_text(encoding="utf-8").splitlines()
    lesions = [line.split(",") for line in lines[1 : LONGEST + 1]]
    files = {name: what for name, what in FILES.items() if (folder / name).is_file()}
    return _render("slide.html.j2", totals=totals, lesions=lesions, count=len(lines) - 1, files=files)


def _render(template: str, **values: object) -> str:
    places = resources.files("sentinode.slides.results")
    names = ("pages.css", "summary.html.j2", "slide.html.j2")
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({name: places.joinpath(name).read_text(encoding="utf-8") for name in names}),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    shared = {"categories": CATEGORIES[1:], "colours": COLOURS, "heatmap": HEATMAP, "small": SMALL}
    text = environment.get_template(template).render(**shared, **values) + "\n"
    return text.encode("utf-8", "replace").decode()  # a path may hold bytes that are no text
