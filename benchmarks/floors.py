"""The least time that a scan can take: decoding the tiles of the tissue, and the network's arithmetic over the tissue.

Shared by benchmarks/dense.py. Neither floor counts finding the tissue, starting, or writing files.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import tifffile
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from sentinode.model.bundle import Bundle
from sentinode.model.classifier import Classifier
from sentinode.slides.scanning.probability_map import ProbabilityMap

FLOP_PER_CYCLE = 64
"""Float32 operations that one core does in a cycle with AVX-512: 16 lanes, 2 units, a product and a sum in each."""

THREADS = 2
"""Threads that decode."""


@dataclass(frozen=True)
class Cycles:
    """How fast the cores run.

    Attributes:
        ghz: cycles a second of one core, in thousand millions.
        source: where the figure comes from.
        cores: how many cores compute.
    """

    ghz: float
    source: str
    cores: int

    @property
    def flops(self) -> float:
        """Float32 operations a second of all cores."""
        return FLOP_PER_CYCLE * self.ghz * 1e9 * self.cores

    def __str__(self) -> str:
        return f"{self.cores} cores x {FLOP_PER_CYCLE} flop x {self.ghz:.2f} GHz ({self.source})"


def cycles(ghz: float | None = None) -> Cycles:
    """The cycle rate as given, else the highest that the system states, else the present one."""
    cores = psutil.cpu_count(logical=False) or 1
    if ghz is not None:
        return Cycles(ghz, "given by --ghz", cores)
    stated = psutil.cpu_freq()
    if stated is None:
        raise SystemExit("the system does not state its cycle rate: give --ghz.")
    highest = stated.max > 0
    return Cycles(
        (stated.max if highest else stated.current) / 1000,
        "the highest that the system states" if highest else "the rate that the system states",
        cores,
    )


def matrix_flops(side: int = 2048, rounds: int = 5) -> float:
    """Float32 operations a second that a matrix product of PyTorch reaches: what this machine can do in practice."""
    matrix = torch.rand(side, side)
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        matrix @ matrix
        taken.append(time.perf_counter() - began)
    return 2 * side**3 / min(taken)


def network_flop(bundle: Bundle, probability_map: ProbabilityMap) -> float:
    """Operations of the network's backbone if it meets each pixel of the tissue once; a product and a sum are two.

    The tissue is one square of a stride's side for each window, at the network's resolution. The head is left out.
    """
    network = bundle.classifier()
    assert isinstance(network, Classifier)
    side = 4 * network.geometry.size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.features(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    step = probability_map.stride * probability_map.slide_mpp / probability_map.mpp
    return counter.get_total_flops() / side**2 * int(probability_map.tissue.sum()) * step**2


@dataclass(frozen=True)
class Decoding:
    """Decoding some tiles once: how many pixels in how long."""

    seconds: float
    megapixels: float


def decode_tissue(slide: Path, probability_map: ProbabilityMap, window: int) -> Decoding:
    """Decode each tile of a TIFF's first level that holds part of a window of tissue, in ``THREADS`` threads.

    Args:
        slide: a tiled TIFF with the windows' resolution at level 0, such as a mosaic.
        probability_map: of the slide.
        window: side of a window in level-0 pixels.
    """
    content = np.memmap(slide, np.uint8, "r")
    with tifffile.TiffFile(slide) as file:
        page = file.pages.first
        numbers = touched_tiles(probability_map, window, page.tilelength, page.tilewidth, page.imagewidth)

        def decode(number: int) -> int:
            start, length = page.dataoffsets[number], page.databytecounts[number]
            tile = page.decode(content[start : start + length].tobytes(), number, jpegtables=page.jpegtables)[0]
            return int(tile.shape[-3] * tile.shape[-2])

        with ThreadPoolExecutor(THREADS) as threads:
            began = time.perf_counter()
            pixels = sum(threads.map(decode, numbers))
            return Decoding(time.perf_counter() - began, pixels / 1e6)


def touched_tiles(probability_map: ProbabilityMap, window: int, height: int, width: int, across: int) -> list[int]:
    """The numbers of the tiles of ``height`` x ``width`` pixels that hold part of a window of tissue, row by row.

    Args:
        probability_map: says where the windows are.
        window: side of a window in pixels, not above a tile's.
        height: of a tile.
        width: of a tile.
        across: the image's width in pixels.
    """
    x, y = probability_map.centres()
    rows, columns = np.nonzero(probability_map.tissue)
    slide = probability_map.slide
    found: set[int] = set()
    for dy in (-window / 2, window / 2 - 1):
        down = _tiles(y[rows] + dy, slide.height, height)
        for dx in (-window / 2, window / 2 - 1):
            numbers = down * -(-across // width) + _tiles(x[columns] + dx, slide.width, width)
            found.update(np.unique(numbers).tolist())
    return sorted(found)


def _tiles(places: NDArray[np.float64], length: int, tile: int) -> NDArray[np.int64]:
    """The row or column of the tile that holds each place; places outside the slide count to its edge."""
    return np.clip(places, 0, length - 1).astype(np.int64) // tile
