"""What pathologists drew on a slide: tumour and exclusions, from ASAP, QuPath or NCRF.

Three formats are read, all in pixels of level 0 (``scale`` takes them to another level):

- ASAP's XML, as Camelyon16 and Camelyon17 are annotated: groups ``Tumor``, ``_0``, ``_1`` and ``metastases``
  are tumour, ``Exclusion``, ``_2`` and ``normal`` are cut out of it;
- QuPath's GeoJSON: the class of each annotation says what it is, interior rings are holes;
- NCRF's JSON (Li and Ping 2018): ``positive`` and ``negative`` lists of vertices.

What is tumour is the union of the tumour regions without the union of the exclusions.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon, shape

from sentinode.errors import AnnotationError

TUMOUR_CLASSES = frozenset(
    {"tumor", "tumour", "_0", "_1", "metastasis", "metastases", "positive"}
    | {"isolated tumour cells", "micrometastasis", "macrometastasis"}
)
"""Groups and classes that mean tumour, in lower case; the last three are what Sentinode itself writes."""

EXCLUDED_CLASSES = frozenset({"exclusion", "_2", "normal", "negative", "ignore*"})
"""Groups and classes that are cut out of the tumour, in lower case."""

FORMATS = (".xml", ".geojson", ".json")
"""File endings that are read."""

BAND = 1024
"""Rows of a raster that are held in memory at once."""


@dataclass(frozen=True)
class Region:
    """One region as it was drawn.

    Attributes:
        name: what its author called it.
        group: its ASAP group, QuPath class or NCRF list.
        shape: its valid geometry in level-0 pixels.
    """

    name: str
    group: str
    shape: Polygon | MultiPolygon


@dataclass(frozen=True)
class Annotations:
    """The annotated regions of one slide.

    Attributes:
        path: the file that they were read from.
        tumour: regions of tumour; none for a slide that was looked at and found free of it.
        excluded: regions that are not tumour although they lie within one.
        warnings: what was repaired or left out, one sentence each.
    """

    path: Path
    tumour: tuple[Region, ...]
    excluded: tuple[Region, ...] = ()
    warnings: tuple[str, ...] = ()

    @cached_property
    def area(self) -> MultiPolygon:
        """What is tumour: all tumour regions together, without the exclusions; valid, in level-0 pixels."""
        tumour = shapely.union_all([region.shape for region in self.tumour])
        excluded = shapely.union_all([region.shape for region in self.excluded])
        return _polygons(shapely.difference(tumour, excluded))

    def on(self, width: int, height: int) -> Annotations:
        """The same annotations, checked against the slide that they should belong to.

        Args:
            width, height: the slide's size in level-0 pixels.

        Raises:
            AnnotationError: a region lies wholly outside the slide.
        """
        slide = shapely.box(0, 0, width, height)
        regions = self.tumour + self.excluded
        outside = [region.name for region in regions if not region.shape.intersects(slide)]
        if outside:
            raise AnnotationError(
                f"{_lie(outside)} outside the slide of {width} x {height} pixels.",
                where=self.path,
                hint="Another slide's, or another level's of this one? Their scale can be given, such as "
                "--scale 0.03125 for level-0 coordinates on an image of level 5.",
            )
        across = [region.name for region in regions if not slide.contains(region.shape)]
        if not across:
            return self
        said = f"{_lie(across)} across the slide's border; what is beyond it does not count."
        return replace(self, warnings=(*self.warnings, said))

    def mask(self, width: int, height: int, downsample: float = 1.0) -> NDArray[np.uint8]:
        """The whole slide as an image of tumour.

        Args:
            width, height: the slide's size in level-0 pixels.
            downsample: level-0 pixels per pixel of the mask, such as 8.

        Returns:
            uint8 (rows, columns), 1 where the pixel's centre lies in tumour. :meth:`bands` yields the same
            without holding it all.
        """
        return np.concatenate(list(self.bands(width, height, downsample)))

    def bands(self, width: int, height: int, downsample: float = 1.0) -> Iterator[NDArray[np.uint8]]:
        """The rows of :meth:`mask` from the top, at most 1,024 at a time."""
        rows, columns = (max(1, round(side / downsample)) for side in (height, width))
        for top in range(0, rows, BAND):
            size = (min(BAND, rows - top), columns)
            yield rasterise(self.area, size, downsample, origin=(0.0, top * downsample))


def rasterise(
    region: Polygon | MultiPolygon,
    size: tuple[int, int],
    downsample: float = 1.0,
    *,
    origin: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.uint8]:
    """Which pixels have their centre inside a region.

    Along each row the region begins and ends where its border crosses the line through the pixels' centres
    (the even-odd rule, exact for valid geometry): the work grows with the border's length, not with the area.

    Args:
        region: valid geometry in level-0 pixels.
        size: rows and columns of the raster.
        downsample: level-0 pixels per pixel of the raster.
        origin: x and y of the raster's corner in level-0 pixels.

    Returns:
        uint8 (rows, columns) of 0 and 1.
    """
    rows, columns = size
    flips = np.zeros(size, np.uint8)
    for ring in _rings(region):
        # In these coordinates the pixels' centres are the integers.
        x, y = ((ring - origin) / downsample - 0.5).T
        (x0, x1), (y0, y1) = (x[:-1], x[1:]), (y[:-1], y[1:])
        first = np.clip(np.ceil(np.minimum(y0, y1)), 0, rows).astype(np.int64)
        crossed = np.clip(np.ceil(np.maximum(y0, y1)), 0, rows).astype(np.int64) - first
        edge = np.repeat(np.arange(len(x0)), crossed)
        step = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed)
        row = first[edge] + step
        along = (row - y0[edge]) / (y1[edge] - y0[edge])
        column = np.ceil(x0[edge] + along * (x1[edge] - x0[edge]))
        inside = column < columns
        at = np.clip(column[inside], 0, None).astype(np.int64)
        np.bitwise_xor.at(flips, (row[inside], at), np.uint8(1))
    return np.bitwise_xor.accumulate(flips, axis=1)


def read_annotations(
    path: Path,
    *,
    scale: float = 1.0,
    tumour_classes: Collection[str] = TUMOUR_CLASSES,
    excluded_classes: Collection[str] = EXCLUDED_CLASSES,
) -> Annotations:
    """Read what was drawn on a slide.

    A polygon that crosses itself is repaired (overlapping loops stay filled) and a region of no area is left
    out; both are said in ``warnings``. So are regions of unknown classes, which are ignored.

    Args:
        path: an ASAP ``.xml``, a QuPath ``.geojson`` or an NCRF ``.json``.
        scale: factor from the file's coordinates to the slide's level-0 pixels.
        tumour_classes: what means tumour, without regard to case.
        excluded_classes: what is cut out of it, without regard to case.

    Raises:
        AnnotationError: the file is missing, malformed or of another format, or none of its regions has a
            known class.
    """
    path = Path(path)
    drawn = list(_read_asap(path) if path.suffix.lower() == ".xml" else _read_json(path))
    kept: dict[bool, list[Region]] = {True: [], False: []}
    warnings, unknown = [], Counter[str]()
    tumour_names, excluded_names = ({name.casefold() for name in k} for k in (tumour_classes, excluded_classes))
    for name, group, geometry in drawn:
        is_tumour = group.casefold() in tumour_names
        if not is_tumour and group.casefold() not in excluded_names:
            unknown[group or "none"] += 1
            continue
        repaired = (
            geometry if geometry.is_valid else shapely.make_valid(geometry, method="structure", keep_collapsed=False)
        )
        region = _polygons(shapely.transform(repaired, lambda points: points * scale))
        if region.is_empty:
            warnings.append(f"region '{name}' has no area and was left out.")
            continue
        if repaired is not geometry:
            why = shapely.is_valid_reason(geometry).split("[")[0].strip().lower()
            warnings.append(f"region '{name}' is not a simple polygon ({why}) and was repaired.")
        kept[is_tumour].append(Region(name, group, region))
    if unknown:
        said = ", ".join(f"'{group}' ({count})" for group, count in sorted(unknown.items()))
        if sum(unknown.values()) == len(drawn):
            raise AnnotationError(
                f"none of the {len(drawn)} regions has a class that means tumour or exclusion: {said}.",
                where=path,
                hint="Name the class of the tumour, such as --tumour-class Carcinoma.",
            )
        warnings.append(f"regions of other classes were ignored: {said}.")
    return Annotations(path, tuple(kept[True]), tuple(kept[False]), tuple(warnings))


def find_annotations(folder: Path, slide: str) -> Path | None:
    """The annotation file of a slide in a folder, or None: ``<slide>.xml``, ``.geojson`` or ``.json``.

    Raises:
        AnnotationError: there are two.
    """
    found = [folder / f"{slide}{ending}" for ending in FORMATS if (folder / f"{slide}{ending}").is_file()]
    if len(found) > 1:
        raise AnnotationError(
            f"slide '{slide}' is annotated twice: {' and '.join(path.name for path in found)}.",
            where=folder,
            hint="Keep the one that counts.",
        )
    return found[0] if found else None


def _read_asap(path: Path) -> Iterator[tuple[str, str, Polygon]]:
    try:
        root = ElementTree.fromstring(_text(path))
    except ElementTree.ParseError as error:
        raise AnnotationError(f"is not well-formed XML ({error}).", where=path, hint=_AGAIN) from error
    if root.tag != "ASAP_Annotations":
        raise AnnotationError(
            f"is XML of another kind (<{root.tag}>).",
            where=path,
            hint="ASAP writes <ASAP_Annotations>; from QuPath, export GeoJSON.",
        )
    for number, annotation in enumerate(root.iter("Annotation")):
        name = annotation.get("Name") or f"number {number}"
        try:
            points = [
                (int(float(c.attrib["Order"])), float(c.attrib["X"]), float(c.attrib["Y"]))
                for c in annotation.iter("Coordinate")
            ]
        except (KeyError, ValueError) as error:
            raise AnnotationError(
                f"region '{name}' has a broken coordinate ({error}).", where=path, hint=_AGAIN
            ) from error
        yield (
            name,
            annotation.get("PartOfGroup") or "",
            _polygon(path, name, [(x, y) for _, x, y in sorted(points)]),
        )


def _read_json(path: Path) -> Iterator[tuple[str, str, Polygon | MultiPolygon]]:
    try:
        content = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise AnnotationError(f"is not well-formed JSON ({error}).", where=path, hint=_AGAIN) from error
    try:
        if isinstance(content, dict) and content.keys() & {"positive", "negative"}:
            yield from _read_ncrf(path, content)
        elif isinstance(content, list | dict):
            yield from _read_geojson(path, content)
        else:
            raise TypeError("neither a list nor an object")
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        shapely.errors.ShapelyError,
    ) as error:
        raise AnnotationError(
            f"is neither QuPath's GeoJSON nor NCRF's JSON ({type(error).__name__}: {error}).",
            where=path,
            hint=_AGAIN,
        ) from error


def _read_ncrf(path: Path, content: dict[str, Any]) -> Iterator[tuple[str, str, Polygon]]:
    for group in ("positive", "negative"):
        for number, region in enumerate(content.get(group, [])):
            name = str(region.get("name", f"number {number}"))
            yield name, group, _polygon(path, name, [(float(x), float(y)) for x, y in region["vertices"]])


def _read_geojson(path: Path, content: Any) -> Iterator[tuple[str, str, Polygon | MultiPolygon]]:
    features = content if isinstance(content, list) else content.get("features", [content])
    for number, feature in enumerate(features):
        properties = feature.get("properties") or {}
        name = str(properties.get("name") or f"number {number}")
        geometry = feature["geometry"]
        if geometry["type"] == "Polygon":
            yield name, _qupath_class(properties), _rings_polygon(path, name, geometry["coordinates"])
        elif geometry["type"] == "MultiPolygon":
            parts = [_rings_polygon(path, name, rings) for rings in geometry["coordinates"]]
            yield name, _qupath_class(properties), MultiPolygon([part for part in parts if not part.is_empty])
        else:
            shape(geometry)  # a point or a line has no area: well-formed, and left out with a word
            yield name, _qupath_class(properties), Polygon()


def _qupath_class(properties: dict[str, Any]) -> str:
    """The base class: 'Tumor' for QuPath's derived class 'Tumor: Positive'."""
    given = properties.get("classification") or ""
    if isinstance(given, dict):
        given = given.get("name") or next(iter(given.get("names", [])), "")
    return str(given).split(":")[0].strip()


