"""From a map to lesions: smoothed, thresholded, connected, measured, and named by size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.special import expit, logit
from shapely.geometry import MultiPolygon

from sentinode.errors import SlideError
from sentinode.slides.results.outline import outline
from sentinode.slides.scanning.probability_map import ProbabilityMap

SIGMA_UM = 32.0
"""Standard deviation of the smoothing in microns: one window at the default stride of 32 pixels."""

ITC_UM, MICRO_UM = 200.0, 2000.0
"""Longest diameters in microns up to which a lesion counts as isolated tumour cells, or as a micrometastasis
(AJCC Cancer Staging Manual, 8th edition, breast). Its other limit, 200 cells, cannot be counted on a map."""

NEGATIVE, ITC, MICRO, MACRO = "negative", "isolated tumour cells", "micrometastasis", "macrometastasis"
CATEGORIES = (NEGATIVE, ITC, MICRO, MACRO)
"""What a slide or node can hold, from nothing to the worst."""

_NEIGHBOURS = np.ones((3, 3), np.bool_)  # windows that touch at a corner belong together
_CERTAIN = 1e-6  # how near to 0 and 1 a probability may come before its logit


@dataclass(frozen=True)
class Lesion:
    """A connected region of a slide that the bundle calls tumour.

    Attributes:
        number: 1 for the slide's largest, and so on by diameter.
        category: ``isolated tumour cells``, ``micrometastasis`` or ``macrometastasis``.
        diameter_um: the longest distance between two of its points.
        area_mm2: the area of its windows.
        max_probability: the highest P(tumour) of its windows, before smoothing.
        mean_probability: their mean.
        centroid: (x, y) in level-0 pixels.
        windows: how many windows of the map it covers.
    """

    number: int
    category: str
    diameter_um: float
    area_mm2: float
    max_probability: float
    mean_probability: float
    centroid: tuple[float, float]
    windows: int


@dataclass(frozen=True)
class Lesions:
    """The lesions of one slide, the largest first.

    Attributes:
        found: their measurements.
        labels: int32 (rows, columns) of the map, the number of the lesion that a window belongs to, or 0.
        score: the slide's score: the highest smoothed P(tumour), so that one hot window alone does not make a
            slide positive; NaN where the slide has no tissue.
        sigma_um: standard deviation of the smoothing in microns.
        threshold: the smoothed P(tumour) from which a window belongs to a lesion.
        map: where they were found.
        smoothed: float32 (rows, columns), the map as :func:`smooth` made it, in which they were found.
    """

    found: tuple[Lesion, ...]
    labels: NDArray[np.int32]
    score: float
    sigma_um: float
    threshold: float
    map: ProbabilityMap
    smoothed: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Lesion]:
        return iter(self.found)

    @property
    def category(self) -> str:
        """The slide's: that of its largest lesion, or ``negative``."""
        return self.found[0].category if self.found else NEGATIVE

    def outlines(self) -> Iterator[tuple[Lesion, MultiPolygon]]:
        """Each lesion with its outline in level-0 pixels, one at a time: valid, holes left open.

        The outline follows the windows' squares exactly, so its area is the lesion's.
        """
        for lesion, box in zip(self.found, ndimage.find_objects(self.labels), strict=True):
            yield lesion, _placed(self.labels[box] == lesion.number, box[0].start, box[1].start, self.map)


def find_lesions(map: ProbabilityMap, *, sigma_um: float = SIGMA_UM) -> Lesions:
    """Find the lesions of a slide: the map smoothed, cut at its own threshold, and its regions measured.

    Windows that touch at an edge or a corner are one region.

    Args:
        map: the slide's map, with the threshold that its bundle was given.
        sigma_um: standard deviation of the Gaussian in microns; 0 for none.

    Raises:
        SlideError: ``sigma_um`` is negative or not a number.
    """
    smoothed = smooth(map, sigma_um=sigma_um)
    labels, count = ndimage.label(smoothed >= map.threshold, structure=_NEIGHBOURS)
    step_um = map.stride * map.slide_mpp
    measured = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        region = labels[box] == label
        rows, columns = np.nonzero(region)
        probability = map.probability[box][region]
        diameter = _diameter(region) * step_um
        centre = (columns.mean() + box[1].start, rows.mean() + box[0].start)
        lesion = Lesion(
            number=label,
            category=named(diameter),
            diameter_um=diameter,
            area_mm2=len(rows) * step_um**2 / 1e6,
            max_probability=float(probability.max()),
            mean_probability=float(probability.mean(dtype=np.float64)),
            centroid=(
                map.origin[0] + map.stride * float(centre[0]),
                map.origin[1] + map.stride * float(centre[1]),
            ),
            windows=len(rows),
        )
        measured.append(lesion)
    measured.sort(key=lambda lesion: (-lesion.diameter_um, -lesion.windows, lesion.number))
    rank = np.zeros(count + 1, np.int32)
    rank[[lesion.number for lesion in measured]] = np.arange(1, count + 1)
    found = tuple(Lesion(**{**vars(lesion), "number": number}) for number, lesion in enumerate(measured, start=1))
    score = float(np.nanmax(smoothed)) if map.tissue.any() else math.nan
    return Lesions(found, rank[labels], score, sigma_um, map.threshold, map, smoothed)


