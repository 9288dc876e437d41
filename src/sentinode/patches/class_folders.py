"""The label of each class folder, and the names of the two classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentinode.errors import DataError
from sentinode.names import printable
from sentinode.patches.patch_set import CLASS_NAMES

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
"""Names of class folders whose label is known; case, spaces and hyphens do not matter."""

WRITTEN_OUT = 3
"""Folders of one class whose names are all written out in the name of the class."""


@dataclass(frozen=True)
class Classes:
    """The two classes of a folder of class folders.

    Attributes:
        labels: the label by the name of the folder.
        names: what label 0 and label 1 are called.
    """

    labels: Mapping[str, int]
    names: tuple[str, str]


def known_label(folder: str) -> int | None:
    """The label that the name of a folder stands for by itself, or None."""
    return CLASS_FOLDERS.get(folder.lower().replace(" ", "_").replace("-", "_"))


def tell_apart(folders: Iterable[str], positive: Sequence[str], where: Path) -> Classes:
    """Find out which class folders have label 1.

    Args:
        folders: the names of all class folders.
        positive: those of label 1 that the user stated; empty if their names tell it.
        where: the folder that they lie in, for messages.

    Raises:
        DataError: the names do not say which class is the positive one, or those that were stated are not there or are
            all; or they cannot name the classes of a bundle.
    """
    found = sorted(set(folders))
    unfit = [name for name in found if printable(name) != name]
    if unfit:
        raise DataError(
            f"the name of the class folder {printable(unfit[0])} has characters that cannot be shown.",
            where=where,
            hint="Rename the folder: it names a class in reports and bundles.",
        )
    labels = _stated(found, positive, where) if positive else _known(found, where)
    names = _names(labels)
    if names[0] == names[1]:
        raise DataError(
            f"both classes would be called {names[0]}: a folder named 0 or 1 takes the usual name of its class.",
            where=where,
            hint="Rename the folders, such as to normal and tumour.",
        )
    return Classes(labels, names)


def _stated(found: list[str], positive: Sequence[str], where: Path) -> dict[str, int]:
    absent = [name for name in positive if name not in found]
    if absent:
        raise DataError(
            f"there is no class folder {_and(absent)} here; there are {_and(found)}.",
            where=where,
            hint="Name the folders of the positive class, separated by commas: --positive NAME,NAME.",
        )
    if len(set(positive)) == len(found):
        raise DataError(
            f"all class folders ({_and(found)}) are named as the positive class, so there is no negative class.",
            where=where,
            hint="Name only some of them with --positive.",
        )
    return {name: int(name in positive) for name in found}


def _known(found: list[str], where: Path) -> dict[str, int]:
    labels = {name: label for name in found if (label := known_label(name)) is not None}
    other = [name for name in found if name not in labels]
    if other and labels:
        raise DataError(
            f"this folder contains images and lies beside {', '.join(labels)}, but its name is not a known class.",
            where=where / other[0],
            hint=f"Name the folders of the positive class with --positive, such as --positive {_last(labels)}. Or "
            "rename this folder by its class (normal, tumour, 0, 1, ...), or move it elsewhere.",
        )
    if other:
        raise DataError(
            f"the class folders are {_and(found)}, and their names do not tell which is positive.",
            where=where,
            hint="Name it with --positive (or several, separated by commas), such as --positive "
            f"{found[0]}. All others are the negative class.",
        )
    return labels


def _last(labels: Mapping[str, int]) -> str:
    return max(labels, key=lambda name: labels[name])


def _names(labels: Mapping[str, int]) -> tuple[str, str]:
    """What the classes are called: by their folders, and by PatchCamelyon's words where those are numbers or absent."""
    names = []
    for label, usual in enumerate(CLASS_NAMES):
        folders = [usual if name == str(label) else name for name in labels if labels[name] == label] or [usual]
        more = len(folders) - WRITTEN_OUT
        names.append("+".join(folders[:WRITTEN_OUT]) + (f"+{more} more" if more > 0 else ""))
    return names[0], names[1]


def same_meaning(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two pairs of class names mean the same: they are equal, or words for normal and for tumour."""
    return list(first) == list(second) or (_of_tumour(first) and _of_tumour(second))


def _of_tumour(names: Sequence[str]) -> bool:
    return all(known_label(part) == label for label, name in enumerate(names) for part in name.split("+"))


def _and(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
