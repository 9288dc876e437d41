"""The eight symmetries of the square, for arrays, as :func:`sentinode.symmetry` has them for tensors. No PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SYMMETRIES = 8
"""The quarter turns of the square, and the same after a mirror."""


def turned(images: NDArray[Any], k: int) -> NDArray[Any]:
    """The images (..., H, W, C) turned by symmetry ``k`` of :func:`sentinode.symmetry`, without a copy."""
    check_symmetry(k)
    mirrored = np.flip(images, -2) if k >= 4 else images
    return np.rot90(mirrored, k % 4, (-3, -2))


def inverse_symmetry(k: int) -> int:
    """The symmetry that undoes ``k``: a mirror undoes itself, a turn needs the turn that completes it."""
    return k if k >= 4 else -k % 4


def check_symmetry(k: int) -> None:
    """
    Raises:
        ValueError: ``k`` is not one of the eight.
    """
    if not 0 <= k < SYMMETRIES:
        raise ValueError(f"a square has the symmetries 0 to {SYMMETRIES - 1}, not {k}")
