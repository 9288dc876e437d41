"""What the viewer knows of a folder of maps."""

from __future__ import annotations

import subprocess
import sys


def test_the_viewer_starts_without_pytorch() -> None:
    program = "import sys, sentinode.app.library, sentinode.app.tiles; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
