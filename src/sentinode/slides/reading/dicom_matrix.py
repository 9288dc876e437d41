"""One level of a DICOM slide: a total pixel matrix, and the places of its frames."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from sentinode.errors import SlideError
from sentinode.slides.reading.dicom_frames import DicomFrames
from sentinode.slides.reading.dicom_header import (
    Numbers,
    frame_positions,
    icc_profile,
    pixel_spacing,
    slide_orientation,
    slide_origin,
)
from sentinode.slides.reading.dicom_samples import EXPORT
from sentinode.slides.reading.dicom_series import Instance
from sentinode.slides.reading.pyramid import (
    UNREADABLE,
    WHITE,
    Level,
    Pixels,
    require_bounded,
    require_filled,
    require_possible,
)

NOTHING = -1
"""In place of a frame's number where the file has none: the scanner found no tissue there."""


class DicomMatrix:
    """The frames of one instance, or of the parts of a concatenation, as one picture.

    Attributes:
        path: its file; that of its first part.
        size: width and height in pixels.
        tile_size: width and height of a frame in pixels.
        spacing: microns per pixel in x and y as the file states them, or None.
        icc: the ICC profile of its optical path, or None.
        origin: where on the glass its first pixel lies, in millimetres, or None.
        orientation: the directions on the glass of its rows and of its columns, or None.
    """

    def __init__(self, instances: Sequence[Instance]) -> None:
        """Open the files.

        Raises:
            SlideError: they are damaged, their frames are of a kind that is not read, or have no plain places.
        """
        self.path, self.size = instances[0].path, (instances[0].width, instances[0].height)
        self._parts: list[DicomFrames] = []
        try:
            for instance in instances:
                self._parts.append(DicomFrames(instance.path))
            header = self._parts[0].header
            self.tile_size = int(header.Columns), int(header.Rows)
            self._require_one_plane()
            require_bounded(self.path, math.prod(self.tile_size))
            level = Level(*self.size, *self.tile_size, 1.0, 1.0)
            require_possible([level])
            require_filled(level, sum(instance.path.stat().st_size for instance in instances))
            self._starts = [0, *accumulate(len(part) for part in self._parts)]
            self._places = self._find_places(header.get("DimensionOrganizationType"))
            self.spacing, self.icc = pixel_spacing(header), icc_profile(header)
            self.origin, self.orientation = slide_origin(header), slide_orientation(header)
        except BaseException:
            self.close()
            raise
        for part in self._parts:
            del part.header  # that of many frames is large

    def tile(self, column: int, row: int) -> Pixels:
        """uint8 (height, width, 3) RGB of the frame at a place; white where there is none, and beyond the picture."""
        width, height = self.tile_size
        tile = np.full((height, width, 3), WHITE, np.uint8)
        rows, columns = self._places.shape
        if row < rows and column < columns and self._places[row, column] != NOTHING:
            right, bottom = self.size[0] - column * width, self.size[1] - row * height
            tile[:bottom, :right] = self._frame(int(self._places[row, column]))[:bottom, :right]
        return tile

    def _frame(self, number: int) -> Pixels:
        part = bisect_right(self._starts, number) - 1
        return self._parts[part].pixels(number - self._starts[part])

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def _refuse(self, what: str) -> SlideError:
        return SlideError(f"{what}.", where=self.path, hint=EXPORT)

    def _require_one_plane(self) -> None:
        headers = [part.header for part in self._parts]
        planes = max(int(one.get("TotalPixelMatrixFocalPlanes") or 1) for one in headers)
        paths = max(
            int(one.get("NumberOfOpticalPaths") or len(one.get("OpticalPathSequence") or "1")) for one in headers
        )
        if min(self.size) < 1:
            raise self._refuse("it does not state the size of its pixel matrix")
        if planes > 1:
            raise self._refuse(f"it has {planes} focal planes, and Sentinode reads slides with one")
        if paths > 1:
            raise self._refuse(f"it has {paths} optical paths, and Sentinode reads slides with one")
        if any((int(one.Columns), int(one.Rows)) != self.tile_size for one in headers):
            raise self._refuse("the files over which its frames are spread differ in the size of a frame")

    def _find_places(self, organisation: str | None) -> Numbers:
        """The number of the frame at each row and column of tiles (DICOM PS3.3 C.7.6.17.3)."""
        if organisation != "TILED_FULL":
            positions = np.concatenate([frame_positions(part.header, len(part)) for part in self._parts])
            if len(positions):
                return self._at(positions)
            if organisation == "TILED_SPARSE":
                raise self._refuse("it is TILED_SPARSE, and its frames have no places")
        shape = -(-self.size[1] // self.tile_size[1]), -(-self.size[0] // self.tile_size[0])
        self._require_one_frame_a_tile(math.prod(shape))
        by_rows = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
        if organisation == "TILED_FULL":
            return by_rows
        # Files from before TILED_FULL do not say whether frames go by rows, as they do there, or by columns.
        by_columns = np.arange(math.prod(shape), dtype=np.int64).reshape(shape[::-1]).T
        return by_columns if 2 * self._misfit(by_columns) < self._misfit(by_rows) else by_rows

    def _at(self, positions: Numbers) -> Numbers:
        """Frames by the column and row of their upper left pixel, counted from 1."""
        cells, off_grid = np.divmod(positions - 1, self.tile_size)
        shape = -(-self.size[1] // self.tile_size[1]), -(-self.size[0] // self.tile_size[0])
        if len(positions) != self._starts[-1]:
            raise self._refuse(f"only {len(positions)} of its {self._starts[-1]} frames have a place")
        if off_grid.any():
            column, row = positions[off_grid.any(1).argmax()]
            raise self._refuse(
                f"its frames do not lie on one grid: one of {self.tile_size[0]} x {self.tile_size[1]} pixels begins in "
                f"column {column} and row {row}"
            )
        if (cells < 0).any() or (cells >= shape[::-1]).any():
            raise self._refuse("a frame lies outside of its pixel matrix")
        if len(np.unique(cells, axis=0)) < len(cells):
            raise self._refuse("several of its frames lie in the same place, as focal planes or optical paths do")
        places = np.full(shape, NOTHING, np.int64)
        places[cells[:, 1], cells[:, 0]] = np.arange(len(cells))
        return places

    def _require_one_frame_a_tile(self, tiles: int) -> None:
        frames = self._starts[-1]
        stated = [part.header.get("ConcatenationFrameOffsetNumber") for part in self._parts]
        gap = any(one is not None and int(one) != start for one, start in zip(stated, self._starts, strict=False))
        if frames > tiles:
            raise self._refuse(f"it has {frames} frames for {tiles} tiles, as with focal planes or optical paths")
        if frames < tiles or gap:
            raise SlideError(
                f"the slide is damaged: it has {frames} frames, and its matrix has {tiles} tiles.",
                where=self.path,
                hint=f"Some of it was not copied. {UNREADABLE}",
            )

    def _misfit(self, places: Numbers) -> float:
        """Mean difference in grey levels across the seams of tiles that would lie side by side."""
        pairs = np.stack([places[:, :-2], places[:, 1:-1]], axis=-1).reshape(-1, 2)  # the last column may be padded
        steps = []
        for left, right in pairs[:: max(1, len(pairs) // 32)]:
            one, other = self._frame(int(left)), self._frame(int(right))
            steps.append(float(np.abs(one[:, -1].astype(int) - other[:, 0]).mean()))
        return float(np.mean(steps)) if steps else 0.0
