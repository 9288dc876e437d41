"""Labelled image files: the Kaggle competition's layout, and folders of class folders."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import DataError
from sentinode.patches.patch_set import SPLITS
from sentinode.patches.pixels import Decoded, decode, in_threads, write_stream
from sentinode.patches.source import SPLIT_NAMES, Part, Source
from sentinode.patches.table import read_table
from sentinode.progress import Bar

IMAGE_ENDINGS = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp", ".bmp"}
KAGGLE_LABELS = "train_labels.csv"

CLASS_FOLDERS = {
    "0": 0,
    "normal": 0,
    "negative": 0,
    "benign": 0,
    "healthy": 0,
    "no_tumor": 0,
    "no_tumour": 0,
    "non_tumor": 0,
    "non_tumour": 0,
    "1": 1,
    "tumor": 1,
    "tumour": 1,
    "positive": 1,
    "malignant": 1,
    "cancer": 1,
    "metastasis": 1,
    "metastases": 1,
    "metastatic": 1,
}
"""What the folders of a class may be called; case, spaces and hyphens do not matter."""


def without_ending(name: str) -> str:
    """The name of an image file without its ending; any other name as it is."""
    stem, dot, ending = name.rpartition(".")
    return stem if stem and f"{dot}{ending}".lower() in IMAGE_ENDINGS else name


def image_name(path: str) -> str:
    """What an image is called: its path without folders, of whichever system, and without an image's ending."""
    return without_ending(path.replace("\\", "/").rpartition("/")[2])


class ImageFiles:
    """One image file for each patch."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    @property
    def files(self) -> Sequence[Path]:
        return self._files

    def __len__(self) -> int:
        return len(self._files)

    def mapped(self) -> None:
        return None

    def stream(self) -> Iterator[Decoded]:
        return in_threads(lambda path: decode(path, path), self._files)

    def unpack(self, target: Path, bar: Bar) -> int:
        return write_stream(self.stream(), target, bar)


def find_kaggle(path: Path) -> Source | None:
    """``train_labels.csv`` (id,label) and ``train/<id>.tif``: Kaggle's histopathologic-cancer-detection.

    Args:
        path: the folder of both, or the CSV itself.

    Raises:
        DataError: the table is not what it should be, or images that it names are missing or cannot be told apart.
    """
    table = path if path.is_file() else path / KAGGLE_LABELS
    if table.name != KAGGLE_LABELS or not table.is_file():
        return None
    ids, labels = _kaggle_table(table)
    folder = table.parent / "train"
    if not folder.is_dir():
        raise DataError(
            "the folder 'train' with the images is missing beside this table.",
            where=table,
            hint="Unpack train.zip of the competition there, so that train/<id>.tif exists for each row.",
        )
    found = _named_images(ids, folder, table)
    missing = [name for name, file in zip(ids, found, strict=True) if file is None]
    if missing:
        named = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise DataError(
            f"{len(missing):,} of {len(ids):,} rows have no image in {folder}: {named}",
            where=table,
            hint="Unpack the rest of train.zip there, or remove these rows from the table.",
        )
    files = [file for file in found if file is not None]
    extra = sum(1 for _ in _images_in(folder)) - len(set(files))
    warnings = (f"{extra:,} images in {folder} are not in {table.name}, and are left out.",) if extra else ()
    # Kaggle's ids have no ending; one is kept only where it tells two images apart.
    stems = [file.stem for file in files]
    names = stems if len(set(stems)) == len(set(files)) else [file.name for file in files]
    return Source("kaggle", path, {"": Part(labels, np.array(names), ImageFiles(files), where=table)}, warnings)


def _images_in(folder: Path) -> Iterator[Path]:
    return (f for f in folder.iterdir() if f.suffix.lower() in IMAGE_ENDINGS and not f.name.startswith("."))


def _named_images(ids: Sequence[str], folder: Path, table: Path) -> list[Path | None]:
    """The image of each id, which may be given with an image's ending or without; None where there is none."""
    by_name: dict[str, Path] = {}
    by_stem: dict[str, list[Path]] = {}
    for file in sorted(_images_in(folder)):
        by_name[file.name] = file
        by_stem.setdefault(file.stem, []).append(file)
    found: list[Path | None] = []
    for name in ids:
        exact = by_name.get(name)
        candidates = [exact] if exact else by_stem.get(name) or by_stem.get(image_name(name), [])
        if len(candidates) > 1:
            raise DataError(
                f"the id {name!r} could be {' or '.join(file.name for file in candidates)} in {folder}.",
                where=table,
                hint="Write the ending in the table, or remove one of the images.",
            )
        found.append(candidates[0] if candidates else None)
    return found


