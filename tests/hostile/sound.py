"""Sound inputs, for cases in which something else is odd."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sentinode.model.bundle import PACKAGED
from sentinode.patches.synthetic import synthesise


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


def slide(path: Path, side: int = 512) -> Path:
    """A slide of one level with tissue, at 0.5 um per pixel."""
    tifffile = pytest.importorskip("tifffile")
    pixels = np.full((side, side, 3), 243, np.uint8)
    middle = slice(side // 4, side // 2)
    pixels[middle, middle] = np.random.default_rng(0).normal((180, 90, 160), 20, (side // 4, side // 4, 3)).clip(0, 255)
    centimetre = (10_000 / 0.5, 10_000 / 0.5)
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", resolution=centimetre, resolutionunit=3)
    return path


def data(folder: Path) -> Path:
    """Generated patches with their splits, few enough to train on in a moment."""
    synthesise(folder / "data", train=32, valid=16, test=16, slides=4, show=False)
    return folder / "data"
