"""From a file of annotations to the regions that count."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import shapely

from sentinode.errors import AnnotationError
from sentinode.slides.reading.annotations.drawing import Contents, Drawing, Malformed, listed, sentence
from sentinode.slides.reading.annotations.meaning import (
    EXCLUDED,
    EXCLUDED_CLASSES,
    IGNORED,
    TUMOUR,
    TUMOUR_CLASSES,
    Meanings,
    counted,
)
from sentinode.slides.reading.annotations.opening import open_contents
from sentinode.slides.reading.annotations.regions import Annotations, Region
from sentinode.slides.reading.annotations.shapes import Areas, areas_of

LEFT_OUT = ("was left out", "were left out")
REPAIRED = ("was repaired", "were repaired")


class ReadingOptions(TypedDict, total=False):
    """Keywords of :func:`read_annotations` that the functions which read many files pass on."""

    scale: float
    tumour_classes: Collection[str]
    excluded_classes: Collection[str]
    ignored_classes: Collection[str]


def read_annotations(
    path: Path,
    *,
    scale: float = 1.0,
    tumour_classes: Collection[str] = TUMOUR_CLASSES,
    excluded_classes: Collection[str] = EXCLUDED_CLASSES,
    ignored_classes: Collection[str] = (),
    whole_slide_coordinates: bool = False,
) -> Annotations:
    """Read the annotations of a slide.

    A region counts by the first of its names that is known: its ASAP group and the groups around it, or its QuPath
    class and those that it derives from. A polygon that crosses itself is repaired (overlapping loops stay filled),
    a region of no area is left out, and regions of unknown classes are ignored; ``warnings`` says so.

    Args:
        path: an ASAP ``.xml``, a QuPath ``.geojson`` or an NCRF ``.json``.
        scale: factor from the file's coordinates to the slide's level-0 pixels.
        tumour_classes: the classes that mean tumour; overrides the usual names. Case does not matter.
        excluded_classes: the classes that are cut out of the tumour; overrides the usual names.
        ignored_classes: the classes to ignore, such as an outline of the tissue.
        whole_slide_coordinates: GeoJSON counts from the slide's corner, and not from that of its bounds.

    Returns:
        The regions that count; none of tumour where the file says that the slide is free of it: a file without a
        region, or with exclusions and ignored classes alone.

    Raises:
        AnnotationError: the file is missing, malformed or of another format, or it has regions and yet none from
            which tumour, or its absence, is known.
    """
    path = Path(path)
    if not (math.isfinite(scale) and scale > 0):
        raise AnnotationError(f"a scale of {scale:g} is not possible.", hint="Give a positive number, such as 0.03125.")
    meanings = Meanings(tumour_classes, excluded_classes, ignored_classes)
    contents = open_contents(path)
    _require_annotations(path, contents)
    by_meaning = defaultdict[str | None, list[Drawing]](list)
    for drawing in contents.drawings:
        found = meanings.of(drawing.classes)
        by_meaning[found and found[0]].append(drawing)
    try:
        both = areas_of([*by_meaning[TUMOUR], *by_meaning[EXCLUDED]], scale)
    except Malformed as error:
        raise AnnotationError(str(error), where=path, hint=error.hint) from error
    areas = dict(zip((TUMOUR, EXCLUDED), both.split(len(by_meaning[TUMOUR])), strict=True))
    tumour, excluded = (tuple(_regions(by_meaning[m], areas[m])) for m in (TUMOUR, EXCLUDED))
    _require_meaning(path, by_meaning, tumour, excluded)
    annotations = Annotations(
        path,
        tumour,
        excluded,
        tuple(_warnings(contents, meanings, by_meaning, areas)),
        cropped=contents.cropped and (contents.bounds is not None or not whole_slide_coordinates),
        bounds=contents.bounds,
    )
    _require_an_area(annotations)
    return annotations


def _regions(drawings: Sequence[Drawing], areas: Areas) -> Iterator[Region]:
    for drawing, shape in zip(drawings, areas.shapes, strict=True):
        if shape is not None:
            yield Region(drawing.name, drawing.classes[0], shape)


def _require_annotations(path: Path, contents: Contents) -> None:
    """A file of cells or tiles alone says nothing of the slide's tumour."""
    if contents.ignored and not contents.drawings:
        raise AnnotationError(
            f"holds no annotation, only objects that a program made and that do not count: "
            f"{counted(contents.ignored.items())}.",
            where=path,
            hint="In QuPath, select the annotations and export the selected objects.",
        )


