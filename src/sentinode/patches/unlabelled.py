"""Patches without labels: images, folders of them, HDF5 and Parquet files, read as a stream."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sentinode.errors import DataError
from sentinode.extras import naming_extras
from sentinode.geometry import PCAM, SAME_MPP, PatchGeometry, check_mpp
from sentinode.names import as_text, listed
from sentinode.patches.image_files import IMAGE_ENDINGS, image_name
from sentinode.patches.pixels import (
    BATCH,
    LARGEST_IMAGE,
    Decoded,
    OtherSizeError,
    decode_any_size,
    in_threads,
    rows_at_once,
)

if TYPE_CHECKING:
    import h5py
    import pyarrow.parquet as pq

    from sentinode.patches.hdf5 import Rows

HDF5_ENDINGS = {".h5", ".hdf5"}
PACKED_AT_ONCE = 16
"""Images held in memory as they are packed in a file."""

ENDINGS = IMAGE_ENDINGS | HDF5_ENDINGS | {".parquet"}


@dataclass(frozen=True)
class Patch:
    """One patch, or why there is none.

    Attributes:
        id: the path as given, with ``#`` and the row for a patch of an HDF5 file; for one of a Parquet file what its
            ``image.path`` calls it, where each patch of the file has a name of its own that no file before it has
            used, else its row likewise.
        pixels: uint8 (S, S, 3) RGB, or the error.
    """

    id: str
    pixels: Decoded


def short_name(id: str) -> str:
    """The id of a patch without its folders and ending, as Kaggle wants it."""
    file, _, row = id.rpartition("#")
    container = Path(file)
    if row.isdigit() and container.suffix.lower() in ENDINGS:
        return f"{container.stem}#{row}"
    return image_name(Path(id).name)


def read_patches(
    paths: Iterable[str | Path], *, geometry: PatchGeometry = PCAM, mpp: float | None = None
) -> Iterator[Patch]:
    """Read patches one after the other, in bounded memory; what cannot be read is yielded as an error.

    Args:
        paths: images, folders (searched to the bottom, in order of name), HDF5 files with a dataset uint8
            (N, H, W, 3), named ``x`` or the only one of its kind, and Parquet files with an ``image`` struct.
        geometry: of the patches that the model takes.
        mpp: microns per pixel of the images. With it, they are resampled to the geometry's, which must be known, and
            cut to its size at the centre; without it, another size is an error.

    Raises:
        DataError: ``mpp`` is no resolution of a microscope.
    """
    check_mpp(mpp)
    fit = Fit(None if mpp is None or geometry.mpp is None else mpp / geometry.mpp, geometry.size)
    taken: set[str] = set()
    for kind, files in groupby(_files(paths), key=_kind):
        if kind == "image":
            yield from _images(files, fit)
            continue
        for file in files:
            try:
                yield from _hdf5(file, fit) if kind == "hdf5" else _parquet(file, fit, taken)
            except DataError as error:
                yield Patch(as_text(file.as_posix()), error)


def _files(paths: Iterable[str | Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        found = False
        for folder, inner, names in os.walk(path):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for name in sorted(names):
                file = Path(folder, name)
                if not name.startswith(".") and file.suffix.lower() in ENDINGS and not _is_labels(file):
                    found = True
                    yield file
        if not found:
            yield path


def _is_labels(file: Path) -> bool:
    return file.suffix.lower() in HDF5_ENDINGS and file.stem.endswith("_y")


def _kind(file: Path) -> str:
    ending = file.suffix.lower()
    if not file.exists() or file.is_dir():
        return "image"
    return "hdf5" if ending in HDF5_ENDINGS else "parquet" if ending == ".parquet" else "image"


def _images(files: Iterable[Path], fit: Fit) -> Iterator[Patch]:
    waiting = iter(files)
    while batch := list(islice(waiting, BATCH)):
        pixels = in_threads(lambda file: _image(file, fit), batch)
        yield from (Patch(as_text(file.as_posix()), image) for file, image in zip(batch, pixels, strict=True))


def _image(file: Path, fit: Fit) -> Decoded:
    if file.is_dir():
        return DataError("there are no images in this folder.", where=file)
    if not file.exists():
        return DataError("there is no such file.", where=file)
    if file.suffix.lower() == ".gz":
        return DataError("this file is compressed as a whole; unpack it first (gunzip).", where=file)
    return fit.packed(file, file)


@dataclass(frozen=True)
class Fit:
    """Makes patches of images; ``scale`` and ``size`` are those of :func:`fitted`."""

    scale: float | None
    size: int

    def __call__(self, pixels: Decoded) -> Decoded:
        return fitted(pixels, self.scale, self.size)

    def packed(self, data: bytes | Path | DataError, name: Path) -> Decoded:
        """A patch of an image file or of its bytes. One with more pixels than can be used is not decoded."""
        if isinstance(data, DataError):
            return data
        return self(decode_any_size(data, name, self.size**2 if self.scale is None else LARGEST_IMAGE))


def fitted(pixels: Decoded, scale: float | None, size: int) -> Decoded:
    """An image as a patch of ``size`` x ``size`` pixels, never squeezed.

    Args:
        pixels: uint8 (H, W, 3), or an error, which is passed on.
        scale: pixels of the model to a pixel of the image; None where the image must be a patch already. The centre
            is resampled by it, and copied where it is 1 to half a percent.
        size: side of the patch in pixels.
    """
    if isinstance(pixels, OtherSizeError) and scale is None:
        return _not_a_patch(*pixels.size, size)
    if isinstance(pixels, DataError) or (scale is None and pixels.shape == (size, size, 3)):
        return pixels
    height, width = pixels.shape[:2]
    if scale is None:
        return _not_a_patch(width, height, size)
    if abs(scale - 1) <= SAME_MPP:
        scale = 1.0
    if min(round(width * scale), round(height * scale)) < size:
        return DataError(
            f"{width} x {height} pixels are {round(width * scale)} x {round(height * scale)} at the model's "
            f"resolution; at least {size} x {size} are needed."
        )
    if scale == 1:
        left, top = (width - size) // 2, (height - size) // 2
        return np.ascontiguousarray(pixels[top : top + size, left : left + size])
    # What the patch covers, about the image's own centre; an image that is less than half a pixel short is stretched.
    across, down = (min(side, size / scale) for side in (width, height))
    box = ((width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2)
    # Pillow widens the kernel: no aliasing.
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, box=box))


def _not_a_patch(width: int, height: int, size: int) -> DataError:
    return DataError(
        f"{width} x {height} pixels; {size} x {size} are needed. State the microns per pixel (--mpp) to "
        "resample the image and use its centre."
    )


def _hdf5(path: Path, fit: Fit) -> Iterator[Patch]:
    from sentinode.patches.hdf5 import Rows, open_hdf5

    with open_hdf5(path) as file:
        data = _dataset(file, path)
        _, height, width, _ = data.shape
        if height * width > LARGEST_IMAGE:
            what = f"{width} x {height} pixels; images of up to {LARGEST_IMAGE:,} pixels are read."
            raise DataError(what, where=path)
        held, step = Rows(data), rows_at_once(math.isqrt(height * width))
        for start in range(0, len(data), step):
            rows = range(start, min(start + step, len(data)))
            for row, pixels in zip(rows, _rows(held, rows), strict=True):
                yield Patch(f"{as_text(path.as_posix())}#{row}", fit(pixels))


def _dataset(file: h5py.File, path: Path) -> h5py.Dataset:
    from sentinode.patches.hdf5 import all_names, dataset, described, own_names

    names, own = all_names(file, path), own_names(file, path)
    if "x" in names and "x" not in own:
        return dataset(file, "x", path)  # which refuses it
    shapes: dict[str, tuple[int, ...]] = {}
    for name in sorted(own, key=lambda name: name != "x"):
        try:
            data = described(file, name, path)
        except DataError:  # a group, or a dataset that nobody needs
            continue
        shapes[name] = data.shape or ()
        if data.dtype == np.uint8 and len(shapes[name]) == 4 and shapes[name][3] == 3:
            return dataset(file, name, path)
    held = listed([f"{name} {shapes.get(name, '')}".strip() for name in names])
    raise DataError(
        f"there is no dataset of images, uint8 (N, H, W, 3), in this file; it holds {held or 'nothing'}.",
        where=path,
    )


def _rows(data: Rows, rows: range) -> Sequence[Decoded] | NDArray[np.uint8]:
    try:
        return data.read(rows.start, rows.stop)
    except OSError:
        return [_row(data, row) for row in rows]


def _row(data: Rows, row: int) -> Decoded:
    try:
        return np.asarray(data.read(row, row + 1)[0])
    except OSError as error:
        return DataError(f"these pixels are damaged ({error}).")


def _parquet(path: Path, fit: Fit, taken: set[str]) -> Iterator[Patch]:
    """The patches of a Parquet file. The names that it gives them are added to those ``taken``."""
    with naming_extras():
        from sentinode.patches.parquet import STREAMED, encoded, open_parquet, require_encoded

    with open_parquet(path) as file:
        columns = {column.path for column in file.schema}
        if "image.bytes" not in columns:
            raise DataError("there is no column 'image' with a field 'bytes'.", where=path)
        require_encoded(file.schema_arrow.field("image").type, path)
        names = _image_names(path, file) if "image.path" in columns else []
        if not taken.isdisjoint(names):
            names = []
        taken.update(names)
        row = 0
        try:
            for pixels in in_threads(partial(fit.packed, name=path), encoded(path, file, STREAMED), PACKED_AT_ONCE):
                yield Patch(names[row] if names else f"{as_text(path.as_posix())}#{row}", pixels)
                row += 1
        except DataError as error:
            raise DataError(f"truncated or damaged after row {row:,} ({error.what})", where=path) from error


def _image_names(path: Path, file: pq.ParquetFile) -> list[str]:
    """What ``image.path`` calls each patch; empty where not each has a name of its own."""
    from sentinode.patches.parquet import texts

    try:
        paths = texts(path, file, "image.path")
    except DataError:  # reading the pixels will say from which row on it is damaged
        return []
    names = [image_name(path) if isinstance(path, str) else "" for path in paths]
    return names if all(names) and len(set(names)) == len(names) else []
