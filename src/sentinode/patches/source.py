"""What a reader finds on disk, before pixels are unpacked and splits are dealt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import DataError
from sentinode.geometry import PatchGeometry
from sentinode.names import printable, shortened
from sentinode.patches.patch_set import CLASS_NAMES
from sentinode.patches.pixels import Pixels
from sentinode.regular import require_regular

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
"""The names under which files and folders present a split."""

MAY_NOT_READ = "It is not necessarily damaged. Ask its owner for permission, or on Unix try 'chmod -R u+rX' on it."
"""What to do where reading is not permitted."""


LONGEST_NAME, USUAL_NAME = 4096, 256
"""Characters of an id or a slide's name: what a path can have, and what any number of them may have."""

MOST_NAMES = 2**30
"""Bytes of a table of names that are longer than usual."""


@dataclass(frozen=True)
class Part:
    """The patches of one split, or all patches of data that has no splits.

    Attributes:
        labels: uint8 (N,) of 0 and 1.
        ids: str (N,), unique.
        pixels: the N patches.
        slides: str (N,) or None; an empty string where the slide of a patch is unknown.
        where: the file or folder that the labels come from.
    """

    labels: NDArray[np.uint8]
    ids: NDArray[np.str_]
    pixels: Pixels
    where: Path
    slides: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        if not len(self.ids):
            raise DataError("there are no patches here.", where=self.where)
        unique, first = np.unique(self.ids, return_index=True)
        if len(unique) < len(self.ids):
            twice = np.delete(self.ids, first)
            raise DataError(
                f"{len(twice):,} ids occur more than once, such as {twice[0]}.",
                where=self.where,
                hint="Each patch needs an id of its own: remove the rows that repeat.",
            )


@dataclass(frozen=True)
class Source:
    """Labelled patches found at a path.

    Attributes:
        kind: ``official``, ``kaggle``, ``folder`` or ``parquet``.
        parts: by split, or under the empty string where the data has no splits.
        warnings: what the user should know, as sentences.
        toy: whether the patches are generated.
        class_names: what label 0 and label 1 are called.
        recorded: the geometry, where the data itself records it.
    """

    kind: str
    path: Path
    parts: Mapping[str, Part]
    warnings: tuple[str, ...] = field(default=())
    toy: bool = False
    class_names: tuple[str, str] = CLASS_NAMES
    recorded: PatchGeometry | None = None

    @property
    def size(self) -> int:
        """Side of the patches in pixels.

        Raises:
            DataError: the splits are of several sizes, or of another than is recorded.
        """
        sizes = {split: part.pixels.size for split, part in self.parts.items()}
        if len(set(sizes.values())) > 1:
            named = ", ".join(f"{split} {size} x {size}" for split, size in sizes.items())
            raise DataError(f"the splits hold patches of several sizes: {named}.", where=self.path)
        size = next(iter(sizes.values()))
        if self.recorded is not None and self.recorded.size != size:
            raise DataError(
                f"the patches are {size} x {size} pixels, and the data records {self.recorded.size} x "
                f"{self.recorded.size}.",
                where=self.path,
            )
        return size

    @property
    def own_splits(self) -> bool:
        """Whether the data itself says which patches are for training, validation and test."""
        return "" not in self.parts


def as_names(names: Sequence[str], where: Path) -> NDArray[np.str_]:
    """Ids or slides as str (N,). NumPy takes the room of the longest for each of them, so that one may take it all.

    Raises:
        DataError: one is longer than a path can be or than so many names may be, or is no text.
    """
    longest = max(names, key=len, default="")
    if len(longest) > LONGEST_NAME or (len(longest) > USUAL_NAME and len(longest) * 4 * len(names) > MOST_NAMES):
        raise DataError(
            f"a name of {len(longest):,} characters stands among {len(names):,}, too long for so many: "
            f"{shortened(longest, 40)}.",
            where=where,
            hint="Names of patches and slides are short texts, such as paths. Check the table or the folder.",
        )
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"the name {printable(name)} is no text in UTF-8.", where=where, hint="Rename the file."
            ) from error
    return np.array(names, dtype=np.str_)


def checked_labels(values: NDArray[np.generic], where: Path) -> NDArray[np.uint8]:
    """Labels as uint8 (N,).

    Raises:
        DataError: something other than 0 and 1 stands among them.
    """
    if values.dtype.kind not in "buif":
        raise DataError(f"labels must be 0 and 1; these are of type {values.dtype}.", where=where)
    wrong = ~np.isin(values, (0, 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"labels must be 0 (normal) or 1 (tumour); {int(wrong.sum()):,} of {len(values):,} are not, "
            f"the first being {values[row]} in row {row:,}.",
            where=where,
        )
    return values.astype(np.uint8)


def read_head(path: Path, size: int = 512) -> bytes:
    """The first bytes of a file.

    Raises:
        DataError: it cannot be read, or is a web page in place of what its name says.
    """
    try:
        require_regular(path)
        with path.open("rb") as file:
            head = file.read(size)
    except OSError as error:
        hint = MAY_NOT_READ if isinstance(error, PermissionError) else None
        raise DataError(f"cannot be read ({error.strerror}).", where=path, hint=hint) from error
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        raise DataError(
            "this is a web page, although its name says that it is data.",
            where=path,
            hint="The download returned an error page or a confirmation page. Remove it, and download the file again "
            "with 'sentinode data download'.",
        )
    return head