def _require_meaning(
    path: Path,
    by_meaning: dict[str | None, list[Drawing]],
    tumour: Sequence[Region],
    excluded: Sequence[Region],
) -> None:
    """No tumour may only mean 'free of tumour' where all that was drawn is known not to be tumour."""
    if tumour:
        return
    total = sum(map(len, by_meaning.values()))
    if unknown := by_meaning[None]:
        classes = counted(Counter(drawing.classes[0] for drawing in unknown).items())
        what = "tumour or an exclusion" if len(unknown) == total else "tumour, and some have one that is not known"
        raise AnnotationError(
            f"none of the {total} regions has a class that means {what}: {classes}.",
            where=path,
            hint=f'Name the tumour class, such as --tumour-class "{unknown[0].classes[0]}", and the classes '
            "to ignore with --ignored-class.",
        )
    lost = by_meaning[TUMOUR] or ([] if excluded else by_meaning[EXCLUDED])
    if lost:
        raise AnnotationError(
            f"nothing with an area was left of its {len(lost)} regions ({listed([one.name for one in lost])}): points, "
            "lines and empty outlines have none.",
            where=path,
            hint="Draw the tumour as areas. For a slide without tumour, save the file without any region.",
        )


def _require_an_area(annotations: Annotations) -> None:
    if annotations.tumour and annotations.excluded and annotations.area.is_empty:
        raise AnnotationError(
            "nothing with an area was left: the exclusions cover all of the tumour.",
            where=annotations.path,
            hint="Delete the tumour's regions if the slide has none.",
        )
    shapes = [region.shape for region in (*annotations.tumour, *annotations.excluded)]
    if shapes and (abs(shapely.total_bounds(shapes)) <= 1).all():
        raise AnnotationError(
            "all its regions lie within one pixel: its coordinates are fractions of a picture, not pixels.",
            where=annotations.path,
            hint="Export it in level-0 pixels, or give their --scale.",
        )


def _warnings(
    contents: Contents,
    meanings: Meanings,
    by_meaning: dict[str | None, list[Drawing]],
    areas: dict[str, Areas],
) -> Iterator[str]:
    """What was left out, repaired, ignored and taken over from groups around, one sentence each."""
    without_area, repaired = defaultdict[tuple[str, str], list[str]](list), defaultdict[str, list[str]](list)
    for meaning, of_meaning in areas.items():
        for number, (drawing, shape) in enumerate(zip(by_meaning[meaning], of_meaning.shapes, strict=True)):
            if shape is None:
                without_area[drawing.fault].append(drawing.name)
            elif number in of_meaning.repaired:
                repaired[of_meaning.repaired[number]].append(drawing.name)
    for fault, names in without_area.items():
        yield sentence(names, fault, LEFT_OUT)
    for why, names in repaired.items():
        yield sentence(names, (f"is not a simple polygon ({why})", f"are not simple polygons ({why})"), REPAIRED)
    yield from contents.notes
    if unknown := Counter(drawing.classes[0] for drawing in by_meaning[None]):
        yield f"regions of other classes were ignored: {counted(unknown.items())}."
    if named := Counter(drawing.classes[0] for drawing in by_meaning[IGNORED]):
        yield f"regions of classes that do not mean tumour were ignored: {counted(named.items())}."
    if contents.ignored:
        yield f"objects that are not annotations were ignored: {counted(contents.ignored.items())}."
    yield from _inherited(contents.drawings, meanings)


def _inherited(drawings: Sequence[Drawing], meanings: Meanings) -> Iterator[str]:
    """Which ASAP groups counted as the group around them; a QuPath class shows its base in its name."""
    taken = Counter[tuple[str, str]]()
    for drawing in drawings:
        found = meanings.of(drawing.classes)
        if found and found[1] != drawing.classes[0] and not drawing.classes[0].startswith(f"{found[1]}:"):
            taken[drawing.classes[0], found[1]] += 1
    for (group, outer), count in sorted(taken.items()):
        yield f"the group '{group}' ({count}) lies in '{outer}' and counted as part of it."
