"""Progress goes to standard error: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import pytest

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
