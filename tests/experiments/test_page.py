"""The page of an experiment: tables that open by a click, words at the left, and markup as text."""

from __future__ import annotations

from sentinode.experiments.page import Page, Table

ROWS = [("run", "AUC", "real"), ("<b>a</b>", "0.9", "yes"), ("b", "-", "not shown")]


def test_columns_of_words_begin_at_the_left_and_numbers_do_not() -> None:
    table = Table("Results", ROWS)
    assert [table.is_text(column) for column in (1, 2)] == [False, True]
    assert '<td class="left">yes</td>' in Page("T", "L", tables=[table]).html()
    assert "<td>0.9</td>" in Page("T", "L", tables=[table]).html()


def test_a_folded_table_is_opened_by_a_click() -> None:
    html = Page("T", "L", tables=[Table("Open", ROWS), Table("Folded", ROWS, folded=True)]).html()
    assert "<h3>Open</h3>" in html
    assert html.count("<details>") == 1 and "<summary>Folded</summary>" in html


def test_names_are_text_and_never_markup() -> None:
    html = Page("<i>t</i>", "L", tables=[Table("Results", ROWS)], notes=["<script>"]).html()
    assert "<b>a" not in html and "<i>t" not in html and "<script>" not in html
    assert "&lt;b&gt;a" in html
