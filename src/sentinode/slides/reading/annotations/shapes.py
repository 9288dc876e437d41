"""Drawings made into valid areas, all of a file at once: its rings are built and checked in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from sentinode.slides.reading.annotations.crossings import require_few
from sentinode.slides.reading.annotations.drawing import Drawing, Malformed, Ring

Geometries = NDArray[np.object_]

FARTHEST = 1e9
"""Pixels from a slide's corner that no slide reaches."""


@dataclass(frozen=True)
class Areas:
    """The areas of N drawings.

    Attributes:
        shapes: N of them, each valid and without empty parts, or None where a drawing has no area.
        repaired: why the outlines of a drawing were repaired, by its number.
    """

    shapes: list[MultiPolygon | None]
    repaired: dict[int, str]

    def split(self, at: int) -> tuple[Areas, Areas]:
        """Those of the first ``at`` drawings, and those of the others."""
        early = {number: why for number, why in self.repaired.items() if number < at}
        late = {number - at: why for number, why in self.repaired.items() if number >= at}
        return Areas(self.shapes[:at], early), Areas(self.shapes[at:], late)


def areas_of(drawings: Sequence[Drawing], scale: float = 1.0) -> Areas:
    """The area of each drawing.

    An outline that crosses itself is repaired so that overlapping loops stay filled. Holes are cut out of their own
    polygon together, wherever they lie, so that no hole adds area. Polygons of one drawing are united.

    Args:
        drawings: N of them.
        scale: what coordinates are multiplied by.

    Raises:
        Malformed: a coordinate is not a number, or beyond any slide; there are too many corners, or outlines that
            cross themselves or each other countless times (:class:`TooMuch`).
    """
    drawn, drawn_by = _polygons(drawings, scale)
    polygons, owner, repaired = _repaired(drawn, drawn_by)
    owners, place = np.unique(owner, return_inverse=True)
    united = np.asarray(shapely.multipolygons(polygons, indices=place), np.object_)
    for i in np.flatnonzero(~shapely.is_valid(united)):
        united[i] = union(shapely.get_parts(united[i]))
        repaired.setdefault(int(owners[i]), "its parts overlap")
    shapes = dict(zip(owners.tolist(), united.tolist(), strict=True))
    return Areas([shapes.get(number) for number in range(len(drawings))], repaired)


def union(geometries: Sequence[shapely.Geometry] | Geometries) -> MultiPolygon:
    """All areas together. Most regions of a large file touch none of the others, and take no time."""
    return multipolygon(cast(shapely.Geometry, shapely.disjoint_subset_union_all(geometries)))


def multipolygon(geometry: shapely.Geometry) -> MultiPolygon:
    """Only what has an area."""
    parts = shapely.get_parts(shapely.get_parts([geometry]))
    return MultiPolygon([part for part in parts if isinstance(part, Polygon) and part.area > 0])


def _polygons(drawings: Sequence[Drawing], scale: float) -> tuple[Geometries, NDArray[np.int64]]:
    """Every polygon whose outline has three corners, as it was drawn, and the number of the drawing that it is of."""
    rings: list[Ring] = []
    of_polygon: list[int] = []
    owner: list[int] = []
    for number, drawing in enumerate(drawings):
        for outline, *holes in filter(None, drawing.polygons):
            if _corners(outline) < 3:
                continue
            kept = [outline, *(hole for hole in holes if _corners(hole) >= 3)]
            rings += kept
            of_polygon += [len(owner)] * len(kept)
            owner.append(number)
    if not rings:
        return np.empty(0, np.object_), np.empty(0, np.int64)
    points = np.concatenate(rings) * scale
    of_ring = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    odd = ~(np.abs(points) < FARTHEST).all(axis=1)
    if odd.any():
        name = drawings[owner[of_polygon[of_ring[odd.argmax()]]]].name
        why = "beyond any slide" if np.isfinite(points[odd.argmax()]).all() else "not a number"
        raise Malformed(f"region '{name}' has a coordinate that is {why}.")
    lines = np.asarray(shapely.linearrings(points, indices=of_ring), np.object_)
    require_few(drawings, lines, np.array(owner, np.int64)[of_polygon])
    polygons = np.asarray(shapely.polygons(lines, indices=np.array(of_polygon)), np.object_)
    return polygons, np.array(owner, np.int64)


def _corners(ring: Ring) -> int:
    """How many corners a ring has; the last point may repeat the first."""
    return len(ring) - (len(ring) > 1 and bool((ring[0] == ring[-1]).all()))


def _repaired(polygons: Geometries, owner: NDArray[np.int64]) -> tuple[Geometries, NDArray[np.int64], dict[int, str]]:
    """Valid polygons with an area, in the order of their owners, and why some had to be repaired."""
    invalid = np.flatnonzero(~shapely.is_valid(polygons))
    reasons = shapely.is_valid_reason(polygons[invalid])
    mended = polygons.copy()
    mended[invalid] = _mended(polygons[invalid])
    parts, of_part = shapely.get_parts(mended, return_index=True)  # of collections
    parts, of_piece = shapely.get_parts(parts, return_index=True)  # of the multipolygons in them
    of_part = owner[of_part[of_piece]]
    kept = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)
    why: dict[int, str] = {}
    for i, reason in zip(invalid.tolist(), reasons, strict=True):
        why.setdefault(int(owner[i]), str(reason).split("[")[0].strip().lower())
    return parts[kept], of_part[kept], why


def _mended(polygons: Geometries) -> Geometries:
    """Valid areas of polygons whose rings cross themselves or each other, or whose holes lie outside."""
    outlines = _valid(shapely.get_exterior_ring(polygons))
    count = shapely.get_num_interior_rings(polygons)
    for i in np.flatnonzero(count):
        holes = shapely.get_interior_ring(polygons[i], range(count[i]))
        outlines[i] = shapely.difference(outlines[i], shapely.union_all(_valid(holes)))
    return outlines


def _valid(rings: Geometries) -> Geometries:
    """The areas that rings enclose, valid, so that overlapping loops stay filled."""
    polygons = np.asarray(shapely.polygons(rings), np.object_)
    return np.asarray(shapely.make_valid(polygons, method="structure", keep_collapsed=False), np.object_)
