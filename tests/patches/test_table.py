from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinode.csv_tables import write_rows
from sentinode.errors import DataError
from sentinode.patches.table import read_table

SLIDE = ("slide", "wsi")


def table(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "id,slide\na,x\nb,y\n",
        "\ufeffid,slide\r\na,x\r\nb,y",  # as Excel writes it
        "ID, Slide\n a , x \nb,y\n",
        "slide,id\nx,a\ny,b\n",
        ",id,note,wsi\n0,a,one,x\n1,b,,y\n",  # as pandas writes it
        "id,slide\na,x\n\n,\nb,y\n \n",  # blank rows
        'id,slide\n"a","x"\nb,y,\n',
        "wsi,id,slide\nother,a,x\nother,b,y\n",  # the first of a column's names that is there
    ],
)
def test_a_table_is_read_whatever_the_order_case_and_spaces_of_its_head(tmp_path, content):
    assert read_table(table(tmp_path, content), ("id",), SLIDE) == [("a", "x"), ("b", "y")]


def test_a_cell_may_hold_a_comma_in_quotation_marks_and_may_be_empty(tmp_path):
    assert read_table(table(tmp_path, 'id,slide\n"a, b",\n'), ("id",), SLIDE) == [("a, b", "")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "this table is empty"),
        ("id,slide\n", "a header, but no rows"),
        ("id,slide\n,\n \n", "a header, but no rows"),
        ("name,class\na,1\n", "the columns 'id,slide' are needed, and 'id' is missing; the table has name, class"),
        ("id,class\na,1\n", "'slide' or 'wsi' is missing; the table has id, class"),
        ("a,x\nb,y\n", "'id' is missing; the table has a, x"),  # no head at all
        ("id;slide\na;x\n", "separated by semicolons"),
        ("id\tslide\na\tx\n", "separated by tabs"),
        ("id,slide,slide\na,x,y\n", "the column 'slide' occurs twice"),
        ("id,slide\na,x\nb\n", "line 3 has 1 cells, and the header has 2 columns"),
        ("id,slide\na,x,y\n", "line 2 has 3 cells"),
        ('id,slide\na,"x\n', "line 2 is not CSV"),
        ("id,slide\na,\xe9\n".encode("latin-1"), "not a table in UTF-8"),
        ("id,slide\na,x\n".encode("utf-16"), "not a table in UTF-8"),
        ("<!DOCTYPE html><html>sign in</html>", "this is a web page"),
    ],
)
def test_what_could_lose_or_shift_a_cell_is_refused_by_name(tmp_path, content, message):
    path = table(tmp_path, content)
    with pytest.raises(DataError, match=message) as refused:
        read_table(path, ("id",), SLIDE)
    assert refused.value.where == path


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "absent.csv", ("id",))


def test_a_carriage_return_within_a_line_is_a_space(tmp_path):
    (tmp_path / "joined.csv").write_bytes(b"id,slide,class\na,s1\r,x\nb,s2\r,y\n")
    assert read_table(tmp_path / "joined.csv", ("id",), ("slide",)) == [("a", "s1"), ("b", "s2")]


def test_lines_may_end_as_on_old_macs(tmp_path):
    (tmp_path / "mac.csv").write_bytes(b"id,slide\ra,s1\rb,s2\r")
    assert read_table(tmp_path / "mac.csv", ("id",), ("slide",)) == [("a", "s1"), ("b", "s2")]


class TestBounds:
    def test_the_line_and_the_byte_that_are_no_utf_8_are_named(self, tmp_path):
        path = table(tmp_path, "id,slide\n0,1\nMüller,0\n".encode("latin-1"))
        with pytest.raises(DataError, match="invalid start byte in line 3, at byte 14"):
            read_table(path, ("id",), SLIDE)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"id,slide\n" + b"a" * 200_000 + b",1\n", "line 2 is not CSV .a cell is longer than 131,072 letters"),
            (b"id,slide\n" + b"a," * 1_000_000, "line 2 is not CSV: .* too long"),
            (b"id,slide," * 300_000, "line 1 is not CSV: .* too long"),
            (b'id,slide\n"' + b"a,\n" * 500_000, "is not CSV"),
            (b"id,slide\n" + b'"a\n",' * 300_000, "too long"),
            (b"id,slide" + b",a" * 20_000 + b"\n", "line 1 has 20,002 columns"),
            (b"id,slide\na,\0\n", "line 2 holds a zero byte"),
        ],
    )
    def test_what_would_fill_the_memory_is_refused_at_once(self, tmp_path, content, message):
        with pytest.raises(DataError, match=message):
            read_table(table(tmp_path, content), ("id",), SLIDE)

    def test_more_cells_than_are_kept_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr("sentinode.patches.table.MOST_CELLS", 6)
        path = table(tmp_path, "id,slide,x\n" + "a,b,c\n" * 3)
        assert len(read_table(path, ("id",), SLIDE)) == 3
        path = table(tmp_path, "id,slide,x\n" + "a,b,c\n" * 4)
        with pytest.raises(DataError, match="more than 3 rows of 2 columns"):
            read_table(path, ("id",), SLIDE)

    def test_lines_longer_than_a_block_of_the_file_are_joined(self, tmp_path, monkeypatch):
        monkeypatch.setattr("sentinode.patches.table.LONGEST_ROW", 16)
        path = table(tmp_path, "id,slide\n" + "abcdefgh,ij\n" * 9)
        assert read_table(path, ("id",), SLIDE) == [("abcdefgh", "ij")] * 9

    @given(
        st.lists(st.tuples(st.text("ab,'\"\n é=", min_size=1, max_size=5), st.text("xy\n;", max_size=3)), min_size=1)
    )
    def test_what_csv_writes_is_read_as_it_was(self, cells):
        cells = [("k" + first + "k", second) for first, second in cells]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "t.csv")
            with path.open("w", encoding="utf-8", newline="") as stream:
                write_rows(stream, [("id", "slide"), *cells])
            assert read_table(path, ("id",), SLIDE) == [(first, second.strip()) for first, second in cells]
