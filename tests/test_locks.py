"""Locks on the slides of a batch, as others see them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import Timeout

from sentinode.locks import LOCKS, is_locked, lock


def test_a_slide_is_locked_while_somebody_is_at_it_and_free_after(tmp_path: Path) -> None:
    assert is_locked(tmp_path, "slide") is False and not (tmp_path / LOCKS).exists()
    with lock(tmp_path, "slide"):
        assert is_locked(tmp_path, "slide") is True and is_locked(tmp_path, "other") is False
        with pytest.raises(Timeout), lock(tmp_path, "slide", wait=False):
            pass
    assert is_locked(tmp_path, "slide") is False


def test_a_process_that_is_killed_leaves_its_slide_free(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time; from sentinode.locks import lock\n"
        "with lock(pathlib.Path(sys.argv[1]), 'slide'): print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline().startswith(b"locked")
        assert is_locked(tmp_path, "slide") is True
        process.kill()
    assert is_locked(tmp_path, "slide") is False


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may write everywhere")
def test_in_a_folder_that_is_read_only_it_cannot_be_told(tmp_path: Path) -> None:
    with lock(tmp_path, "slide"):
        pass
    (tmp_path / LOCKS / "slide.lock").chmod(0o400)
    assert is_locked(tmp_path, "slide") is None
