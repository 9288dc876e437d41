"""Small patches, and the ways in which people keep them on disk."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

STEM = "camelyonpatch_level_2_split_"
Pixels = NDArray[np.uint8]


class Disk:
    """Writes patches in each format below a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def patches(count: int, seed: int = 0) -> Pixels:
        """Smooth random patches, all different: uint8 (count, 96, 96, 3)."""
        rng = np.random.default_rng(seed)
        coarse = rng.integers(40, 230, (count, 12, 12, 3), dtype=np.uint8)
        smooth = [Image.fromarray(c).resize((96, 96)).filter(ImageFilter.GaussianBlur(2)) for c in coarse]
        return np.stack([np.asarray(image) for image in smooth])

    def official(
        self,
        split: str,
        images: Pixels,
        labels: Sequence[int] | NDArray[np.generic],
        slides: Sequence[str] | None = None,
        packed: bool = False,
        **layout: object,
    ) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, data in (("x", images), ("y", np.asarray(labels, np.uint8).reshape(-1, 1, 1, 1))):
            path = self.folder / f"{STEM}{split}_{name}.h5"
            with h5py.File(path, "w") as file:
                file.create_dataset(name, data=data, **(layout if name == "x" else {}))
            if packed:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
                path.unlink()
        if slides is not None:
            with (self.folder / f"{STEM}{split}_meta.csv").open("w", newline="") as file:
                table = csv.writer(file)
                table.writerow(["coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi"])
                table.writerows([0, 0, bool(label), bool(label), s] for label, s in zip(labels, slides, strict=True))
        return self.folder

    def kaggle(self, images: Pixels, labels: Sequence[int], ids: Sequence[str] | None = None) -> Path:
        (self.folder / "train").mkdir(parents=True)
        ids = ids or [f"{i:040x}" for i in range(len(images))]
        for name, image in zip(ids, images, strict=True):
            Image.fromarray(image).save(self.folder / "train" / f"{name}.tif")
        with (self.folder / "train_labels.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["id", "label"])
            table.writerows(zip(ids, labels, strict=True))
        return self.folder

    def classes(self, images: Pixels, labels: Sequence[int], names: tuple[str, str], below: str = "") -> Path:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = self.folder / below / names[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{i}.png")
        return self.folder

    def parquet(self, name: str, images: Pixels, labels: Sequence[int] | pa.Array, **columns: Sequence[object]) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        encoded = [{"bytes": png(image), "path": f"{i}.png"} for i, image in enumerate(images)]
        table = pa.table({"image": encoded, "label": labels, **columns})
        pq.write_table(table, self.folder / name)
        return self.folder


def png(image: Pixels) -> bytes:
    held = io.BytesIO()
    Image.fromarray(image).save(held, "PNG", compress_level=1)
    return held.getvalue()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "data")
