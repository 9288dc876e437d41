"""What frozen backbones know of the patches: linear probes with few labels and with all, for docs/how-to/embed.md.

    python benchmarks/probes.py --data DATA --resnet50 FILE --lite0 FILE --out FOLDER
        [--patches 6000 3000 1000] [--labels 10 100 1000 0] [--draws 5] [--seed 0]

DATA is a folder with train.parquet, valid.parquet and test.parquet, such as rebuild_sample.py writes. A sample of it
with a fixed seed goes to FOLDER, and the features of four backbones beside it: resnet50 and tf_efficientnet_lite0 with
the ImageNet weights that are given (efficientnet_lite_weights.py writes one of the files), the bundled model, which was
trained on patches of this kind, and resnet50 with random weights as the control. Prints the AUC on valid and on test by
the number of labels of each class; 0 stands for all. Features that are there already are not computed again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

import sentinode
from sentinode.experiments.features_file import read_embeddings
from sentinode.patches import SPLITS

CONTROL = "resnet50, random weights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of Parquet files, one for each split")
    parser.add_argument("--resnet50", type=Path, required=True, help="ImageNet weights of resnet50")
    parser.add_argument("--lite0", type=Path, required=True, help="ImageNet weights of tf_efficientnet_lite0")
    parser.add_argument("--out", type=Path, required=True, help="folder for the sample and the features")
    parser.add_argument("--patches", type=int, nargs=3, default=[6000, 3000, 1000], help="of train, valid and test")
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 100, 1000, 0], help="of each class")
    parser.add_argument("--draws", type=int, default=5, help="of each number of labels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sample = sampled(options.data, options.out / "sample", options.patches, options.seed)
    backbones = {
        "resnet50, ImageNet": ("resnet50", options.resnet50),
        "tf_efficientnet_lite0, ImageNet": ("tf_efficientnet_lite0", options.lite0),
        "the bundled model": ("packaged", "pretrained"),
        CONTROL: ("resnet50", "none"),
    }
    print("| backbone | features | patches a second | labels of each class | AUC, valid | AUC, test |")
    print("|---|---|---|---|---|---|")
    for number, (title, (backbone, weights)) in enumerate(backbones.items()):
        file = options.out / f"{number}-{backbone}.npz"
        torch.manual_seed(options.seed)  # of the random weights
        began = time.perf_counter()
        fresh = not file.exists()
        features = (
            sentinode.embed(sample, file, backbone=backbone, weights=weights, show=False)
            if fresh
            else read_embeddings(file)
        )
        rate = f"{len(features) / (time.perf_counter() - began):.0f}" if fresh else "-"
        found = sentinode.probe(features, labels=tuple(options.labels), draws=options.draws, seed=options.seed)
        for count in options.labels:
            cells = []
            for split in ("valid", "test"):
                over_draws = found.spread(count, split, "auc")
                # All labels are one draw: its interval is over patches.
                own = (over_draws.mean, over_draws.low, over_draws.high)
                mean, low, high = own if count else vars(found.scores[split].auc).values()
                cells.append(f"{mean:.3f}" + ("" if low is None else f" ({low:.3f} to {min(high, 1):.3f})"))
            size = f"{features.features.shape[1]:,} | {rate}"
            print(f"| {title} | {size} | {count or 'all'} | {' | '.join(cells)} |", flush=True)


def sampled(data: Path, out: Path, counts: list[int], seed: int) -> Path:
    """A sample of each split as Parquet, the same for the same seed."""
    out.mkdir(parents=True, exist_ok=True)
    for split, count in zip(SPLITS, counts, strict=True):
        table = pq.read_table(data / f"{split}.parquet")
        rows = np.sort(np.random.default_rng(seed).permutation(table.num_rows)[:count])
        pq.write_table(table.take(rows), out / f"{split}.parquet")
    return out


if __name__ == "__main__":
    main()
