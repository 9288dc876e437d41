"""Where the frames of a DICOM file lie in it."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sentinode.errors import SlideError
from sentinode.slides.reading.dicom_header import Numbers
from sentinode.slides.reading.dicom_samples import EXPORT, FrameFormat
from sentinode.slides.reading.dicom_series import DEFLATED
from sentinode.slides.reading.pyramid import UNREADABLE, Pixels

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
"""The transfer syntaxes whose frames lie side by side; in all others each is in an item of its own."""

ITEM = b"\xfe\xff\x00\xe0"

PROBES = 32
"""Entries of a table of frames that are looked up before it is believed."""


class DicomFrames:
    """The frames of one DICOM file by their numbers, from 0. Use it from any thread; close it after use.

    Attributes:
        format: how a frame becomes RGB.
    """

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            SlideError: the frames are of a kind that is not read, or the file is damaged.
        """
        import pydicom

        self._path, self._lock = path, threading.Lock()
        self._file: BinaryIO = path.open("rb")
        try:
            self.header = pydicom.dcmread(self._file, stop_before_pixels=True)
            self.format = FrameFormat.of(self.header, path)
            self._seek_pixels()
            self._starts, self._ends = self._find_frames()
            self._require_whole()
            self._require_plain_colours()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, frame: int) -> bytes:
        """The coded bytes of a frame.

        Raises:
            ValueError: the file does not have them.
        """
        start, end = int(self._starts[frame]), int(self._ends[frame])
        with self._lock:
            self._file.seek(start)
            data = self._file.read(end - start)
        return b"".join(_items(data)) if self._is_encapsulated else data

    def pixels(self, frame: int) -> Pixels:
        """uint8 (rows, columns, 3) RGB of a frame."""
        return self.format.decode(self.read(frame))

    def close(self) -> None:
        self._file.close()

    def _seek_pixels(self) -> None:
        """Move the file past the tag and the length of its pixel data, before which the header's reader stopped."""
        import pydicom

        syntax = self.header.file_meta.TransferSyntaxUID
        if syntax == DEFLATED:
            with self._file as file:
                file.seek(0)
                self._file = io.BytesIO(pydicom.dcmread(file).PixelData)
            return
        if self._file.read(4) != b"\xe0\x7f\x10\x00":
            raise SlideError("it holds no pixels.", where=self._path, hint=EXPORT)
        self._file.seek(4 if syntax == IMPLICIT else 8, io.SEEK_CUR)

    def _find_frames(self) -> tuple[Numbers, Numbers]:
        """Where each frame starts and ends in the file; the last one may end earlier."""
        count = int(self.header.get("NumberOfFrames") or 1)
        self._is_encapsulated = self.header.file_meta.TransferSyntaxUID not in (IMPLICIT, EXPLICIT, DEFLATED)
        if not self._is_encapsulated:
            size, start = self.format.uncompressed_bytes, self._file.tell()
            if not 0 < count * size <= self._size():
                raise SlideError(
                    f"the slide is damaged: its header counts {count:,} frames of {size:,} bytes, and the file has "
                    f"{self._size():,} bytes.",
                    where=self._path,
                    hint="It was only partly copied. Copy it again.",
                )
            starts = start + size * np.arange(count, dtype=np.int64)
            return starts, starts + size
        starts = self._encapsulated_starts(count)
        if len(starts) != count:
            raise SlideError(
                f"the slide is damaged: it has {len(starts)} frames, and its header counts {count}.",
                where=self._path,
                hint=UNREADABLE,
            )
        in_file = np.append(np.sort(starts), self._size())
        return starts, in_file[np.searchsorted(in_file, starts, side="right")]

    def _encapsulated_starts(self, count: int) -> Numbers:
        """The first item of each frame: a frame may be stored in several."""
        from pydicom.encaps import parse_basic_offsets, parse_fragments

        table = np.asarray(parse_basic_offsets(self._file), np.int64)
        if "ExtendedOffsetTable" in self.header:
            table = np.frombuffer(self.header.ExtendedOffsetTable, "<u8").astype(np.int64)
        table += self._file.tell()
        if len(table) == count and self._is_plausible(table):
            return table
        items = np.asarray(parse_fragments(self._file)[1], np.int64)
        if len(items) == count:
            return items
        if count == 1:
            return items[:1]
        return np.asarray([item for item in items if self._begins_frame(item)], np.int64)

    def _is_plausible(self, table: Numbers) -> bool:
        """Whether frames begin where a table says. That of a file beyond 4 GiB may have overflowed."""
        if len(np.unique(table)) < len(table) or table.min() < 0:
            return False
        here = self._file.tell()
        probes = {*table[:: max(1, len(table) // PROBES)].tolist(), int(table[-1])}
        found = [self._read_at(place, 4) == ITEM for place in probes]
        self._file.seek(here)
        return all(found)

    def _begins_frame(self, item: int) -> bool:
        """Whether an item begins with the marker that begins a JPEG, JPEG-LS or JPEG 2000 stream."""
        return self._read_at(item + 8, 3) in (b"\xff\xd8\xff", b"\xff\x4f\xff")

    def _read_at(self, place: int, size: int) -> bytes:
        self._file.seek(place)
        return self._file.read(size)

    def _size(self) -> int:
        return self._file.seek(0, io.SEEK_END)

    def _require_whole(self) -> None:
        size = self._size()
        try:
            self.read(len(self) - 1)
            is_cut = not self._is_encapsulated and int(self._ends[-1]) > size
        except ValueError:
            is_cut = True
        if is_cut:
            raise SlideError(
                f"the slide is damaged: it ends after {size:,} bytes, before the end of its last frame.",
                where=self._path,
                hint="It was only partly copied. Copy it again.",
            )

    def _require_plain_colours(self) -> None:
        try:
            self.format.becomes_rgb(self.read(0))
        except ValueError as error:
            raise SlideError(f"{error}.", where=self._path, hint=EXPORT) from error


def _items(data: bytes) -> Iterator[bytes]:
    """The contents of the items that data begin with.

    Raises:
        ValueError: the data end within an item, or begin with none.
    """
    position = 0
    while data[position : position + 4] == ITEM:
        start = position + 8
        position = start + int.from_bytes(data[position + 4 : start], "little")
        yield data[start:position]
    if not 0 < position <= len(data):
        raise ValueError("the file ends before this frame does")
