"""What all commands need of their arguments and of standard output."""

from __future__ import annotations

import io
import sys

import pytest

from sentinode.cli.streams import flush_output, refuse_empty, take_any_text
from sentinode.errors import DataError, OutputError


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([""], r"an argument is empty\."),
        (["predict", ""], "empty after predict"),
        (["a", "--out="], r"empty \(--out=\)"),
    ],
)
def test_an_empty_argument_is_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        refuse_empty(arguments)


def test_other_arguments_pass() -> None:
    refuse_empty(["train", ".", "--set", "model.weights=", "-o", " "])


def test_standard_output_takes_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    take_any_text()
    sys.stdout.write("é \udcff")
    flush_output()
    assert written.getvalue() == b"\\xe9 \\udcff"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is of Linux")
def test_a_full_standard_output_is_refused_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        sys.stdout.write("x")
        with pytest.raises(OutputError, match="standard output cannot be written"):
            flush_output()
        sys.stdout.flush()  # as the interpreter does at its end
