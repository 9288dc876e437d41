"""Pipes and devices are told from files before they are opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sentinode.regular import is_special, require_regular


def test_files_folders_and_what_is_not_there_are_nothing_special(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    for path in (tmp_path, tmp_path / "file", tmp_path / "link", tmp_path / "absent", tmp_path / ("x" * 5000)):
        assert not is_special(path)
        require_regular(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_refused_through_a_link_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="a pipe or a device"):
            require_regular(tmp_path / name)
