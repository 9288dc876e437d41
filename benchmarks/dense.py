"""Scan patch by patch and densely, in turn: how fast, how near the least time, and how well both readings agree.

    python benchmarks/dense.py --data SHARED/data --weights BUNDLE [--mosaic small large] [--stride 32] [--rounds 3]
                               [--cohorts 0 1 2] [--picture PNG] [--device cpu] [--ghz 3.7]

The bundle's dense reading must have been measured: ``sentinode check BUNDLE DATA``. Every scan is the whole command
``sentinode scan``, from its start to its last file, with ``--reading patch`` and ``--reading dense`` in turn.

Mosaics are built as benchmarks/mosaic.py does. A row for each reading: seconds and processor seconds (medians over the
rounds), peak memory of the process tree, how many times faster than patch by patch, AUC at the cells' centres, and the
correlation of its logits with those of patch by patch. Beside them two floors (see benchmarks/floors.py): decoding the
tiles that hold tissue, and the arithmetic of the network if it meets each pixel of the tissue once.

The five tiles of DATA/slides/camelyon17 are real tissue without annotations: the correlation of the logits alone.
With --cohorts, slides with known truth are built by their seeds as benchmarks/cohort.py does, and the AUC of the
slides' scores is told for both readings. --picture draws the windows that differ most, see benchmarks/differences.py.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cohort
import numpy as np
from differences import draw, logits
from floors import cycles, decode_tissue, matrix_flops, network_flop
from measure import Run, measure
from mosaic import CELL, MOSAICS, build, read_cells

from sentinode.model.bundle import load
from sentinode.model.hardware import choose_device, describe
from sentinode.scoring import auc
from sentinode.slides.scanning.manifest import DONE, read_states
from sentinode.slides.scanning.probability_map import ProbabilityMap, open_map

READINGS = ("patch", "dense")
TILES_MPP = 0.25
"""Microns per pixel of the tiles of Camelyon17."""


def main() -> None:
    arguments = _parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    rate = cycles(arguments.ghz)
    print(f"{describe(choose_device(arguments.device))}. Network floor: {rate} = {rate.flops / 1e9:.0f} GFLOP/s; "
          f"a matrix product in float32 reaches {matrix_flops() / 1e9:.0f} GFLOP/s here.\n")  # fmt: skip
    _heads("mosaic, stride", "reading", "engine", "tiles", "seconds", "processor s", "peak MiB", "times faster",
           "processor ratio", "decode floor, s", "network floor, s", "times the floors", "AUC at the cells' centres",
           "correlation of logits")  # fmt: skip
    for name in arguments.mosaic:
        slide = build(name, arguments.data, arguments.work)
        for stride in arguments.stride:
            compare(slide, name, stride, arguments)
    tiles = sorted((arguments.data / "slides" / "camelyon17").glob("*.jpeg"))
    if tiles:
        compare_tiles(tiles, arguments)
    else:
        print("\nThe tiles of Camelyon17 are not there, and were left out.")
    if arguments.cohorts:
        compare_cohorts(arguments)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds pcam/ and slides/")
    parser.add_argument("--weights", type=Path, required=True, help="a bundle whose dense reading was measured")
    parser.add_argument("--mosaic", nargs="*", choices=list(MOSAICS), default=["small"])
    parser.add_argument("--stride", nargs="+", type=int, default=[32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cohorts", nargs="*", type=int, default=[], help="seeds of cohorts from the test patches")
    parser.add_argument("--slides", type=int, default=20, help="slides in a cohort")
    parser.add_argument("--side", type=int, default=40, help="cells across a node of a cohort")
    parser.add_argument("--picture", type=Path, help="a PNG of the largest differences on the last mosaic")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--ghz", type=float, help="cycle rate of a core; default: what the system states")
    parser.add_argument("--work", type=Path, default=Path("runs/mosaic"), help="where mosaics and maps go")
    return parser.parse_args()


def _heads(*columns: str) -> None:
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)


def _row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def scan(slides: Sequence[Path], out: Path, reading: str, arguments: argparse.Namespace, *more: object) -> Run:
    """One scan with one reading, by the command."""
    command = [sys.executable, "-m", "sentinode", "scan", arguments.weights, *slides, "--out", out]
    options = ["--reading", reading, "--device", arguments.device, "--precision", arguments.precision]
    return measure([*command, *options, *more])


def compare(slide: Path, name: str, stride: int, arguments: argparse.Namespace) -> None:
    """Scan a mosaic both ways in turn, and print a row for each."""
    runs: dict[str, list[Run]] = {reading: [] for reading in READINGS}
    outs = {reading: arguments.work / f"{name}-{stride}-{reading}" for reading in READINGS}
    for number in range(arguments.rounds):
        for reading in READINGS if number % 2 == 0 else READINGS[::-1]:
            shutil.rmtree(outs[reading], ignore_errors=True)
            runs[reading].append(scan([slide], outs[reading], reading, arguments, "--stride", stride))
    maps = {reading: open_map(out / slide.stem) for reading, out in outs.items()}
    bundle, first = load(arguments.weights), maps["patch"]
    decoding = _median(
        decode_tissue(slide, first, bundle.card.patch_size).seconds for _ in range(max(3, arguments.rounds))
    )
    network = network_flop(bundle, first) / cycles(arguments.ghz).flops
    base = runs["patch"]
    x, y, label, _ = read_cells(slide.with_suffix(".cells.csv"))
    for reading in READINGS:
        mine, probability_map = runs[reading], maps[reading]
        seconds = _median(run.seconds for run in mine)
        _row(
            f"{name}, {stride}", reading, probability_map.engine, f"{int(probability_map.tissue.sum()):,}",
            f"{seconds:.1f}", f"{_median(run.processor_seconds for run in mine):.1f}",
            f"{max(run.peak_mib for run in mine):,.0f}",
            f"{_median(a.seconds / b.seconds for a, b in zip(base, mine, strict=True)):.2f}",
            f"{_median(a.processor_seconds / b.processor_seconds for a, b in zip(base, mine, strict=True)):.2f}",
            f"{decoding:.1f}", f"{network:.1f}", f"{seconds / (decoding + network):.2f}",
            f"{_auc(probability_map, x, y, label):.4f}", f"{_correlation([(probability_map, first)]):.4f}",
        )  # fmt: skip
    if arguments.picture:
        truth = {(int(cx), int(cy)): int(one) for cx, cy, one in zip(x, y, label, strict=True)}
        draw(arguments.picture, slide, maps, truth, CELL)


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _auc(probability_map: ProbabilityMap, x: np.ndarray, y: np.ndarray, label: np.ndarray) -> float:
    """Of the map at the centres of the cells; a cell outside the tissue found counts as normal."""
    if len(np.unique(label)) < 2:
        return float("nan")
    seen = np.array([probability_map.at(cx + CELL / 2, cy + CELL / 2) for cx, cy in zip(x, y, strict=True)])
    return float(auc(label, np.nan_to_num(seen, nan=0.0)))


def _correlation(pairs: Iterable[tuple[ProbabilityMap, ProbabilityMap]]) -> float:
    """Of the logits of two maps of each slide over its windows of tissue, all slides together."""
    one, other = (
        np.concatenate([logits(each)[each.tissue] for each in side]) for side in zip(*pairs, strict=True)
    )  # fmt: skip
    return float(np.corrcoef(one, other)[0, 1])


def compare_tiles(tiles: Sequence[Path], arguments: argparse.Namespace) -> None:
    """Scan the tiles of Camelyon17 both ways, and print how their logits agree."""
    outs = {reading: arguments.work / f"camelyon17-{reading}" for reading in READINGS}
    for reading, out in outs.items():
        shutil.rmtree(out, ignore_errors=True)
        scan(tiles, out, reading, arguments, "--stride", arguments.stride[0], "--mpp", TILES_MPP)
    print()
    _heads("tile of Camelyon17", "windows", "correlation of logits")
    pairs = _pairs(outs)
    for name, (patch, dense) in pairs.items():
        _row(name, f"{int(patch.tissue.sum()):,}", f"{_correlation([(patch, dense)]):.3f}")
    windows = sum(int(patch.tissue.sum()) for patch, _ in pairs.values())
    _row("all", f"{windows:,}", f"{_correlation(pairs.values()):.3f}")


def _pairs(outs: Mapping[str, Path]) -> dict[str, tuple[ProbabilityMap, ProbabilityMap]]:
    """The maps of each slide in both readings."""
    states = read_states(outs["patch"])
    if failed := [state for state in states if state.state != DONE]:
        raise SystemExit(f"{len(failed)} slides failed, the first for this reason: {failed[0].reason}")
    patch, dense = (outs[reading] for reading in READINGS)
    return {state.name: (open_map(patch / state.name), open_map(dense / state.name)) for state in states}


def compare_cohorts(arguments: argparse.Namespace) -> None:
    """Scan cohorts both ways, and print the AUC of their slides; slides that are done are not scanned again."""
    wanted = argparse.Namespace(data=arguments.data, tools=None, split="test", slides=arguments.slides,
                                side=arguments.side, work=arguments.work, leave_out=[])  # fmt: skip
    judged: dict[str, list[cohort.Judged]] = {reading: [] for reading in READINGS}
    pairs: list[tuple[ProbabilityMap, ProbabilityMap]] = []
    fingerprint = load(arguments.weights).fingerprint[:12]
    for seed in arguments.cohorts:
        folder = cohort.build(wanted, seed)
        outs = {reading: arguments.work / f"{folder.name}-{fingerprint}-{reading}" for reading in READINGS}
        for reading, out in outs.items():
            scan([folder / "slides"], out, reading, arguments)
            judged[reading] += cohort.judge(folder, out)
        pairs += _pairs(outs).values()
    print()
    _heads(
        "cohorts", "reading", "slides", "AUC of slides (95 % interval)", "less patch by patch", "correlation of logits"
    )
    correlation = _correlation(pairs)
    figures = {reading: cohort.slide_auc(slides) for reading, slides in judged.items()}
    for reading, figure in figures.items():
        value, low, high = (float("nan") if figure[key] is None else figure[key] for key in ("value", "low", "high"))
        less = value - (figures["patch"]["value"] or float("nan"))
        same = "" if reading == "patch" else f"{correlation:.4f}"
        _row(" ".join(map(str, arguments.cohorts)), reading, f"{len(judged[reading])}",
             f"{value:.4f} ({low:.3f} to {high:.3f})", f"{less:+.4f}", same)  # fmt: skip


if __name__ == "__main__":
    main()
