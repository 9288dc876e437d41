"""Progress goes to standard error: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sentinode import progress


def test_without_a_terminal_a_line_says_how_far_things_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SILENT_S", 0.0)
    assert list(progress.track(range(2), "Reading", 2, unit="files")) == [0, 1]
    seen = capsys.readouterr()
    assert not seen.out
    assert "Reading: 1/2 files" in seen.err


def test_short_work_without_a_terminal_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("Reading", 3) as shown:
        shown.advance(3)
    assert capsys.readouterr() == ("", "")


def test_silence_is_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "SILENT_S", 0.0)
    with progress.bar("Reading", 3, show=False) as shown:
        shown.advance()
        shown.note("loss 0.1")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["[red]a.tif", "[/]a.tif", "a\nb.tif", "x" * 250 + ".tif"])
def test_in_a_terminal_a_name_is_shown_as_it_is_on_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(progress, "console", screen)
    with progress.bar(f"Scanning {name}", 3) as shown:
        shown.advance()
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert any(f"Scanning {name[:1]}" in line and "1/3" in line for line in lines)


def test_in_a_notebook_one_line_moves_and_nothing_is_left_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], *, raw: bool) -> None:
            assert raw
            shown.append(data["text/plain"])

    monkeypatch.setattr("IPython.display.display", lambda *_, **__: Handle())
    monkeypatch.setattr(progress.console, "is_jupyter", True)
    monkeypatch.setattr(progress, "NOTEBOOK_S", 0.0)
    assert list(progress.track(range(2), "Reading", 2, unit="files")) == [0, 1]
    assert [line.split(",")[0] for line in shown] == ["Reading: 1/2 files", "Reading: 2/2 files", ""]
    assert capsys.readouterr() == ("", "")
