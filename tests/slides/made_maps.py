"""Maps with known content, and operating points to find their lesions by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from sentinode.model.slide_operating_point import ChosenOn, SlideOperatingPoint
from sentinode.slides.reading.fingerprint import fingerprint
from sentinode.slides.scanning.probability_map import ProbabilityMap, SlideRecord

MPP = 0.972


def made_map(
    probability: ArrayLike,
    *,
    stride: float = 32.0,
    threshold: float = 0.5,
    prior: float = 0.5,
    name: str = "made.tif",
    mpp: float = MPP,
    file: Path | None = None,
    bounds: tuple[int, int, int, int] | None = None,
    quality: ArrayLike | None = None,
) -> ProbabilityMap:
    """A map of these probabilities on a slide that its windows just cover: that in ``file``, or none that there is."""
    array = np.asarray(probability, np.float32)
    content = "5" * 64 if file is None else fingerprint(file)
    width, height = (round(side * stride) for side in array.shape[::-1])
    slide = SlideRecord(name, width, height, mpp, content, bounds)
    return ProbabilityMap(
        array,
        stride,
        (stride / 2, stride / 2),
        MPP,
        threshold,
        prior,
        slide,
        bundle="b" * 64,
        engine="made",
        quality=None if quality is None else np.asarray(quality, np.uint8),
    )


def made_point(
    *,
    scales_um: tuple[float, ...] = (0.0,),
    grow: float = 0.5,
    weights: tuple[float, ...] | None = None,
    intercept: float = 0.0,
    reach: float = 0.5,
    **others: object,
) -> SlideOperatingPoint:
    """A point by which each window of P(tumour) 0.5 and more, at a prior of one half, is in a lesion, unless told
    otherwise; P(a region is a lesion) is then the highest P(tumour) in it."""
    return SlideOperatingPoint(
        scales_um=scales_um,
        grow=grow,
        weights=(1.0, *[0.0] * len(scales_um)) if weights is None else weights,
        intercept=intercept,
        reach=reach,
        chosen_on=ChosenOn(description="made by hand", slides=0, positive=0, negative=0, lesions=0),
        **others,  # type: ignore[arg-type]
    )


def blob(
    rows: int, columns: int, *boxes: tuple[int, int, int, int], high: float = 0.95, low: float = 0.05
) -> np.ndarray:
    """``low`` everywhere, ``high`` in each box (top, left, bottom, right)."""
    array = np.full((rows, columns), low, np.float32)
    for top, left, bottom, right in boxes:
        array[top:bottom, left:right] = high
    return array


def asap(path: Path, *polygons: list[tuple[float, float]], group: str = "Tumor") -> Path:
    """An ASAP file of these polygons."""
    regions = "".join(
        f'<Annotation Name="Annotation {i}" Type="Polygon" PartOfGroup="{group}"><Coordinates>'
        + "".join(f'<Coordinate Order="{o}" X="{x}" Y="{y}"/>' for o, (x, y) in enumerate(points))
        + "</Coordinates></Annotation>"
        for i, points in enumerate(polygons)
    )
    path.write_text(
        f'<?xml version="1.0"?>\n<ASAP_Annotations><Annotations>{regions}</Annotations></ASAP_Annotations>',
        encoding="utf-8",
    )
    return path


def square(left: float, top: float, side: float) -> list[tuple[float, float]]:
    """The corners of a square."""
    return [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]
