"""Patches a second and the AUC on valid of each engine and precision: the table of docs/how-to/speed.md.

    python benchmarks/int8.py --data SHARED/data --weights BUNDLE [BUNDLE ...] [--patches 3000] [--dense]

A bundle needs an int8 network (``sentinode quantise BUNDLE DATA --out NEW``); without one its row is left out, and the
script says so. The engines take turns on the same batches. Speeds are medians over the rounds: patches a second of wall
clock, and of processor time, which other programs on the machine hardly change. The ratios to plain PyTorch in float32
are of both, by rounds. Plain PyTorch is the network as it is loaded, patch by patch: batch norms are not merged. With
``--dense`` the other rows are windows a second of dense reading at stride 32. The AUC is always patch by patch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentinode.ahead import in_order
from sentinode.errors import SentinodeError
from sentinode.model.bundle import Bundle, load
from sentinode.model.engines import open_engine
from sentinode.model.engines.torch_engine import TorchEngine
from sentinode.model.hardware import processor
from sentinode.patches import PatchSet, open_data
from sentinode.scoring import auc

Images = NDArray[np.uint8]
Margins = NDArray[np.float32]

PLAIN = "plain PyTorch float32"
ENGINES = {
    "PyTorch, auto": ("torch", "auto"),
    "OpenVINO float32": ("openvino", "float32"),
    "OpenVINO bfloat16": ("openvino", "bfloat16"),
    "OpenVINO int8": ("openvino", "int8"),
    "auto": ("fastest", "auto"),
}
STRIDE, REGIONS = 32, 4


def main() -> None:
    arguments = _parse()
    print(f"{processor()}, {torch.get_num_threads()} threads of PyTorch\n")
    unit = "windows" if arguments.dense else "patches"
    speeds = [f"{unit} a second", f"{unit} a processor second"]
    columns = ["bundle", "engine", *speeds, "times plain, seconds", "times plain, processor seconds", "AUC on valid"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    for path in arguments.weights:
        bundle = load(path)
        valid = open_data(arguments.data / "pcam", expected=bundle.card.expected, show=False)["valid"]
        compare(bundle, valid, arguments)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds pcam/")
    parser.add_argument("--weights", type=Path, nargs="+", required=True, help="bundles with an int8 network")
    parser.add_argument("--patches", type=int, default=3000, help="patches of valid for the AUC; 0 leaves it out")
    parser.add_argument("--batches", type=int, default=4, help="batches in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dense", action="store_true", help="time dense reading in place of patch by patch")
    return parser.parse_args()


class Plain:
    """The network as PyTorch loads it, in float32, with nothing merged and nothing laid out anew."""

    name, batch, streams = PLAIN, 64, 1

    def __init__(self, bundle: Bundle) -> None:
        self._network = bundle.classifier()

    @torch.inference_mode()
    def margins(self, images: Images) -> Margins:
        logits = self._network(torch.from_numpy(np.ascontiguousarray(images)))
        margins: Margins = (logits[:, 1] - logits[:, 0]).numpy()
        return margins


def compare(bundle: Bundle, valid: PatchSet, arguments: argparse.Namespace) -> None:
    """Time the engines in turn, score valid with each, and print a row for each."""
    engines: dict[str, Any] = {PLAIN: Plain(bundle)}
    if arguments.dense:
        engines["PyTorch float32"] = TorchEngine(bundle, device="cpu", precision="float32")
    for label, (kind, precision) in ENGINES.items():
        try:
            engine = open_engine(bundle, kind=kind, device="cpu", precision=precision, dense=arguments.dense)
        except SentinodeError as error:
            print(f"{label} is left out: {error.what}", flush=True)
            continue
        engines[label if label != "auto" else f"auto ({engine.name})"] = engine
    rows = np.unique(np.linspace(0, len(valid) - 1, arguments.batches * 64).astype(np.int64))
    images = valid.images[rows]
    wall, busy = time_in_turn(engines, images, arguments)
    windows = REGIONS * len(_starts(_region(images))) ** 2
    counts = {label: windows if arguments.dense and label != PLAIN else len(images) for label in engines}
    for label, engine in engines.items():
        share = counts[label] / len(images)
        speeds, ratios = [], []
        for spent in (wall, busy):
            speeds.append(f"{counts[label] / statistics.median(spent[label]):,.0f}")
            rounds = zip(spent[PLAIN], spent[label], strict=True)
            ratios.append(f"{share * statistics.median(one / other for one, other in rounds):.2f}")
        cells = bundle.card.name, label, *speeds, *ratios, score(engine, valid, arguments.patches)
        print("| " + " | ".join(cells) + " |", flush=True)


def time_in_turn(
    engines: dict[str, Any], images: Images, arguments: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds and processor seconds of each engine in each round; a round before them warms up."""
    wall: dict[str, list[float]] = {label: [] for label in engines}
    busy: dict[str, list[float]] = {label: [] for label in engines}
    for number in range(arguments.rounds + 1):
        for label, engine in engines.items():
            work = _work(engine, images, dense=arguments.dense and label != PLAIN)
            began, used = time.perf_counter(), time.process_time()
            work()
            if number:
                wall[label].append(time.perf_counter() - began)
                busy[label].append(time.process_time() - used)
    return wall, busy


def _work(engine: Any, images: Images, *, dense: bool) -> Callable[[], object]:
    """The work of a round, as many batches or regions at once as the engine computes side by side, as a scan does."""
    if dense:
        region = _region(images)
        starts = _starts(region)
        return lambda: list(in_order(lambda one: engine.dense(one, starts, starts), [region] * REGIONS, engine.streams))
    batches = [images[i : i + 64] for i in range(0, len(images), 64)]
    return lambda: list(in_order(engine.margins, batches, engine.streams))


def _region(images: Images) -> Images:
    """Patches side by side, in a square of a whole number of patches."""
    side, size = min(11, int(len(images) ** 0.5)), images.shape[1]
    rows = images[: side * side].reshape(side, side, size, size, 3).swapaxes(1, 2)
    return np.ascontiguousarray(rows.reshape(side * size, side * size, 3))


def _starts(region: Images) -> NDArray[np.int64]:
    return np.arange(0, len(region) - 96 + 1, STRIDE)


def score(engine: Any, valid: PatchSet, most: int) -> str:
    """The AUC on patches of valid, patch by patch."""
    if not most:
        return ""
    rows = np.unique(np.linspace(0, len(valid) - 1, min(len(valid), most)).astype(np.int64))
    parts = np.array_split(rows, -(-len(rows) // 64))
    margins = np.concatenate([engine.margins(valid.images[part]) for part in parts])
    return f"{float(auc(valid.labels[rows], margins)):.4f}"


if __name__ == "__main__":
    main()
