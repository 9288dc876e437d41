"""What the viewer knows of a folder of maps."""

from __future__ import annotations

import subprocess
import sys

from sentinode.app import library
from sentinode.slides import batch


def test_the_scores_of_a_running_scan_have_the_name_that_the_scan_gives_them() -> None:
    assert library.SCORES == batch.LOG


def test_the_viewer_starts_without_pytorch() -> None:
    program = "import sys, sentinode.app.library, sentinode.app.tiles; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
