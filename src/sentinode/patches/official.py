"""The official HDF5 files of PatchCamelyon (Veeling et al. 2018), as published on Zenodo (record 2546921).

``camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5``, or ``.h5.gz``, and ``..._meta.csv`` where
present.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from sentinode.errors import DataError
from sentinode.geometry import PCAM, PatchGeometry
from sentinode.patches.cache import unpacked
from sentinode.patches.hdf5 import Rows, dataset, described, open_hdf5, unreadable_hdf5
from sentinode.patches.patch_set import SPLITS
from sentinode.patches.pixels import MappedImages, rows_at_once, write_stream
from sentinode.patches.slide_map import known_slide
from sentinode.patches.source import Part, Source, as_names, checked_labels, read_head
from sentinode.patches.table import read_table
from sentinode.progress import Bar

STEM = "camelyonpatch_level_2_split_"
TEST_SLIDE = "camelyon16_test_"
SYNTHETIC = "SYNTHETIC.json"
"""The file that says, beside official files, that their patches are generated."""

EXTRACTED = "EXTRACTED.json"
"""The file that says, beside official files, that `sentinode extract` cut them from slides of any name."""

# PCam's README prints the sums of valid and test exchanged (its issues 1 and 4). These go with Zenodo's
# names, which are right: they are what people get who run md5sum on the files, what torchvision corrected its
# own table to (its pull request 6644), and, for the unpacked files, what two projects recorded independently.
PUBLISHED_MD5 = {
    f"{STEM}train_x.h5.gz": "1571f514728f59376b705fc836ff4b63",
    f"{STEM}train_y.h5.gz": "35c2d7259d906cfc8143347bb8e05be7",
    f"{STEM}valid_x.h5.gz": "d5b63470df7cfa627aeec8b9dc0c066e",
    f"{STEM}valid_y.h5.gz": "2b85f58b927af9964a4c15b8f7e8f179",
    f"{STEM}test_x.h5.gz": "d8c2d60d490dbd479f8199bdfa0cf6ec",
    f"{STEM}test_y.h5.gz": "60a7035772fbdb7f34eb86d4420cf66a",
    f"{STEM}train_meta.csv": "5a3dd671e465cfd74b5b822125e65b0a",
    f"{STEM}valid_meta.csv": "67589e00a4a37ec317f2d1932c7502ca",
    f"{STEM}test_meta.csv": "3455fd69135b66734e1008f3af684566",
    f"{STEM}train_x.h5": "01844da899645b4d6f84946d417ba453",
    f"{STEM}train_y.h5": "0781386bf6c2fb62d58ff18891466aca",
    f"{STEM}valid_x.h5": "81cf9680f1724c40673f10dc88e909b1",
    f"{STEM}valid_y.h5": "94d8aacc249253159ce2a2e78a86e658",
    f"{STEM}test_x.h5": "2614b2e6717d6356be141d9d6dbfcb7e",
    f"{STEM}test_y.h5": "11ed647efe9fe457a4eb45df1dba19ba",
}
"""MD5 of each published file, packed and unpacked."""

PEEKED = 1 << 20
"""Bytes of a gzipped file in which its description is looked for."""

MOST_LABELS = 128 * 2**20
"""Bytes of the labels of a split; they are held in memory."""

MOST_AROUND = 64 * 2**20
"""Bytes that an unpacked file may hold beside its patches."""

DAMAGED = "Download it again with 'sentinode data download', which checks the published checksum."


def find(path: Path, cache: Path) -> Source | None:
    """The official files in a folder, or of the split that a single ``_x`` or ``_y`` file belongs to.

    Raises:
        DataError: a file is damaged, missing its partner, or not what its name says.
    """
    splits = list(SPLITS)
    if path.is_file():
        splits = [split for split in SPLITS if path.name.startswith(f"{STEM}{split}_")]
    folder = path.parent if path.is_file() else path
    found = {split: (_named(folder, split, "x"), _named(folder, split, "y")) for split in splits}
    parts = {split: _read(split, x, y, cache) for split, (x, y) in found.items() if x or y}
    if not parts:
        return None
    recorded = _recorded(folder / EXTRACTED) if (folder / EXTRACTED).is_file() else None
    return Source("official", path, parts, toy=(folder / SYNTHETIC).is_file(), recorded=recorded)


def _recorded(path: Path) -> PatchGeometry:
    """The geometry that `sentinode extract` wrote down; its first version had PatchCamelyon's alone."""
    try:
        told = json.loads(path.read_text("utf-8"))
        size, region = int(told.get("size", PCAM.size)), int(told.get("label_region", PCAM.label_region))
        return PatchGeometry(size, float(told["mpp"]), region)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"the geometry of the patches cannot be read from it ({error}).", where=path) from error


