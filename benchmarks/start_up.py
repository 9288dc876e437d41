"""How long a command takes to start: `predict` of one patch and `scan` of a slide of a few tiles, first and later time.

    python benchmarks/start_up.py --data ../shared/data --rounds 3

The first time the cache is empty; later it holds the compiled network. Beside them stand `import torch`, which each
start cost before, and `sentinode --help`. All take turns. Ratios are of processor seconds to those of `import torch`:
they hold on a busy machine, where seconds do not.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from sentinode.model.hardware import processor
from sentinode.patches import open_data

SIDE = 6
"""Patches a side of the slide that is scanned."""


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        patch, slide = _inputs(folder, arguments.data)
        bundle = [str(arguments.weights)] if arguments.weights else []
        sentinode = [sys.executable, "-m", "sentinode"]
        predict = [*sentinode, "predict", *bundle, str(patch), "--device", "cpu"]
        scan = [*sentinode, "scan", *bundle, str(slide), "--out", str(folder / "maps"), "--device", "cpu"]
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "sentinode --help": [*sentinode, "--help"],
            "predict, first time": predict,
            "predict, second time": predict,
            "scan, first time": scan,
            "scan, second time": scan,
        }
        rounds = [
            {name: _run(command, folder, cold="first" in name) for name, command in commands.items()}
            for _ in range(arguments.rounds)
        ]
    print(f"{processor()}, {os.cpu_count()} cores, medians of {arguments.rounds} rounds\n")
    print("| command | seconds | processor seconds | times `import torch` |\n|---|---|---|---|")
    base = statistics.median(each["import torch"][1] for each in rounds)
    for name in commands:
        seconds, busy = (statistics.median(each[name][column] for each in rounds) for column in (0, 1))
        print(f"| {name} | {seconds:.1f} | {busy:.1f} | {busy / base:.1f} |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds pcam/; by default, patches of noise")
    parser.add_argument("--weights", type=Path, help="a bundle; by default the bundled model")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _inputs(folder: Path, data: Path | None) -> tuple[Path, Path]:
    """One patch as PNG, and a slide of patches side by side."""
    patches = _patches(data)
    Image.fromarray(patches[0]).save(folder / "patch.png")
    rows = [np.concatenate(list(patches[row * SIDE : (row + 1) * SIDE]), 1) for row in range(SIDE)]
    slide = folder / "slide.tif"
    microns = {"resolution": (10_000 / 0.972,) * 2, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(slide, np.concatenate(rows), tile=(128, 128), photometric="rgb", **microns)
    return folder / "patch.png", slide


def _patches(data: Path | None) -> np.ndarray:
    if data is not None:
        return np.asarray(open_data(data / "pcam", show=False)["test"].images[: SIDE * SIDE])
    noise = np.random.default_rng(0).integers(0, 60, (SIDE * SIDE, 96, 96, 3))
    return (np.array([170, 90, 150]) + noise).astype(np.uint8)


def _run(command: Sequence[str], folder: Path, *, cold: bool) -> tuple[float, float]:
    """Seconds, and processor seconds of the process and its children."""
    shutil.rmtree(folder / "maps", ignore_errors=True)
    if cold:
        shutil.rmtree(folder / "cache", ignore_errors=True)
    environment = {**os.environ, "SENTINODE_CACHE": str(folder / "cache")}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
