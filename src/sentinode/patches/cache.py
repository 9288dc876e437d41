"""Patches unpacked once into raw files, and memory-mapped from then on.

Formats that are slow at random access (compressed HDF5, gzip, image files, Parquet) are unpacked the first
time they are opened. An entry is a folder: ``pixels.bin`` and ``about.json``, which says whence it was made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from sentinode.atomic import make_folder, output_errors, whole_file, write_text
from sentinode.errors import DataError, OutputError
from sentinode.geometry import PCAM
from sentinode.locks import lock
from sentinode.patches.pixels import MappedImages, Pixels
from sentinode.progress import bar, console

VERSION = 2
"""Of the entries; higher when images are decoded to other pixels than before."""

UNPACKING = "unpacking"
"""The lock of an entry."""

SAMPLED = 64
"""Patches compared with their checksum each time an entry is opened: 2 MB, spread evenly."""


@dataclass(frozen=True)
class Entry:
    """What ``about.json`` says of the pixels beside it."""

    version: int
    sources: str
    count: int
    offset: int
    checksum: int
    size: int = PCAM.size
    """Side of the patches in pixels. Entries of older versions do not say it: all of them are PatchCamelyon's size."""


def cache_folder(given: Path | None = None) -> Path:
    """Where patches are unpacked: as given, else ``SENTINODE_CACHE``, else the user's cache folder."""
    if given is not None:
        return given
    named = os.environ.get("SENTINODE_CACHE")
    return Path(named) if named else user_cache_path("sentinode")


def unpacked(pixels: Pixels, name: str, folder: Path, *, show: bool = True) -> MappedImages:
    """The patches at random access: where they lie if that serves, else unpacked into the cache.

    An entry is made again if the files behind it have changed, or if it is truncated or damaged itself. Of
    two processes that need the same entry, one unpacks and the other waits.

    Args:
        pixels: where the patches lie.
        name: what the progress bar calls them.
        folder: the cache, see :func:`cache_folder`.
        show: whether to draw the bar.

    Raises:
        DataError: some patches cannot be read; nothing is kept.
        OutputError: the cache cannot be written, or its disk has too little room.
    """
    if (images := pixels.mapped()) is not None:
        return images
    entry = folder / "patches" / _entry_name(pixels.files, name)
    sources = fingerprint(pixels.files)
    if (images := _kept(entry, sources, len(pixels), pixels.size)) is not None:
        return images
    make_folder(entry)
    # Whoever loses a lease to another process has written the same bytes.
    with output_errors(entry / "pixels.bin"), lock(entry, UNPACKING):
        if (images := _kept(entry, sources, len(pixels), pixels.size)) is not None:
            return images
        _remove_leftovers(entry)
        _check_room(entry, len(pixels) * 3 * pixels.size**2)
        with (
            bar(f"unpacking {name}", len(pixels), show=show) as shown,
            whole_file(entry / "pixels.bin") as staged,
        ):
            offset = pixels.unpack(staged, shown)
            images = MappedImages(staged, offset, len(pixels), pixels.size)
            checksum = _checksum(images)
        images = MappedImages(entry / "pixels.bin", offset, len(pixels), pixels.size)
        about = Entry(VERSION, sources, len(pixels), offset, checksum, pixels.size)
        write_text(entry / "about.json", json.dumps(asdict(about), indent=1) + "\n")
    return images


def fingerprint(files: Sequence[Path]) -> str:
    """SHA-256 of the names, sizes and times of change of some files."""
    digest = hashlib.sha256()
    try:
        for path in files:
            stat = path.stat()
            digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    except FileNotFoundError as error:
        raise DataError("this file is gone.", where=error.filename) from error
    return digest.hexdigest()


def _entry_name(files: Sequence[Path], name: str) -> str:
    place = hashlib.sha256(f"{files[0].absolute().parent}\0{files[0].name}\0{name}".encode()).hexdigest()[:16]
    return f"{re.sub('[^A-Za-z0-9]+', '-', name).strip('-')}-{place}"


def _kept(entry: Path, sources: str, count: int, size: int) -> MappedImages | None:
    """The entry's patches, or None where it is missing, stale, truncated or damaged."""
    try:
        about = Entry(**json.loads((entry / "about.json").read_text(encoding="utf-8")))
        if (about.version, about.sources, about.count, about.size) != (VERSION, sources, count, size):
            return None
        images = MappedImages(entry / "pixels.bin", about.offset, count, size)
        whole = (entry / "pixels.bin").stat().st_size >= about.offset + count * 3 * size**2
    except (OSError, ValueError, TypeError):
        return None
    if not whole or _checksum(images) != about.checksum:
        console.print(f"The cache in {entry} is damaged. Sentinode makes it again.", markup=False)
        return None
    return images


def _checksum(images: MappedImages) -> int:
    rows = np.unique(np.linspace(0, len(images) - 1, SAMPLED).astype(np.int64))
    return zlib.crc32(MappedImages(images.path, images.offset, images.count, images.size)[rows].tobytes())


def _remove_leftovers(entry: Path) -> None:
    """Remove what a killed process left half-written; the lock says that nobody is writing it."""
    for left in entry.glob(".pixels.*"):
        with contextlib.suppress(OSError):
            left.unlink()


def _check_room(entry: Path, needed: int) -> None:
    free = shutil.disk_usage(entry).free
    if free < needed:
        raise OutputError(
            f"unpacking the patches needs {needed / 1e9:.2f} GB, and this disk has {free / 1e9:.2f} GB free.",
            where=entry,
            hint="Free some space, or name a folder on another disk in the environment variable SENTINODE_CACHE.",
        )
