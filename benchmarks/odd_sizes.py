"""One mosaic stored with even and odd sizes, and with a resolution stated a little off: for docs/how-to/scan.md.

    python benchmarks/odd_sizes.py --data SHARED/data --weights BUNDLE [--cells 40 50] [--work DIR]

Lays patches of valid side by side at 0.486 um per pixel, each pixel four times, in a pyramid whose level 1 so holds the
patches themselves, and stores it again with a column, a row or both more, and with a resolution of 0.486188. Scans each
at stride 96, so that every patch is one window. Prints a Markdown table: windows that are not the patch to the last
bit, the AUC, and how many windows lie on the other side of the threshold than in the even mosaic.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from sentinode.model.bundle import load
from sentinode.model.engines import open_engine
from sentinode.patches import open_data
from sentinode.scoring import auc
from sentinode.slides.reading.slide import open_slide
from sentinode.slides.scanning.scan import lay_grid, scan_slide
from sentinode.slides.scanning.tissue import Tissue

CELL, TILE, LEVELS = 96, 256, 4
VARIANTS = {
    "even sizes": (0, 0, 0.486),
    "a column more": (1, 0, 0.486),
    "a row more": (0, 1, 0.486),
    "both": (1, 1, 0.486),
    "0.486188 um stated": (0, 0, 0.486188),
}
"""Columns and rows that are added, and the resolution that is stated."""

Pixels = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds pcam/")
    parser.add_argument("--weights", type=Path, required=True, help="a bundle")
    parser.add_argument("--cells", type=int, nargs=2, default=(40, 50), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--work", type=Path, default=Path("runs/odd-sizes"), help="where the mosaics go")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows, columns = arguments.cells
    valid = open_data(arguments.data / "pcam")["valid"]
    chosen = np.sort(np.random.default_rng(0).permutation(len(valid.labels))[: rows * columns])
    patches, labels = valid.images[chosen], np.asarray(valid.labels)[chosen]
    cells = patches.reshape(rows, columns, CELL, CELL, 3)
    mosaic = cells.transpose(0, 2, 1, 3, 4).reshape(rows * CELL, columns * CELL, 3)
    bundle = load(arguments.weights)
    engine = open_engine(bundle, device="cpu", precision="float32")
    print(f"{rows * columns:,} patches, {labels.sum():,} of tumour\n")
    print("| mosaic | windows that are not the patch | AUC | verdicts changed |\n|---|---|---|---|")
    even = None
    for name, (wider, higher, mpp) in VARIANTS.items():
        path = write(arguments.work / f"{wider}{higher}-{mpp}.tif", mosaic, wider, higher, mpp)
        with open_slide(path) as slide:
            grid = lay_grid(slide, bundle.card.mpp, CELL)
            boxes = [grid.box(slice(r, r + 1), slice(c, c + 1), CELL) for r in range(rows) for c in range(columns)]
            seen = slide.regions(boxes, grid.mpp)
            off = sum((window != patch).any() for window, patch in zip(seen, patches, strict=True))
            everywhere = Tissue(np.ones((rows * 12 + 1, columns * 12 + 1), np.bool_), 16.0, 7.776, mosaic[:1, :1])
            found = scan_slide(slide, everywhere, bundle, engine, stride=CELL, prior=bundle.card.prior, show=False)
        probability = found.probability[:rows, :columns].ravel()
        verdict = probability >= found.threshold
        even = verdict if even is None else even
        print(f"| {name} | {off:,} | {auc(labels, probability):.4f} | {(verdict != even).sum()} |", flush=True)


def write(path: Path, mosaic: Pixels, wider: int, higher: int, mpp: float) -> Path:
    """The mosaic at twice its resolution, with its last column and row again so many times more."""
    level = np.pad(mosaic.repeat(2, 0).repeat(2, 1), ((0, higher), (0, wider), (0, 0)), mode="edge")
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for i in range(LEVELS):
            tiff.write(
                level,
                photometric="rgb",
                tile=(TILE, TILE),
                compression="zlib",
                compressionargs={"level": 1},
                subfiletype=int(i > 0),
                resolution=(1e4 / mpp / 2**i,) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )
            height, width = level.shape[0] // 2 * 2, level.shape[1] // 2 * 2
            even = level[:height, :width].astype(np.uint16)
            level = ((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2] + 2) // 4).astype(np.uint8)
    return path


if __name__ == "__main__":
    main()
