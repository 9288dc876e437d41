from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sentinode.errors import DataError
from sentinode.patches import source
from sentinode.patches.source import LONGEST_NAME, as_names, read_head

HERE = Path("data")


def test_names_are_texts_of_one_width():
    assert as_names(["a", "normal/bé.png"], HERE).tolist() == ["a", "normal/bé.png"]
    assert as_names([], HERE).dtype.kind == "U"


def test_a_name_that_is_longer_than_a_path_is_refused():
    assert len(as_names(["a" * LONGEST_NAME], HERE)) == 1
    with pytest.raises(DataError, match="a name of 4,097 characters stands among 2"):
        as_names(["b", "a" * (LONGEST_NAME + 1)], HERE)


def test_one_long_name_may_not_take_the_room_of_many(monkeypatch):
    monkeypatch.setattr(source, "MOST_NAMES", 10_000)
    assert len(as_names(["a" * 256] * 100, HERE)) == 100
    with pytest.raises(DataError, match="a name of 300 characters stands among 100, too long for so many"):
        as_names(["b"] * 99 + ["a" * 300], HERE)


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(DataError, match="no text in UTF-8"):
        as_names(["a", "b\udcff.png"], HERE)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="not a regular file"):
        read_head(tmp_path / "pipe.csv")
