"""The Camelyon16 score for finding metastases: FROC, as the challenge's own script defines it.

The script is Evaluation_FROC.py of Camelyon16 (Ehteshami Bejnordi et al. 2017, JAMA 318, 2199-2210), and so:

- the truth is a mask of 7.776 um per pixel (level 5), each pixel the first of the level-0 pixels under it; every
  tumour is grown by 75 / 2 um, holes are filled, and what then touches is one region (8-connected);
- a region whose longest axis is under 275 um is ignored: neither a target, nor is a detection in it false;
- a detection in a region counts as found with the highest probability there, any outside is a false positive,
  and on a slide without tumour every detection is;
- the score is the mean sensitivity at 1/4, 1/2, 1, 2, 4 and 8 false positives a slide, interpolated linearly;
- ``test_049`` (a duplicate) and ``test_114`` (not fully annotated) are left out.

Detections come from the map by non-maximum suppression: the highest window, without the box around it, and so
on down to the threshold. MONAI's ``LesionFROC`` does the same, and with equal parameters gives equal figures.

The prior that a scan was told changes no figure: probabilities, the threshold among them, are those at a prior of one
half, to which a map's are moved back.

The curve is of the network. What a user of the batch sees are its lesions, which the slide operating point chooses.
They are one more point on the chart, by the same truth, and the slides' scores are theirs.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import shapely
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.special import expit, logit

from sentinode.atomic import whole_file, write_text
from sentinode.errors import SlideError
from sentinode.evaluation.annotated_slides import LEFT_OUT
from sentinode.model.slide_operating_point import SlideOperatingPoint
from sentinode.progress import track
from sentinode.scoring import Estimate, auc, cluster_interval
from sentinode.scoring.intervals import FEW, joined
from sentinode.slides.reading.annotations import (
    Annotations,
    ReadingOptions,
    rasterise,
    read_annotations,
    require_truth,
)
from sentinode.slides.results.batch_points import points_of_batch
from sentinode.slides.results.lesions import GENERAL_POINT, Lesions, find_lesions
from sentinode.slides.scanning.probability_map import RECORD, ProbabilityMap, open_map, slide_of
from sentinode.slides.scanning.scan import prior_shift

FALSE_POSITIVES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives a slide at which the sensitivity is read."""

GROWTH_UM = 75.0
"""Twice the distance in microns by which tumours are grown: five tumour cells."""

IGNORED_UM = 275.0
"""Regions whose longest axis is shorter are ignored: isolated tumour cells up to 200 um, grown by 75."""

MASK_MPP = 32 * 0.243
"""Microns per pixel of the mask of the truth: level 5 of Camelyon16's slides."""

EVEN_PRIOR = 0.5
"""The share of tumour that all probabilities here assume, whatever the scan was told."""

THRESHOLD = 0.5
"""The probability that a detection has to exceed, at a prior of one half: more like tumour than not."""

BOX_UM = 746.5
"""Side in microns of the box that a detection keeps free of others: MONAI's 48 pixels at level 6."""

BAND = 512
"""Rows of the mask in which tumours are grown at a time."""

_TOUCHING = np.ones((3, 3), np.bool_)

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Detections:
    """What non-maximum suppression left of a map, the most probable first.

    Attributes:
        probability: (N,).
        row, column: int (N,), the window of each.
    """

    probability: Floats
    row: NDArray[np.int64]
    column: NDArray[np.int64]


@dataclass(frozen=True)
class Tumours:
    """The regions of truth that detections are held against, in a part of the slide's mask.

    Attributes:
        labels: int32 (rows, columns), 0 for what is no tumour.
        ignored: the labels of regions too small to count.
        corner: (x, y) of the part's corner in pixels of the whole mask.
        downsample: level-0 pixels per pixel of the mask.
    """

    labels: NDArray[np.int32]
    ignored: tuple[int, ...] = ()
    corner: tuple[int, int] = (0, 0)
    downsample: float = 1.0

    @property
    def count(self) -> int:
        """Regions, with those that are ignored."""
        return int(self.labels.max(initial=0))

    def at(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int32]:
        """The labels under points given in level-0 pixels."""
        column, row = (
            np.floor(v / self.downsample).astype(np.int64) - start for v, start in zip((x, y), self.corner, strict=True)
        )
        rows, columns = self.labels.shape
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        found = np.zeros(len(x), np.int32)
        found[inside] = self.labels[row[inside], column[inside]]
        return found


