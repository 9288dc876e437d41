"""The most memory that a scan holds, on slides of one and of many gigapixels: docs/how-to/speed.md.

    python benchmarks/memory.py --data SHARED/data [--weights BUNDLE] [--reading patch dense] [--work DIR]

Builds two slides at 0.25 microns a pixel: one of 12,500 x 25,000 pixels, and one of 100,000 x 200,000, which is 25 x 50
mm of glass. Tissue crosses each from side to side, and lies in two squares besides. Scans each and prints the peak of
the process tree: what its processes hold together, shared pages counted once. ``--first`` empties the cache of
compiled networks before each scan, so that it also counts what compiling takes. Without ``--weights`` it takes the
bundled model.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from big_slide import TILE, build
from measure import measure

SIZES = {"small": (12_500, 25_000), "large": (100_000, 200_000)}
SIDE = 8
"""Tiles along a square of tissue: 1 mm."""


def main() -> None:
    arguments = _parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    print("| slide | reading | seconds | processor s | peak MiB |\n|---|---|---|---|---|", flush=True)
    for name in arguments.slide:
        slide = build(arguments.work / f"sparse-{name}.tif", arguments.data, *SIZES[name], _squares(*SIZES[name]), SIDE)
        for reading in arguments.reading:
            print(_row(slide, name, reading, arguments), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds slides/camelyon17")
    parser.add_argument("--weights", type=Path, help="a bundle (default: the bundled model)")
    parser.add_argument("--slide", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--reading", nargs="+", choices=("patch", "dense"), default=["patch", "dense"])
    parser.add_argument("--stride", type=int, default=32)
    parser.add_argument("--first", action="store_true", help="scan without networks that were compiled before")
    parser.add_argument("--work", type=Path, default=Path("runs/memory"), help="where slides and maps go")
    return parser.parse_args()


def _squares(width: int, height: int) -> list[tuple[int, int]]:
    """A ribbon of squares from side to side, in the middle of the height, and one square above and one below."""
    columns, rows = width // TILE, height // TILE
    ribbon = [(column, rows // 2) for column in range(0, columns - SIDE, SIDE)]
    return [*ribbon, (columns // 3, rows // 8), (columns // 3, rows - rows // 8)]


def _row(slide: Path, name: str, reading: str, arguments: argparse.Namespace) -> str:
    out, cache = arguments.work / f"{name}-{reading}", arguments.work / "cache"
    shutil.rmtree(out, ignore_errors=True)
    if arguments.first:
        shutil.rmtree(cache, ignore_errors=True)
    command = [sys.executable, "-m", "sentinode", "scan", *([arguments.weights] if arguments.weights else []), slide]
    command += ["--out", out, "--reading", reading, "--stride", arguments.stride]
    run = measure(command, environment={**os.environ, "SENTINODE_CACHE": str(cache.resolve())})
    return f"| {name} | {reading} | {run.seconds:.0f} | {run.processor_seconds:.0f} | {run.peak_mib:,.0f} |"


if __name__ == "__main__":
    main()
