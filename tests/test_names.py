"""Any name that a disk allows can be shown on a line, drawn in a picture, and made a folder of."""

from __future__ import annotations

import io
import unicodedata
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from rich.cells import cell_len

from sentinode.names import LONGEST, _fonts, aligned, as_text, drawable, families, folder_name, printable, shortened

ODD = [
    "a$^$b",
    "$x$",
    "a\\$b$",
    "[red]",
    "a\nb\x1b[31m",
    "\udcff\ud800",
    "スライド_検体",
    "👩‍🔬🔥",
    "e\u0301",
    "\u202egnp.exe",
    "..",
    "",
]

names = st.text(max_size=300) | st.sampled_from(ODD)


@given(names)
@example("\u2028\u2029\x85\r")
def test_what_is_printable_is_one_line_that_can_be_written(name: str) -> None:
    shown = printable(name)
    assert len(shown) == len(name)
    assert len(shown.splitlines()) <= 1
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert "\x1b" not in shown


def test_a_short_name_stays_as_it_is_and_of_a_long_one_both_ends() -> None:
    assert shortened("tumor_001", 9) == "tumor_001"
    assert shortened("TCGA-CR-7395-01A-01-TS1.2a5f0c", 16) == "TCGA-CR-….2a5f0c"
    assert shortened("スライド検体", 7) == "ス…検体"


@given(names, st.integers(1, 100))
def test_a_shortened_name_fits(name: str, width: int) -> None:
    assert cell_len(shortened(name, width)) <= width


# Tables


def test_the_names_of_a_table_leave_room_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    rows = [
        ("slide", "state", "windows"),
        ("x" * 250, "done", "12"),
        ("スライド" * 40, "done", "3"),
        ("b", "failed", ""),
    ]
    lines = aligned(rows).splitlines()
    assert max(cell_len(line) for line in lines) <= 60
    head, long, wide, short = lines
    column = cell_len(head[: head.index("state")])
    assert all(cell_len(line[: line.index(word)]) == column for line, word in ((long, "done"), (wide, "done")))
    assert short.split() == ["b", "failed"]


def test_a_table_of_short_names_is_no_wider_than_they_are() -> None:
    assert aligned([("slide", "state"), ("a", "done")]) == "slide  state\na      done"


def test_in_a_narrow_terminal_something_of_a_name_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    assert aligned([("x" * 40, "done", "12")]) == "xxxxxxxx…xxxxxxx  done  12"


def test_the_last_column_is_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert aligned([("a", "failed", "the reason " * 20)]).endswith("the reason")


# Folders


@settings(max_examples=500)
@given(names)
@example("nul")
@example("LPT1.tar.gz")
@example("COM¹")
@example("a. . ")
def test_every_disk_takes_the_name_of_a_folder(name: str) -> None:
    made = folder_name(name)
    assert made == made.strip() and made
    assert not made.startswith(".") and not made.endswith((".", " "))
    assert not set(made) & set('<>:"/\\|?*') and printable(made) == made
    assert len(made.encode("utf-8")) <= LONGEST
    assert made.partition(".")[0].strip().lower() not in ("con", "nul", "lpt1", "com¹")
    assert folder_name(made) == made


@pytest.mark.parametrize(
    "name", ["tumor_001", "TCGA-CR-7395-01A-01-TS1.2a5f", "a b", "é", "スライド", "[red]", "a$^$b"]
)
def test_a_name_that_every_disk_takes_is_kept(name: str) -> None:
    assert folder_name(name) == name


def test_long_names_that_differ_anywhere_stay_two() -> None:
    made = [folder_name("x" * 120 + letter + "y" * 130) for letter in "ab"]
    assert made[0] != made[1]
    # The start stays readable, and letters of several bytes are not torn.
    assert folder_name("é" * 125).startswith("é" * 90)


def test_a_name_that_stands_for_something_else_is_moved_aside() -> None:
    assert folder_name("Index.HTML", own=("index.html",)) == "_Index.HTML"


# Pictures


def rendered(text: str, **options: object) -> np.ndarray:
    """What matplotlib makes of a text, any warning an error."""
    figure, png = Figure(figsize=(3, 1)), io.BytesIO()
    figure.text(0.05, 0.5, text, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(png, format="png")
    return np.asarray(Image.open(png))


@pytest.mark.parametrize("weight", ["normal", "bold"])
@pytest.mark.parametrize("name", ODD)
def test_a_name_is_drawn_without_a_formula_or_a_warning(name: str, weight: str) -> None:
    rendered(drawable(name, weight=weight), weight=weight, family=list(families()))


@settings(max_examples=50, deadline=None)
@given(names)
def test_so_is_any_text(name: str) -> None:
    rendered(drawable(name[:40]), family=list(families()))


@pytest.mark.parametrize("name", ["a$^$b", "$x$", "a\\$b$", "100 $"])
def test_dollars_are_drawn_as_dollars(name: str) -> None:
    assert (rendered(drawable(name)) == rendered(name, parse_math=False)).all()


def test_what_no_font_has_becomes_a_question_mark_and_what_changes_a_letter_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sentinode.names.families", lambda: ("DejaVu Sans",))
    monkeypatch.setattr("sentinode.names._fonts", _fonts.__wrapped__)
    assert drawable("スライド 1.svs") == "???? 1.svs"
    assert drawable("\U0001f9ec\U000e0100é") == "?é"


def test_a_font_of_the_machine_draws_what_ours_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Chinese:
        def get_char_index(self, letter: int) -> int:
            return int(unicodedata.name(chr(letter), "").startswith("CJK"))

    monkeypatch.setattr("sentinode.names._fonts", lambda weight: (Chinese(),))
    assert drawable("検体") == "検体"


def test_a_name_that_is_no_text_becomes_text_that_every_file_takes() -> None:
    assert as_text("a\udcff.png") == r"a\udcff.png"
    assert as_text("é.png") == "é.png"
