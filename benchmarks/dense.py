"""Scan patch by patch and densely, in turn: the table of docs/how-to/speed.md.

    python benchmarks/dense.py --data SHARED/data --weights BUNDLE [--mosaic small] [--stride 32] [--device cpu]

Builds the mosaics as benchmarks/mosaic.py does, and scans each by ``sentinode scan`` with ``--reading patch`` and with
``--reading dense``, from the start of the command to its last file. The bundle's dense reading must have been measured:
``sentinode check BUNDLE DATA``. Prints seconds and processor seconds (medians over the rounds), their ratios, and how
the two maps agree: correlation of the logits over all windows, and the AUC of each at the cells' centres.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path

import numpy as np
from measure import Run, measure
from mosaic import CELL, MOSAICS, build, read_cells
from scipy.special import logit

from sentinode.model.hardware import choose_device, describe
from sentinode.scoring import auc
from sentinode.slides.scanning.probability_map import ProbabilityMap, open_map

READINGS = ("patch", "dense")


def main() -> None:
    arguments = _parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(f"{describe(choose_device(arguments.device))}\n")
    columns = ("mosaic, stride", "reading", "tiles", "seconds", "processor s", "peak MiB", "times faster",
               "processor ratio", "AUC at the cells' centres", "correlation of logits")  # fmt: skip
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    for name in arguments.mosaic:
        slide = build(name, arguments.data, arguments.work)
        for stride in arguments.stride:
            compare(slide, name, stride, arguments)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds pcam/ and slides/")
    parser.add_argument("--weights", type=Path, required=True, help="a bundle whose dense reading was measured")
    parser.add_argument("--mosaic", nargs="+", choices=list(MOSAICS), default=["small"])
    parser.add_argument("--stride", nargs="+", type=int, default=[32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--work", type=Path, default=Path("runs/mosaic"), help="where mosaics and maps go")
    return parser.parse_args()


def compare(slide: Path, name: str, stride: int, arguments: argparse.Namespace) -> None:
    """Scan a mosaic both ways in turn, and print a row for each."""
    runs: dict[str, list[Run]] = {reading: [] for reading in READINGS}
    outs = {reading: arguments.work / f"{name}-{stride}-{reading}" for reading in READINGS}
    for number in range(arguments.rounds):
        for reading in READINGS if number % 2 == 0 else READINGS[::-1]:
            shutil.rmtree(outs[reading], ignore_errors=True)
            command = [sys.executable, "-m", "sentinode", "scan", arguments.weights, slide, "--out", outs[reading]]
            options = ["--stride", stride, "--reading", reading, "--device", arguments.device]
            runs[reading].append(measure([*command, *options, "--precision", arguments.precision]))
    maps = {reading: open_map(out / slide.stem) for reading, out in outs.items()}
    base = runs["patch"]
    for reading in READINGS:
        mine, probability_map = runs[reading], maps[reading]
        cells = (
            f"{name}, {stride}", reading, f"{int(probability_map.tissue.sum()):,}",
            f"{_median(run.seconds for run in mine):.0f}", f"{_median(run.processor_seconds for run in mine):.0f}",
            f"{max(run.peak_mib for run in mine):,.0f}",
            f"{_median(a.seconds / b.seconds for a, b in zip(base, mine, strict=True)):.2f}",
            f"{_median(a.processor_seconds / b.processor_seconds for a, b in zip(base, mine, strict=True)):.2f}",
            f"{_auc(probability_map, slide):.4f}", f"{_correlation(probability_map, maps['patch']):.4f}",
        )  # fmt: skip
        print("| " + " | ".join(cells) + " |", flush=True)


def _median(values: object) -> float:
    return statistics.median(values)  # type: ignore[call-overload, no-any-return]


def _auc(probability_map: ProbabilityMap, slide: Path) -> float:
    x, y, label, _ = read_cells(slide.with_suffix(".cells.csv"))
    seen = np.array([probability_map.at(cx + CELL / 2, cy + CELL / 2) for cx, cy in zip(x, y, strict=True)])
    return float(auc(label, np.nan_to_num(seen, nan=0.0)))


def _correlation(one: ProbabilityMap, other: ProbabilityMap) -> float:
    logits = [logit(np.clip(each.probability[one.tissue].astype(float), 1e-6, 1 - 1e-6)) for each in (one, other)]
    return float(np.corrcoef(*logits)[0, 1])


if __name__ == "__main__":
    main()