def smooth(map: ProbabilityMap, *, sigma_um: float = SIGMA_UM) -> NDArray[np.float32]:
    """The map's probabilities, smoothed by a Gaussian over tissue alone.

    Each window becomes the weighted mean of the tissue around it (normalised convolution, Knutsson and Westin
    1993); what is not tissue neither counts nor gets a value. The mean is taken on the scale on which the
    threshold is one half: so the correction of the prior, which moves probabilities and threshold alike,
    changes no lesion, and one certain window does not spread over its neighbours where the threshold is low.

    Args:
        map: the slide's map.
        sigma_um: standard deviation in microns; 0 for none.

    Returns:
        float32 (rows, columns) on the map's own scale, NaN outside tissue.

    Raises:
        SlideError: ``sigma_um`` is negative or not a number.
    """
    if not sigma_um >= 0 or math.isinf(sigma_um):
        raise SlideError(
            f"a smoothing of {sigma_um} um makes no sense.", hint="Give microns of zero or more, such as 32."
        )
    if sigma_um == 0:
        return map.probability
    sigma = sigma_um / (map.stride * map.slide_mpp)
    tissue = map.tissue
    even = np.where(tissue, balanced(map.probability, map.threshold), 0.0)
    weight = ndimage.gaussian_filter(tissue.astype(np.float64), sigma, mode="constant")
    total = ndimage.gaussian_filter(even, sigma, mode="constant")
    mean = np.divide(total, weight, out=np.full_like(total, np.nan), where=tissue)
    return unbalanced(mean, map.threshold).astype(np.float32)


def balanced(probability: ArrayLike, threshold: float) -> NDArray[np.float64]:
    """Probabilities moved along the scale of log-odds until the threshold is one half; NaN stays NaN."""
    return np.asarray(expit(_logit(probability) - _logit(threshold)), np.float64)


def unbalanced(level: ArrayLike, threshold: float) -> NDArray[np.float64]:
    """What :func:`balanced` made, moved back."""
    return np.asarray(expit(_logit(level) + _logit(threshold)), np.float64)


def named(diameter_um: float) -> str:
    """What a lesion of this longest diameter is called: up to 0.2 mm, up to 2 mm, or above."""
    return ITC if diameter_um <= ITC_UM else MICRO if diameter_um <= MICRO_UM else MACRO


def _logit(probability: ArrayLike) -> NDArray[np.float64]:
    even = np.clip(np.asarray(probability, np.float64), _CERTAIN, 1 - _CERTAIN)
    return np.asarray(logit(even), np.float64)


def _diameter(region: NDArray[np.bool_]) -> float:
    """The longest distance between two corners of a region's squares, in their side's length."""
    rows = np.flatnonzero(region.any(axis=1))
    left = region[rows].argmax(axis=1)
    right = region.shape[1] - region[rows, ::-1].argmax(axis=1)
    x = np.concatenate([left, left, right, right])
    y = np.concatenate([rows, rows + 1, rows, rows + 1])
    hull = shapely.get_coordinates(shapely.convex_hull(shapely.multipoints(np.column_stack([x, y]))))
    return float(max(np.hypot(*(hull - point).T).max() for point in hull))


def _placed(region: NDArray[np.bool_], top: int, left: int, map: ProbabilityMap) -> MultiPolygon:
    """The outline of a part of the map, in level-0 pixels."""
    corner = np.asarray(map.origin) + (np.array([left, top]) - 0.5) * map.stride
    return shapely.transform(outline(region), lambda points: points * map.stride + corner)
