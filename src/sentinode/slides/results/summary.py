"""The pages of a batch: its slides with their verdicts, the most suspicious first, and a page for each slide.

They stand by themselves: relative links, no script, no network, no time of day.
"""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from sentinode.atomic import write_text
from sentinode.errors import SlideError
from sentinode.locks import lock
from sentinode.model.slide_operating_point import SlideOperatingPoint
from sentinode.slides.results.lesion_files import COLOURS
from sentinode.slides.results.lesions import CATEGORIES
from sentinode.slides.results.outputs import (
    DICOM,
    FORMAT,
    GEOJSON,
    HEATMAP,
    OME_TIFF,
    OUTPUTS,
    SMALL,
    TABLE,
    TOTALS,
    Totals,
    read_totals,
)
from sentinode.slides.results.staging import Patient
from sentinode.slides.results.verdict import LEAST_SHOWN
from sentinode.slides.scanning.manifest import DONE, TISSUE, no_scan, read_class_names, read_states
from sentinode.slides.scanning.probability_map import ARRAY, QUALITY, RECORD, reading_of

PAGE = "index.html"

RESULTS = (RECORD, ARRAY, QUALITY, *OUTPUTS, PAGE)
"""What a scan leaves in a slide's folder, beside its state and its tissue. The record goes first when they are
removed, and comes last when a map is written: a folder with a record has a whole map."""

PAGES = ".pages"
"""The lock of the pages; no slide's folder begins with a dot."""

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

FIGURES = {
    "false_lesions": "false lesions on a negative slide",
    "clean_negatives": "negative slides without a lesion",
    "uncertain_negatives": "negative slides with an uncertain region alone",
    "sensitivity": "lesions found",
    "sensitivity_to_0.2_mm": "lesions found, up to 0.2 mm",
    "sensitivity_to_0.6_mm": "lesions found, 0.2 to 0.6 mm",
    "sensitivity_to_2_mm": "lesions found, 0.6 to 2 mm",
    "sensitivity_above_2_mm": "lesions found, above 2 mm",
    "slide_auc": "AUC of the slides' scores",
    "category_accuracy": "slides with the right category",
}
"""The figures that an operating point keeps (see ``sentinode operate``), in words."""


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


def write_summary(
    folder: Path,
    *,
    patients: Sequence[Patient] = (),
    failed: Mapping[str, str] | None = None,
    of_slides: bool = True,
) -> Path:
    """Write ``index.html`` into a batch's folder and into each slide's.

    Args:
        folder: the batch's.
        patients: their stages, for a table below the slides.
        failed: why the files of some slides could not be written again, by their folders.
        of_slides: whether the slides' pages are written too, for which all of their files must be here.

    Returns:
        The batch's page.

    Raises:
        SlideError: there is no slide.
        OutputError: a page cannot be written.
    """
    # Whoever writes last has read last, so that no page lacks a slide that another process has just finished.
    with lock(folder, PAGES):
        rows = read_rows(folder, failed=failed)
        if not rows:
            raise no_scan(folder)
        for row in rows:
            if of_slides and row.totals is not None:
                _write_slide_page(folder / row.name, row.totals)
        return _write_page(folder, rows, patients)


def write_slide_page(folder: Path) -> None:
    """Write ``index.html`` into a slide's folder, as :func:`write_summary` does.

    Raises:
        SlideError: the slide's totals cannot be read.
        OutputError: the page cannot be written.
    """
    _write_slide_page(folder, read_totals(folder))


def _write_slide_page(folder: Path, totals: Totals) -> None:
    write_text(folder / PAGE, _slide_page(folder, totals))


def _write_page(folder: Path, rows: Sequence[Row], patients: Sequence[Patient]) -> Path:
    described = [describe_point(row.totals) for row in rows if row.totals is not None]
    points = [point for at, point in enumerate(described) if point not in described[:at]]
    write_text(folder / PAGE, _render("summary.html.j2", rows=rows, patients=patients, points=points))
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
            rows[name] = _row(folder, name)
        else:
            rows[name] = Row(name, reason="scanned; 'sentinode lesions' writes its files")
    for name, reason in (failed or {}).items():
        rows[name] = replace(rows[name], reason=f"'sentinode lesions' could not write its files: {reason}")

    def order(row: Row) -> tuple[bool, float, str]:
        score = row.totals.score if row.totals else None
        return row.totals is None, -1.0 * (-1.0 if score is None else score), row.name

    return sorted(rows.values(), key=order)


def _row(folder: Path, name: str) -> Row:
    """A slide's totals; those of an earlier version are none, for their score means something else."""
    try:
        return Row(name, read_totals(folder / name))
    except SlideError:
        if not (folder / name / RECORD).is_file() or not _of_earlier_version(folder / name / TOTALS):
            raise
        return Row(name, reason="its files are of an earlier version; 'sentinode lesions' writes them again")


def _of_earlier_version(file: Path) -> bool:
    try:
        return int(json.loads(file.read_text(encoding="utf-8"))["format"]) < FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _slide_page(folder: Path, totals: Totals) -> str:
    with (folder / TABLE).open(encoding="utf-8", newline="") as lines:
        lesions = list(csv.DictReader(lines))
    files = {name: what for name, what in FILES.items() if (folder / name).is_file()}
    return _render(
        "slide.html.j2",
        totals=totals,
        lesions=lesions[:LONGEST],
        count=len(lesions),
        files=files,
        point=describe_point(totals),
        positive=read_class_names(folder.parent)[1],
    )


def describe_point(totals: Totals) -> dict[str, Any]:
    """The operating point that a slide's lesions were found by, in words.

    Returns:
        ``name``; ``target`` and ``chosen_on``, as sentences; ``figures``, a text for each name of ``FIGURES`` that the
        point keeps; ``caution``, where the point does not fit the map; and ``reach``.
    """
    record = dict(totals.operating_point)
    name = record.pop("name")
    point = SlideOperatingPoint.model_validate(record)
    return {
        "name": name,
        "target": "" if point.target is None else str(point.target),
        "chosen_on": str(point.chosen_on),
        "figures": {words: str(point.reached[key]) for key, words in FIGURES.items() if key in point.reached},
        "caution": point.chosen_on.caution(totals.window_um, reading_of(totals.engine)),
        "reach": point.reach,
    }


@functools.cache  # it keeps the compiled templates, which take longer to make than the page of a slide
def _templates() -> jinja2.Environment:
    places = resources.files("sentinode.slides.results")
    names = ("pages.css", "point.html.j2", "summary.html.j2", "slide.html.j2")
    return jinja2.Environment(
        loader=jinja2.DictLoader({name: places.joinpath(name).read_text(encoding="utf-8") for name in names}),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _render(template: str, **values: object) -> str:
    shared = {
        "least_shown": LEAST_SHOWN,
        "categories": CATEGORIES[1:],
        "colours": COLOURS,
        "heatmap": HEATMAP,
        "small": SMALL,
    }
    text = _templates().get_template(template).render(**shared, **values) + "\n"
    return text.encode("utf-8", "replace").decode()  # a path may hold bytes that are no text
