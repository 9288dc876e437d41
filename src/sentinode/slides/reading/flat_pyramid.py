"""Flat pictures, such as PNG and JPEG, through Pillow."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from PIL import Image

from sentinode.slides.reading.pyramid import Pixels, Pyramid, levels_of, on_white, require_bounded


class FlatPyramid(Pyramid):
    """A PNG, JPEG or other flat picture, decoded as a whole when its first pixel is asked for."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._pixels: Pixels | None = None
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            with Image.open(path) as image:
                self.levels = levels_of([image.size], [(min(image.width, 1024), min(image.height, 1024))])
                dpi = image.info.get("dpi")
                self.icc = image.info.get("icc_profile")
        finally:
            Image.MAX_IMAGE_PIXELS = limit
        require_bounded(path, self.levels[0].width * self.levels[0].height)
        if dpi and min(dpi) > 0:
            self.mpp = 25_400 / float(dpi[0]), 25_400 / float(dpi[1])

    def tile(self, level: int, column: int, row: int) -> Pixels:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decode()
        left, top, width, height = self.levels[0].tile_box(column, row)
        return self._pixels[top : top + height, left : left + width]

    def _decode(self) -> Pixels:
        with Image.open(self._path) as image:
            if image.mode in ("RGB", "L", "P"):
                return np.asarray(image.convert("RGB"))
            return on_white(image.convert("RGBA"))

    def close(self) -> None:
        self._pixels = None
