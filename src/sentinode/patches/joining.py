"""Several patch sets as one: extra training patches beside those of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sentinode.patches.patch_set import Images, PatchSet


class Joined:
    """The images of several patch sets, one set after the other, read when asked for."""

    def __init__(self, parts: Sequence[Images]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self._parts[0].shape[1:])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        chosen = np.arange(len(self))[rows]
        of_part = np.searchsorted(self._ends, chosen, side="right")
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for number in np.unique(of_part).tolist():
            here = of_part == number
            first = self._ends[number] - len(self._parts[number])
            images[here] = self._parts[number][chosen[here] - first]
        return images


def join(first: PatchSet, others: Sequence[PatchSet]) -> PatchSet:
    """The patches of ``first``, then those of the others: of its split, geometry and class names.

    The ids of the others begin with ``also-1/``, ``also-2/`` and so on, so that they stay unique.
    """
    if not others:
        return first
    sets = [first, *others]
    ids = [np.char.add(f"also-{number}/", other.ids) for number, other in enumerate(others, 1)]
    slides = [np.full(len(one), "") if one.slides is None else one.slides for one in sets]
    return replace(
        first,
        images=Joined([one.images for one in sets]),
        labels=np.concatenate([one.labels for one in sets]),
        ids=np.concatenate([first.ids, *ids]),
        slides=None if all(one.slides is None for one in sets) else np.concatenate(slides),
        toy=any(one.toy for one in sets),
    )
