"""CSV tables with a header, read strictly: a table that could lose or shift a cell is refused by name."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from sentinode.errors import DataError
from sentinode.patches.source import read_head

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""What stands between the cells of tables that are not separated by commas."""

LARGEST = 512 * 2**20
"""Bytes of the largest table that is read; it is held in memory."""


def read_table(path: Path, *columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Read some columns of a CSV table, row by row. Spaces around cells are removed, and empty rows are skipped.

    Args:
        path: UTF-8, with or without a byte-order mark, with commas between the cells and a header in the first line.
        columns: for each column that is wanted, its possible names in lower case. Case and spaces in the header do not
            matter. If several are present, the first is used.

    Returns:
        A tuple for each row, with a cell for each column.

    Raises:
        DataError: the file cannot be read, is not such a table, has no rows or lacks a column, or a row is longer or
            shorter than the header.
    """
    head, rows = read_rows(path)
    at = _places(head, columns, path)
    return [tuple(cells[index] for index in at) for cells in rows]


def read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header of a CSV table, in lower case, and the cells of each row. Empty rows are skipped.

    Raises:
        DataError: the file cannot be read, is larger than ``LARGEST``, is not such a table or has no rows, or a row is
            longer or shorter than the header.
    """
    if not read_head(path):
        raise DataError("this table is empty.", where=path)
    if (size := path.stat().st_size) > LARGEST:
        raise DataError(
            f"this table has {size / 2**20:,.0f} MiB, and tables up to {LARGEST / 2**20:,.0f} MiB are read.",
            where=path,
            hint="Keep only the columns that are needed, or save it as Parquet.",
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = _plain_lines(file.read())
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        head = [cell.strip().lower() for cell in next(rows, [])]
        if len(head) == 1 and (hint := separator_hint(head)):
            raise DataError(f"the header is a single cell: {head[0]!r}.", where=path, hint=hint)
        found = []
        for row in rows:
            cells = [cell.strip() for cell in row]
            if any(cells):
                _check_length(cells, head, rows.line_num, path)
                found.append(cells)
    except UnicodeDecodeError as error:
        raise DataError(
            f"this is not a table in UTF-8 ({error.reason} at byte {error.start:,}).",
            where=path,
            hint="Save it as CSV in UTF-8, with commas between the cells.",
        ) from error
    except csv.Error as error:
        raise DataError(f"line {rows.line_num:,} is not CSV ({error}).", where=path) from error
    if not found:
        raise DataError("this table has a header, but no rows.", where=path)
    return head, found


def _plain_lines(text: str) -> str:
    """The text with line feeds as its only ends of lines.

    A table that was joined from others may hold the carriage return of an older line's end within its lines: it is a
    space there.
    """
    text = text.replace("\r\n", "\n")
    return text.replace("\r", " " if "\n" in text else "\n")


def _places(head: list[str], columns: Sequence[Sequence[str]], path: Path) -> list[int]:
    """Where each of the columns stands."""
    found = [next((name for name in names if name in head), None) for names in columns]
    if None in found:
        needed = ",".join(names[0] for names in columns)
        lacking = " or ".join(repr(name) for name in columns[found.index(None)])
        raise DataError(
            f"the columns '{needed}' are needed, and {lacking} is missing; the table has {', '.join(head) or 'none'}.",
            where=path,
            hint=separator_hint(head),
        )
    for name in found:
        if name is not None and head.count(name) > 1:
            raise DataError(f"the column {name!r} occurs twice.", where=path, hint="Remove or rename one of the two.")
    return [head.index(name) for name in found if name is not None]


def separator_hint(head: Sequence[str]) -> str | None:
    """What to do about a header whose cells are separated by something other than commas; None where it is not."""
    text = "\n".join(head)
    separator = next((word for sign, word in SEPARATORS.items() if sign in text), None)
    return f"Its cells are separated by {separator}: save it as CSV with commas." if separator else None


def _check_length(cells: list[str], head: list[str], line: int, path: Path) -> None:
    if len(cells) < len(head) or any(cells[len(head) :]):
        raise DataError(
            f"line {line:,} has {len(cells)} cells, and the header has {len(head)} columns.",
            where=path,
            hint="A cell that holds a comma needs quotation marks around it.",
        )
