"""What each augmentation costs, for a batch of 64 patches: `python benchmarks/augment.py [--data DATA] [--threads 2]`.

Prints a Markdown table, or JSON with --json. Without --data it times generated patches. No weights are involved. On a
machine that is busy with other work, --cpu-time with --threads 1 counts the processor's time in place of the clock's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sentinode.augmentation.transforms import Augment
from sentinode.model.hardware import processor
from sentinode.patches import open_data
from sentinode.patches.synthetic import synthesise
from sentinode.recipes import load_recipe

SINGLE = {
    "symmetries": Augment(symmetries=True),
    "scale": Augment(scale=0.1),
    "shift": Augment(shift=8),
    "blur, on a quarter of the patches": Augment(blur=0.25),
    "stain, HED": Augment(stain=0.1),
    "stain, Macenko": Augment(stain=0.1, stain_space="macenko"),
    "brightness, contrast, saturation and hue": Augment(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.02),
    "noise": Augment(noise=6.0),
    "JPEG, on a quarter of the patches": Augment(jpeg=0.25),
    "mixup": Augment(mixup=0.2),
}


def main() -> None:
    arguments = _parse()
    torch.set_num_threads(arguments.threads)
    images = _patches(arguments.data, arguments.batch)
    shipped = Augment(**load_recipe("resnet50").augment.model_dump())
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    rows = {**SINGLE, "all that the recipe resnet50 switches on": shipped}
    cost = {name: _milliseconds(augment, images, clock) for name, augment in rows.items()}
    measured = "processor time" if arguments.cpu_time else "time"
    if arguments.json:
        about = {"processor": processor(), "threads": arguments.threads, "batch": len(images), "measured": measured}
        print(json.dumps({**about, "milliseconds": cost}, indent=2))
        return
    print(f"{measured.capitalize()} on {processor()}, threads: {arguments.threads}, patches: {len(images)}\n")
    print("| transform | ms |\n|---|---|")
    for name, milliseconds in cost.items():
        print(f"| {name} | {milliseconds:.1f} |")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="labelled patches; generated ones where it is left out")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds, not the clock's")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _patches(data: Path | None, count: int) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            data = Path(folder)
            synthesise(data, train=count, valid=2, test=2, show=False)
        patches = open_data(data, cache=Path(folder, "cache"))
        images = patches[patches.splits[0]].images[:count]
        return torch.from_numpy(np.array(images))


def _milliseconds(augment: Augment, images: Tensor, clock: Callable[[], float]) -> float:
    """The median of 40 batches, after 5 that warm up."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.eye(2)[torch.arange(len(images)) % 2]
    taken = []
    for _ in range(45):
        began = clock()
        augment.mix(augment(images, generator), targets, generator)
        taken.append(clock() - began)
    return 1000 * statistics.median(taken[5:])


if __name__ == "__main__":
    main()
