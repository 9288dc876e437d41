"""GeoJSON, as QuPath writes it: which objects are annotations, of which class, and which polygons they have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sentinode.slides.reading.annotations.drawing import (
    NO_AREA,
    UNCLASSIFIED,
    Bounds,
    Contents,
    Drawing,
    Malformed,
    Ring,
    printable,
    region_name,
    require_countable,
    sentence,
    unknown_type,
)

OLD_IDS = {
    "PathAnnotationObject": "annotation",
    "PathDetectionObject": "detection",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "TMACoreObject": "tmaCore",
    "PathRootObject": "root",
}
"""What QuPath 0.2 wrote as the id of an object of each type."""

NOT_DRAWN = frozenset({"detection", "cell", "tile", "tmacore", "tma_core", "root"})
"""Types of object that a program made, in lower case, where ``type`` stands for ``objectType``."""

NO_AREAS = frozenset({"Point", "MultiPoint", "LineString", "MultiLineString"})

NO_GEOJSON = "is neither QuPath's GeoJSON nor NCRF's JSON"
MIXED = ("holds other parts than areas, which do not count,", "hold other parts than areas, which do not count,")
BROKEN_RING = "has a broken coordinate (each is a list of two or three numbers)."


def read_geojson(content: Any) -> Contents:
    """The annotations of a FeatureCollection, a list of features or a single one, children of features included.

    Other objects than annotations (cells, detections, tiles) are counted and left out. Coordinates count from the
    corner of the slide's bounds, as QuPath's do, unless the file's member ``sentinode`` says otherwise.

    Raises:
        Malformed: it is no GeoJSON, or a geometry is broken.
    """
    drawings: list[Drawing] = []
    ignored, mixed = Counter[str](), list[str]()
    for number, feature in enumerate(_all_features(content)):
        properties = _properties(feature, number)
        kind = _object_type(feature, properties)
        if kind != "annotation":
            ignored[kind] += 1
            continue
        name = region_name(properties.get("name"), number)
        polygons, others = _parts(feature.get("geometry"), name)
        if polygons and others:
            mixed.append(name)
        drawings.append(Drawing(name, _classes(properties.get("classification"), name), polygons, _fault(others)))
        require_countable(len(drawings))
    notes = (sentence(mixed, MIXED, ("was kept", "were kept")),) if mixed else ()
    cropped, bounds = _frame(content)
    return Contents(drawings, ignored, notes, cropped, bounds)


def _fault(types: list[str]) -> tuple[str, str]:
    """Why a geometry of these types, which are no polygons, has no area."""
    unknown = [kind for kind in types if kind not in NO_AREAS]
    return unknown_type(unknown[0]) if unknown else NO_AREA


def ring_of(points: Any, name: str) -> Ring:
    """The corners of a ring: float64 (points, 2). A third number of a point, its height, is left out.

    Raises:
        Malformed: they are no list of pairs of numbers.
    """
    if not points:
        return np.empty((0, 2))
    try:
        ring = np.array(points)
    except ValueError:  # some points have a height and some have none
        ring = _flat(points, name)
    if ring.ndim != 2 or ring.shape[1] < 2 or ring.dtype.kind not in "iuf":
        raise Malformed(f"region '{name}' {BROKEN_RING}")
    return ring[:, :2].astype(np.float64)


def _flat(points: Any, name: str) -> Ring:
    try:
        return np.array([[point[0], point[1]] for point in points])
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise Malformed(f"region '{name}' {BROKEN_RING}") from error


def _all_features(content: Any) -> Iterator[Mapping[str, Any]]:
    """Every feature, and after each its children, as QuPath's export of a hierarchy nests them."""
    waiting = list(reversed(_features(content)))
    number = 0
    while waiting:
        feature = waiting.pop()
        _require_feature(feature, number)
        yield feature
        number += 1
        properties = feature.get("properties")
        if isinstance(properties, dict):
            children = properties.get("childObjects", properties.get("children"))
            waiting += reversed(children) if isinstance(children, list) else []


def _require_feature(feature: Any, number: int) -> None:
    if not isinstance(feature, dict):
        raise Malformed(f"{NO_GEOJSON} (entry number {number} is not an object).")
    kind = feature.get("type") or "Feature"
    if kind != "Feature":
        raise Malformed(f"{NO_GEOJSON} (entry number {number} is not a feature, but of the type '{printable(kind)}').")
    if "geometry" not in feature:
        raise Malformed(f"{NO_GEOJSON} (entry number {number} is not a feature: it has no geometry).")


