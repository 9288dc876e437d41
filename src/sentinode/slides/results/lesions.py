"""From a map to lesions: regions grown, judged by the slide operating point, measured, and named by size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.special import expit, logit
from shapely.geometry import MultiPolygon

from sentinode.errors import SlideError
from sentinode.model.slide_operating_point import (
    GENERAL,
    LOG_ODDS_LIMIT,
    REFERENCE_MM2,
    SlideOperatingPoint,
)
from sentinode.slides.results.outline import outline
from sentinode.slides.scanning.probability_map import ProbabilityMap

ITC_UM, MICRO_UM = 200.0, 2000.0
"""Longest diameters in microns up to which a lesion counts as isolated tumour cells, or as a micrometastasis
(AJCC Cancer Staging Manual, 8th edition, breast). Its other limit, 200 cells, cannot be counted on a map."""

NEGATIVE, ITC, MICRO, MACRO = "negative", "isolated tumour cells", "micrometastasis", "macrometastasis"
CATEGORIES = (NEGATIVE, ITC, MICRO, MACRO)
"""What a slide or node can hold, from nothing to the worst."""

GENERAL_POINT = GENERAL.point
"""The operating point where none was chosen for the bundle."""

TRUNCATE = 3.0
"""Standard deviations at which the Gaussian ends."""

_NEIGHBOURS = np.ones((3, 3), np.bool_)  # windows that touch at a corner belong together
_CERTAIN = 1e-12  # how near to 0 and 1 a probability may come before its logit

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lesion:
    """A connected region of a slide, measured.

    Attributes:
        number: 1 for the region that is most likely a lesion, and so on by ``score``.
        score: P(the region is a lesion), by the operating point.
        category: ``isolated tumour cells``, ``micrometastasis`` or ``macrometastasis``.
        diameter_um: the longest distance between two of its points.
        area_mm2: the area of its windows.
        max_probability: the highest P(tumour) of its windows, before smoothing.
        mean_probability: their mean.
        centroid: (x, y) in level-0 pixels.
        windows: how many windows of the map it covers.
    """

    number: int
    score: float
    category: str
    diameter_um: float
    area_mm2: float
    max_probability: float
    mean_probability: float
    centroid: tuple[float, float]
    windows: int


@dataclass(frozen=True)
class Lesions:
    """What was found on one slide, the most likely lesion first.

    Attributes:
        found: the lesions: regions that reach the operating point.
        uncertain: regions that come near it and do not reach it, for a reader to look at.
        regions: int32 (rows, columns) of the map, the number of the lesion or uncertain region that a window belongs
            to, or 0.
        score: P(the slide is positive), by the operating point; NaN where nothing on the slide can be assessed.
        point: the operating point.
        probability_map: where they were found.
        smoothed: float32 (rows, columns), P(tumour) at a prior of one half, smoothed on the scale that outlines
            regions; NaN where nothing was assessed.
    """

    found: tuple[Lesion, ...]
    uncertain: tuple[Lesion, ...]
    regions: NDArray[np.int32]
    score: float
    point: SlideOperatingPoint
    probability_map: ProbabilityMap
    smoothed: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Lesion]:
        return iter(self.found)

    @property
    def labels(self) -> NDArray[np.int32]:
        """int32 (rows, columns) of the map, the number of the lesion that a window belongs to, or 0."""
        return np.where(self.regions <= len(self.found), self.regions, 0).astype(np.int32)

    @property
    def largest(self) -> Lesion | None:
        """The lesion with the longest diameter, which names the slide."""
        return max(self.found, key=lambda lesion: (lesion.diameter_um, -lesion.number), default=None)

    @property
    def category(self) -> str:
        """The slide's: that of its largest lesion, or ``negative``."""
        return self.largest.category if self.largest is not None else NEGATIVE

    def outlines(self) -> Iterator[tuple[Lesion, MultiPolygon]]:
        """Each lesion with its outline in level-0 pixels, one at a time: valid, holes left open.

        The outline follows the windows' squares exactly, so its area is the lesion's.
        """
        return self._outlines(self.found)

    def uncertain_outlines(self) -> Iterator[tuple[Lesion, MultiPolygon]]:
        """The same for the uncertain regions."""
        return self._outlines(self.uncertain)

    def _outlines(self, regions: Sequence[Lesion]) -> Iterator[tuple[Lesion, MultiPolygon]]:
        boxes = ndimage.find_objects(self.regions)
        for region in regions:
            box = boxes[region.number - 1]
            yield region, _placed(self.regions[box] == region.number, box[0].start, box[1].start, self.probability_map)


@dataclass(frozen=True)
class Regions:
    """The regions of a slide that may be lesions, and the evidence for each.

    Attributes:
        labels: int32 (rows, columns) of the map, from 1 to N, or 0.
        features: float64 (N, scales + 1): for each scale the highest smoothed log-odds in it, then the base-2 logarithm
            of its area over 0.01 mm2.
        windows: int64 (N,), how many windows each covers.
        hottest: float64 (scales + 1,), the features of the hottest window by itself; NaN where there is none.
        smoothed: float32 (rows, columns), smoothed log-odds on the first scale.
    """

    labels: NDArray[np.int32]
    features: Floats
    windows: NDArray[np.int64]
    hottest: Floats
    smoothed: NDArray[np.float32]


