"""In how many tumour patches the strongest evidence lies in the centre square: for docs/how-to/explain.md.

    python benchmarks/evidence.py --data DATA [--split valid] [--patches 500] [--weights RUN]

DATA is labelled patches of any kind that Sentinode reads; --weights is a run or its bundle, else the packaged bundle.
Counts the tumour patches whose strongest cell of the evidence for tumour has its centre in the 32 x 32 pixels that the
label covers: by the contributions of the cells, which `sentinode explain` shows, and by Grad-CAM, which averages the
gradients over the map first. Also prints the largest difference between the margin and what the contributions and the
head's bias add up to, as a share of the sum of their sizes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentinode.explanation import EXACT, Explainer
from sentinode.geometry import PCAM
from sentinode.model.bundle import load
from sentinode.model.classifier import Classifier
from sentinode.patches import open_data

BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled patches")
    parser.add_argument("--split", default="valid", help="of the patches")
    parser.add_argument("--patches", type=int, default=500, help="tumour patches at most, taken evenly")
    parser.add_argument("--weights", type=Path, help="a run or its bundle; by default the packaged one")
    options = parser.parse_args()
    bundle = load(options.weights)
    explainer = Explainer(bundle, device="cpu")
    if explainer.method != EXACT:
        parser.error(f"the head of {bundle.card.name} is not linear in its feature map")
    patches = open_data(options.data)[options.split]
    tumour = np.flatnonzero(patches.labels == 1)
    rows = tumour[np.linspace(0, len(tumour) - 1, min(options.patches, len(tumour))).astype(np.int64)]
    exact: list[NDArray[np.float64]] = []
    averaged: list[NDArray[np.float64]] = []
    errors: list[float] = []
    for start in range(0, len(rows), BATCH):
        images = patches.images[rows[start : start + BATCH]]
        contributions = np.stack([found.contributions for found in explainer.evidence(images, "tumour")])
        exact.append(contributions)
        averaged.append(grad_cam(explainer.network, images))
        errors.append(largest_error(explainer.network, images, contributions))
    cells = exact[0].shape[1:]
    print(f"{bundle.card.name}: {len(rows)} tumour patches of {options.split}, {cells[0]} x {cells[1]} cells\n")
    print("| strongest cell in the centre square | of the tumour patches |\n|---|---|")
    print(f"| exact contributions | {in_the_centre(np.concatenate(exact)):.0%} |")
    print(f"| Grad-CAM | {in_the_centre(np.concatenate(averaged)):.0%} |")
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
