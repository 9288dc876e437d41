"""Slides in folders: which files are slides, and what each is called."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sentinode.errors import SlideError
from sentinode.names import folder_name, printable
from sentinode.progress import console
from sentinode.regular import is_special
from sentinode.slides.reading.dicom_series import (
    Instance,
    is_dicom,
    levels_of_slide,
    read_instance,
    slide_file,
    tissue_instances,
)
from sentinode.slides.reading.fingerprint import fingerprint
from sentinode.slides.reading.kinds import EXPORT, FLAT_SUFFIXES, UNREAD_SUFFIXES
from sentinode.slides.reading.slide import SLIDE_SUFFIXES

OWN_FILES = ("probability.ome.tif", "probability.dcm")
"""What Sentinode itself writes under a slide's ending."""

RESERVED = ("index.html", "manifest.json", "stages.csv")
"""What a batch's own files are called, so that no slide's folder may be."""

NAMED = 5
"""Files that a message names of those that it counts."""


def find_slides(paths: Iterable[str | Path], *, exclude: Path | None = None) -> list[Path]:
    """The slides among files and in folders, each once, sorted; of a DICOM series the finest instance.

    In folders, what begins with a dot is left out, such as the ``._slide.svs`` that macOS writes beside
    ``slide.svs``. A line says which slides are left out because their kind is not read.

    Args:
        paths: files, which are taken as they are, and folders, which are searched to the bottom.
        exclude: a folder that is not searched: the one that the results go to.

    Raises:
        SlideError: a path is missing, or there is no slide at all.
    """
    found: dict[str, Path] = {}
    passed: list[Path] = []
    for path in map(Path, paths):
        for slide in _at(path, exclude, passed):
            # One file under two spellings is one slide; a link is a slide of its own.
            found.setdefault(os.path.abspath(slide), slide)  # noqa: PTH100
    unread = [file for file in passed if file.suffix.lower() in UNREAD_SUFFIXES]
    if not found:
        raise _no_slide(unread, [file for file in passed if file.suffix.lower() in FLAT_SUFFIXES])
    if unread:
        console.print(f"Left out: {_of_unread_kinds(unread)}. {EXPORT}", markup=False)
    return sorted(found.values())


def _at(path: Path, exclude: Path | None, passed: list[Path]) -> Iterable[Path]:
    """The slides at a path; what lies in a folder and is none is added to ``passed``."""
    # Path's own methods raise where a name is too long, or a folder above may not be read.
    if os.path.isfile(path):  # noqa: PTH113
        return [slide_file(path)]
    if is_special(path):
        raise SlideError("this is a pipe or a device, not a regular file.", where=path, hint="Check the path.")
    if not os.path.isdir(path):  # noqa: PTH112
        raise SlideError("there is no such slide or folder.", where=path, hint="Check the path.")
    files = _inside(path, exclude)
    passed += [file for file in files if not _is_slide(file)]
    return _one_per_series([file for file in files if _is_slide(file)])


def _inside(folder: Path, exclude: Path | None) -> list[Path]:
    """The files in a folder and below it, sorted, with the folders that are slides of a kind that is not read."""
    skipped = None if exclude is None else exclude.resolve()
    if skipped is not None and folder.resolve().is_relative_to(skipped):
        skipped = None  # the results go to where the slides are
    files: list[Path] = []
    for at, folders, names in os.walk(folder, onerror=_say_closed):
        below = [Path(at) / name for name in folders if not name.startswith(".")]
        whole = [path for path in below if path.suffix.lower() in UNREAD_SUFFIXES]
        folders[:] = [path.name for path in below if path not in whole and path.resolve() != skipped]
        files += [*whole, *(Path(at) / name for name in names if not name.startswith("."))]
    return sorted(file for file in files if not is_special(file))


def _say_closed(error: OSError) -> None:
    where = printable(str(error.filename))
    console.print(f"Left out: {where}, a folder that cannot be read ({error.strerror}).", markup=False)


