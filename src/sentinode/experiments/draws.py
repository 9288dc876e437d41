"""Seeded draws of patches and of slides; a smaller draw is part of a larger one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import DataError

Rows = NDArray[np.int64]

ORDERS = 1000
"""Random orders of slides that are tried."""


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


def draw_share(labels: NDArray[np.uint8], total: int, seed: int) -> Rows:
    """The rows of ``total`` patches, the classes in the same shares as in all, in ascending order.

    The same seed gives the same patches, and those of a smaller draw are among those of a larger one. If both classes
    are present, a draw of two or more has both.

    Args:
        labels: uint8 (N,), 0 or 1.
        total: patches; all of them where there are fewer.
        seed: the random seed.
    """
    total = min(total, len(labels))
    positive = round(total * float(np.mean(labels)))
    if total >= 2 and 0 < labels.sum() < len(labels):
        positive = min(max(positive, 1), total - 1)
    rng = np.random.default_rng([seed, 0])
    wanted = {0: total - positive, 1: positive}
    chosen = [rng.permutation(np.flatnonzero(labels == label))[: wanted[label]] for label in (0, 1)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def draw_slides(slides: NDArray[np.str_], labels: NDArray[np.uint8], counts: Sequence[int], seed: int) -> list[Rows]:
    """The rows of all patches of so many slides, for each of ``counts``, in ascending order.

    The slides are in random order, and a smaller draw is part of a larger one. The order is the first of many random
    ones in which the smallest draw has both classes; slides are never split.

    Args:
        slides: str (N,), an empty text where the slide is not known; such patches are in no draw.
        labels: uint8 (N,), 0 or 1.
        counts: numbers of slides, each at most the number of known slides.
        seed: the random seed.

    Raises:
        DataError: in no order does the smallest draw have both classes.
    """
    names = np.unique(slides[slides != ""])
    rng = np.random.default_rng([seed, 1])
    for _ in range(ORDERS):
        order = rng.permutation(names)
        if len(np.unique(labels[np.isin(slides, order[: min(counts)])])) == 2:
            return [np.flatnonzero(np.isin(slides, order[:count])).astype(np.int64) for count in counts]
    raise DataError(
        f"no {min(counts)} of the {len(names)} slides were found that have patches of both classes.",
        hint="Begin with more slides.",
    )
