"""Questions that a sweep answers, on a sample of PatchCamelyon. For docs/how-to/sweep.md.

    python benchmarks/backbones.py --data DATA --weights RESNET50 [--lite LITE0] --out DIR [--part a b c]

DATA is labelled patches with a train, a valid and a test split. RESNET50 is a file of ImageNet weights for ResNet-50,
LITE0 one for EfficientNet-Lite0 (benchmarks/efficientnet_lite_weights.py writes it). Each part may be interrupted and
goes on.

 a  ResNet-50 from ImageNet against from nothing.
 b  Five backbones from nothing.
 c  EfficientNet-Lite0 from ImageNet against from nothing.

Everything is chosen on valid; test is scored and stands in brackets. DIR/PART holds what `sentinode sweep` writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import sentinode
from sentinode.experiments.sweep_page import markdown

BACKBONES = "resnet50,resnet18,convnext_atto,mobilenetv3_small_100,tf_efficientnet_lite0"
COMMON = ("training.epochs=3", "training.ema=0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled patches")
    parser.add_argument("--weights", type=Path, help="ImageNet weights for ResNet-50")
    parser.add_argument("--lite", type=Path, help="ImageNet weights for EfficientNet-Lite0")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--part", nargs="+", default=["a", "b"], choices=list("abc"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sample", type=int, default=2000, help="training patches")
    parser.add_argument("--sample-valid", type=int, default=1500)
    options = parser.parse_args()
    shared = {"seeds": options.seeds, "sample_valid": options.sample_valid, "test": True}
    grids = {
        "a": ("model.backbone=resnet50", f"model.weights={options.weights},none"),
        "b": (f"model.backbone={BACKBONES}", "model.weights=none"),
        "c": ("model.backbone=tf_efficientnet_lite0", f"model.weights={options.lite},none"),
    }
    for part in options.part:
        out = options.out / part
        swept = sentinode.sweep(options.data, out, settings=(*grids[part], *COMMON), sample=options.sample, **shared)
        print(markdown(swept))


if __name__ == "__main__":
    main()