def _rings_polygon(path: Path, name: str, rings: list[Any]) -> Polygon:
    outer, *holes = ([(float(p[0]), float(p[1])) for p in ring] for ring in rings)
    solid = _polygon(path, name, outer)
    return solid if solid.is_empty else Polygon(outer, [hole for hole in holes if len(hole) >= 3])


def _polygon(path: Path, name: str, points: list[tuple[float, float]]) -> Polygon:
    if not all(math.isfinite(value) for point in points for value in point):
        raise AnnotationError(f"region '{name}' has a coordinate that is not a number.", where=path, hint=_AGAIN)
    return Polygon(points) if len(points) >= 3 else Polygon()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise AnnotationError("does not exist.", where=path, hint="Check the path.") from error
    except (UnicodeDecodeError, OSError) as error:
        raise AnnotationError(f"cannot be read as text ({error}).", where=path, hint=_AGAIN) from error


def _polygons(geometry: shapely.Geometry) -> MultiPolygon:
    """Only what has an area."""
    parts = shapely.get_parts(shapely.get_parts([geometry]))
    return MultiPolygon([part for part in parts if isinstance(part, Polygon) and part.area > 0])


def _rings(region: Polygon | MultiPolygon) -> Iterator[NDArray[np.float64]]:
    for part in shapely.get_parts(region):
        for ring in (part.exterior, *part.interiors):
            yield shapely.get_coordinates(ring)


def _lie(names: list[str]) -> str:
    some = ", ".join(f"'{name}'" for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return f"region {some} lies" if len(names) == 1 else f"{len(names)} regions ({some}) lie"


_AGAIN = "Export it again from the program that drew it."
