"""Lesions for other programs: GeoJSON that QuPath imports, and a table."""

from __future__ import annotations

import csv
import io
import json
import math
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shapely.affinity import translate
from shapely.geometry import MultiPolygon

from sentinode.atomic import whole_file, write_text
from sentinode.slides.results.lesions import ITC, MACRO, MICRO, Lesion, Lesions
from sentinode.slides.scanning.probability_map import SlideRecord

Frame = dict[str, Any]

COLOURS = {MACRO: [213, 94, 0], MICRO: [230, 159, 0], ITC: [86, 180, 233]}
"""Of the classes in QuPath: from the palette of Okabe and Ito, which all eyes tell apart."""

COLUMNS = (
    "lesion",
    "score",
    "category",
    "diameter_um",
    "area_mm2",
    "max_probability",
    "mean_probability",
    "centroid_x",
    "centroid_y",
    "windows",
)


def write_geojson(path: Path, lesions: Lesions, *, whole_slide_coordinates: bool = False) -> None:
    """Write a FeatureCollection with one annotation for each lesion, in level-0 pixels.

    Coordinates count from the corner of the slide's bounds, where it states any: QuPath crops the slide to them. The
    member ``sentinode`` says from where they count. The class is the lesion's category and the measurements are those
    of the table. Lesions are written one by one, so memory does not grow with their number; identifiers derive from
    slide, bundle and lesion.

    Args:
        path: the file.
        lesions: the lesions.
        whole_slide_coordinates: count from the slide's own corner, for programs that do not crop.

    Raises:
        OutputError: the file cannot be written.
    """
    frame = frame_of(lesions.probability_map.slide, whole_slide_coordinates=whole_slide_coordinates)
    with whole_file(path) as staged, staged.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"type": "FeatureCollection", "sentinode": {json.dumps(frame)}, "features": [')
        for i, feature in enumerate(_features(lesions, frame)):
            file.write((",\n" if i else "\n") + json.dumps(feature, allow_nan=False))
        file.write("\n]}\n")


def frame_of(slide: SlideRecord, *, whole_slide_coordinates: bool = False) -> Frame:
    """From where coordinates on a slide count.

    Returns:
        ``coordinates``: ``bounds``, from the corner of the slide's bounds, or ``slide``, from its own; and with the
        former ``bounds``: left, top, width and height in level-0 pixels.
    """
    if slide.bounds is None or whole_slide_coordinates:
        return {"coordinates": "slide"}
    return {"coordinates": "bounds", "bounds": list(slide.bounds)}


def write_table(path: Path, lesions: Lesions) -> None:
    """Write a CSV with a line for each lesion, the highest score first.

    The centroid is in level-0 pixels from the slide's own corner.

    Raises:
        OutputError: the file cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for lesion in lesions:
        table.writerow(
            [
                lesion.number,
                f"{lesion.score:.6f}",
                lesion.category,
                f"{lesion.diameter_um:.1f}",
                f"{lesion.area_mm2:.6f}",
                f"{lesion.max_probability:.6f}",
                f"{lesion.mean_probability:.6f}",
                f"{lesion.centroid[0]:.1f}",
                f"{lesion.centroid[1]:.1f}",
                lesion.windows,
            ]
        )
    write_text(path, text.getvalue())


def _features(lesions: Lesions, frame: Frame) -> Iterator[dict[str, Any]]:
    left, top = frame.get("bounds", (0, 0))[:2]
    source = f"sentinode/{lesions.probability_map.slide.fingerprint}/{lesions.probability_map.bundle}"
    for lesion, outline in lesions.outlines():
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{source}/{lesion.number}/{outline.wkt}")),
            "geometry": _geometry(translate(outline, -left, -top)),
            "properties": {
                "objectType": "annotation",
                "name": f"Lesion {lesion.number}",
                "classification": {"name": lesion.category.capitalize(), "color": COLOURS[lesion.category]},
                "isLocked": True,
                "measurements": _measurements(lesion),
            },
        }


def _measurements(lesion: Lesion) -> dict[str, float]:
    return {
        "P(lesion)": round(lesion.score, 6),
        "Longest diameter (um)": round(lesion.diameter_um, 1),
        "Area (mm2)": round(lesion.area_mm2, 6),
        "Maximum P(tumour)": round(lesion.max_probability, 6),
        "Mean P(tumour)": round(lesion.mean_probability, 6),
        "Windows": lesion.windows,
    }


def _geometry(outline: MultiPolygon) -> dict[str, Any]:
    polygons = [
        [[_point(*corner) for corner in ring.coords] for ring in (polygon.exterior, *polygon.interiors)]
        for polygon in outline.geoms
    ]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _point(x: float, y: float) -> list[float]:
    """Hundredths of a pixel, whole numbers as such: small files, and still without gap or overlap."""
    return [int(v) if math.isclose(v, round(v), abs_tol=1e-9) else v for v in (round(x, 2), round(y, 2))]
