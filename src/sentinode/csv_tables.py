"""CSV tables that are written: no cell of theirs is a formula to a spreadsheet.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, and a formula can call programs
and send data away. Names of files and classes come from others, so such a cell gets an apostrophe in front, which
spreadsheets show as text. Reading takes it away again. Numbers stay as they are.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from typing import Any, TextIO

_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""Begins like a formula, perhaps after apostrophes, so that adding one can be told from having one.

Spreadsheets of some languages take the signs in full width too."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def as_cell(cell: str) -> str:
    """A cell as it is written: with an apostrophe in front where a spreadsheet would take it for a formula."""
    return f"'{cell}" if _is_formula(cell) else cell


def as_before(cell: str) -> str:
    """A cell as it was before :func:`as_cell`; any other cell as it is."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def _is_formula(cell: str) -> bool:
    return _FORMULA.match(cell) is not None and _NUMBER.fullmatch(cell) is None


def write_rows(stream: TextIO, rows: Iterable[Iterable[Any]]) -> None:
    """Write rows as CSV with Unix line ends, every text by :func:`as_cell`."""
    csv.writer(stream, lineterminator="\n").writerows(
        [as_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
