"""How busy training keeps the processor: its throughput over that of a bare loop.

The bare loop is forward, backward and step on one normalised batch in memory, with the same network, precision,
memory layout and optimiser. Against it stand two arms of the real training loop, which reads patches, checks the
loss, clips gradients and logs: one with augmentation and the moving average off, one with the recipe as shipped.

    python benchmarks/train_throughput.py [--data DATA] [--weights none] [--json]

The arms take turns of a few steps in one process, and each ratio is the median of the rounds' ratios, so that
whatever else the machine does hits all of them. On a machine that is busy with other work, --cpu-time with
--threads 1 counts the processor's seconds in place of the clock's. Without --data, generated patches are read.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.nn import functional

from sentinode.model.hardware import choose_device, choose_precision, describe, keep_freed_memory
from sentinode.patches import PatchData, Reopening, open_data
from sentinode.patches.synthetic import synthesise
from sentinode.recipes import AugmentRecipe, Recipe, load_recipe
from sentinode.training.checkpoint import Progress
from sentinode.training.job import Job
from sentinode.training.learner import Learner, Stage
from sentinode.training.loop import train_epoch
from sentinode.training.optimisation import make_optimizer
from sentinode.training.run import Run, begin

BARE, PLAIN, SHIPPED = "bare loop", "augmentation and EMA off", "recipe as shipped"
FLOORS = {PLAIN: 0.97, SHIPPED: 0.90}
NO_AUGMENTATION = AugmentRecipe(symmetries=False, stain=0, brightness=0, contrast=0, saturation=0, hue=0)


class TimedLearner(Learner):
    """A learner that notes when each step begins."""

    def __init__(self, run: Run, stage: Stage, now: Callable[[], float]) -> None:
        super().__init__(run.fabric, run.recipe, stage, run.network, run.average, run.progress.parts, run.data.geometry)
        self.now, self.begins = now, list[float]()

    def train_step(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        self.begins.append(self.now())
        return super().train_step(images, labels, step)


class TimedLoop:
    """The real training loop, a few steps at a time; valid and the bundle are left out."""

    def __init__(self, run: Run, now: Callable[[], float]) -> None:
        self.run, self.now = run, now

    def seconds(self, steps: int) -> float:
        """Mean seconds a step, from the begin of one to the begin of the next."""
        self.run.progress = Progress(parts=self.run.recipe.training.accumulate)
        stage = Stage(1, "timing", epochs=1, steps=steps + 1, head_only=False)
        learner = TimedLearner(self.run, stage, self.now)
        train_epoch(self.run, learner, epoch=0)
        return (learner.begins[-1] - learner.begins[0]) / steps


class BareLoop:
    """Forward, backward and step on one batch in memory."""

    def __init__(self, run: Run, now: Callable[[], float]) -> None:
        device, count = run.fabric.device, run.batch
        network = copy.deepcopy(run.network).train()
        images = torch.randint(256, (count, 96, 96, 3), dtype=torch.uint8, device=device)
        self.images = network.normalise(images).contiguous(memory_format=torch.channels_last)
        self.labels = torch.arange(count, device=device) % 2
        self.layers = torch.nn.Sequential(network.backbone, network.head)
        self.optimizer = make_optimizer(network, run.recipe.optimizer)
        self.autocast, self.now = run.fabric.autocast, now

    def seconds(self, steps: int) -> float:
        """Mean seconds a step."""
        self._step()
        began = self.now()
        for _ in range(steps):
            self._step()
        return (self.now() - began) / steps

    def _step(self) -> None:
        with self.autocast():
            loss = functional.cross_entropy(self.layers(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss.item()  # waits for the device


def main() -> None:
    arguments = _parse()
    keep_freed_memory()  # for the bare loop too, so that the ratios speak of the loop alone
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    settings = {
        "model.weights": arguments.weights,
        "training.precision": arguments.precision,
        "training.checkpoint_minutes": 1440,
    }
    shipped = load_recipe(arguments.recipe, [f"{key}={value}" for key, value in settings.items()] + arguments.set)
    training = shipped.training.model_copy(update={"ema": 0.0})
    unaugmented = shipped.model_copy(update={"augment": NO_AUGMENTATION, "training": training})
    with tempfile.TemporaryDirectory() as folder:
        data = _open(arguments.data, Path(folder), shipped.training.batch_size * (arguments.steps + 1))
        runs = {
            PLAIN: _begin(unaugmented, data, Path(folder, "plain")),
            SHIPPED: _begin(shipped, data, Path(folder, "shipped")),
        }
        now = time.process_time if arguments.cpu_time else time.perf_counter
        arms = {name: TimedLoop(run, now) for name, run in runs.items()} | {BARE: BareLoop(runs[PLAIN], now)}
        rounds = _take_turns(arms, arguments.rounds, arguments.steps)
    _report(rounds, runs[PLAIN], arguments.json)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="labelled patches")
    parser.add_argument("--weights", default="none", help="imagenet, none or a file; speed does not depend on it")
    parser.add_argument("--recipe", default="resnet50")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe's key")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of an arm in a round")
    parser.add_argument("--threads", type=int, help="for PyTorch; all that there are by default")
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds, not the clock's")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _open(data: Path | None, folder: Path, count: int) -> PatchData:
    if data is not None:
        return open_data(data)
    synthesise(folder / "patches", train=count, valid=2, test=2, show=False)
    return open_data(folder / "patches", cache=folder / "cache", show=False)


def _begin(recipe: Recipe, data: PatchData, out: Path) -> Run:
    device = choose_device()
    bfloat16 = choose_precision(recipe.training.precision, device) == torch.bfloat16
    fabric = Fabric(accelerator=device.type, devices=1, precision="bf16-mixed" if bfloat16 else "32-true")
    return begin(fabric, Job(recipe, out, Reopening.of(data), show=False), data)


def _take_turns(arms: Mapping[str, TimedLoop | BareLoop], rounds: int, steps: int) -> list[dict[str, float]]:
    """Seconds a step of each arm in each round; a first round warms up and is dropped."""
    names, measured = list(arms), []
    for number in range(rounds + 1):
        turn = names[number % len(names) :] + names[: number % len(names)]
        measured.append({name: arms[name].seconds(steps) for name in turn})
    return measured[1:]


def _report(rounds: list[dict[str, float]], run: Run, as_json: bool) -> None:
    device, precision = describe(run.fabric.device), run.fabric._precision.precision
    bare = run.batch / statistics.median(taken[BARE] for taken in rounds)
    found: dict[str, Any] = {
        "device": device,
        "threads": torch.get_num_threads(),
        "precision": precision,
        "batch_size": run.batch,
        "rounds": len(rounds),
        "bare_patches_per_second": bare,
    }
    for name, floor in FLOORS.items():
        ratios = sorted(taken[BARE] / taken[name] for taken in rounds)
        low, high = (ratios[round(share * (len(ratios) - 1))] for share in (0.25, 0.75))
        found[name] = {"ratio": statistics.median(ratios), "quartiles": [low, high], "floor": floor}
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print(f"{device}, {torch.get_num_threads()} threads, {precision}, batches of {run.batch}, {len(rounds)} rounds")
    print(f"bare loop: {bare:.1f} patches/s\n")
    print("| training over the bare loop | ratio | quartiles | floor |\n|---|---|---|---|")
    for name in FLOORS:
        (low, high), ratio = found[name]["quartiles"], found[name]["ratio"]
        print(f"| {name} | {ratio:.3f} | {low:.3f} to {high:.3f} | {FLOORS[name]:.2f} |")


if __name__ == "__main__":
    main()