@dataclass(frozen=True)
class SlideResult:
    """What one slide adds to the curve.

    Attributes:
        name: the slide.
        false: (F,), probabilities of the false positives, at a prior of one half.
        found: (R,), for each region the highest probability of a detection in it, 0 where it was
            missed or is ignored.
        ignored: how many of the R regions are ignored.
        score: P(the slide is positive), by the operating point.
        annotated: whether a file is the truth; False where its absence is.
        reported_found: regions that count and that a reported lesion covers, of those R.
        reported_false: reported lesions that cover no region.
    """

    name: str
    false: Floats
    found: Floats
    ignored: int
    score: float
    annotated: bool = True
    reported_found: int = 0
    reported_false: int = 0

    @property
    def targets(self) -> int:
        """Regions that should be found."""
        return len(self.found) - self.ignored


@dataclass(frozen=True)
class Froc:
    """The result over all slides.

    Attributes:
        froc: the mean sensitivity.
        sensitivity: one for each of ``FALSE_POSITIVES``.
        reported: false lesions a slide, and sensitivity, of the lesions that the operating point reports.
        slide_auc: AUC of the slides' scores for holding tumour.
        curve: float64 (K, 2), false positives a slide and sensitivity, from many to none.
        slides: what went in.
        left_out: slides with a map that do not count.
        parameters: all that the figures depend on.
        warnings: sentences.
    """

    froc: Estimate
    sensitivity: tuple[float, ...]
    reported: tuple[float, float]
    slide_auc: Estimate
    curve: NDArray[np.float64]
    slides: tuple[SlideResult, ...]
    left_out: tuple[str, ...]
    parameters: dict[str, Any]
    warnings: tuple[str, ...]

    @property
    def without_tumour(self) -> dict[str, int]:
        """How many slides are free of tumour by what a file says, and how many because they have no file."""
        free = [slide for slide in self.slides if not len(slide.found)]
        by_file = sum(slide.annotated for slide in free)
        return {"by_file": by_file, "by_absence": len(free) - by_file}

    def as_dict(self) -> dict[str, Any]:
        """All of it but the curve, ready for JSON."""
        return {
            "froc": self.froc.as_dict(),
            "sensitivity": {f"{fp:g}": _number(s) for fp, s in zip(FALSE_POSITIVES, self.sensitivity, strict=True)},
            "operating_point": {
                "false_lesions_per_slide": self.reported[0],
                "sensitivity": _number(self.reported[1]),
            },
            "slide_auc": self.slide_auc.as_dict(),
            "slides": len(self.slides),
            "tumours": sum(slide.targets for slide in self.slides),
            "ignored": sum(slide.ignored for slide in self.slides),
            "without_tumour": self.without_tumour,
            "false_positives": sum(len(slide.false) for slide in self.slides),
            "left_out": list(self.left_out),
            "parameters": self.parameters,
            "warnings": list(self.warnings),
            "per_slide": [
                {
                    "name": slide.name,
                    "tumours": slide.targets,
                    "found": int((slide.found > 0).sum()),
                    "false_positives": len(slide.false),
                    "reported_found": slide.reported_found,
                    "reported_false": slide.reported_false,
                    "score": _number(slide.score),
                }
                for slide in self.slides
            ],
        }


