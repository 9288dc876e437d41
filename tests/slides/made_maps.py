"""Maps with known content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

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
