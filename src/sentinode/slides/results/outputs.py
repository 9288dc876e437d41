"""All that is made of a finished map, in its slide's folder.

=========================  ====================================================================
``heatmap.png``            the slide with its probabilities, lesions, scale bar and legend
``small.png``              the same, small, for the batch's table
``lesions.geojson``        the lesions as QuPath imports them
``lesions.csv``            their measurements
``lesions.json``           the slide's verdict, score, category and totals, and its uncertain regions
``probability.ome.tif``    the map as a pyramid that lies over the slide
``probability.dcm``        the map as a DICOM parametric map
=========================  ====================================================================

Nothing in them is a time or a random number: the same map gives the same bytes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sentinode.atomic import write_text
from sentinode.errors import SlideError
from sentinode.model.slide_operating_point import GENERAL, SlideOperatingPoints
from sentinode.slides.reading.annotations import Annotations
from sentinode.slides.reading.slide import Slide
from sentinode.slides.results.heatmap import picture_of, write_heatmap, write_small
from sentinode.slides.results.lesion_files import Frame, frame_of, write_geojson, write_table
from sentinode.slides.results.lesions import CATEGORIES, Lesion, Lesions, find_lesions
from sentinode.slides.results.ome_tiff import write_ome_tiff
from sentinode.slides.results.parametric_map import write_parametric_map
from sentinode.slides.results.verdict import verdict_of
from sentinode.slides.scanning.probability_map import ProbabilityMap
from sentinode.slides.scanning.tissue import Tissue

HEATMAP, SMALL = "heatmap.png", "small.png"
GEOJSON, TABLE, TOTALS = "lesions.geojson", "lesions.csv", "lesions.json"
OME_TIFF, DICOM = "probability.ome.tif", "probability.dcm"
OUTPUTS = (HEATMAP, SMALL, GEOJSON, TABLE, TOTALS, OME_TIFF, DICOM)

FORMAT = 2
"""Of ``lesions.json``. In format 1 the score was the highest smoothed probability."""


@dataclass(frozen=True)
class Totals:
    """What a slide came to.

    Attributes:
        slide: the slide's file name.
        score: P(the slide is positive), or None where nothing on it can be assessed.
        category: that of its largest lesion, or ``negative``.
        verdict: ``sentence``, ``certain``, ``look_at`` (numbers of regions) and ``not_judged``.
        lesions: how many there are of each category.
        largest_um: longest diameter of the largest lesion, 0 without one.
        tumour_mm2: area of all lesions.
        scanned_mm2: area of all windows with tissue.
        unassessable: share of the tissue that cannot be judged, by the reason.
        uncertain: the regions that come near to being a lesion, the most likely first: ``number``, ``score``,
            ``category``, ``diameter_um``, ``area_mm2``, ``centroid_x`` and ``centroid_y``.
        operating_point: ``name``, and the point itself.
        prior: share of tumour among windows of tissue that the probabilities assume.
        window_um: distance of the windows.
        bundle: fingerprint of the bundle.
        engine: what computed the map.
        geojson: from where the coordinates in ``lesions.geojson`` count, as the file says it itself.
        format: of this record.
    """

    slide: str
    score: float | None
    category: str
    verdict: dict[str, Any]
    lesions: dict[str, int]
    largest_um: float
    tumour_mm2: float
    scanned_mm2: float
    unassessable: dict[str, float]
    uncertain: list[dict[str, Any]]
    operating_point: dict[str, Any]
    prior: float
    window_um: float
    bundle: str
    engine: str
    geojson: Frame = field(default_factory=lambda: {"coordinates": "slide"})
    format: int = FORMAT


def write_outputs(
    folder: Path,
    slide: Slide,
    probability_map: ProbabilityMap,
    tissue: Tissue,
    *,
    truth: Annotations | None = None,
    points: SlideOperatingPoints = GENERAL,
    whole_slide_coordinates: bool = False,
) -> None:
    """Find a map's lesions and write every file that is made of it.

    Args:
        folder: the slide's own.
        slide: the slide.
        probability_map: its map.
        tissue: its tissue.
        truth: annotations to draw over the heatmap.
        points: operating points, of which the default one is used.
        whole_slide_coordinates: whether the GeoJSON counts from the slide's corner also where it states bounds.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
        SlideError: the slide cannot be read, or its map states a prior that is no share.
    """
    lesions = find_lesions(probability_map, point=points.point)
    picture, scale = picture_of(slide, tissue)
    write_heatmap(folder / HEATMAP, picture, scale, lesions, truth)
    write_small(folder / SMALL, picture, scale, lesions)
    write_geojson(folder / GEOJSON, lesions, whole_slide_coordinates=whole_slide_coordinates)
    write_table(folder / TABLE, lesions)
    write_ome_tiff(folder / OME_TIFF, probability_map)
    write_parametric_map(folder / DICOM, slide.path, probability_map)
    added_up = totals(lesions, points, whole_slide_coordinates=whole_slide_coordinates)
    write_text(folder / TOTALS, json.dumps(asdict(added_up), indent=2, allow_nan=False) + "\n")


def totals(lesions: Lesions, points: SlideOperatingPoints, *, whole_slide_coordinates: bool = False) -> Totals:
    """Add up a slide's lesions, which were found by the default one of ``points``."""
    of = lesions.probability_map
    window_um = of.stride * of.slide_mpp
    count = Counter(lesion.category for lesion in lesions)
    verdict = verdict_of(lesions)
    return Totals(
        slide=of.slide.name,
        score=None if math.isnan(lesions.score) else round(lesions.score, 6),
        category=lesions.category,
        verdict={
            "sentence": verdict.sentence,
            "certain": verdict.certain,
            "look_at": list(verdict.look_at),
            "not_judged": verdict.not_judged,
        },
        lesions={category: count[category] for category in CATEGORIES[1:]},
        largest_um=round(lesions.largest.diameter_um, 1) if lesions.largest else 0.0,
        tumour_mm2=round(sum(lesion.area_mm2 for lesion in lesions), 6),
        scanned_mm2=round(int(of.tissue.sum()) * window_um**2 / 1e6, 6),
        unassessable={reason: round(share, 6) for reason, share in of.unassessable.items()},
        uncertain=[_record(region) for region in lesions.uncertain],
        operating_point={"name": points.default, **points.point.model_dump(mode="json")},
        prior=of.prior,
        window_um=window_um,
        bundle=of.bundle,
        engine=of.engine,
        geojson=frame_of(of.slide, whole_slide_coordinates=whole_slide_coordinates),
    )


def _record(region: Lesion) -> dict[str, Any]:
    return {
        "number": region.number,
        "score": round(region.score, 6),
        "category": region.category,
        "diameter_um": round(region.diameter_um, 1),
        "area_mm2": round(region.area_mm2, 6),
        "centroid_x": round(region.centroid[0], 1),
        "centroid_y": round(region.centroid[1], 1),
    }


def read_totals(folder: Path) -> Totals:
    """Read what :func:`write_outputs` left in a slide's folder.

    Raises:
        SlideError: it is not there, or another version wrote it.
    """
    try:
        record = json.loads((folder / TOTALS).read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise SlideError(
                f"the slide's totals have format {record['format']}, and this version reads format {FORMAT}.",
                where=folder / TOTALS,
                hint="Write them again: sentinode lesions DIR.",
            )
        return Totals(**record)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SlideError(
            f"the slide's totals cannot be read ({type(error).__name__}).",
            where=folder / TOTALS,
            hint="Write them again: sentinode lesions DIR.",
        ) from error