def find_lesions(probability_map: ProbabilityMap, *, point: SlideOperatingPoint | None = None) -> Lesions:
    """Find the lesions of a slide: regions of the map that reach the operating point.

    Windows that touch at an edge or a corner are one region. Windows that cannot be assessed are never part of one.

    Args:
        probability_map: the slide's map, at any prior.
        point: what counts as a lesion, such as ``bundle.card.slide_points.point``; see :class:`SlideOperatingPoint` for
            how it is applied. None for the general one, which was not chosen for any bundle.

    Raises:
        SlideError: the map states a prior that is no share.
    """
    point = GENERAL_POINT if point is None else point
    regions = grow_regions(probability_map, point)
    evidence = evidence_of(regions.features, point)
    probability = expit(evidence)
    listed = np.flatnonzero((probability >= point.doubtful) & large_enough(regions.windows, probability_map, point))
    order = listed[np.lexsort((listed, -regions.windows[listed], -probability[listed]))]
    boxes = ndimage.find_objects(regions.labels)
    measured = [
        _measured(number, regions.labels, int(label) + 1, boxes[label], float(probability[label]), probability_map)
        for number, label in enumerate(order, start=1)
    ]
    number_of = np.zeros(len(regions.windows) + 1, np.int32)
    number_of[order + 1] = np.arange(1, len(order) + 1)
    return Lesions(
        found=tuple(region for region in measured if region.score >= point.reach),
        uncertain=tuple(region for region in measured if region.score < point.reach),
        regions=number_of[regions.labels],
        score=slide_score(slide_evidence(regions, probability_map, point), point),
        point=point,
        probability_map=probability_map,
        smoothed=expit(regions.smoothed),
    )


def grow_regions(probability_map: ProbabilityMap, point: SlideOperatingPoint) -> Regions:
    """The regions of a map that may be lesions, in the order of their first windows, and the evidence for each.

    Raises:
        SlideError: the map states a prior that is no share.
    """
    step_um = probability_map.stride * probability_map.slide_mpp
    scales = smoothed_log_odds(probability_map, [sigma / step_um for sigma in point.scales_um])
    with np.errstate(invalid="ignore"):
        grown = scales[0] >= logit(point.grow)
    labels, count = ndimage.label(grown, structure=_NEIGHBOURS)
    where = np.flatnonzero(labels)
    label = labels.ravel()[where]
    windows = np.bincount(label, minlength=count + 1)[1:]
    highest = np.full((len(scales), count), -np.inf)
    for scale, values in zip(highest, scales, strict=True):
        np.maximum.at(scale, label - 1, values.ravel()[where])
    area = np.log2(windows * step_um**2 / 1e6 / REFERENCE_MM2)
    return Regions(
        labels=np.asarray(labels, np.int32),
        features=np.vstack([highest, area]).T,
        windows=windows,
        hottest=np.array([*_hottest(scales), math.log2(step_um**2 / 1e6 / REFERENCE_MM2)]),
        smoothed=scales[0],
    )


def _hottest(scales: Sequence[NDArray[np.float32]]) -> list[float]:
    """The smoothed log-odds of the window where they are highest on the first scale."""
    if np.isnan(scales[0]).all():
        return [math.nan] * len(scales)
    at = int(np.nanargmax(scales[0]))
    return [float(values.ravel()[at]) for values in scales]


def evidence_of(features: Floats, point: SlideOperatingPoint) -> Floats:
    """The log-odds that regions with these features, float64 (N, scales + 1), are lesions: float64 (N,)."""
    return np.asarray(features @ np.array(point.weights) + point.intercept, np.float64)


def large_enough(
    windows: NDArray[np.int64], probability_map: ProbabilityMap, point: SlideOperatingPoint
) -> NDArray[np.bool_]:
    """Which regions of so many windows are not too small to be reported."""
    step_um = probability_map.stride * probability_map.slide_mpp
    return np.asarray(windows * step_um**2 / 1e6 >= point.smallest_mm2 * (1 - 1e-9))


def slide_evidence(regions: Regions, probability_map: ProbabilityMap, point: SlideOperatingPoint) -> float:
    """The log-odds of a slide's best region, or of its hottest window where no region was grown.

    So a slide without a region has a score too, and slides can be put in order. NaN where nothing can be assessed.
    """
    reported = regions.features[large_enough(regions.windows, probability_map, point)]
    if len(reported):
        return float(evidence_of(reported, point).max())
    return float(evidence_of(regions.hottest[None], point)[0])


def slide_score(evidence: float, point: SlideOperatingPoint) -> float:
    """P(a slide is positive) from the log-odds of its best region; NaN stays NaN."""
    return float(expit(point.slide_slope * evidence + point.slide_intercept))


