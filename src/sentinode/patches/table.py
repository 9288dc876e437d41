"""CSV tables with a header, read strictly: a table that could lose or shift a cell is refused by name."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from sentinode.csv_tables import as_before
from sentinode.errors import DataError
from sentinode.names import listed, shortened
from sentinode.patches.source import read_head

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""What stands between the cells of tables that are not separated by commas."""

SMALLER = "Keep only the rows and columns that are needed, or save it as Parquet."
Cells = TypeVar("Cells", bound=Sequence[str])

LARGEST = 512 * 2**20
"""Bytes of the largest table that is read."""

LONGEST_ROW = 2**20
"""Bytes of a row, all its lines together."""

MOST_COLUMNS, MOST_CELLS = 10_000, 20_000_000
"""Columns of a table, and cells that are kept: they are held in memory."""


def read_table(path: Path, *columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Read some columns of a CSV table, row by row. Spaces around cells are removed, and empty rows are skipped.

    Args:
        path: UTF-8, with or without a byte-order mark, with commas between the cells and a header in the first line.
        columns: for each column that is wanted, its possible names in lower case. Case and spaces in the header do not
            matter. If several are present, the first is used.

    Returns:
        A tuple for each row, with a cell for each column. The apostrophe that keeps a cell from being a formula
        (:mod:`sentinode.csv_tables`) is removed.

    Raises:
        DataError: the file cannot be read, is not such a table, has no rows or lacks a column, or a row is longer or
            shorter than the header.
    """
    head, rows = _table(path)
    at = _places(head, columns, path)
    return _kept((tuple(cells[index] for index in at) for cells in rows), len(at), path)


def read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header of a CSV table, in lower case, and the cells of each row, as :func:`read_table` has them.

    Raises:
        DataError: the file cannot be read, is larger than ``LARGEST``, is not such a table or has no rows, or a row is
            longer or shorter than the header.
    """
    head, rows = _table(path)
    return head, _kept(rows, len(head), path)


def _kept(rows: Iterator[Cells], columns: int, path: Path) -> list[Cells]:
    """All rows, as many as memory is meant to hold."""
    found = list(islice(rows, MOST_CELLS // columns))
    if next(rows, None) is not None:
        raise DataError(f"this table has more than {len(found):,} rows of {columns} columns.", where=path, hint=SMALLER)
    if not found:
        raise DataError("this table has a header, but no rows.", where=path)
    return found


def _table(path: Path) -> tuple[list[str], Iterator[list[str]]]:
    """The header of a table, and its rows as they are read."""
    lines = Lines(path)
    rows = _rows(lines)
    head = [cell.lower() for cell in next(rows, [])]
    if len(head) > MOST_COLUMNS:
        what = f"line 1 has {len(head):,} columns; tables of up to {MOST_COLUMNS:,} columns are read."
        raise DataError(what, where=path, hint=SMALLER)
    if len(head) == 1 and (hint := separator_hint(head)):
        raise DataError(f"the header is a single cell: {shortened(head[0], 60)!r}.", where=path, hint=hint)
    return head, (cells for cells in rows if any(cells) and _check_length(cells, head, lines.number, path))


def _rows(lines: Lines) -> Iterator[list[str]]:
    """The cells of each row, without the spaces around them."""
    rows = csv.reader(lines, strict=True)
    try:
        for row in rows:
            lines.held = 0
            yield [as_before(cell).strip() for cell in row]
    except csv.Error as error:
        why = f"a cell is longer than {csv.field_size_limit():,} letters" if "field limit" in str(error) else error
        raise DataError(f"line {lines.number:,} is not CSV ({why}).", where=lines.path) from error


class Lines:
    """The lines of a text file in UTF-8, one after the other, each with a line feed at its end.

    Where lines end with a carriage return alone, as on old Macs, they do so in the whole file. A carriage return
    within a line is left from an older line's end in a table that was joined from others: it is a space.

    Attributes:
        number: of the line that was read last, from 1.
        held: bytes of the lines since it was set to 0; more than ``LONGEST_ROW`` are refused.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.number, self.held = path, 0, 0
        if not read_head(path):
            raise DataError("this table is empty.", where=path)
        if (size := path.stat().st_size) > LARGEST:
            raise DataError(
                f"this table has {size / 2**20:,.0f} MiB, and tables up to {LARGEST / 2**20:,.0f} MiB are read.",
                where=path,
                hint=SMALLER,
            )

    def __iter__(self) -> Iterator[str]:
        at = 0
        for line in self._split():
            self.number += 1
            self.held += len(line)
            if self.held > LONGEST_ROW:
                raise self._too_long()
            text = self._decoded(line.removeprefix(codecs.BOM_UTF8) if self.number == 1 else line, at)
            yield text.removesuffix("\r").replace("\r", " ") + "\n"
            at += len(line) + 1

    def _split(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            rest = file.read(LONGEST_ROW)
            end = b"\n" if b"\n" in rest else b"\r"
            while block := file.read(LONGEST_ROW):
                *whole, rest = (rest + block).split(end)
                yield from whole
                if len(rest) > LONGEST_ROW:
                    self.number += 1
                    raise self._too_long()
            yield from rest.removesuffix(end).split(end)

    def _too_long(self) -> DataError:
        return DataError(
            f"line {self.number:,} is not CSV: it ends a row that is too long, with more than {LONGEST_ROW:,} bytes."
            if self.path.suffix.lower() == ".csv"
            else f"line {self.number:,} is too long, with more than {LONGEST_ROW:,} bytes.",
            where=self.path,
            hint="A quotation mark may lack its partner, or the file may not be a table.",
        )

    def _decoded(self, line: bytes, at: int) -> str:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"this is not a table in UTF-8: {error.reason} in line {self.number:,}, at byte {at + error.start:,}.",
                where=self.path,
                hint="Save it as CSV in UTF-8, with commas between the cells.",
            ) from error
        if "\0" in text:
            raise DataError(f"line {self.number:,} holds a zero byte: this is no text.", where=self.path)
        return text


def _places(head: list[str], columns: Sequence[Sequence[str]], path: Path) -> list[int]:
    """Where each of the columns stands."""
    found = [next((name for name in names if name in head), None) for names in columns]
    if None in found:
        needed = ",".join(names[0] for names in columns)
        lacking = " or ".join(repr(name) for name in columns[found.index(None)])
        raise DataError(
            f"the columns '{needed}' are needed, and {lacking} is missing; the table has {listed(head) or 'none'}.",
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


def _check_length(cells: list[str], head: list[str], line: int, path: Path) -> bool:
    """True where a row is as long as the header; empty cells beyond it do not count.

    Raises:
        DataError: it is not.
    """
    if len(cells) < len(head) or any(cells[len(head) :]):
        raise DataError(
            f"line {line:,} has {len(cells)} cells, and the header has {len(head)} columns.",
            where=path,
            hint="A cell that holds a comma needs quotation marks around it.",
        )
    return True
