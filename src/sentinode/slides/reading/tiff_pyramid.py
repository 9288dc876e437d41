"""TIFF and OME-TIFF through tifffile."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np

from sentinode.errors import SlideError
from sentinode.slides.reading.pyramid import WHITE, Pixels, Pyramid, levels_of, require_bounded


class TiffPyramid(Pyramid):
    """TIFF and OME-TIFF, tiled or in strips, through tifffile."""

    def __init__(self, path: Path) -> None:
        import tifffile

        self._path = path
        self._tiff = tifffile.TiffFile(path)
        series = max(self._tiff.series, key=lambda one: one.size)
        pages = [level.keyframe for level in series.levels]
        _require_rgb(path, pages[0].axes, pages[0].dtype, pages[0].shape)
        self._pages = [page for page in pages if page.axes == pages[0].axes]
        self.levels = levels_of(
            [(page.imagewidth, page.imagelength) for page in self._pages],
            [
                (page.tilewidth, page.tilelength)
                if page.is_tiled
                else (page.imagewidth, min(page.rowsperstrip, page.imagelength))
                for page in self._pages
            ],
        )
        for level in self.levels:
            require_bounded(path, level.tile_width * level.tile_height)
        self.mpp = _ome_mpp(self._tiff.ome_metadata) or _resolution_mpp(self._pages[0])
        profile = self._pages[0].tags.get("InterColorProfile")
        self.icc = bytes(profile.value) if profile else None
        self._file, self._lock = path.open("rb"), threading.Lock()

    def tile(self, level: int, column: int, row: int) -> Pixels:
        page, shape = self._pages[level], self.levels[level]
        _, _, width, height = shape.tile_box(column, row)
        index = row * shape.columns + column
        size = page.databytecounts[index]
        if size == 0:
            return np.full((height, width, 3), WHITE, np.uint8)
        with self._lock:
            self._file.seek(page.dataoffsets[index])
            data = self._file.read(size)
        if len(data) < size:
            raise ValueError("the file ends before this tile")
        decoded = cast(Pixels, page.decode(data, index, jpegtables=page.jpegtables)[0])
        return np.ascontiguousarray(decoded[0, :height, :width, :3])

    def close(self) -> None:
        self._file.close()
        self._tiff.close()


def _require_rgb(path: Path, axes: str, dtype: object, shape: tuple[int, ...]) -> None:
    if axes != "YXS" or shape[-1] not in (3, 4) or dtype != np.uint8:
        raise SlideError(
            f"the image is {dtype} with axes {axes} {shape}, and Sentinode reads RGB of 8 bits a channel.",
            where=path,
            hint="Export the slide as 8-bit RGB, with the channels of a pixel side by side.",
        )


MICRONS = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "pm": 1e-6}


def _ome_mpp(metadata: str | None) -> tuple[float, float] | None:
    """Microns per pixel from OME-XML, whose default unit is the micron."""
    import tifffile

    if not metadata:
        return None
    with suppress(KeyError, ValueError, TypeError):
        image = tifffile.xml2dict(metadata)["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
        x, y = (
            float(pixels[f"PhysicalSize{axis}"]) * MICRONS[pixels.get(f"PhysicalSize{axis}Unit", "µm")] for axis in "XY"
        )
        return x, y
    return None


def _resolution_mpp(page: Any) -> tuple[float, float] | None:
    """Microns per pixel from a TIFF page's resolution, which counts pixels per inch or per centimetre."""
    unit = page.tags.get("ResolutionUnit")
    microns = {2: 25_400.0, 3: 10_000.0}.get(int(unit.value) if unit else 2)
    values = []
    for name in ("XResolution", "YResolution"):
        tag = page.tags.get(name)
        if tag is None or not tag.value[0] or not tag.value[1] or microns is None:
            return None
        values.append(microns * tag.value[1] / tag.value[0])
    return values[0], values[1]
