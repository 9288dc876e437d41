"""Where the evidence lies: in the centre square that the label covers, or around it. For docs/how-to/explain.md.

    python benchmarks/evidence.py --data DATA [--split test] [--patches 1000] [--weights RUN]

DATA is labelled patches of any kind that Sentinode reads; --weights is a run or its bundle, else the packaged bundle.
Prints, by class and by whether the patch was called rightly, the mean share of the evidence for the called class that
lies in the centre square: by the contributions of the cells, which `sentinode explain` shows, by Grad-CAM, which
averages the gradients over the map first, and by occlusion, which covers squares of 16 pixels one at a time. Then the
share of the tumour patches whose strongest cell of the evidence for tumour has its middle in the centre square, and the
largest difference between the margin and what the contributions and the head's bias add up to, as a share of the sum
of their sizes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentinode.evaluation.evidence import by_class, occlusion, share_in_label
from sentinode.explanation import EXACT, Explainer
from sentinode.geometry import PCAM
from sentinode.model.bundle import load
from sentinode.model.classifier import Classifier
from sentinode.model.engines import open_engine
from sentinode.patches import open_data
from sentinode.scoring import calibrated

BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled patches")
    parser.add_argument("--split", default="test", help="of the patches")
    parser.add_argument("--patches", type=int, default=1000, help="patches at most, taken evenly")
    parser.add_argument("--weights", type=Path, help="a run or its bundle; by default the packaged one")
    options = parser.parse_args()
    bundle = load(options.weights)
    explainer = Explainer(bundle, device="cpu")
    if explainer.method != EXACT:
        parser.error(f"the head of {bundle.card.name} is not linear in its feature map")
    engine = open_engine(bundle, device="cpu", precision="float32")
    patches = open_data(options.data)[options.split]
    rows = np.unique(np.linspace(0, len(patches) - 1, min(options.patches, len(patches))).astype(np.int64))
    labels = patches.labels[rows]
    maps: dict[str, list[NDArray[np.float64]]] = {"exact contributions": [], "Grad-CAM": [], "occlusion": []}
    margins, errors = [], []
    for start in range(0, len(rows), BATCH):
        images = patches.images[rows[start : start + BATCH]]
        contributions = np.stack(
            [found.contributions for found in explainer.evidence(images, bundle.card.positive_class)]
        )
        maps["exact contributions"].append(contributions)
        maps["Grad-CAM"].append(grad_cam(explainer.network, images))
        maps["occlusion"].append(occlusion(engine.margins, images))
        margins.append(engine.margins(images))
        errors.append(largest_error(explainer.network, images, contributions))
    called = calibrated(np.concatenate(margins), bundle.card.temperature) >= bundle.card.threshold
    towards = np.where(called, 1, -1)[:, None, None]
    names = (bundle.card.class_names[0], bundle.card.class_names[1])
    slides = None if patches.slides is None else patches.slides[rows]
    print(
        f"{bundle.card.name}: {len(rows)} patches of {options.split}; the share of an even spread is "
        f"{(patches.geometry.label_region / patches.geometry.size) ** 2:.1%}\n"
    )
    print("| patches | n | " + " | ".join(maps) + " |\n|---|---|" + "---|" * len(maps))
    shares = {name: share_in_label(np.concatenate(found) * towards, patches.geometry) for name, found in maps.items()}
    groups = {name: by_class(share, labels, called, names, slides) for name, share in shares.items()}
    for row in zip(*groups.values(), strict=True):
        word = "called rightly" if row[0].right else "called wrongly"
        cells = " | ".join(f"{one.share.value:.1%} ({one.share.low:.1%} to {one.share.high:.1%})" for one in row)
        print(f"| {row[0].name}, {word} | {row[0].n} | {cells} |")
    print("\n| strongest cell in the centre square | of the tumour patches |\n|---|---|")
    for name, found in maps.items():
        print(f"| {name} | {in_the_centre(np.concatenate(found)[labels == 1]):.0%} |")
    print(f"\nContributions and bias add up to the margin within {max(errors):.0e}.")


def grad_cam(network: torch.nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Grad-CAM for tumour (Selvaraju et al. 2017), float64 (B, h, w), before negative values are cut off."""
    assert isinstance(network, Classifier)
    with torch.no_grad():
        features = network.features(torch.from_numpy(images))
    logits = network.head(features.requires_grad_())
    (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), features)
    seen: Tensor = (features.detach() * gradient.mean((2, 3), keepdim=True)).sum(1)
    return seen.double().numpy()


def largest_error(network: torch.nn.Module, images: NDArray[np.uint8], contributions: NDArray[np.float64]) -> float:
    """How far margins differ from contributions and bias together, as a share of the sum of their sizes."""
    assert isinstance(network, Classifier)
    with torch.inference_mode():
        logits = network(torch.from_numpy(images)).double().numpy()
        bias = network.head[-1].bias.double().numpy()
    difference = contributions.sum((1, 2)) + bias[1] - bias[0] - (logits[:, 1] - logits[:, 0])
    size = np.abs(contributions).sum((1, 2)) + np.abs(logits).sum(1) + np.abs(bias).sum()
    return float((np.abs(difference) / size).max())


def in_the_centre(maps: NDArray[np.float64]) -> float:
    """The share of maps (N, h, w) whose largest value lies in a cell with its centre in the centre square."""
    count, height, width = maps.shape
    row, column = np.divmod(maps.reshape(count, -1).argmax(1), width)
    offsets = [(at + 0.5) / cells - 0.5 for at, cells in ((row, height), (column, width))]
    return float((np.maximum(*map(np.abs, offsets)) <= PCAM.label_region / PCAM.size / 2).mean())


if __name__ == "__main__":
    main()
