"""DICOM whole-slide images through pydicom."""

from __future__ import annotations

import io
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from sentinode.slides.reading.pyramid import WHITE, Level, Pixels, Pyramid, levels_of


class DicomPyramid(Pyramid):
    """One instance of a DICOM whole-slide image, through pydicom: a single level of frames.

    OpenSlide reads a whole series, and is asked first; it refuses instances that lack attributes of the
    standard.
    """

    def __init__(self, path: Path) -> None:
        import pydicom
        from pydicom.encaps import parse_basic_offsets, parse_fragments

        self._lock = threading.Lock()
        self._file: BinaryIO = path.open("rb")
        try:
            header = pydicom.dcmread(self._file, stop_before_pixels=True)
            self._file.seek(12, io.SEEK_CUR)  # the tag, VR and length of the pixel data
            if not header.file_meta.TransferSyntaxUID.is_encapsulated:
                raise ValueError("its pixels are not compressed, which this reader does not expect")
            parse_basic_offsets(self._file)
            _, self._offsets = parse_fragments(self._file)
            self._size = path.stat().st_size
        except Exception:
            self._file.close()
            raise
        self._photometric = str(header.PhotometricInterpretation)
        width, height = int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows)
        self.levels = levels_of([(width, height)], [(int(header.Columns), int(header.Rows))])
        self._frames = self._places(header)
        if len(self._offsets) < len(self._frames):
            counts = f"{len(self._offsets)} frames where its header counts {len(self._frames)}"
            raise ValueError(f"it has {counts}")
        self.mpp = _dicom_mpp(header)

    def _places(self, header: Any) -> dict[tuple[int, int], int]:
        """Which frame shows the tile of a column and row (DICOM PS3.3 C.7.6.17.3)."""
        (level,) = self.levels
        groups = header.get("PerFrameFunctionalGroupsSequence")
        if header.get("DimensionOrganizationType") == "TILED_SPARSE" and groups:
            return {_dicom_place(group, level): frame for frame, group in enumerate(groups)}
        by_rows = {(i % level.columns, i // level.columns): i for i in range(level.columns * level.rows)}
        if header.get("DimensionOrganizationType") == "TILED_FULL":
            return by_rows
        # Instances older than TILED_FULL do not say whether frames go by rows or by columns: see which fit.
        by_columns = {(i // level.rows, i % level.rows): i for i in range(level.columns * level.rows)}
        return min((by_rows, by_columns), key=self._misfit)

    def _misfit(self, places: dict[tuple[int, int], int]) -> float:
        """Mean difference in grey levels across the seam of tiles that would lie side by side."""
        seams = [(place, (place[0] + 1, place[1])) for place in places if (place[0] + 2, place[1]) in places]
        steps = []
        for left, right in seams[:: max(1, len(seams) // 32)]:
            one, other = (self._decode(self._read(places[place])) for place in (left, right))
            steps.append(float(np.abs(one[:, -1].astype(int) - other[:, 0]).mean()))
        return float(np.mean(steps)) if steps else 0.0

    def tile(self, level: int, column: int, row: int) -> Pixels:
        _, _, width, height = self.levels[0].tile_box(column, row)
        frame = self._frames.get((column, row))
        if frame is None:
            return np.full((height, width, 3), WHITE, np.uint8)
        return self._decode(self._read(frame))[:height, :width]

    def _read(self, frame: int) -> bytes:
        with self._lock:
            self._file.seek(self._offsets[frame] + 4)  # past the item's tag
            size = int.from_bytes(self._file.read(4), "little")
            data = self._file.read(size)
        if len(data) < size:
            raise ValueError("the file ends before this frame")
        return data

    def _decode(self, data: bytes) -> Pixels:
        if self._photometric == "RGB" and data[:2] == b"\xff\xd8" and not _names_its_colours(data):
            import imagecodecs

            return np.asarray(imagecodecs.jpeg8_decode(data, colorspace="RGB", outcolorspace="RGB"))
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    def close(self) -> None:
        self._file.close()


def _names_its_colours(jpeg: bytes) -> bool:
    """Whether a JPEG says by itself what its components are, with a JFIF or an Adobe marker."""
    return b"JFIF" in jpeg[:32] or b"Adobe" in jpeg[:64]


def _dicom_place(group: Any, level: Level) -> tuple[int, int]:
    """Column and row of the tile that a frame's functional groups name."""
    place = group.PlanePositionSlideSequence[0]
    column = (int(place.ColumnPositionInTotalImagePixelMatrix) - 1) // level.tile_width
    row = (int(place.RowPositionInTotalImagePixelMatrix) - 1) // level.tile_height
    return column, row


def _dicom_mpp(header: Any) -> tuple[float, float] | None:
    """Microns per pixel of a DICOM slide: its pixel spacing, else the volume's size over the matrix's."""
    with suppress(AttributeError, IndexError, TypeError):
        shared = header.SharedFunctionalGroupsSequence[0]
        vertical, horizontal = shared.PixelMeasuresSequence[0].PixelSpacing
        return 1e3 * float(horizontal), 1e3 * float(vertical)
    with suppress(AttributeError, TypeError, ZeroDivisionError):
        return (
            1e3 * float(header.ImagedVolumeWidth) / int(header.TotalPixelMatrixColumns),
            1e3 * float(header.ImagedVolumeHeight) / int(header.TotalPixelMatrixRows),
        )
    return None
