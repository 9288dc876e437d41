"""What each augmentation costs, for a batch of 64 patches, beside kornia and torchvision's transforms v2.

    python benchmarks/augment.py [--data DATA] [--threads 2] [--device cuda]

Prints a Markdown table, or JSON with --json. Without --data it times generated patches. No weights are involved. On a
machine that is busy with other work, --cpu-time with --threads 1 counts the processor's time instead of the clock's.

All three take and return uint8 patches, and each patch draws its own values. torchvision draws one value for a whole
batch, so it is called for each patch, except for mixup. Neither of the two has stain jitter. Their other transforms are
the nearest ones: torchvision fills what a zoom leaves empty, and both take blurs with a window of a fixed width.

kornia is no dependency of Sentinode, and its column is left out where it is not installed. To install it:

    python -m pip install kornia
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
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

SHIPPED, UNSTAINED = "all that the recipe resnet50 switches on", "the same without stain"
BRIGHTNESS_TO_HUE = "brightness, contrast, saturation and hue"
SINGLE = {
    "symmetries": Augment(symmetries=True),
    "scale": Augment(scale=0.1),
    "shift": Augment(shift=8),
    "blur, on a quarter of the patches": Augment(blur=0.25),
    "stain, HED": Augment(stain=0.1),
    "stain, Macenko": Augment(stain=0.1, stain_space="macenko"),
    BRIGHTNESS_TO_HUE: Augment(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.02),
    "noise": Augment(noise=6.0),
    "JPEG, on a quarter of the patches": Augment(jpeg=0.25),
    "mixup": Augment(mixup=0.2),
}


Change = Callable[[Tensor], object]
"""What changes uint8 (B, S, S, 3) and returns as much."""


def main() -> None:
    arguments = _parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)  # the others draw from torch's own generator
    images = _patches(arguments.data, arguments.batch).to(arguments.device)
    contestants = {"ours": _ours(), "torchvision": _torchvision(images.shape[1])}
    try:
        contestants["kornia"] = _kornia(images.shape[1])
    except ImportError as error:
        print(f"kornia is left out ({error}). To install it: python -m pip install kornia", file=sys.stderr)
    clock = _clock(arguments.cpu_time, arguments.device)
    cost = {
        library: {name: _milliseconds(change, images, clock) for name, change in changes.items()}
        for library, changes in contestants.items()
    }
    measured = "processor time" if arguments.cpu_time else "time"
    if arguments.json:
        about = {"processor": processor(), "threads": arguments.threads, "device": arguments.device}
        print(json.dumps({**about, "batch": len(images), "measured": measured, "milliseconds": cost}, indent=2))
        return
    where = "" if arguments.device == "cpu" else f", device: {arguments.device}"
    print(
        f"{measured.capitalize()} in ms on {processor()}, threads: {arguments.threads}, patches: {len(images)}{where}\n"
    )
    print(f"| transform | {' | '.join(cost)} |\n|---|{'---|' * len(cost)}")
    for name in cost["ours"]:
        cells = (f"{cost[library][name]:.1f}" if name in cost[library] else "" for library in cost)
        print(f"| {name} | {' | '.join(cells)} |")


def _ours() -> dict[str, Change]:
    recipe = load_recipe("resnet50").augment.model_dump()
    rows = {**SINGLE, SHIPPED: Augment(**recipe), UNSTAINED: Augment(**recipe | {"stain": 0.0})}
    generator = torch.Generator().manual_seed(0)

    def change(augment: Augment) -> Change:
        return lambda images: augment.mix(augment(images, generator), _targets(images), generator)

    return {name: change(augment) for name, augment in rows.items()}


def _torchvision(side: int) -> dict[str, Change]:
    from torchvision.transforms import InterpolationMode, v2

    turns = v2.RandomChoice([v2.Identity(), v2.RandomRotation((90, 90))])
    symmetries = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), turns])
    colour = v2.ColorJitter(0.1, 0.1, 0.1, 0.02)
    noise = (
        v2.ToDtype(torch.float32, scale=True),
        v2.GaussianNoise(sigma=6 / 255),
        v2.ToDtype(torch.uint8, scale=True),
    )
    mixup = v2.MixUp(alpha=0.2, num_classes=2)

    def each(transform: v2.Transform) -> Change:
        def change(images: Tensor) -> Tensor:
            changed = torch.stack([transform(image) for image in images.permute(0, 3, 1, 2)])
            return changed.permute(0, 2, 3, 1).contiguous()

        return change

    def mix(images: Tensor) -> object:
        blended, targets = mixup(images.permute(0, 3, 1, 2).float(), _targets(images).argmax(1))
        return blended.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous(), targets

    rows = {
        "symmetries": symmetries,
        "scale": v2.RandomAffine(0, scale=(1 / 1.1, 1.1), interpolation=InterpolationMode.BILINEAR),
        "shift": v2.RandomCrop(side, padding=8, padding_mode="reflect"),
        "blur, on a quarter of the patches": v2.RandomApply([v2.GaussianBlur(11, (0.1, 1.0))], 0.25),
        BRIGHTNESS_TO_HUE: colour,
        "noise": v2.Compose(noise),
        "JPEG, on a quarter of the patches": v2.RandomApply([v2.JPEG((50, 95))], 0.25),
        UNSTAINED: v2.Compose([symmetries, colour]),
    }
    return {**{name: each(transform) for name, transform in rows.items()}, "mixup": mix}


def _kornia(side: int) -> dict[str, Change]:
    import kornia.augmentation as ka

    flips = ka.RandomHorizontalFlip(p=0.5), ka.RandomVerticalFlip(p=0.5), ka.RandomRotation90((0, 3), p=1.0)
    colour = ka.ColorJiggle((0.9, 1.1), (0.9, 1.1), (0.9, 1.1), (-0.02, 0.02), p=1.0)
    reflected = {"padding_mode": "reflection", "p": 1.0}
    mixup = ka.RandomMixUpV2(lambda_val=(0.0, 0.5), p=1.0, data_keys=["input", "class"])

    def whole(*transforms: torch.nn.Module) -> Change:
        steps = torch.nn.Sequential(*transforms)

        def change(images: Tensor) -> Tensor:
            planes = steps(images.permute(0, 3, 1, 2).float().div_(255))
            return planes.mul_(255).clamp_(0, 255).round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()

        return change

    def mix(images: Tensor) -> object:
        blended, targets = mixup(images.permute(0, 3, 1, 2).float().div_(255), _targets(images).argmax(1))
        return blended.mul_(255).round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous(), targets

    return {
        "symmetries": whole(*flips),
        "scale": whole(ka.RandomAffine(0.0, scale=(1 / 1.1, 1.1), **reflected)),
        "shift": whole(ka.RandomAffine(0.0, translate=(8 / side, 8 / side), **reflected)),
        "blur, on a quarter of the patches": whole(ka.RandomGaussianBlur((11, 11), (0.1, 1.0), p=0.25)),
        BRIGHTNESS_TO_HUE: whole(colour),
        "noise": whole(ka.RandomGaussianNoise(std=6 / 255, p=1.0)),
        "JPEG, on a quarter of the patches": whole(ka.RandomJPEG((50, 95), p=0.25)),
        UNSTAINED: whole(*flips, colour),
        "mixup": mix,
    }


def _targets(images: Tensor) -> Tensor:
    return torch.eye(2, device=images.device)[torch.arange(len(images)) % 2]


def _clock(cpu_time: bool, device: str) -> Callable[[], float]:
    """Seconds, once the device has done what it was given."""

    def now() -> float:
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if cpu_time else time.perf_counter()

    return now


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="labelled patches; generated ones where it is left out")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="such as cuda")
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


def _milliseconds(change: Change, images: Tensor, clock: Callable[[], float]) -> float:
    """The median of 40 batches, after 5 that warm up."""
    taken = []
    for _ in range(45):
        began = clock()
        change(images)
        taken.append(clock() - began)
    return 1000 * statistics.median(taken[5:])


if __name__ == "__main__":
    main()
