"""What every engine holds to: the patches that it takes, how many at a time, and the step to probabilities.

No PyTorch, so that an engine can start without it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import BundleError, DataError
from sentinode.geometry import PatchGeometry

BATCH, GPU_BATCH = 64, 512
"""Patches in a batch that suits a processor, and a GPU."""

TILE, BLOCK = 672, 1120
"""Pixels a side of a tile that suit a processor in dense reading, and of the largest region: more takes memory."""

MOST_STREAMS = 4
"""Batches or regions that a processor computes at once at most; each takes memory."""


def check_size(images: NDArray[np.uint8], geometry: PatchGeometry) -> None:
    """
    Raises:
        DataError: these are not patches of the size that the bundle was trained on.
    """
    if images.shape[1:] != geometry.shape:
        height, width = images.shape[1:3]
        raise DataError(
            f"these patches are {width} x {height} pixels, and the bundle takes {geometry.size} x {geometry.size}.",
            hint="Resample them to its size and resolution, or train a bundle on patches like these.",
        )


def finite(margins: NDArray[np.float32]) -> NDArray[np.float32]:
    """The margins themselves, if all of them are numbers.

    Raises:
        BundleError: the network returned NaN or an infinite value, of which no probability can be made.
    """
    if not np.isfinite(margins).all():
        raise BundleError(
            "the network returned a value that is not a number.",
            hint="Try --precision float32. If it persists, the weights are damaged: train the bundle again.",
        )
    return margins


def probabilities_of(margins: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """P(positive class), float32, of margins after temperature scaling."""
    scaled = margins.astype(np.float64) / temperature
    small = np.exp(-np.abs(scaled))  # at most 1, so that nothing overflows
    return np.asarray(np.where(scaled >= 0, 1, small) / (1 + small), np.float32)