def swap(source: Source) -> str | None:
    """A sentence that says so where valid and test are exchanged, or None.

    Known by the slides of the meta CSV (Camelyon16's own test slides are PCam's test split), and, where there
    is none, by the published checksums of the small label files.
    """
    if source.kind != "official" or any((part.where.parent / EXTRACTED).is_file() for part in source.parts.values()):
        return None
    for split, part in source.parts.items():
        if part.slides is not None:
            known = part.slides[part.slides != ""]
            of_test = np.char.startswith(known, TEST_SLIDE)
            if split == "test" and not of_test.all():
                return f"the test split holds slides such as {known[~of_test][0]}, not {TEST_SLIDE}*"
            if split != "test" and of_test.any():
                return f"the {split} split holds slides such as {known[of_test][0]}"
        other = {"valid": "test", "test": "valid"}.get(split)
        if other and part.where.stat().st_size < 1 << 20:
            published = PUBLISHED_MD5.get(part.where.name.replace(split, other))
            if hashlib.md5(part.where.read_bytes()).hexdigest() == published:
                return f"{part.where.name} is the published file of the {other} split"
    return None


def refuse_swap(source: Source) -> None:
    """
    Raises:
        DataError: valid and test are exchanged; it explains the README's mistake.
    """
    if (why := swap(source)) is not None:
        raise DataError(
            f"valid and test are exchanged: {why}.",
            where=source.path,
            hint="PCam's README prints the MD5 sums of valid and test exchanged, and files renamed to fit it "
            "are wrong; the names on Zenodo (record 2546921) are right. Exchange the names of the valid and "
            "test files (x, y and meta), or download them again with 'sentinode data download'.",
        )


def _named(folder: Path, split: str, what: str) -> Path | None:
    for ending in (".h5", ".h5.gz"):
        path = folder / f"{STEM}{split}_{what}{ending}"
        if path.is_file():
            return path
    return None


def _read(split: str, x: Path | None, y: Path | None, cache: Path) -> Part:
    if x is None or y is None:
        have, lack = (x, "y") if x else (y, "x")
        assert have is not None
        raise DataError(
            f"the file with the {'labels' if lack == 'y' else 'images'} is missing beside it "
            f"({STEM}{split}_{lack}.h5 or .h5.gz).",
            where=have,
            hint="Put it there, or download it with 'sentinode data download'.",
        )
    labels = _labels(y)
    if not len(labels):
        raise DataError("there are no patches here.", where=y)
    pixels = GzippedPixels(x, len(labels), cache) if x.suffix == ".gz" else Hdf5Pixels(x)
    if len(pixels) != len(labels):
        raise _apart(x, len(pixels), len(labels))
    ids = np.char.add(f"{split}/", np.char.zfill(np.arange(len(labels)).astype(str), 6))
    meta = y.with_name(f"{STEM}{split}_meta.csv")
    slides = _slides(meta, len(labels)) if meta.is_file() else None
    return Part(labels, ids, pixels, where=y, slides=slides)


