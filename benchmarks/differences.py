"""The picture of where two maps of a slide differ most: both maps, their difference, and the windows themselves.

Used by benchmarks/dense.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.special import logit

from sentinode.slides.reading.slide import open_slide
from sentinode.slides.scanning.probability_map import ProbabilityMap

SHOWN = 8
"""Windows that are shown, the largest difference first."""

AROUND = 1.0
"""Windows' sides of surroundings that are shown on each side of a window."""


def logits(probability_map: ProbabilityMap) -> NDArray[np.float64]:
    """The log-odds of a map, (rows, columns); NaN where there is no tissue."""
    return np.asarray(logit(np.clip(probability_map.probability.astype(np.float64), 1e-6, 1 - 1e-6)))


def largest(difference: NDArray[np.float64], apart: int, count: int) -> list[tuple[int, int]]:
    """Row and column of the largest absolute differences, no two of them nearer than ``apart`` in both."""
    order = np.argsort(np.nan_to_num(-np.abs(difference), nan=np.inf), axis=None)
    found: list[tuple[int, int]] = []
    for row, column in zip(*np.unravel_index(order, difference.shape), strict=True):
        if len(found) == count or np.isnan(difference[row, column]):
            break
        if all(max(abs(row - r), abs(column - c)) >= apart for r, c in found):
            found.append((int(row), int(column)))
    return found


def draw(
    out: Path, slide: Path, maps: Mapping[str, ProbabilityMap], truth: Mapping[tuple[int, int], int], cell: int
) -> None:
    """Draw two maps of a mosaic, their difference and the windows that differ most.

    Args:
        out: the PNG.
        slide: the mosaic.
        maps: two maps of it by the names of their readings.
        truth: the label of the cell whose corner lies at (x, y) in level-0 pixels.
        cell: side of a cell, and of a window, in level-0 pixels.
    """
    (one, first), (other, second) = maps.items()
    difference = logits(second) - logits(first)
    places = largest(difference, round(3 * cell / first.stride), SHOWN)
    figure = Figure(figsize=(12, 11), layout="constrained")
    rows = [[one] * 4 + [other] * 4 + ["difference"] * 4]
    rows += [[str(number) for number in range(start, start + 4) for _ in range(3)] for start in (0, 4)]
    axes = figure.subplot_mosaic(rows, height_ratios=[1.6, 1, 1])
    for name, probability_map in maps.items():
        axes[name].imshow(probability_map.probability, vmin=0, vmax=1, cmap="inferno")
        axes[name].set_title(f"P(tumour), {name}")
    shown = axes["difference"].imshow(difference, vmin=-6, vmax=6, cmap="coolwarm")
    axes["difference"].set_title(f"logit, {other} minus {one}")
    figure.colorbar(shown, ax=axes["difference"], shrink=0.7)
    x, y = first.centres()
    side = round(cell * (1 + 2 * AROUND))
    with open_slide(slide) as opened:
        for number, (row, column) in enumerate(places):
            axis, centre = axes[str(number)], (x[column], y[row])
            left, top = (place - side / 2 for place in centre)
            axis.imshow(opened.region(left, top, side, side, opened.mpp))
            axis.add_patch(Rectangle((AROUND * cell, AROUND * cell), cell, cell, fill=False, edgecolor="yellow"))
            corner = int(centre[0] // cell * cell), int(centre[1] // cell * cell)
            label = {0: "normal", 1: "tumour"}.get(truth.get(corner, -1), "no cell")
            seen = (f"{name} {each.probability[row, column]:.2f}" for name, each in maps.items())
            axis.set_title(f"{', '.join(seen)}, is {label}", fontsize=8)
    for axis in axes.values():
        axis.set_axis_off()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
