"""Outlines of lesions: our tracing against shapely's union of row runs, for sameness and for time.

python benchmarks/outline.py [--masks 1500] [--seed 0]

Random masks of up to 30 x 30 windows, half of them opened, must give the same polygons. Then both are timed in turn,
three times each, on blobs over 700 x 1,700 windows, and the least time of each is printed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from shapely.geometry import MultiPolygon

from sentinode.slides.results.outline import outline

ROUNDS = 3


def by_union(region: NDArray[np.bool_]) -> MultiPolygon:
    """The union of a rectangle for each run of windows in a row, without corners on straight lines."""
    edges = np.diff(np.pad(region, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, left = np.nonzero(edges == 1)
    _, right = np.nonzero(edges == -1)
    union = shapely.union_all(shapely.box(left, row, right, row + 1))
    return MultiPolygon(list(shapely.get_parts(shapely.simplify(union, 0))))


def seconds(trace: Callable[[NDArray[np.bool_]], MultiPolygon], region: NDArray[np.bool_]) -> float:
    began = time.process_time()
    trace(region)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    same = 0
    for i in range(options.masks):
        mask = rng.random(rng.integers(1, 30, 2)) < rng.uniform(0.05, 0.95)
        if i % 2:
            mask = ndimage.binary_opening(mask)
        same += not mask.any() or outline(mask).normalize().equals_exact(by_union(mask).normalize())
    print(f"the same polygons for {same:,} of {options.masks:,} masks")
    blobs = ndimage.gaussian_filter(rng.random((700, 1700)), 4) > 0.5
    times = [(seconds(outline, blobs), seconds(by_union, blobs)) for _ in range(ROUNDS)]
    ours, union = (min(of) for of in zip(*times, strict=True))
    print(f"blobs: tracing {ours:.2f} s, union {union:.2f} s of processor time, ratio {union / ours:.2f}")


if __name__ == "__main__":
    main()
