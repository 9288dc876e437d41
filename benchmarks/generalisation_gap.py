"""What a classifier loses on its way from its own training patches to other slides, and whether colour is to blame.

python benchmarks/generalisation_gap.py --data sample --same-slides sample/kaggle --runs RUN [RUN]... [--patches 4000]

DATA has train and valid, and the runs were trained on its train. SAME is patches of the slides of train that are not in
it: of PatchCamelyon's sample those of Kaggle, which come from the official training split. Prints the AUC of the first
run's bundle on its training patches, on other patches of the same slides, and on valid, which is of other slides; on
valid again with its batch norms' statistics taken from valid itself, without labels (Li et al. 2016), and with each
patch's mean stain moved half the way to that of train: what these gain is what colour had cost. With several runs from
the same initial weights, also that of their averaged margins and of their averaged weights (Wortsman et al. 2022).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sentinode.model.bundle import load
from sentinode.model.hardware import native_bfloat16
from sentinode.patches import PatchSet, open_data
from sentinode.scoring import auc

Pixels = NDArray[np.uint8]
BATCH = 128
SHARE = 0.5
"""How far the mean stain of each patch is moved to that of train."""


def margins(network: nn.Module, images: Pixels) -> NDArray[np.float32]:
    """Logit of tumour minus that of normal, of uint8 (N, 96, 96, 3); batch norms follow the network's mode."""
    found = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=native_bfloat16(torch.device("cpu"))):
        for start in range(0, len(images), BATCH):
            logits = network(torch.from_numpy(images[start : start + BATCH])).float()
            found.append((logits[:, 1] - logits[:, 0]).numpy())
    return np.concatenate(found)


def with_statistics_of(network: nn.Module, images: Pixels) -> nn.Module:
    """The network with its batch norms' means and variances taken anew from these patches."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    margins(network.train(), images)
    return network.eval()


def stained_like(images: Pixels, mean: NDArray[np.float32]) -> Pixels:
    """Each patch's optical density scaled in each channel so that its mean comes nearer to ``mean``."""
    density = -np.log((images.astype(np.float32) + 1) / 256)
    scale = (mean / density.mean((1, 2), keepdims=True)) ** SHARE
    return (256 * np.exp(-density * scale) - 1).clip(0, 255).astype(np.uint8)


def some(patches: PatchSet, count: int) -> tuple[Pixels, NDArray[np.uint8]]:
    """At most ``count`` patches at random, and their labels."""
    rows = np.random.default_rng(0).permutation(len(patches))[:count]
    return np.asarray(patches.images[np.sort(rows)]), patches.labels[np.sort(rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled patches with train and valid")
    parser.add_argument("--same-slides", type=Path, required=True, help="labelled patches of train's slides")
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="runs, or their bundles")
    parser.add_argument("--patches", type=int, default=4000, help="at most, of each set")
    options = parser.parse_args()
    data = open_data(options.data)
    train, labels_of_train = some(data["train"], options.patches)
    same, labels_of_same = some(open_data(options.same_slides, whole=True)["all"], options.patches)
    valid, labels = some(data["valid"], options.patches)
    density = -np.log((train.astype(np.float32) + 1) / 256).mean((1, 2)).mean(0)

    def show(title: str, truth: NDArray[np.uint8], found: NDArray[np.float32]) -> None:
        print(f"| {title} | {auc(truth, found):.3f} |", flush=True)

    networks = [load(run).classifier().to(memory_format=torch.channels_last).eval() for run in options.runs]
    first = networks[0]
    print("| AUC of the first run's bundle on | |\n|---|---|")
    show("its training patches", labels_of_train, margins(first, train))
    show("other patches of the same slides", labels_of_same, margins(first, same))
    show("valid: other slides", labels, margins(first, valid))
    show("valid, its stain moved to that of train", labels, margins(first, stained_like(valid, density)))
    adapted = load(options.runs[0]).classifier().to(memory_format=torch.channels_last)
    show("valid, with its own statistics", labels, margins(with_statistics_of(adapted, valid), valid))
    if len(networks) > 1:
        show(f"valid, {len(networks)} margins averaged", labels, np.mean([margins(n, valid) for n in networks], 0))
        states = [network.state_dict() for network in networks]
        mean = {
            key: torch.stack([s[key].float() for s in states]).mean(0).to(states[0][key].dtype) for key in states[0]
        }
        first.load_state_dict(mean)
        show(f"valid, {len(networks)} weights averaged", labels, margins(with_statistics_of(first, train), valid))


if __name__ == "__main__":
    main()