def _kaggle_table(path: Path) -> tuple[list[str], NDArray[np.uint8]]:
    """The ids and the labels."""
    rows = read_table(path, ("id",), ("label",))
    labels = [_number(cell) for _, cell in rows]
    if any(label not in (0, 1) for label in labels):
        counts = Counter(cell for (_, cell), label in zip(rows, labels, strict=True) if label not in (0, 1))
        found = ", ".join(f"{cell!r} ({count:,})" for cell, count in counts.most_common(5))
        raise DataError(
            f"labels must be 0 (normal) or 1 (tumour); {counts.total():,} of {len(rows):,} are not: "
            f"{found}{', ...' if len(counts) > 5 else ''}.",
            where=path,
            hint="Write 0 and 1 into the column 'label', in place of words.",
        )
    return [id for id, _ in rows], np.array(labels).astype(np.uint8)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def find_folder(path: Path) -> Source | None:
    """Folders named by class (``normal`` and ``tumour``, 0 and 1, ...), perhaps below folders named by split.

    Raises:
        DataError: images lie in a folder beside them whose name is no class, or there are no images at all.
    """
    if not path.is_dir():
        return None
    roots: dict[str, Path] = {}
    for split in SPLITS:
        named = [f for f in _folders(path) if SPLIT_NAMES.get(f.name.lower()) == split and _classes(f)]
        if len(named) > 1:
            raise DataError(f"{' and '.join(f.name for f in named)} are both the {split} split.", where=path)
        if named:
            roots[split] = named[0]
    if not roots and _classes(path):
        roots = {"": path}
    if not roots:
        return None
    parts = {split: _folder_part(folder, path) for split, folder in roots.items()}
    return Source("folder", path, parts)


def _folder_part(folder: Path, root: Path) -> Part:
    classes = _classes(folder)
    for other in set(_folders(folder)) - set(chain(*classes.values())):
        if any(_images(other)):
            raise DataError(
                f"this folder holds images beside {', '.join(_names(classes))}, but its name is no class.",
                where=other,
                hint="Rename it by its class (normal, tumour, 0, 1, ...), or move it elsewhere.",
            )
    found = sorted(
        (file.relative_to(root).as_posix(), file, label)
        for label, folders in classes.items()
        for class_folder in folders
        for file in _images(class_folder)
    )
    if not found:
        raise DataError(
            f"there are no images in {' or '.join(_names(classes))}.",
            where=folder,
            hint=f"Images end in {', '.join(sorted(IMAGE_ENDINGS))}.",
        )
    ids, files, labels = zip(*found, strict=True)
    return Part(np.array(labels, np.uint8), np.array(ids), ImageFiles(files), where=folder)


def _folders(path: Path) -> list[Path]:
    return sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))


def _images(path: Path) -> Iterator[Path]:
    return (f for f in path.rglob("*") if f.suffix.lower() in IMAGE_ENDINGS and not f.name.startswith("."))


def _classes(path: Path) -> dict[int, list[Path]]:
    """The class folders directly below a folder, by label."""
    found: dict[int, list[Path]] = {}
    for folder in _folders(path):
        label = CLASS_FOLDERS.get(folder.name.lower().replace(" ", "_").replace("-", "_"))
        if label is not None:
            found.setdefault(label, []).append(folder)
    return found


def _names(classes: dict[int, list[Path]]) -> list[str]:
    return [folder.name for folders in classes.values() for folder in folders]