def evaluate_froc(
    maps: Path,
    truth: Path,
    *,
    threshold: float = THRESHOLD,
    box_um: float = BOX_UM,
    mask_mpp: float = MASK_MPP,
    absent_is_normal: bool = False,
    whole_slide_coordinates: bool = False,
    show: bool = True,
    **reading: Unpack[ReadingOptions],
) -> Froc:
    """Score the maps of a folder against the annotations of another.

    Args:
        maps: the folder that ``sentinode scan`` wrote, with a folder for each slide.
        truth: a folder of annotations named like the slides; one without a region means no tumour.
        threshold: probability that a detection has to exceed, at a prior of one half.
        box_um: side in microns of the box that a detection keeps free, rounded to whole windows of each map.
        mask_mpp: microns per pixel of the mask of the truth.
        absent_is_normal: take a slide without annotations for one without tumour, as Camelyon16 files them.
        whole_slide_coordinates: annotations in GeoJSON count from the slides' corners, not from those of their bounds.
        show: whether to show progress.
        reading: how annotations are read, see :func:`read_annotations`.

    Raises:
        SlideError: there is no map, or an argument makes no sense.
        AnnotationError: the truth of a slide is missing, unreadable, or not of that slide.
    """
    _require_sense(threshold, box_um, mask_mpp)
    folders = sorted(record.parent for record in maps.glob(f"*/{RECORD}"))
    if not folders:
        raise SlideError("there are no maps here.", where=maps, hint="Name the --out folder of 'sentinode scan'.")
    left_out = tuple(folder.name for folder in folders if folder.name.casefold() in LEFT_OUT)
    matches = require_truth(
        truth,
        {folder.name: slide_of(folder).name for folder in folders},
        absent_is_normal=absent_is_normal,
        optional=left_out,
    )
    counted = [folder for folder in folders if folder.name not in left_out]
    points = points_of_batch(maps)
    results, boxes = [], set()
    warnings = [matches.message] if matches.message else []
    cautions: Counter[str] = Counter()
    for folder in track(counted, "Comparing", len(counted), unit="slides", show=show):
        probability_map, file = open_map(folder), matches.files[folder.name]
        slide = probability_map.slide
        annotations = Annotations(truth, ())
        if file is not None:
            annotations = read_annotations(file, whole_slide_coordinates=whole_slide_coordinates, **reading)
        annotations = annotations.on(slide.width, slide.height, slide.bounds)
        warnings += [f"{folder.name}: {warning}" for warning in annotations.warnings]
        window_um = probability_map.stride * probability_map.slide_mpp
        box = max(1, round(box_um / window_um))
        boxes.add(box)
        cautions[points.point.chosen_on.caution(window_um, probability_map.reading)] += 1
        result = score_slide(
            folder.name,
            probability_map,
            annotations,
            threshold=threshold,
            box=box,
            mask_mpp=mask_mpp,
            point=points.point,
        )
        results.append(replace(result, annotated=file is not None))
    warnings += [
        f"slide operating point '{points.default}', {number} of {len(counted)} slides: {caution}"
        for caution, number in cautions.items()
        if caution
    ]
    parameters = {
        "false_positives_per_slide": list(FALSE_POSITIVES),
        "prior_of_probabilities": EVEN_PRIOR,
        "nms_threshold": threshold,
        "nms_box_um": box_um,
        "nms_box_windows": sorted(boxes),
        "grown_by_um": GROWTH_UM / 2,
        "ignored_under_um": IGNORED_UM,
        "mask_mpp": mask_mpp,
        "absent_is_normal": absent_is_normal,
        "slide_score": "P(slide is positive)",
        "operating_point": {"name": points.default, **points.point.model_dump(mode="json")},
        "interval": "95 %: jackknife over slides, Student's t",
    }
    return summarise(results, left_out=left_out, parameters=parameters, warnings=warnings)


def _require_sense(threshold: float, box_um: float, mask_mpp: float) -> None:
    for name, value in {"box": box_um, "mask's resolution": mask_mpp}.items():
        if not (math.isfinite(value) and value > 0):
            raise SlideError(f"a {name} of {value:g} makes no sense.", hint="Give a positive number.")
    if not 0 <= threshold <= 1:
        raise SlideError(f"a threshold of {threshold:g} makes no sense.", hint="Give a probability from 0 to 1.")


