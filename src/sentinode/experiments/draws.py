"""Seeded draws of patches, so many of each class; a smaller draw is part of a larger one."""

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
