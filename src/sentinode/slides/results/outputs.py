"""All that is made of a finished map, in its slide's folder.

=========================  ====================================================================
``heatmap.png``            the slide with its probabilities, lesions, scale bar and legend
``small.png``              the same, small, for the batch's table
``lesions.geojson``        the lesions as QuPath imports them
``lesions.csv``            their measurements
``lesions.json``           the slide's score, category and totals
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

from sentinode.atomic import write_text
from sentinode.errors import SlideError
from sentinode.slides.reading.annotations import Annotations
from sentinode.slides.reading.slide import Slide
from sentinode.slides.results.heatmap import picture_of, write_heatmap, write_small
from sentinode.slides.results.lesion_files import Frame, frame_of, write_geojson, write_table
from sentinode.slides.results.lesions import CATEGORIES, SIGMA_UM, Lesions, find_lesions
from sentinode.slides.results.ome_tiff import write_ome_tiff
from sentinode.slides.results.parametric_map import write_parametric_map
from sentinode.slides.scanning.probability_map import ProbabilityMap
from sentinode.slides.scanning.tissue import Tissue

HEATMAP, SMALL = "heatmap.png", "small.png"
GEOJSON, TABLE, TOTALS = "lesions.geojson", "lesions.csv", "lesions.json"
OME_TIFF, DICOM = "probability.ome.tif", "probability.dcm"
OUTPUTS = (HEATMAP, SMALL, GEOJSON, TABLE, TOTALS, OME_TIFF, DICOM)

FORMAT = 1


@dataclass(frozen=True)
class Totals:
    """What a slide came to.

    Attributes:
        slide: the slide's file name.
        score: its highest smoothed P(tumour), or None where it has no tissue.
        category: that of its largest lesion, or ``negative``.
        lesions: how many there are of each category.
        largest_um: longest diameter of the largest lesion, 0 without one.
        tumour_mm2: area of all lesions.
        scanned_mm2: area of all windows with tissue.
        threshold: P(tumour) from which a window, once smoothed, belongs to a lesion.
        prior: share of tumour among windows of tissue that the probabilities assume.
        sigma_um: standard deviation of the smoothing.
        window_um: distance of the windows.
        bundle: fingerprint of the bundle.
        engine: what computed the map.
        geojson: from where the coordinates in ``lesions.geojson`` count, as the file says it itself.
        format: of this record.
    """

    slide: str
    score: float | None
    category: str
    lesions: dict[str, int]
    largest_um: float
    tumour_mm2: float
    scanned_mm2: float
    threshold: float
    prior: float
    sigma_um: float
    window_um: float
    bundle: str
    engine: str
    geojson: Frame = field(default_factory=lambda: {"coordinates": "slide"})
    format: int = FORMAT


def write_outputs(
    folder: Path,
    slide: Slide,
    map: ProbabilityMap,
    tissue: Tissue,
    *,
    truth: Annotations | None = None,
    sigma_um: float = SIGMA_UM,
    whole_slide_coordinates: bool = False,
) -> None:
    """Find a map's lesions and write every file that is made of it.

    Args:
        folder: the slide's own.
        slide: the slide.
        map: its map.
        tissue: its tissue.
        truth: annotations to draw over the heatmap.
        sigma_um: standard deviation of the smoothing in microns.
        whole_slide_coordinates: whether the GeoJSON counts from the slide's corner also where it states bounds.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
        SlideError: the slide cannot be read, or ``sigma_um`` makes no sense.
    """
    lesions = find_lesions(map, sigma_um=sigma_um)
    picture, scale = picture_of(slide, tissue)
    write_heatmap(folder / HEATMAP, picture, scale, lesions, truth)
    write_small(folder / SMALL, picture, scale, lesions)
    write_geojson(folder / GEOJSON, lesions, whole_slide_coordinates=whole_slide_coordinates)
    write_table(folder / TABLE, lesions)
    write_ome_tiff(folder / OME_TIFF, map)
    write_parametric_map(folder / DICOM, slide.path, map)
    added_up = totals(lesions, whole_slide_coordinates=whole_slide_coordinates)
    write_text(folder / TOTALS, json.dumps(asdict(added_up), indent=2, allow_nan=False) + "\n")


def totals(lesions: Lesions, *, whole_slide_coordinates: bool = False) -> Totals:
    """Add up a slide's lesions."""
    map = lesions.map
    window_um = map.stride * map.slide_mpp
    count = Counter(lesion.category for lesion in lesions)
    return Totals(
        slide=map.slide.name,
        score=None if math.isnan(lesions.score) else round(lesions.score, 6),
        category=lesions.category,
        lesions={category: count[category] for category in CATEGORIES[1:]},
        largest_um=round(lesions.found[0].diameter_um, 1) if lesions.found else 0.0,
        tumour_mm2=round(sum(lesion.area_mm2 for lesion in lesions), 6),
        scanned_mm2=round(int(map.tissue.sum()) * window_um**2 / 1e6, 6),
        threshold=map.threshold,
        prior=map.prior,
        sigma_um=lesions.sigma_um,
        window_um=window_um,
        bundle=map.bundle,
        engine=map.engine,
        geojson=frame_of(map.slide, whole_slide_coordinates=whole_slide_coordinates),
    )


def read_totals(folder: Path) -> Totals:
    """Read what :func:`write_outputs` left in a slide's folder.

    Raises:
        SlideError: it is not there, or another version wrote it.
    """
    try:
        return Totals(**json.loads((folder / TOTALS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise SlideError(
            f"the slide's totals cannot be read ({type(error).__name__}).",
            where=folder / TOTALS,
            hint="Write them again: sentinode lesions DIR.",
        ) from error