def _features(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    if not isinstance(content, dict):
        raise Malformed(f"{NO_GEOJSON} (it is neither a list nor an object).")
    if content.get("type") == "Feature" or "geometry" in content:
        return [content]
    if isinstance(content.get("features"), list):
        return list(content["features"])
    if str(content.get("type")) in {*NO_AREAS, "Polygon", "MultiPolygon", "GeometryCollection"}:
        raise Malformed(f"{NO_GEOJSON} (it is a {content['type']} without a feature that tells its meaning).")
    raise Malformed(f"{NO_GEOJSON} (it has no list of features).")


def _properties(feature: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    properties = feature.get("properties") or {}
    if not isinstance(properties, dict):
        raise Malformed(f"{NO_GEOJSON} (the properties of entry number {number} are not an object).")
    return properties


def _object_type(feature: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """``annotation``, or what else an object is; what says nothing of it was drawn."""
    for key in ("objectType", "object_type"):
        if properties.get(key):
            kind = printable(properties[key])
            return "annotation" if kind.lower() == "annotation" else kind
    by_id = OLD_IDS.get(str(feature.get("id")))
    if by_id is not None:
        return by_id
    kind = printable(properties.get("type", ""))
    return kind if kind.lower() in NOT_DRAWN else "annotation"


def _classes(classification: Any, name: str) -> tuple[str, ...]:
    """A class and those it derives from: 'Tumor: Positive' is, in the end, 'Tumor'."""
    names = [part.strip() for text in _class_names(classification, name) for part in text.split(":")]
    names = [printable(part) for part in names if part]
    return tuple(": ".join(names[:n]) for n in range(len(names), 0, -1)) or (UNCLASSIFIED,)


def _class_names(classification: Any, name: str) -> list[str]:
    """The parts of a class's name, the base class first, as each version of QuPath writes it."""
    chain: list[str] = []
    while isinstance(classification, dict):
        parts = classification.get("names") or classification.get("name") or ""
        chain[:0] = parts if isinstance(parts, list) else [parts]
        classification = classification.get("parentClass")
    if classification:
        chain[:0] = classification if isinstance(classification, list) else [classification]
    if not all(isinstance(part, str) for part in chain):
        raise Malformed(f"region '{name}' has a class whose name is not text.")
    return chain


def _parts(geometry: Any, name: str) -> tuple[list[list[Ring]], list[str]]:
    """The polygons of a geometry, collections included, and the types of what else is in it."""
    polygons: list[list[Ring]] = []
    others: list[str] = []
    waiting = [geometry]
    while waiting:
        part = waiting.pop()
        if part is None:
            continue
        if not isinstance(part, dict):
            raise Malformed(f"region '{name}' has a geometry that is not an object.")
        kind = part.get("type")
        if kind == "Polygon":
            polygons.append(_rings(part.get("coordinates"), name))
        elif kind == "MultiPolygon":
            polygons += [_rings(rings, name) for rings in _list(part.get("coordinates"), name)]
        elif kind == "GeometryCollection":
            waiting += reversed(_list(part.get("geometries"), name))
        else:
            others.append(str(kind))
    return polygons, others


def _rings(coordinates: Any, name: str) -> list[Ring]:
    return [ring_of(ring, name) for ring in _list(coordinates, name)]


def _list(value: Any, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(f"region '{name}' {BROKEN_RING}")
    return value


def _frame(content: Any) -> tuple[bool, Bounds | None]:
    """Where the coordinates count from: whether from the bounds' corner, and the bounds where the file states them."""
    frame = content.get("sentinode") if isinstance(content, dict) else None
    if frame is None:
        return True, None
    coordinates, bounds = (
        (frame.get(key) for key in ("coordinates", "bounds")) if isinstance(frame, dict) else (None, None)
    )
    if coordinates not in ("bounds", "slide"):
        raise Malformed(f"counts its coordinates from '{printable(coordinates)}', which this version does not know.")
    if coordinates == "slide" or bounds is None:
        return False, None
    if not (isinstance(bounds, list) and len(bounds) == 4 and all(isinstance(side, int) for side in bounds)):
        raise Malformed("states bounds that are not four whole numbers.")
    left, top, width, height = bounds
    return True, (left, top, width, height)
