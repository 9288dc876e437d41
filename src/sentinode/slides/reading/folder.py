"""Slides in folders: which files are slides, and what each is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sentinode.errors import SlideError
from sentinode.progress import console
from sentinode.slides.reading.dicom_series import (
    Instance,
    is_dicom,
    levels_of_slide,
    read_instance,
    slide_file,
    tissue_instances,
)
from sentinode.slides.reading.slide import SLIDE_SUFFIXES, fingerprint

OWN_FILES = ("probability.ome.tif", "probability.dcm")
"""What Sentinode itself writes under a slide's ending."""


def find_slides(paths: Iterable[str | Path], *, exclude: Path | None = None) -> list[Path]:
    """The slides among files and in folders, each once, sorted; of a DICOM series the finest instance.

    Raises:
        SlideError: a path is missing, or there is no slide at all.
    """
    found: set[Path] = set()
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if _is_slide(file, exclude))
            found.update(_one_per_series(inside))
        elif path.is_file():
            found.add(slide_file(path))
        else:
            raise SlideError("there is no such slide or folder.", where=path, hint="Check the path.")
    if not found:
        endings = " ".join(sorted(SLIDE_SUFFIXES))
        raise SlideError("no slide was found.", hint=f"In folders, slides are known by these endings: {endings}.")
    return sorted(found)


def _is_slide(file: Path, exclude: Path | None) -> bool:
    """Whether a file in a folder looks like a slide that is not our own output."""
    if file.name in OWN_FILES or not (file.suffix.lower() in SLIDE_SUFFIXES or _is_dicom_without_ending(file)):
        return False
    return exclude is None or not file.parent.resolve().is_relative_to(exclude.resolve())


def _is_dicom_without_ending(file: Path) -> bool:
    """Whether a file is DICOM by its content. Archives name files by numbers and UIDs, without ``.dcm``."""
    ending = file.suffix.lower()
    if not (ending in ("", ".dicom") or ending[1:].isdigit()):
        return False
    try:
        return file.is_file() and is_dicom(file)
    except OSError:
        return False


def _one_per_series(files: Sequence[Path]) -> Iterator[Path]:
    """The files, with one for each slide of DICOM: the finest instance. Other DICOM files are named as left out."""
    series: dict[tuple[Path, str], list[Instance]] = {}
    others: Counter[tuple[Path, str]] = Counter()
    for file in files:
        instance = read_instance(file)
        if instance is None:
            yield file  # no DICOM; or damaged, which the scan will say
        elif instance.is_whole_slide:
            series.setdefault((file.parent, instance.series or str(file)), []).append(instance)
        else:
            others[file.parent, instance.what] += 1
    for instances in series.values():
        yield from _slides_of(instances)
    for (folder, what), count in others.items():
        console.print(
            f"{folder}: left out, for they are no slides: DICOM files of the kind '{what}' ({count}).", markup=False
        )


def _slides_of(series: Sequence[Instance]) -> Iterator[Path]:
    """The finest instance of each slide of a series; none where it shows no tissue, which is said."""
    volumes = tissue_instances(series)
    for one in volumes:
        try:
            yield levels_of_slide(one, series)[0][0].path
        except SlideError:
            yield max(volumes, key=lambda volume: volume.width).path  # the scan will say what is wrong with it
    if not volumes:
        kinds = ", ".join(sorted({one.kind for one in series}))
        console.print(f"{series[0].path}: left out, for its series shows no tissue, only {kinds}.", markup=False)


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