def score_slide(
    name: str,
    probability_map: ProbabilityMap,
    truth: Annotations,
    *,
    threshold: float,
    box: int,
    mask_mpp: float = MASK_MPP,
    point: SlideOperatingPoint = GENERAL_POINT,
) -> SlideResult:
    """A slide's detections held against its truth.

    Args:
        name: the slide.
        probability_map: its map, at any prior.
        truth: what was annotated on it, in its own coordinates.
        threshold: probability that a detection has to exceed, at a prior of one half.
        box: side in windows of the box that a detection keeps free.
        mask_mpp: microns per pixel of the mask of the truth.
        point: by which the slide's lesions are found.

    Raises:
        SlideError: the map states a prior that is no share.
    """
    lesions = find_lesions(probability_map, point=point)
    # The threshold is moved as the scan moved the probabilities, so that rounding treats both alike.
    moved = float(expit(logit(threshold) + prior_shift(EVEN_PRIOR, probability_map.prior)))
    detections = suppress(probability_map.probability, threshold=moved, box=box)
    detections = replace(detections, probability=at_even_prior(detections.probability, probability_map.prior))
    tumours = tumours_on(probability_map, truth, mask_mpp=mask_mpp)
    x, y = probability_map.centres()
    labels = tumours.at(x[detections.column], y[detections.row])
    found, false = reported(lesions, tumours)
    result = compare(name, detections, labels, tumours, lesions.score)
    return replace(result, reported_found=found, reported_false=false)


def reported(lesions: Lesions, tumours: Tumours) -> tuple[int, int]:
    """How many tumours that count a slide's lesions cover, and how many lesions cover no tumour, ignored ones included.

    A lesion covers a tumour where the centre of one of its windows lies in it.
    """
    row, column = np.nonzero(lesions.labels)
    x, y = lesions.probability_map.centres()
    under = tumours.at(x[column], y[row])
    covering = np.zeros(len(lesions) + 1, np.bool_)
    covering[lesions.labels[row, column][under > 0]] = True
    found = np.setdiff1d(under, (0, *tumours.ignored))
    return len(found), int((~covering[1:]).sum())


def at_even_prior(probability: ArrayLike, prior: float) -> NDArray[np.float64]:
    """P(tumour) moved from a prior to one half: along the log-odds, so that its order stays.

    Args:
        probability: at ``prior``; NaN stays NaN.
        prior: share of tumour between 0 and 1 that it assumes.
    """
    shift = prior_shift(prior, EVEN_PRIOR)
    return np.asarray(expit(logit(np.asarray(probability, np.float64)) + shift), np.float64)


def suppress(probability: Floats, *, threshold: float, box: int) -> Detections:
    """Non-maximum suppression: the highest window, none within the box around it, then the next highest.

    Args:
        probability: (rows, columns); NaN is never detected.
        threshold: a detection's probability is above this.
        box: side of the box in windows; where it is even, one window more lies before the centre than after.

    Returns:
        The detections; of equal windows the first in reading order wins.
    """
    rows, columns = np.nonzero(probability > threshold)
    values = probability[rows, columns]
    order = np.argsort(-values, kind="stable")
    free = np.ones(probability.shape, np.bool_)
    before, after = box // 2, box - box // 2
    kept = []
    for i, row, column in zip(order.tolist(), rows[order].tolist(), columns[order].tolist(), strict=True):
        if free[row, column]:
            kept.append(i)
            free[max(0, row - before) : row + after, max(0, column - before) : column + after] = False
    return Detections(values[kept], rows[kept], columns[kept])


def tumours_on(probability_map: ProbabilityMap, truth: Annotations, *, mask_mpp: float = MASK_MPP) -> Tumours:
    """The regions of truth on a map's slide.

    Args:
        probability_map: any map of the slide; says its size and resolution.
        truth: what was annotated on it.
        mask_mpp: microns per pixel of the mask.
    """
    slide = probability_map.slide
    return tumours_within(truth, slide.width, slide.height, slide.mpp, mask_mpp=mask_mpp)