def _is_slide(file: Path) -> bool:
    """Whether a file in a folder looks like a slide that is not our own output."""
    return file.name not in OWN_FILES and (file.suffix.lower() in SLIDE_SUFFIXES or _is_dicom_without_ending(file))


def _no_slide(unread: Sequence[Path], flat: Sequence[Path]) -> SlideError:
    """What to say where no slide was found."""
    if unread:
        return SlideError(f"no slide was found, but {_of_unread_kinds(unread)}.", hint=EXPORT)
    if flat:
        hint = "A flat picture in a folder does not count as a slide. Give its path."
        return SlideError(f"no slide was found, but {_counted(flat, 'flat picture')}.", hint=hint)
    endings = " ".join(sorted(SLIDE_SUFFIXES))
    return SlideError("no slide was found.", hint=f"In folders, slides are known by these endings: {endings}.")


def _of_unread_kinds(files: Sequence[Path]) -> str:
    kinds = "of a kind" if len(files) == 1 else "of kinds"
    return _counted(files, "file", f" {kinds} that Sentinode does not read")


def _counted(files: Sequence[Path], noun: str, more: str = "") -> str:
    """Such as ``2 files of kinds that Sentinode does not read: a.czi, b.vsi``."""
    names = [printable(file.name) for file in sorted(files)[:NAMED]]
    rest = ", ..." if len(files) > NAMED else ""
    return f"{len(files)} {noun}{'' if len(files) == 1 else 's'}{more}: {', '.join(names)}{rest}"


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
            f"{folder}: left out DICOM files that are not slides, of the kind '{what}' ({count}).",
            markup=False,
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
        console.print(f"{series[0].path}: left out, because its series shows no tissue, only {kinds}.", markup=False)


def name_slides(slides: Sequence[Path]) -> dict[str, Path]:
    """A folder's name for each slide: its stem; where several share one, its stem and ending; where several share
    those too, its stem and the start of its fingerprint.

    The names depend on the slides alone, so every process finds the same ones. They differ in more than upper and
    lower case, and every disk takes them: see :func:`sentinode.names.folder_name`. A copy of a slide is that slide.
    """
    named: dict[str, tuple[str, Path]] = {}  # by what a disk that knows no upper and lower case makes of a name
    left = _without_copies(slides)
    for ending in (False, True):
        names = {slide: _named(slide, slide.suffix[1:].lower() if ending else "") for slide in left}
        count = Counter(name.casefold() for name in names.values())
        alone = {slide for slide, name in names.items() if count[name.casefold()] == 1 and name.casefold() not in named}
        named |= {names[slide].casefold(): (names[slide], slide) for slide in alone}
        left = [slide for slide in left if slide not in alone]
    for slide in left:
        digest = _content(slide)
        name = _named(slide, digest[:8])
        if name.casefold() in named:  # another stem, of which the same name was made
            name = _named(slide, hashlib.sha256(digest.encode() + os.fsencode(slide.stem)).hexdigest())
        named[name.casefold()] = name, slide
    return dict(sorted(named.values(), key=lambda each: each[1]))


def _without_copies(slides: Iterable[Path]) -> list[Path]:
    """The slides, sorted; of those that agree in stem and content the first."""
    stems = Counter(slide.stem.casefold() for slide in slides)
    first: dict[tuple[str, str], Path] = {}
    for slide in sorted(slides):
        stem = slide.stem.casefold()
        first.setdefault((stem, _content(slide) if stems[stem] > 1 else ""), slide)
    return list(first.values())


def _named(slide: Path, end: str = "") -> str:
    return folder_name(f"{slide.stem}-{end}" if end else slide.stem, own=RESERVED)


def _content(slide: Path) -> str:
    """A slide's fingerprint, or a digest of its path where it cannot be read, which the scan will say."""
    try:
        return fingerprint(slide)
    except SlideError:
        return hashlib.sha256(os.fsencode(slide)).hexdigest()
