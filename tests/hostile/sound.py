"""Sound inputs, for cases in which something else is odd."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from sentinode.model.bundle import PACKAGED


def bundle(folder: Path) -> Path:
    """A copy of the bundled model, to be changed."""
    copied = folder / "bundle"
    shutil.copytree(PACKAGED, copied, ignore=shutil.ignore_patterns("__pycache__"))
    return copied


def picture(path: Path, side: int = 96) -> Path:
    """A patch of noise, in the format of its ending."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