def tumours_within(
    truth: Annotations, width: int, height: int, slide_mpp: float, *, mask_mpp: float = MASK_MPP
) -> Tumours:
    """The regions of truth on a slide.

    Only the part of the mask around the tumours is made, which changes nothing and keeps memory small.

    Args:
        truth: what was annotated on it.
        width: of the slide in level-0 pixels.
        height: of the slide in level-0 pixels.
        slide_mpp: microns per level-0 pixel.
        mask_mpp: microns per pixel of the mask.
    """
    downsample = mask_mpp / slide_mpp
    if truth.area.is_empty:
        return Tumours(np.zeros((1, 1), np.int32), downsample=downsample)
    columns, rows = (max(1, round(side / downsample)) for side in (width, height))
    margin = math.ceil(GROWTH_UM / 2 / mask_mpp) + 2
    bounds = np.asarray(truth.area.bounds) / downsample
    left, top = (max(0, math.floor(v) - margin) for v in bounds[:2])
    right, bottom = (min(n, math.ceil(v) + margin) for v, n in zip(bounds[2:], (columns, rows), strict=True))
    # A pixel of the challenge's masks is the first level-0 pixel of those that it stands for, not the middle one: ASAP,
    # which wrote them, halves a mask by leaving out every second row and column. It decides on lesions of about 275 um.
    before = max(0.0, (downsample - 1) / 2)
    origin = (left * downsample - before, top * downsample - before)
    mask = rasterise(truth.area, (bottom - top, right - left), downsample, origin=origin)
    if not mask.any():
        _mark_points(mask, truth, (width, height), downsample, (left, top))
    labels, ignored = grown(mask, mask_mpp)
    return Tumours(labels, ignored, (left, top), downsample)


def _mark_points(
    mask: NDArray[np.uint8], truth: Annotations, size: tuple[int, int], downsample: float, corner: tuple[int, int]
) -> None:
    """Mark a pixel of each region where all are too small to hold a pixel's centre: the slide is not without tumour."""
    seen = truth.area.intersection(shapely.box(0, 0, *size))
    points = shapely.get_coordinates(shapely.point_on_surface(shapely.get_parts(seen)))
    columns, rows = (np.floor(points / downsample).astype(np.int64) - corner).T
    mask[np.clip(rows, 0, mask.shape[0] - 1), np.clip(columns, 0, mask.shape[1] - 1)] = 1


def grown(mask: NDArray[np.uint8], mask_mpp: float) -> tuple[NDArray[np.int32], tuple[int, ...]]:
    """The regions of a mask as the script makes them: grown, filled, labelled; and which of them are ignored.

    Args:
        mask: (rows, columns), not 0 where there is tumour.
        mask_mpp: microns per pixel.

    Returns:
        int32 (rows, columns) of labels from 1, and the labels of the regions that are ignored.
    """
    if not mask.any():
        return np.zeros(mask.shape, np.int32), ()
    near = _near(mask, GROWTH_UM / (2 * mask_mpp))
    labelled, count = ndimage.label(_filled(near), structure=_TOUCHING)
    labels = np.asarray(labelled, np.int32)
    axes = longest_axes(labels, count)
    return labels, tuple(int(label) for label in np.flatnonzero(axes < IGNORED_UM / mask_mpp) + 1)


def _near(mask: NDArray[np.uint8], reach: float) -> NDArray[np.bool_]:
    """bool (rows, columns): which pixels lie closer than ``reach`` pixels to one of the mask.

    Made in bands of rows, each with as many rows around it as matter: distances take twenty bytes a pixel.
    """
    near = np.zeros(mask.shape, np.bool_)
    around = math.ceil(reach)
    for first in range(0, len(mask), BAND):
        start, stop = max(0, first - around), min(len(mask), first + BAND + around)
        rows = mask[start:stop] == 0
        if not rows.all():
            distance = ndimage.distance_transform_edt(rows)
            near[first : first + BAND] = (distance < reach)[first - start :][:BAND]
    return near