def log_odds(probability_map: ProbabilityMap) -> NDArray[np.float32]:
    """The log-odds of tumour in each window at a prior of one half, held between -6 and 6.

    Returns:
        float32 (rows, columns), NaN where nothing can be assessed.

    Raises:
        SlideError: the map states a prior that is no share.
    """
    prior = probability_map.prior
    if not 0 < prior < 1:
        raise SlideError(
            f"the map of {probability_map.slide.name} states a prior of {prior:g}.", hint="Scan the slide again."
        )
    probability = np.where(probability_map.assessable, probability_map.probability, np.nan).astype(np.float64)
    even = logit(np.clip(probability, _CERTAIN, 1 - _CERTAIN)) - logit(prior)
    return np.clip(even, -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT).astype(np.float32)


def smoothed_log_odds(probability_map: ProbabilityMap, sigmas: Sequence[float]) -> list[NDArray[np.float32]]:
    """A map's log-odds, smoothed by Gaussians over the tissue that can be assessed.

    Each window becomes the weighted mean of the tissue around it (normalised convolution, Knutsson and Westin 1993).
    What cannot be assessed neither counts nor gets a value. To smooth log-odds, and not probabilities, lets a region of
    windows that are all a little suspicious weigh as much as a smaller one of certain windows.

    Args:
        probability_map: the slide's map.
        sigmas: standard deviations in windows; 0 for none.

    Returns:
        float32 (rows, columns) for each, NaN where nothing can be assessed.

    Raises:
        SlideError: the map states a prior that is no share.
    """
    even = log_odds(probability_map)
    known = ~np.isnan(even)
    weight, filled = known.astype(np.float32), np.where(known, even, 0)
    return [even if sigma == 0 else _blurred(filled, weight, known, sigma) for sigma in sigmas]


def _blurred(
    filled: NDArray[np.float32], weight: NDArray[np.float32], known: NDArray[np.bool_], sigma: float
) -> NDArray[np.float32]:
    total, share = (
        ndimage.gaussian_filter(values, sigma, mode="constant", truncate=TRUNCATE) for values in (filled, weight)
    )
    return np.divide(total, share, out=np.full_like(total, np.nan), where=known)


def balanced(probability: ArrayLike, middle: float) -> Floats:
    """Probabilities moved along the scale of log-odds until ``middle`` is one half; NaN stays NaN."""
    return np.asarray(expit(_logit(probability) - _logit(middle)), np.float64)


def unbalanced(level: ArrayLike, middle: float) -> Floats:
    """What :func:`balanced` made, moved back."""
    return np.asarray(expit(_logit(level) + _logit(middle)), np.float64)


def named(diameter_um: float) -> str:
    """What a lesion of this longest diameter is called: up to 0.2 mm, up to 2 mm, or above."""
    return ITC if diameter_um <= ITC_UM else MICRO if diameter_um <= MICRO_UM else MACRO


def _logit(probability: ArrayLike) -> Floats:
    inside = np.clip(np.asarray(probability, np.float64), _CERTAIN, 1 - _CERTAIN)
    return np.asarray(logit(inside), np.float64)


def _measured(
    number: int,
    labels: NDArray[np.int32],
    label: int,
    box: tuple[slice, slice],
    score: float,
    probability_map: ProbabilityMap,
) -> Lesion:
    """The region ``label``, which lies in ``box``."""
    step_um = probability_map.stride * probability_map.slide_mpp
    region = labels[box] == label
    rows, columns = np.nonzero(region)
    probability = probability_map.probability[box][region]
    diameter = diameter_of(region) * step_um
    centre = (columns.mean() + box[1].start, rows.mean() + box[0].start)
    return Lesion(
        number=number,
        score=score,
        category=named(diameter),
        diameter_um=diameter,
        area_mm2=len(rows) * step_um**2 / 1e6,
        max_probability=float(probability.max()),
        mean_probability=float(probability.mean(dtype=np.float64)),
        centroid=(
            probability_map.origin[0] + probability_map.stride * float(centre[0]),
            probability_map.origin[1] + probability_map.stride * float(centre[1]),
        ),
        windows=len(rows),
    )


def diameter_of(region: NDArray[np.bool_]) -> float:
    """The longest distance between two corners of a region's squares, in their side's length."""
    rows = np.flatnonzero(region.any(axis=1))
    left = region[rows].argmax(axis=1)
    right = region.shape[1] - region[rows, ::-1].argmax(axis=1)
    x = np.concatenate([left, left, right, right])
    y = np.concatenate([rows, rows + 1, rows, rows + 1])
    hull = shapely.get_coordinates(shapely.convex_hull(shapely.multipoints(np.column_stack([x, y]))))
    return float(max(np.hypot(*(hull - point).T).max() for point in hull))


def _placed(region: NDArray[np.bool_], top: int, left: int, probability_map: ProbabilityMap) -> MultiPolygon:
    """The outline of a part of the map, in level-0 pixels."""
    stride = probability_map.stride
    corner = np.asarray(probability_map.origin) + (np.array([left, top]) - 0.5) * stride
    return shapely.transform(outline(region), lambda points: points * stride + corner)
