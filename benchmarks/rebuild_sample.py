"""Rebuild, from public files, the sample of PatchCamelyon that the figures in README and docs come from.

    python benchmarks/rebuild_sample.py --data pcam --out sample
    python benchmarks/rebuild_sample.py --data pcam --out sample --kaggle histopathologic-cancer-detection [--join]

``--data`` is the folder that ``sentinode data download pcam`` filled. ``sample_indices.csv.gz`` names the patches:
their rows in the official files, counted from 0, and for the split ``kaggle`` their ids. The official files of these
rows are written to ``--out``, and with ``--kaggle`` also its subset of the competition's files, to ``OUT/kaggle``; or,
with ``--join``, these patches are added to the train split, as they are.
The sample was stored as JPEG of quality 75, so the patches are compressed likewise; ``--jpeg 0`` leaves them as
published.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import shutil
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sentinode.patches import SPLITS, open_data
from sentinode.pictures import read

INDICES = Path(__file__).with_name("sample_indices.csv.gz")


def sampled() -> dict[str, list[str]]:
    """The patches of the sample by split, in its order."""
    found: dict[str, list[str]] = {}
    with gzip.open(INDICES, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["split"], []).append(row["patch"])
    return found


def compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """A patch after JPEG of some quality; 0 leaves it alone."""
    if not quality:
        return image
    held = io.BytesIO()
    Image.fromarray(image).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held))


def write_official(data: Path, out: Path, rows: dict[str, NDArray[np.int64]], quality: int) -> None:
    """Write the official files of some rows of each split."""
    source = open_data(data)
    out.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        patches = source[split].subset(rows[split])
        stem = out / f"camelyonpatch_level_2_split_{split}"
        with h5py.File(f"{stem}_x.h5", "w") as file:
            x = file.create_dataset("x", patches.images.shape, "uint8")
            for start in range(0, len(patches), 256):
                batch = patches.images[start : start + 256]
                x[start : start + len(batch)] = [compressed(image, quality) for image in batch]
        with h5py.File(f"{stem}_y.h5", "w") as file:
            file["y"] = patches.labels.reshape(-1, 1, 1, 1)
        print(f"{split}: {len(patches):,} patches")


def copy_kaggle(kaggle: Path, out: Path, ids: list[str]) -> None:
    """Copy the images of some ids, and their rows of the table."""
    with (kaggle / "train_labels.csv").open(newline="", encoding="utf-8") as file:
        labels = {row["id"]: row["label"] for row in csv.DictReader(file)}
    (out / "train").mkdir(parents=True, exist_ok=True)
    with (out / "train_labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "label"])
        for name in ids:
            shutil.copy(kaggle / "train" / f"{name}.tif", out / "train")
            table.writerow([name, labels[name]])
    print(f"kaggle: {len(ids):,} patches")


def join_kaggle(kaggle: Path, out: Path, ids: list[str]) -> None:
    """Add the patches of some ids to the train split of the official files in ``out``."""
    with (kaggle / "train_labels.csv").open(newline="", encoding="utf-8") as file:
        labels = {row["id"]: int(row["label"]) for row in csv.DictReader(file)}
    added = {
        "x": np.stack([read(kaggle / "train" / f"{name}.tif") for name in ids]),
        "y": np.array([labels[name] for name in ids], np.uint8).reshape(-1, 1, 1, 1),
    }
    for part, values in added.items():
        path = out / f"camelyonpatch_level_2_split_train_{part}.h5"
        with h5py.File(path, "r+") as file:
            together = np.concatenate([file[part][:], values])
            del file[part]
            file[part] = together
    print(f"train: {len(together):,} patches, {len(ids):,} of them Kaggle's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the official files")
    parser.add_argument("--out", type=Path, required=True, help="where to write the sample")
    parser.add_argument("--kaggle", type=Path, help="the folder of the Kaggle competition's files")
    parser.add_argument("--jpeg", type=int, default=75, metavar="QUALITY", help="0 for none [75]")
    parser.add_argument("--join", action="store_true", help="add Kaggle's patches to train")
    options = parser.parse_args()
    if options.join and not options.kaggle:
        parser.error("--join needs --kaggle")
    names = sampled()
    rows = {split: np.array(names[split], dtype=np.int64) for split in SPLITS}
    write_official(options.data, options.out, rows, options.jpeg)
    if options.kaggle and options.join:
        join_kaggle(options.kaggle, options.out, names["kaggle"])
    elif options.kaggle:
        copy_kaggle(options.kaggle, options.out / "kaggle", names["kaggle"])


if __name__ == "__main__":
    main()
