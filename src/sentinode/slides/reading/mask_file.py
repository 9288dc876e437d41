"""The truth of a slide as an image file, written a band at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from sentinode.atomic import whole_file
from sentinode.slides.reading.annotations import BAND, Annotations

TILE = 512


def write_mask(
    path: Path, annotations: Annotations, width: int, height: int, mpp: float, downsample: float = 8.0
) -> None:
    """Write a tiled TIFF of 0 and 1, 1 where there is tumour, at a fraction of the slide's resolution.

    Args:
        path: the file to write.
        annotations: the slide's annotations.
        width, height: the slide's size in level-0 pixels.
        mpp: microns per level-0 pixel.
        downsample: level-0 pixels per pixel of the mask.

    Raises:
        OutputError: the file cannot be written or the disk is full.
    """
    shape = max(1, round(height / downsample)), max(1, round(width / downsample))
    per_centimetre = 1e4 / (mpp * downsample)
    with whole_file(path) as staged, tifffile.TiffWriter(staged, bigtiff=True) as tif:
        tif.write(
            _tiles(annotations.bands(width, height, downsample)),
            shape=shape,
            dtype=np.uint8,
            tile=(TILE, TILE),
            photometric="minisblack",
            compression="zlib",
            resolution=(per_centimetre, per_centimetre),
            resolutionunit="CENTIMETER",
            metadata=None,
        )


def _tiles(bands: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """The bands cut into tiles from left to right, filled up with zeros at the edges."""
    assert BAND % TILE == 0
    for band in bands:
        for top in range(0, len(band), TILE):
            for left in range(0, band.shape[1], TILE):
                part = band[top : top + TILE, left : left + TILE]
                yield np.pad(part, [(0, TILE - side) for side in part.shape])
