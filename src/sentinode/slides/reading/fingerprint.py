"""What a slide is, wherever it lies and whatever it is called: a digest of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from sentinode.errors import SlideError
from sentinode.slides.reading.dicom_series import slide_files

PIECE, PIECES, LEAST = 1 << 16, 64, 4
"""Bytes of a piece, pieces of a slide, and pieces of each file of a slide in many files."""


def fingerprint(path: Path) -> str:
    """SHA-256 over a slide's size and 64 pieces of 64 KiB spread evenly: the same wherever it lies.

    A file of up to 4 MiB is read whole. A change of a few bytes in a larger one can go unseen; another picture does
    not. Where the named file is a part of the slide, the other parts count too, with at least four pieces each: the
    folder beside an MRXS, the files that a VMS or VMU lists, and the instances of a DICOM series.

    Raises:
        SlideError: a file is missing or cannot be read.
    """
    try:
        files = _files(path)
        pieces = max(LEAST, -(-PIECES // len(files)))
        digests = [_digest(file, pieces) for file in files]
    except OSError as error:
        raise SlideError(
            f"the slide cannot be read ({error.strerror or error}).",
            where=path,
            hint="Check that it is there, and that you may read it.",
        ) from error
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a slide, with all of its files; 0 where it cannot be read, which the scan will say."""
    try:
        return sum(file.stat().st_size for file in _files(path))
    except (OSError, SlideError):
        return 0


def _digest(file: Path, pieces: int) -> str:
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as opened:
        for i in range(pieces):
            opened.seek(max(size - PIECE, 0) * i // (pieces - 1))
            digest.update(opened.read(PIECE))
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """The files that a slide consists of, in an order that does not depend on where they lie."""
    ending = path.suffix.lower()
    if ending == ".mrxs":
        folder = path.with_suffix("")
        parts = (file for file in folder.glob("*") if file.suffix.lower() == ".dat" or file.name == "Slidedat.ini")
        return [path, *sorted(parts)]
    if ending in (".vms", ".vmu"):
        return [path, *_listed(path)]
    return slide_files(path)


def _listed(path: Path) -> Iterator[Path]:
    """The files beside a Hamamatsu VMS or VMU that it names, as ``ImageFile=slide-level1.jpg``."""
    for line in path.read_text(encoding="latin-1").splitlines():
        name = line.partition("=")[2].strip()
        if name and Path(name).name == name and (path.parent / name).is_file():
            yield path.parent / name
