"""Maps held against annotations: the regions that may be lesions, and which annotated lesion each of them touches."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely.geometry import MultiPolygon

from sentinode.errors import AnnotationError, SlideError
from sentinode.model.slide_operating_point import ReadingName, SlideOperatingPoint
from sentinode.progress import track
from sentinode.slides.reading.annotations import (
    Annotations,
    ReadingOptions,
    rasterise,
    read_annotations,
    require_truth,
)
from sentinode.slides.results.lesions import diameter_of, grow_regions, large_enough
from sentinode.slides.scanning.probability_map import RECORD, ProbabilityMap, open_map, slide_of

JOINED_UM = 75.0
"""Annotated areas that are nearer than this are one lesion, as in Camelyon16: five tumour cells."""

LEFT_OUT = ("test_049", "test_114")
"""Slides of Camelyon16 that do not count: a duplicate, and one that is not fully annotated."""

FINER = 4
"""Pixels along the side of a window in the mask that says which windows an annotated lesion touches."""

Floats = NDArray[np.float64]
_TOUCHING = np.ones((3, 3), np.bool_)


@dataclass(frozen=True)
class AnnotatedSlide:
    """A slide with N regions that may be lesions and L annotated lesions.

    Attributes:
        name: its folder.
        features: float64 (N, scales + 1), the evidence for each region (see :class:`Regions`).
        diameter_um: float64 (N,), the longest diameter of each.
        touches: bool (N, L), whether a region touches a lesion, grown by one window.
        lesion_um: float64 (L,), the longest diameter of each lesion.
        hottest: float64 (scales + 1,), the evidence of the hottest window; NaN where nothing can be assessed.
    """

    name: str
    features: Floats
    diameter_um: Floats
    touches: NDArray[np.bool_]
    lesion_um: Floats
    hottest: Floats

    @property
    def positive(self) -> bool:
        """Whether it holds a lesion."""
        return len(self.lesion_um) > 0

    @property
    def is_lesion(self) -> NDArray[np.bool_]:
        """bool (N,), whether a region touches a lesion."""
        return np.asarray(self.touches.any(axis=1), np.bool_)


@dataclass(frozen=True)
class AnnotatedSlides:
    """The slides of a folder of maps.

    Attributes:
        slides: one for each map.
        window_um: distance of the maps' windows in microns.
        map_reading: how the maps' windows were read.
        fingerprint: SHA-256 of the maps and of the truth.
        left_out: slides with a map that do not count.
        warnings: sentences.
    """

    slides: tuple[AnnotatedSlide, ...]
    window_um: float
    map_reading: ReadingName
    fingerprint: str
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]


def read_annotated_slides(
    maps: Path,
    truth: Path,
    point: SlideOperatingPoint,
    *,
    bundle: str,
    absent_is_normal: bool = False,
    whole_slide_coordinates: bool = False,
    show: bool = True,
    **reading: Unpack[ReadingOptions],
) -> AnnotatedSlides:
    """Grow the regions of every map by a point's scales, and hold them against the annotations.

    Args:
        maps: the folder that ``sentinode scan`` wrote.
        truth: a folder of annotations named like the slides; one without a region means no tumour.
        point: its scales, its ``grow`` and its smallest region are used.
        bundle: fingerprint of the bundle that must have made the maps.
        absent_is_normal: take a slide without annotations for one without tumour.
        whole_slide_coordinates: annotations in GeoJSON count from the slides' corners, not from those of their bounds.
        show: whether to show progress.
        reading: how annotations are read, see :func:`read_annotations`.

    Raises:
        SlideError: there is no map, or the maps are of another bundle, of several strides or of both readings.
        AnnotationError: the truth of a slide is missing, unreadable or not of that slide, or a file of annotations
            belongs to no map.
    """
    folders = sorted(record.parent for record in maps.glob(f"*/{RECORD}"))
    if not folders:
        raise SlideError("there are no maps here.", where=maps, hint="Name the --out folder of 'sentinode scan'.")
    left_out = tuple(folder.name for folder in folders if folder.name.casefold() in LEFT_OUT)
    names = {folder.name: slide_of(folder).name for folder in folders}
    matches = require_truth(truth, names, absent_is_normal=absent_is_normal, optional=left_out)
    if matches.others:
        raise AnnotationError(
            f"{matches.message} A lesion that was never scanned cannot be found, nor counted as missed.",
            where=truth,
            hint="Scan those slides with the same --out, or take their annotations out of the folder.",
        )
    counted = [folder for folder in folders if folder.name not in left_out]
    slides, warnings, digests, windows, readings = [], [], [], {}, {}
    for folder in track(counted, "Comparing", len(counted), unit="slides", show=show):
        probability_map, file = open_map(folder), matches.files[folder.name]
        _require_bundle(probability_map, folder, bundle)
        windows[folder.name] = probability_map.stride * probability_map.slide_mpp
        _require_one_stride(windows, maps)
        readings[folder.name] = probability_map.reading
        _require_one_reading(readings, maps)
        annotations = Annotations(truth, ())
        if file is not None:
            annotations = read_annotations(file, whole_slide_coordinates=whole_slide_coordinates, **reading)
        of_slide = probability_map.slide
        annotations = annotations.on(of_slide.width, of_slide.height, of_slide.bounds)
        warnings += [f"{folder.name}: {warning}" for warning in annotations.warnings]
        slides.append(annotated_slide(folder.name, probability_map, annotations, point))
        digests.append(_digest(probability_map, file))
    fingerprint = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    return AnnotatedSlides(
        slides=tuple(slides),
        window_um=next(iter(windows.values()), math.nan),
        map_reading=next(iter(readings.values()), "patch"),
        fingerprint=fingerprint,
        left_out=left_out,
        warnings=tuple(warnings),
    )


def _require_bundle(probability_map: ProbabilityMap, folder: Path, bundle: str) -> None:
    if probability_map.bundle != bundle:
        raise SlideError(
            "another bundle made this map, so it says nothing of this one.",
            where=folder,
            hint="Name the bundle that made the maps, or scan the slides with this one.",
        )


def _require_one_stride(windows: dict[str, float], maps: Path) -> None:
    narrow, wide = min(windows, key=windows.__getitem__), max(windows, key=windows.__getitem__)
    if windows[wide] > 1.02 * windows[narrow]:
        raise SlideError(
            f"the maps have windows at several distances: every {windows[narrow]:.1f} um in {narrow}, every "
            f"{windows[wide]:.1f} um in {wide}.",
            where=maps,
            hint="Scan all slides with one --stride: an operating point holds for one.",
        )


def _require_one_reading(readings: dict[str, ReadingName], maps: Path) -> None:
    by_reading = {reading: name for name, reading in readings.items()}
    if len(by_reading) > 1:
        raise SlideError(
            f"some maps were read patch by patch, such as {by_reading['patch']}, and some densely, such as "
            f"{by_reading['dense']}.",
            where=maps,
            hint="Scan all slides with one --reading: an operating point holds for one.",
        )


def _digest(probability_map: ProbabilityMap, truth: Path | None) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(probability_map.probability, "<f4").tobytes())
    digest.update(b"" if truth is None else truth.read_bytes())
    return digest.hexdigest()


def annotated_slide(
    name: str, probability_map: ProbabilityMap, truth: Annotations, point: SlideOperatingPoint
) -> AnnotatedSlide:
    """One slide's regions, held against what was annotated on it.

    Raises:
        SlideError: the map states a prior that is no share.
    """
    step_um = probability_map.stride * probability_map.slide_mpp
    regions = grow_regions(probability_map, point)
    kept = np.flatnonzero(large_enough(regions.windows, probability_map, point))
    boxes = ndimage.find_objects(regions.labels)
    diameters = [diameter_of(regions.labels[boxes[at]] == at + 1) * step_um for at in kept]
    lesions = list(annotated_lesions(truth.area, probability_map.slide_mpp))
    touches = np.zeros((len(regions.windows) + 1, len(lesions)), np.bool_)
    for number, lesion in enumerate(lesions):
        touches[_labels_under(lesion, probability_map, regions.labels), number] = True
    return AnnotatedSlide(
        name=name,
        features=regions.features[kept],
        diameter_um=np.array(diameters, np.float64),
        touches=touches[kept + 1],
        lesion_um=np.array([longest_um(lesion, probability_map.slide_mpp) for lesion in lesions], np.float64),
        hottest=regions.hottest,
    )


def annotated_lesions(area: MultiPolygon, mpp: float) -> Iterator[MultiPolygon]:
    """The lesions of an annotated area: its parts, those that are near each other taken together."""
    parts = shapely.get_parts(area)
    if not len(parts):
        return
    pairs = shapely.STRtree(parts).query(parts, predicate="dwithin", distance=JOINED_UM / mpp)
    near = coo_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(len(parts), len(parts)))
    count, lesion = connected_components(near, directed=False)
    for number in range(count):
        yield MultiPolygon(parts[lesion == number].tolist())


def longest_um(lesion: MultiPolygon, mpp: float) -> float:
    """The longest distance between two points of a lesion, in microns."""
    hull = shapely.get_coordinates(shapely.convex_hull(lesion))
    return float(max(np.hypot(*(hull - point).T).max() for point in hull)) * mpp


def _labels_under(lesion: MultiPolygon, probability_map: ProbabilityMap, labels: NDArray[np.int32]) -> Sequence[int]:
    """The regions that touch a lesion, which is grown by one window."""
    stride = probability_map.stride
    corner = np.asarray(probability_map.origin) - stride / 2
    bounds = (np.asarray(lesion.bounds) - np.tile(corner, 2)) / stride
    left, top = np.maximum(np.floor(bounds[:2]).astype(int) - 1, 0)
    right, bottom = np.minimum(np.floor(bounds[2:]).astype(int) + 2, labels.shape[::-1])
    if right <= left or bottom <= top:
        return []
    size = ((bottom - top) * FINER, (right - left) * FINER)
    x, y = corner + np.array([left, top]) * stride
    fine = rasterise(lesion, size, stride / FINER, origin=(float(x), float(y)))
    windows = np.asarray(fine.reshape(bottom - top, FINER, right - left, FINER).max(axis=(1, 3)), np.bool_)
    if not windows.any():  # a lesion that holds no pixel's centre
        column, row = np.floor((shapely.get_coordinates(lesion.point_on_surface())[0] - (x, y)) / stride).astype(int)
        windows[min(row, bottom - top - 1), min(column, right - left - 1)] = True
    near = labels[top:bottom, left:right][ndimage.binary_dilation(windows, _TOUCHING)]
    return [int(label) for label in np.unique(near) if label]
