"""Slides in folders: which files are slides, and what each is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sentinode.errors import SlideError
from sentinode.slides.reading.slide import SLIDE_SUFFIXES, fingerprint

OWN_FILES = ("probability.ome.tif", "probability.dcm")
"""What Sentinode itself writes under a slide's ending."""


def find_slides(paths: Iterable[str | Path], *, exclude: Path | None = None) -> list[Path]:
    """The slides among files and in folders, each once, sorted; of a DICOM series the first instance.

    Raises:
        SlideError: a path is missing, or there is no slide at all.
    """
    found: set[Path] = set()
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if _is_slide(file, exclude))
            found.update(_one_per_series(inside))
        elif path.is_file():
            found.add(path)
        else:
            raise SlideError("there is no such slide or folder.", where=path, hint="Check the path.")
    if not found:
        endings = " ".join(sorted(SLIDE_SUFFIXES))
        raise SlideError("no slide was found.", hint=f"In folders, slides are known by these endings: {endings}.")
    return sorted(found)


def _is_slide(file: Path, exclude: Path | None) -> bool:
    """Whether a file in a folder looks like a slide that is not our own output."""
    if file.suffix.lower() not in SLIDE_SUFFIXES or file.name in OWN_FILES:
        return False
    return exclude is None or not file.parent.resolve().is_relative_to(exclude.resolve())


def _one_per_series(files: Sequence[Path]) -> Iterator[Path]:
    """The files, with one instance for each series of DICOM, since OpenSlide finds the others itself."""
    seen: set[str] = set()
    for file in files:
        series = _series(file) if file.suffix.lower() == ".dcm" else None
        if series is None or series not in seen:
            yield file
        if series is not None:
            seen.add(series)


def _series(file: Path) -> str | None:
    import pydicom

    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        return f"{file.parent}/{header.SeriesInstanceUID}"
    # Whatever ails the file, the scan will say it, with the file's name.
    except Exception:
        return None


def name_slides(slides: Sequence[Path]) -> dict[str, Path]:
    """A folder's name for each slide: its stem; where several share one, with the start of their
    fingerprints.

    The names depend on the slides alone, so every process finds the same ones. A copy of a slide is that
    slide.
    """
    stems = Counter(slide.stem.lower() for slide in slides)
    names = {}
    for slide in slides:
        alone = stems[slide.stem.lower()] == 1
        names[slide.stem if alone else f"{slide.stem}-{fingerprint(slide)[:8]}"] = slide
    return names