def _filled(near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``near`` without holes: scipy's binary_fill_holes, in a pass over the mask where that takes one for each ring."""
    background, count = ndimage.label(~near)
    outside = np.zeros(count + 1, np.bool_)
    for border in (background[0], background[-1], background[:, 0], background[:, -1]):
        outside[border] = True
    outside[0] = False
    return np.asarray(~outside[background], np.bool_)


def longest_axes(labels: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Length of each region's longest axis: the major axis of the ellipse with its second moments, in pixels.

    Args:
        labels: int32 (rows, columns) of labels 1 to ``count``.
        count: how many regions there are.

    Returns:
        float64 (count,).
    """
    row, column = np.nonzero(labels)
    label = labels[row, column]
    area = np.bincount(label, minlength=count + 1)[1:]

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(label, values, minlength=count + 1)[1:] / area, np.float64)

    y = row - mean(row.astype(np.float64))[label - 1]
    x = column - mean(column.astype(np.float64))[label - 1]
    a, b, c = mean(y * y), mean(x * y), mean(x * x)
    return np.asarray(4 * np.sqrt((a + c) / 2 + np.sqrt(4 * b**2 + (a - c) ** 2) / 2), np.float64)


def compare(
    name: str, detections: Detections, labels: NDArray[np.int32], tumours: Tumours, score: float
) -> SlideResult:
    """Sort a slide's detections into false and found.

    Args:
        name: the slide.
        detections: N of them.
        labels: int (N,), the label of the region under each, or 0.
        tumours: the slide's regions.
        score: the slide's own score.
    """
    found = np.zeros(tumours.count, detections.probability.dtype)
    hit = ~np.isin(labels, (0, *tumours.ignored))
    np.maximum.at(found, labels[hit] - 1, detections.probability[hit])
    return SlideResult(name, detections.probability[labels == 0], found, len(tumours.ignored), score)


def froc_curve(slides: Sequence[SlideResult]) -> NDArray[np.float64]:
    """False positives a slide and sensitivity at every threshold, from many to none.

    As in the script, the lowest probability of all (0, where a region was missed) is no threshold.

    Returns:
        float64 (K, 2); sensitivity is NaN where no slide has a target.
    """
    false = np.sort(np.concatenate([slide.false for slide in slides]))
    found = np.sort(np.concatenate([slide.found for slide in slides]))
    targets = sum(slide.targets for slide in slides)
    thresholds = np.unique(np.concatenate([false, found]))[1:]
    falses = np.append(len(false) - np.searchsorted(false, thresholds), 0) / len(slides)
    founds = np.append(len(found) - np.searchsorted(found, thresholds), 0)
    return np.column_stack([falses, founds / targets if targets else np.full(len(founds), math.nan)])


def sensitivities(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sensitivity at each of ``FALSE_POSITIVES``, between the curve's points on a straight line."""
    falses, sensitivity = curve[::-1].T
    return np.asarray(np.interp(FALSE_POSITIVES, falses, sensitivity), np.float64)


def summarise(
    slides: Iterable[SlideResult],
    *,
    left_out: tuple[str, ...] = (),
    parameters: dict[str, Any] | None = None,
    warnings: Iterable[str] = (),
) -> Froc:
    """The figures over all slides, with 95 % intervals by the jackknife over slides.

    Raises:
        SlideError: there is no slide.
    """
    slides = tuple(slides)
    if not slides:
        raise SlideError("there is no slide to score.", hint=f"{' and '.join(LEFT_OUT)} of Camelyon16 do not count.")
    curve = froc_curve(slides)
    return Froc(
        froc=_with_interval(_mean_sensitivity, slides, _weights([slide.targets for slide in slides])),
        sensitivity=tuple(sensitivities(curve).tolist()),
        reported=_reported(slides),
        slide_auc=_with_interval(_slide_auc, slides, _weights([len(slide.found) > 0 for slide in slides], both=True)),
        curve=curve,
        slides=slides,
        left_out=left_out,
        parameters=parameters or {},
        warnings=(*warnings, *_cautions(slides)),
    )


def _reported(slides: Sequence[SlideResult]) -> tuple[float, float]:
    """False lesions a slide, and the sensitivity, of what the operating point reports."""
    targets = sum(slide.targets for slide in slides)
    found = sum(slide.reported_found for slide in slides)
    false = sum(slide.reported_false for slide in slides)
    return false / len(slides), found / targets if targets else math.nan


def _mean_sensitivity(slides: Sequence[SlideResult]) -> float:
    return float(sensitivities(froc_curve(slides)).mean())


def _weights(shares: ArrayLike, *, both: bool = False) -> NDArray[np.float64]:
    """What each slide brings to a figure: its share of the targets, and of all slides or (``both``) of those without.

    Args:
        shares: (N,), how many targets each slide has.
        both: whether the figure compares slides with a target and slides without.
    """
    targets = np.asarray(shares, np.float64)
    others = targets == 0 if both else np.ones(len(targets))
    return np.asarray(targets / max(targets.sum(), 1) + others / max(others.sum(), 1), np.float64)


def _with_interval(
    figure: Callable[[Sequence[SlideResult]], float], slides: Sequence[SlideResult], weights: NDArray[np.float64]
) -> Estimate:
    """A figure over slides with its interval; NaN where a figure or an interval does not exist."""
    value = figure(slides)
    if math.isnan(value) or len(slides) < 2:
        return Estimate(value, math.nan, math.nan)
    block = joined(np.arange(len(slides)))
    without = [
        figure([slide for slide, of in zip(slides, block, strict=True) if of != one]) for one in np.unique(block)
    ]
    return Estimate(value, *cluster_interval(value, without, np.bincount(block, weights)))


def _cautions(slides: Sequence[SlideResult]) -> Iterator[str]:
    """What to bear in mind with the figures of these slides."""
    if not any(slide.targets for slide in slides):
        yield "no slide has a tumour that counts, so there is no sensitivity."
    elif all(slide.found.all() for slide in slides):
        yield (
            "every tumour was found and none is ignored. Camelyon16's script never takes the lowest probability of all "
            "for a threshold, which is 0 otherwise and costs a detection here; the figures follow the script."
        )
    with_tumour = sum(len(slide.found) > 0 for slide in slides)
    least = min(len(slides), with_tumour or len(slides), len(slides) - with_tumour or len(slides))
    if least < FEW:
        yield (
            f"there are {len(slides)} slides, {with_tumour} of them with tumour: intervals over so few are rough, and "
            "one that would rest on a single slide is left out."
        )


def write_froc(folder: Path, result: Froc) -> None:
    """Write ``froc.json``, ``froc.csv`` (the curve) and ``froc.svg`` into a folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(folder / "froc.json", json.dumps(result.as_dict(), indent=2, allow_nan=False) + "\n")
    lines = [f"{falses:.9g},{sensitivity:.9g}" for falses, sensitivity in result.curve]
    write_text(folder / "froc.csv", "\n".join(["false_positives_per_slide,sensitivity", *lines]) + "\n")
    with (
        whole_file(folder / "froc.svg") as staged,
        rc_context({"svg.hashsalt": "sentinode", "font.size": 11}),
    ):
        _draw(result).savefig(staged, metadata={"Date": None})


def _draw(result: Froc) -> Figure:
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*result.curve.T, color="#0072b2", linewidth=1.8)
    axes.plot(FALSE_POSITIVES, result.sensitivity, "o", color="#d55e00", markersize=6, clip_on=False, zorder=3)
    if not math.isnan(result.reported[1]):
        axes.plot(*result.reported, "D", color="#009e73", markersize=7, clip_on=False, zorder=4, label="as reported")
        axes.legend(loc="lower right", frameon=False)
    axes.set_xscale("symlog", base=2, linthresh=0.125, linscale=0.5)
    axes.set_xticks([0, 0.125, *FALSE_POSITIVES], ["0", "1/8", "1/4", "1/2", "1", "2", "4", "8"])
    axes.set_xlim(0, 16)
    axes.set_ylim(0, 1.0)
    axes.set_xlabel("False positives per slide")
    axes.set_ylabel("Sensitivity for tumours")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    score = result.froc
    axes.set_title(f"FROC {score.value:.3f} ({score.low:.3f} to {score.high:.3f})", loc="left", fontsize=12)
    return figure


def _slide_auc(slides: Sequence[SlideResult]) -> float:
    """A slide without tissue has no score, and is sure to be without tumour."""
    scores = [0.0 if math.isnan(slide.score) else slide.score for slide in slides]
    return auc([len(slide.found) > 0 for slide in slides], scores)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
