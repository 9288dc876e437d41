"""How the cost of a scan grows with the tissue: docs/how-to/speed.md.

    python benchmarks/growth.py --data SHARED/data [--weights BUNDLE] [--reading dense] [--rounds 3] [--work DIR]

Builds slides at 0.25 microns a pixel whose glass and tissue grow together: 1, 4 and 16 times 8 square millimetres of
tissue. Scans them in turn, from the start of the command to its last file, fits a straight line to the medians, and
prints how far each lies from it. Without ``--weights`` it takes the bundled model.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path

import numpy as np
from big_slide import TILE, build
from measure import Run, measure

from sentinode.model.hardware import choose_device, describe

TIMES = (1, 4, 16)
SIDE = 8
"""Tiles along a square of tissue: 1 mm."""


def main() -> None:
    arguments = _parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(f"{describe(choose_device('cpu'))}\n")
    slides = {times: _slide(times, arguments) for times in TIMES}
    for reading in arguments.reading:
        runs: dict[int, list[Run]] = {times: [] for times in TIMES}
        areas: dict[int, float] = {}
        for number in range(arguments.rounds):
            for times in TIMES if number % 2 == 0 else TIMES[::-1]:
                run, areas[times] = _scan(slides[times], reading, arguments)
                runs[times].append(run)
        _print(reading, runs, areas)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds slides/camelyon17")
    parser.add_argument("--weights", type=Path, help="a bundle (default: the bundled model)")
    parser.add_argument("--reading", nargs="+", choices=("patch", "dense"), default=["dense"])
    parser.add_argument("--stride", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/growth"), help="where slides and maps go")
    return parser.parse_args()


def _slide(times: int, arguments: argparse.Namespace) -> Path:
    """A slide of a third tissue: 2 x 4 squares on 24 square millimetres, and so on."""
    across = round(times**0.5)
    pitch = SIDE * 3 // 2
    squares = [(1 + pitch * x, 1 + 2 * SIDE * y) for y in range(2 * across) for x in range(4 * across)]
    width, height = (4 * across * pitch + 2) * TILE, (4 * across * SIDE + 2) * TILE
    return build(arguments.work / f"growth-{times}.tif", arguments.data, width, height, squares, SIDE)


def _scan(slide: Path, reading: str, arguments: argparse.Namespace) -> tuple[Run, float]:
    """One scan, and the square millimetres of tissue that it found."""
    out = arguments.work / f"{slide.stem}-{reading}"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "sentinode", "scan", *([arguments.weights] if arguments.weights else []), slide]
    run = measure([*command, "--out", out, "--reading", reading, "--stride", arguments.stride])
    totals = json.loads((out / slide.stem / "lesions.json").read_text())
    return run, float(totals["scanned_mm2"])


def _print(reading: str, runs: dict[int, list[Run]], areas: dict[int, float]) -> None:
    mm2 = np.array([areas[times] for times in TIMES])
    print(f"\n{reading}\n\n| tissue mm2 | seconds | off the line | processor s | off the line | peak MiB |")
    print("|---|---|---|---|---|---|")
    columns, lines = [], []
    for name in ("seconds", "processor_seconds"):
        medians = np.array([statistics.median(getattr(run, name) for run in runs[times]) for times in TIMES])
        # Each point weighs by its relative error: else the largest slide alone decides.
        slope, start = np.polyfit(mm2, medians, 1, w=1 / medians)
        columns += [medians, (medians - start - slope * mm2) / medians]
        lines.append(f"{name.replace('_', ' ')}: {start:.1f} + {slope:.3f} a mm2")
    for number, times in enumerate(TIMES):
        seconds, off, processor, processor_off = (column[number] for column in columns)
        peak = max(run.peak_mib for run in runs[times])
        cells = f"{mm2[number]:.1f}", f"{seconds:.1f}", f"{off:+.1%}", f"{processor:.1f}", f"{processor_off:+.1%}"
        print("| " + " | ".join([*cells, f"{peak:,.0f}"]) + " |")
    print("\n" + "\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
