"""Batches in a fixed order, read ahead by a thread so that the device never waits."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentinode.patches import PatchSet

AHEAD = 4


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
    ready: queue.Queue[tuple[Tensor, Tensor] | BaseException | None] = queue.Queue(AHEAD)
    stop = threading.Event()

    def offer(item: tuple[Tensor, Tensor] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def read() -> None:
        try:
            for chosen in rows:
                if stop.is_set():
                    return
                images = torch.from_numpy(np.ascontiguousarray(patches.images[chosen]))
                labels = torch.from_numpy(patches.labels[chosen].astype(np.int64))
                if device.type == "cuda":
                    images, labels = images.pin_memory(), labels.pin_memory()
                offer((images, labels))
            offer(None)
        except BaseException as error:
            offer(error)

    thread = threading.Thread(target=read, name="patches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0].to(device, non_blocking=True), item[1].to(device, non_blocking=True)
    finally:
        stop.set()
        thread.join()
