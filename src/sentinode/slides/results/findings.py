"""A finished batch looked at again: lesions, files, stages and pages from its maps, without a scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from sentinode.errors import SentinodeError, SlideError
from sentinode.model.slide_operating_point import GENERAL, READ, PointName, ReadingName, SlideOperatingPoints
from sentinode.progress import console, track
from sentinode.slides.reading.annotations import Annotations, ReadingOptions, match_annotations, read_annotations
from sentinode.slides.reading.annotations.drawing import listed
from sentinode.slides.reading.fingerprint import fingerprint
from sentinode.slides.reading.slide import open_slide
from sentinode.slides.results.batch_points import bundle_of_batch, points_of_batch
from sentinode.slides.results.outputs import Totals, read_totals, write_outputs
from sentinode.slides.results.staging import Patient, stage_patients, write_stages
from sentinode.slides.results.summary import write_summary
from sentinode.slides.scanning.manifest import DONE, no_scan, read_states, settle_coordinates, settle_points
from sentinode.slides.scanning.probability_map import ProbabilityMap, open_map
from sentinode.slides.scanning.tissue import find_tissue

if TYPE_CHECKING:
    from sentinode.model.bundle import Bundle

STAGES = "stages.csv"

NO_POINT = (
    "This bundle has no slide operating point of its own, and the general one is used. Choose one on annotated slides "
    "with 'sentinode operate'."
)


@dataclass(frozen=True)
class Findings:
    """What a batch came to.

    Attributes:
        slides: the totals of each slide, by its folder.
        patients: their stages, where a table of nodes was given.
        failed: why a slide's files could not be written again, by its folder.
        page: the batch's page.
    """

    slides: dict[str, Totals]
    patients: tuple[Patient, ...]
    failed: dict[str, str]
    page: Path


def write_findings(
    batch: Path,
    *,
    bundle: Bundle | None = None,
    operating_point: PointName | None = None,
    truth: Path | None = None,
    nodes: Path | None = None,
    whole_slide_coordinates: bool | None = None,
    show: bool = True,
    **reading: Unpack[ReadingOptions],
) -> Findings:
    """Write every slide's files again, the batch's pages and, given the nodes, the patients' stages.

    A slide whose file is gone, or is not the one that the map was made of, fails: nothing is drawn over it, and the
    files that an earlier call left stay.

    Args:
        batch: the folder of a scan.
        bundle: whose operating points are used from now on; it must have the weights that made the maps. None for
            those that the batch records.
        operating_point: which of them; None for the batch's earlier choice.
        truth: a folder of annotations named like the slides, to draw over the heatmaps where there are any.
        nodes: a CSV with the columns ``slide``, ``node`` and ``patient``; ``stages.csv`` is written.
        whole_slide_coordinates: whether ``lesions.geojson`` is written, and annotations in GeoJSON are read, from the
            slide's corner also where the slide states bounds; None for the batch's earlier choice.
        show: whether to show progress.
        reading: how annotations are read, see :func:`read_annotations`.

    Raises:
        SlideError: there is no scanned slide, or another bundle made the maps.
        AnnotationError: the annotations' folder is missing, or a file of it fits two slides.
        DataError: the table does not fit.
        OutputError: a file cannot be written.
    """
    states = [state for state in read_states(batch) if state.state == DONE]
    if not states:
        raise no_scan(batch)
    points = settle_points(batch, _points(batch, bundle), operating_point, change=True)
    coordinates = settle_coordinates(batch, whole_slide_coordinates, change=True)
    files = _files_of(truth, {state.name: Path(state.slide).name for state in states}) if truth is not None else {}
    totals, failed = {}, {}
    map_readings: set[ReadingName] = set()
    for state in track(states, "Finding lesions", len(states), unit="slides", show=show):
        folder = batch / state.name
        try:
            probability_map = open_map(folder)
            _require_scanned(Path(state.slide), probability_map)
            map_readings.add(probability_map.reading)
            annotations = _annotations(files.get(state.name), state.name, probability_map, coordinates, reading)
            with open_slide(state.slide, mpp=probability_map.slide_mpp) as slide:
                write_outputs(
                    folder,
                    slide,
                    probability_map,
                    find_tissue(slide),
                    truth=annotations,
                    points=points,
                    whole_slide_coordinates=coordinates,
                )
            totals[state.name] = read_totals(folder)
        except SentinodeError as error:
            failed[state.name] = str(error)
            console.print(f"Failed: {error}", markup=False)
    for map_reading in map_readings:
        caution_reading(points, map_reading)
    patients = () if nodes is None else _stage(batch, nodes, totals)
    return Findings(totals, patients, failed, write_summary(batch, patients=patients, failed=failed))


def _stage(batch: Path, nodes: Path, totals: Mapping[str, Totals]) -> tuple[Patient, ...]:
    """Stage the patients of a table and write the stages; which slides leave them in doubt is printed."""
    categories = {name: of_slide.category for name, of_slide in totals.items()}
    patients = stage_patients(nodes, categories, files={name: of_slide.slide for name, of_slide in totals.items()})
    if unsure := [name for name, of_slide in totals.items() if not of_slide.verdict["certain"]]:
        console.print(
            f"{len(unsure)} of {len(totals)} slides have an uncertain verdict. The stages count them as they are: "
            f"{listed(unsure)}.",
            markup=False,
        )
    write_stages(batch / STAGES, patients)
    return patients


def _points(batch: Path, bundle: Bundle | None) -> SlideOperatingPoints:
    """The operating points of a bundle, or those of the batch; which of them has no own ones is printed."""
    if bundle is None:
        points = points_of_batch(batch)
    else:
        made_by = bundle_of_batch(batch)
        if made_by is not None and made_by != bundle.fingerprint:
            raise SlideError(
                "another bundle made these maps, and this one's operating point says nothing of them.",
                where=batch,
                hint="Name the bundle that made them, or a copy of it that 'sentinode operate' wrote.",
            )
        points = bundle.card.slide_points or GENERAL
    if points.points == GENERAL.points:
        console.print(NO_POINT, markup=False)
    return points


def caution_reading(points: SlideOperatingPoints, reading: ReadingName) -> None:
    """Print a caution where the point that is used was chosen on maps of the other reading."""
    chosen_on = points.point.chosen_on
    if not chosen_on.fits(reading):
        console.print(
            f"The slide operating point '{points.default}' was chosen on maps that were read "
            f"{READ[chosen_on.reading]}, and these maps are read {READ[reading]}: its figures do not hold here. Choose "
            "one on maps of this reading with 'sentinode operate'.",
            markup=False,
        )


def _require_scanned(slide: Path, probability_map: ProbabilityMap) -> None:
    """Refuse a slide that is gone, or another than the one that the map was made of."""
    if not slide.is_file():
        raise SlideError(
            "the slide is no longer there.",
            where=slide,
            hint="Put it back, or scan it at its new place with the same --out: a map of the same slide is kept.",
        )
    if fingerprint(slide) != probability_map.slide.fingerprint:
        raise SlideError(
            "this is not the file that was scanned: it was replaced or changed since.",
            where=slide,
            hint="Scan it again with the same --out, or put the scanned file back.",
        )


def _files_of(truth: Path, slides: dict[str, str]) -> dict[str, Path | None]:
    """The annotations of each slide; what is missing and what is left over is printed."""
    matches = match_annotations(truth, slides)
    if absent := matches.absent:
        console.print(f"{len(absent)} of {len(slides)} slides have no annotations: {listed(absent)}.", markup=False)
    if matches.message is not None:
        console.print(matches.message, markup=False)
    return matches.files


def _annotations(
    file: Path | None,
    name: str,
    probability_map: ProbabilityMap,
    whole_slide_coordinates: bool,
    reading: ReadingOptions,
) -> Annotations | None:
    if file is None:
        return None
    slide = probability_map.slide
    annotations = read_annotations(file, whole_slide_coordinates=whole_slide_coordinates, **reading)
    annotations = annotations.on(slide.width, slide.height, slide.bounds)
    for warning in annotations.warnings:
        console.print(f"{name}: {warning}", markup=False)
    return annotations
