"""Labelled image files: the Kaggle competition's layout, and folders of class folders."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import DataError
from sentinode.names import as_text
from sentinode.patches.class_folders import Classes, known_label, tell_apart
from sentinode.patches.patch_set import SPLITS
from sentinode.patches.pixels import Decoded, decode, in_threads, rows_at_once, size_of_most, spread, write_stream
from sentinode.patches.source import SPLIT_NAMES, Part, Source, as_names
from sentinode.patches.table import read_table
from sentinode.progress import Bar

IMAGE_ENDINGS = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp", ".bmp"}
KAGGLE_LABELS = "train_labels.csv"


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

    @cached_property
    def size(self) -> int:
        return size_of_most((self._files[row] for row in spread(len(self._files))), self._files[0])

    def __len__(self) -> int:
        return len(self._files)

    def mapped(self) -> None:
        return None

    def stream(self) -> Iterator[Decoded]:
        size = self.size
        return in_threads(lambda path: decode(path, path, size), self._files, rows_at_once(size))

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
            "the folder 'train' with the images is not beside this table.",
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
    return Source("kaggle", path, {"": Part(labels, as_names(names, table), ImageFiles(files), where=table)}, warnings)


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
            hint="Write 0 and 1 into the column 'label'.",
        )
    return [id for id, _ in rows], np.array(labels).astype(np.uint8)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def find_folder(path: Path, positive: Sequence[str] = ()) -> Source | None:
    """Class folders (``normal`` and ``tumour``, 0 and 1, or any others), perhaps below folders named by split.

    Args:
        path: the folder of all.
        positive: the class folders of label 1; where empty, their names say it.

    Raises:
        DataError: it is not known which class is the positive one, images lie in a folder beside the classes, or there
            are no images at all.
    """
    roots = _roots(path) if path.is_dir() else {}
    if not roots:
        return None
    names = [folder.name for root in roots.values() for folder in _class_folders(root)]
    classes = tell_apart(names, positive, next(iter(roots.values())) if len(roots) == 1 else path)
    parts = {split: _folder_part(folder, path, classes) for split, folder in roots.items()}
    return Source("folder", path, parts, _grouped(classes), class_names=classes.names)


def _roots(path: Path) -> dict[str, Path]:
    """By split, the folders whose folders are classes; under the empty string where no folder is named by a split."""
    roots: dict[str, Path] = {}
    for split in SPLITS:
        named = [f for f in _folders(path) if SPLIT_NAMES.get(f.name.lower()) == split and _are_classes(f)]
        if len(named) > 1:
            raise DataError(f"{' and '.join(f.name for f in named)} are both the {split} split.", where=path)
        if named:
            roots[split] = named[0]
    return roots or ({"": path} if _are_classes(path) else {})


def _are_classes(path: Path) -> bool:
    """Whether the folders below a folder are classes: one bears the name of one, or at least two hold images."""
    folders = _class_folders(path)
    return len(folders) > 1 or any(known_label(folder.name) is not None for folder in folders)


def _class_folders(path: Path) -> list[Path]:
    """The folders directly below a folder that bear the name of a class or hold images, and not the name of a split."""
    folders = [folder for folder in _folders(path) if folder.name.lower() not in SPLIT_NAMES]
    return [folder for folder in folders if known_label(folder.name) is not None or any(_images(folder))]


def _grouped(classes: Classes) -> tuple[str, ...]:
    """A sentence on what was put together, where there are more than two folders."""
    if len(classes.labels) < 3:
        return ()
    groups = [" and ".join(name for name, of in classes.labels.items() if of == label) for label in (1, 0)]
    return (f"The positive class is made of {groups[0]}, the negative class of {groups[1]}.",)


def _folder_part(folder: Path, root: Path, classes: Classes) -> Part:
    folders = _class_folders(folder)
    found = sorted(
        (as_text(file.relative_to(root).as_posix()), file, classes.labels[class_folder.name])
        for class_folder in folders
        for file in _images(class_folder)
    )
    if not found:
        raise DataError(
            f"there are no images in {' or '.join(folder.name for folder in folders)}.",
            where=folder,
            hint=f"Images end in {', '.join(sorted(IMAGE_ENDINGS))}.",
        )
    ids, files, labels = zip(*found, strict=True)
    return Part(np.array(labels, np.uint8), as_names(ids, folder), ImageFiles(files), where=folder)


def _folders(path: Path) -> list[Path]:
    return sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))


def _images(path: Path) -> Iterator[Path]:
    """The images of a folder and of all folders in it; a folder in it that is a link is not entered.

    Raises:
        PermissionError: a folder may not be read.
    """
    for folder, _, names in os.walk(path, onerror=_raise):
        for name in names:
            if Path(name).suffix.lower() in IMAGE_ENDINGS and not name.startswith("."):
                yield Path(folder, name)


def _raise(error: OSError) -> None:
    raise error