class Hdf5Pixels:
    """Dataset ``x``, uint8 (N, S, S, 3), of an HDF5 file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_hdf5(path, again=DAMAGED) as file:
            data = dataset(file, "x", path, DAMAGED)
            self._count, self.size = _count_and_size(data, path)
            # Contiguous and unfiltered data is raw patches one after the other: it can be mapped as it lies.
            self._offset = data.id.get_offset() if data.chunks is None else None
        if self._offset is not None and path.stat().st_size < self._offset + self._count * 3 * self.size**2:
            raise DataError("this HDF5 file is truncated.", where=path, hint=DAMAGED)

    @property
    def files(self) -> Sequence[Path]:
        return [self._path]

    def __len__(self) -> int:
        return self._count

    def mapped(self) -> MappedImages | None:
        return None if self._offset is None else MappedImages(self._path, self._offset, self._count, self.size)

    def stream(self) -> Iterator[NDArray[np.uint8]]:
        step = rows_at_once(self.size)
        with open_hdf5(self._path, again=DAMAGED) as file:
            rows = Rows(dataset(file, "x", self._path, DAMAGED))
            for start in range(0, self._count, step):
                try:
                    yield from rows.read(start, start + step)
                except OSError as error:
                    raise unreadable_hdf5(self._path, error, DAMAGED) from error

    def unpack(self, target: Path, bar: Bar) -> int:
        return write_stream(self.stream(), target, bar)


def _count_and_size(data: h5py.Dataset, path: Path) -> tuple[int, int]:
    shape: tuple[int, ...] = data.shape or ()
    if data.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
        kind = "compound" if data.dtype.names else data.dtype
        raise DataError(f"'x' must be uint8 (N, S, S, 3), square RGB patches; this is {kind} {shape}.", where=path)
    return shape[0], shape[1]


class GzippedPixels:
    """The same, compressed as published: unpacked into the cache before anything is read."""

    def __init__(self, path: Path, count: int, cache: Path) -> None:
        read_head(path)
        self._path, self._count, self._cache = path, count, cache

    @property
    def files(self) -> Sequence[Path]:
        return [self._path]

    def __len__(self) -> int:
        return self._count

    def mapped(self) -> None:
        return None

    @cached_property
    def size(self) -> int:
        """As the beginning of the file says it; else PatchCamelyon's, and unpacking checks it."""
        head = _Beginning(next(gunzip(self._path, PEEKED), b""))
        with contextlib.suppress(OSError, KeyError, RuntimeError), h5py.File(head, "r") as file:
            return _count_and_size(described(file, "x", self._path, DAMAGED), self._path)[1]
        return PCAM.size

    def stream(self) -> Iterator[NDArray[np.uint8]]:
        return unpacked(self, self._path.name, self._cache).stream()

    def unpack(self, target: Path, bar: Bar) -> int:
        patch = 3 * self.size**2
        with target.open("wb") as file:
            written = 0
            for chunk in gunzip(self._path, most=self._count * patch * 2 + MOST_AROUND):
                file.write(chunk)
                done = (written + len(chunk)) // patch - written // patch
                bar.advance(done)
                written += len(chunk)
        try:
            inner = Hdf5Pixels(target)
        except DataError as error:
            raise DataError(error.what, where=self._path, hint=error.hint) from error
        if len(inner) != self._count:
            raise _apart(self._path, len(inner), self._count)
        if inner.size != self.size:
            raise DataError(
                f"the size of its patches ({inner.size} x {inner.size}) cannot be read before the file is unpacked.",
                where=self._path,
                hint="Unpack it first: gunzip FILE.",
            )
        if (images := inner.mapped()) is not None:
            return images.offset
        raw = target.with_name(f"{target.name}.raw")
        try:
            inner.unpack(raw, bar)
            raw.replace(target)
        finally:
            raw.unlink(missing_ok=True)
        return 0


class _Beginning(io.RawIOBase):
    """The beginning of a file that goes on with zeros: HDF5 describes a dataset before its values."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._content, self._at = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: 1 << 48}[whence]
        return self._at

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        piece = self._content[self._at : self._at + len(target)]
        plain = memoryview(target).cast("B")  # h5py 3.10 hands a view of Cython's, which takes no bytes
        plain[: len(piece)] = piece
        plain[len(piece) :] = bytes(len(target) - len(piece))
        self._at += len(target)
        return len(target)


def gunzip(path: Path, size: int = 1 << 20, most: int | None = None) -> Iterator[bytes]:
    """The content of a gzip file, a piece of ``size`` bytes at a time.

    Raises:
        DataError: it is truncated or damaged, or unpacks to more than ``most`` bytes.
    """
    unpacked = 0
    try:
        with gzip.open(path) as file:
            while chunk := file.read(size):
                unpacked += len(chunk)
                if most is not None and unpacked > most:
                    raise DataError(
                        f"this gzip file unpacks to more than {most / 1e6:,.0f} MB, more than its patches can need.",
                        where=path,
                        hint=DAMAGED,
                    )
                yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"this gzip file is truncated or damaged ({error}).", where=path, hint=DAMAGED) from error


def _apart(path: Path, images: int, labels: int) -> DataError:
    return DataError(
        f"{images:,} images here, and {labels:,} labels in the file beside it: they do not belong together.",
        where=path,
        hint=DAMAGED,
    )


def _labels(path: Path) -> NDArray[np.uint8]:
    read_head(path)
    content = io.BytesIO(b"".join(gunzip(path, most=MOST_LABELS))) if path.suffix == ".gz" else None
    with open_hdf5(path, content, DAMAGED) as file:
        data = dataset(file, "y", path, DAMAGED)
        shape: tuple[int, ...] = data.shape or ()
        if not shape or math.prod(shape) != shape[0]:
            raise DataError(f"'y' must be (N, 1, 1, 1) or (N,); this is {shape}.", where=path)
        checked_labels(np.empty(0, data.dtype), path)
        if (size := shape[0] * data.dtype.itemsize) > MOST_LABELS:
            raise DataError(f"{size / 1e6:,.0f} MB of labels are more than are read.", where=path)
        try:
            return checked_labels(Rows(data).read(0, shape[0]).reshape(-1), path)
        except OSError as error:
            raise unreadable_hdf5(path, error, DAMAGED) from error


def _slides(path: Path, count: int) -> NDArray[np.str_] | None:
    """The slide of each patch, an empty string where it is not known; None where none is."""
    slides = as_names([known_slide(cell) for (cell,) in read_table(path, ("wsi",))], path)
    if len(slides) != count:
        raise DataError(f"{len(slides):,} rows here, and {count:,} labels: they do not belong together.", where=path)
    return slides if (slides != "").any() else None
