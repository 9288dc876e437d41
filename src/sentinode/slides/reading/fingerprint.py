"""What a slide is, wherever it lies and whatever it is called: a digest of its content."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from sentinode.errors import SlideError

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
    return _instances(path) or [path]


def _listed(path: Path) -> Iterator[Path]:
    """The files beside a Hamamatsu VMS or VMU that it names, as ``ImageFile=slide-level1.jpg``."""
    for line in path.read_text(encoding="latin-1").splitlines():
        name = line.partition("=")[2].strip()
        if name and Path(name).name == name and (path.parent / name).is_file():
            yield path.parent / name


def _instances(path: Path) -> list[Path]:
    """The files of the series that a DICOM file belongs to, by their identifiers; none for any other file."""
    series, _ = _identity(path)
    if not series:
        return []
    found = []
    for file in path.parent.iterdir():
        # What cannot be read may be anything, and the slide can be read without it or says so itself.
        with contextlib.suppress(OSError):
            if file.name == path.name or (_may_be_dicom(file) and file.is_file()):
                of_series, instance = _identity(file)
                if of_series == series:
                    found.append((instance, file))
    return [file for _, file in sorted(found)]


def _may_be_dicom(file: Path) -> bool:
    """By its ending: it has none, or what stands after the last dot of an identifier, or ``.dcm``."""
    return file.suffix.lower() == ".dcm" or not file.suffix[1:].isalpha()


def _identity(file: Path) -> tuple[str, str]:
    """A DICOM file's series and instance; empty for any other file, and where it states none."""
    about = file.stat()
    return _read_identity(file, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _read_identity(file: Path, size: int, changed: int) -> tuple[str, str]:
    """The same, read once as long as the file stays as it is."""
    with file.open("rb") as opened:
        if opened.read(132)[128:] != b"DICM":
            return "", ""
    import pydicom

    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "SOPInstanceUID"])
        return str(header.SeriesInstanceUID), str(header.get("SOPInstanceUID", ""))
    # Whatever ails the header, the scan will say it, with the file's name.
    except Exception:
        return "", ""
