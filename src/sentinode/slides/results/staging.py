"""The pN stage of a patient from the lesions of the lymph nodes.

The rule is Camelyon17's simplified pN stage for breast cancer (Bandi et al. 2019, IEEE Transactions on
Medical Imaging 38, 550-560). A node is positive if it holds a micro- or a macrometastasis; isolated tumour
cells alone do not make it so.

=========  ====================================================================
pN0        no tumour in any node
pN0(i+)    isolated tumour cells only
pN1mi      micrometastases, but no macrometastasis
pN1        1 to 3 positive nodes, at least one of them with a macrometastasis
pN2        4 to 9 positive nodes, at least one of them with a macrometastasis
=========  ====================================================================

Camelyon17's patients have five nodes each, so its rule ends there; ten or more are pN3, as AJCC has it.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sentinode.atomic import write_text
from sentinode.csv_tables import write_rows
from sentinode.errors import DataError
from sentinode.patches.table import read_rows
from sentinode.slides.results.lesions import CATEGORIES, ITC, MACRO, MICRO, NEGATIVE

COLUMNS = ("slide", "node", "patient")
"""What the table of slides has to name."""


@dataclass(frozen=True)
class Patient:
    """One patient's stage and what it follows from.

    Attributes:
        name: as in the table.
        stage: ``pN0``, ``pN0(i+)``, ``pN1mi``, ``pN1``, ``pN2`` or ``pN3``.
        nodes: the category of each node: that of the worst of its slides.
    """

    name: str
    stage: str
    nodes: Mapping[str, str]


def pn_stage(nodes: Iterable[str]) -> str:
    """The pN stage that follows from the categories of a patient's nodes.

    Args:
        nodes: one of ``sentinode.slides.results.lesions.CATEGORIES`` for each node.

    Raises:
        DataError: there is no node, or a category of another name.
    """
    count = Counter(nodes)
    if not count or count.keys() - set(CATEGORIES):
        raise DataError(
            f"no stage follows from the nodes {sorted(count)}.",
            hint=f"A node is one of: {', '.join(CATEGORIES)}.",
        )
    positive = count[MICRO] + count[MACRO]
    if positive == 0:
        return "pN0(i+)" if count[ITC] else "pN0"
    if count[MACRO] == 0:
        return "pN1mi"
    return "pN1" if positive <= 3 else "pN2" if positive <= 9 else "pN3"


def stage_patients(
    table: Path, categories: Mapping[str, str], *, files: Mapping[str, str] | None = None
) -> tuple[Patient, ...]:
    """Stage every patient of a table.

    Args:
        table: CSV with the columns ``slide``, ``node`` and ``patient``; a node may have several slides. A slide is
            given by its folder or its file, with or without the ending.
        categories: the category of each slide, by its folder.
        files: the file name of each slide, by its folder, where they differ in more than the ending.

    Returns:
        The patients in the table's order.

    Raises:
        DataError: the table lacks a column or a value, names a slide twice, or names one without a category or one
            that could be several.
    """
    known = _known_as(categories, files or {})
    patients: dict[str, dict[str, str]] = {}
    seen: set[str] = set()
    for line, row in enumerate(_rows(table), start=2):
        slide, node, patient = (row[column].strip() for column in COLUMNS)
        folders = known.get(slide) or known.get(Path(slide).stem) or []
        if not (slide and node and patient):
            raise DataError(f"line {line} leaves a column empty.", where=table, hint="Fill it in, or drop the line.")
        if len(folders) > 1:
            raise DataError(
                f"line {line} names slide '{slide}', which could be {' or '.join(folders)}.",
                where=table,
                hint="Give the file's whole name, or that of its folder.",
            )
        if seen.intersection(folders):
            raise DataError(f"line {line} names slide '{slide}' again.", where=table, hint="Keep one line for each.")
        if not folders:
            raise DataError(
                f"line {line} names slide '{slide}', which has not been read.",
                where=table,
                hint="Scan it first, or drop the line: a stage without all of its nodes would be too low.",
            )
        (folder,) = folders
        seen.add(folder)
        nodes = patients.setdefault(patient, {})
        nodes[node] = max(nodes.get(node, NEGATIVE), categories[folder], key=CATEGORIES.index)
    return tuple(Patient(name, pn_stage(nodes.values()), nodes) for name, nodes in patients.items())


def _known_as(folders: Iterable[str], files: Mapping[str, str]) -> dict[str, list[str]]:
    """The folders that a name can mean: the one of that name, else those of that file, else those of that stem."""
    known = {folder: [folder] for folder in folders}
    for name_of in (str, lambda file: Path(file).stem):
        more: dict[str, list[str]] = {}
        for folder in folders:
            more.setdefault(name_of(files.get(folder, folder)), []).append(folder)
        known = more | known
    return known


def write_stages(path: Path, patients: Iterable[Patient]) -> None:
    """Write a CSV with a line for each patient: the stage, and how many nodes are of each category.

    Raises:
        OutputError: the file cannot be written.
    """
    text = io.StringIO()
    rows: list[list[str | int]] = [["patient", "stage", "nodes", *CATEGORIES]]
    for patient in patients:
        count = Counter(patient.nodes.values())
        rows.append([patient.name, patient.stage, len(patient.nodes), *(count[c] for c in CATEGORIES)])
    write_rows(text, rows)
    write_text(path, text.getvalue())


def _rows(table: Path) -> list[dict[str, str]]:
    head, rows = read_rows(table)
    missing = [column for column in COLUMNS if column not in head]
    if missing:
        raise DataError(
            f"lacks the column {' and '.join(missing)}.",
            where=table,
            hint=f"Its first line is: {','.join(COLUMNS)}",
        )
    return [dict(zip(head, cells, strict=False)) for cells in rows]
