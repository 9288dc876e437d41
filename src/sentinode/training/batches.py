"""Batches in a fixed order, read ahead by a thread so that the device never waits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentinode.ahead import read_ahead
from sentinode.patches import PatchSet


def epoch_order(count: int, seed: int, stage: int, epoch: int) -> NDArray[np.int64]:
    """The order of ``count`` patches in one epoch of a stage: a function of these numbers alone."""
    return np.random.default_rng((seed, stage, epoch)).permutation(count)


def epoch_rows(
    order: NDArray[np.int64], batch: int, steps: Iterable[int], rank: int, processes: int
) -> list[NDArray[np.int64]]:
    """One process's share of the batch of each of these steps of an epoch: int (batch / processes,) each."""
    return [order[step * batch : (step + 1) * batch][rank::processes] for step in steps]


def read_batches(
    patches: PatchSet, rows: Sequence[NDArray[np.int64]], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (uint8 (B, S, S, 3), int64 (B,)) on ``device`` for each array of row numbers, in order."""
    for images, labels in read_ahead(_read(patches, rows, pinned=device.type == "cuda")):
        yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _read(patches: PatchSet, rows: Sequence[NDArray[np.int64]], *, pinned: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches in memory, in pages that a GPU can copy from by itself if ``pinned``."""
    for chosen in rows:
        images = torch.from_numpy(np.ascontiguousarray(patches.images[chosen]))
        labels = torch.from_numpy(patches.labels[chosen].astype(np.int64))
        yield (images.pin_memory(), labels.pin_memory()) if pinned else (images, labels)
