from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sentinode.csv_tables import as_before, as_cell, write_rows
from sentinode.patches.table import read_table

FORMULAS = ["=1+1", '=cmd|"/c calc"!A1', "+cmd", "-cmd", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "'=1", "''-x"]


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_cell_that_begins_like_a_formula_gets_an_apostrophe(cell):
    assert as_cell(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "a=1", "-1.5", "+3", "-.5", "-1e-5", "'quoted'", "normal/0.png", "5'"])
def test_numbers_and_other_texts_stay_as_they_are(cell):
    assert as_cell(cell) == cell


def test_minus_infinity_is_no_number_to_a_spreadsheet():
    assert as_cell("-inf") == "'-inf"


@given(st.text() | st.text("'=+-@\t\r1.e", max_size=8))
@example("'")
@example("'-5")
@example("''=")
def test_reading_undoes_it_for_every_text(cell):
    assert as_before(as_cell(cell)) == cell


@given(st.text("'=+-@\t\r\n a1", max_size=8))
def test_no_text_that_is_written_begins_like_a_formula(cell):
    assert as_cell(cell)[:1] not in ("=", "+", "-", "@", "\t", "\r") or as_cell(cell).lstrip("+-").isdigit()


def test_only_texts_are_changed():
    stream = io.StringIO()
    write_rows(stream, [("id", "x"), ("=a", -1), ("-b", None)])
    assert stream.getvalue() == "id,x\n'=a,-1\n'-b,\n"


def test_a_table_reads_back_what_was_before(tmp_path: Path):
    ids = [cell for cell in FORMULAS if cell.strip() == cell] + ["'", "'a", "'=b", "-5"]
    with (tmp_path / "t.csv").open("w", encoding="utf-8", newline="") as stream:
        write_rows(stream, [("id", "label"), *((id, 1) for id in ids)])
    assert [id for id, _ in read_table(tmp_path / "t.csv", ("id",), ("label",))] == ids
