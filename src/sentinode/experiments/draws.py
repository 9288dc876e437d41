"""Seeded draws of patches: so many of each class, or so many slides; a smaller draw is part of a larger one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def draw_patches(labels: NDArray[np.uint8], each: int, seed: int) -> Rows:
    """The rows of ``each`` patches of each class, in ascending order.

    The same seed gives the same patches, and those of a smaller draw are among those of a larger one.

    Args:
        labels: uint8 (N,), 0 or 1.
        each: patches of a class; all of them where it has fewer.
        seed: the random seed.
    """
    rng = np.random.default_rng([seed, 0])
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:each] for label in (0, 1)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def draw_share(labels: NDArray[np.uint8], patches: int, seed: int) -> Rows:
    """The rows of about ``patches`` patches, the classes in the proportion that they have, at least one of each."""
    rng = np.random.default_rng([seed, 0])
    chosen = []
    for label in (0, 1):
        of_class = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(of_class[: max(1, round(len(of_class) * patches / len(labels)))])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def draw_slides(slides: NDArray[np.str_], labels: NDArray[np.uint8], count: int, seed: int) -> Rows:
    """The rows of all patches of ``count`` slides, with both classes among them.

    The slides come in a random order, in which the first that brings the second class is moved forward, so that two
    slides have both classes where any two do. Patches without a known slide are left out.

    Args:
        slides: str (N,), empty where unknown.
        labels: uint8 (N,), 0 or 1.
        count: number of slides.
        seed: the random seed.
    """
    order = np.random.default_rng([seed, 1]).permutation(np.unique(slides[slides != ""]))
    classes = [set(labels[slides == name].tolist()) for name in order]
    if order.size and len(classes[0]) == 1:
        other = next((at for at, found in enumerate(classes) if found - classes[0]), None)
        if other is not None and other > 1:
            order = np.concatenate([order[:1], order[[other]], np.delete(order[1:], other - 1)])
    return np.flatnonzero(np.isin(slides, order[:count])).astype(np.int64)
