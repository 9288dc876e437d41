"""Batches come in a fixed order, read ahead, and a reader's error reaches the loop."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from sentinode.patches import PatchSet
from sentinode.training.batches import epoch_order, epoch_rows, read_batches

CPU = torch.device("cpu")


def patch_set(images: object, count: int) -> PatchSet:
    labels = (np.arange(count) % 2).astype(np.uint8)
    ids = np.array([str(i) for i in range(count)])
    return PatchSet(images, labels, ids, "train", Path("memory"), "official")  # type: ignore[arg-type]


def test_the_order_follows_from_the_numbers_alone() -> None:
    assert np.array_equal(epoch_order(50, 1, 1, 3), epoch_order(50, 1, 1, 3))
    assert sorted(epoch_order(50, 1, 1, 3)) == list(range(50))
    others = [epoch_order(50, *numbers) for numbers in ((2, 1, 3), (1, 0, 3), (1, 1, 4))]
    assert not any(np.array_equal(epoch_order(50, 1, 1, 3), other) for other in others)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_each_batch_equally_and_wholly(processes: int) -> None:
    order = epoch_order(50, 1, 1, 3)
    shares = [epoch_rows(order, 8, range(2, 6), rank, processes) for rank in range(processes)]
    assert {len(rows) for share in shares for rows in share} == {8 // processes}
    for at, step in enumerate(range(2, 6)):
        together = np.concatenate([share[at] for share in shares])
        assert sorted(together) == sorted(order[step * 8 : (step + 1) * 8])


def test_each_batch_holds_the_patches_and_labels_of_its_rows() -> None:
    images = np.zeros((10, 96, 96, 3), np.uint8) + np.arange(10, dtype=np.uint8)[:, None, None, None]
    rows = [np.array([3, 1]), np.array([9, 0, 4])]
    got = list(read_batches(patch_set(images, 10), rows, CPU))
    assert [x[:, 0, 0, 0].tolist() for x, _ in got] == [[3, 1], [9, 0, 4]]
    assert [y.tolist() for _, y in got] == [[1, 1], [1, 0, 0]]


class Broken:
    shape = (10, 96, 96, 3)

    def __len__(self) -> int:
        return 10

    def __getitem__(self, rows: object) -> np.ndarray:
        raise OSError("the disk has gone")


def test_an_error_of_the_reader_is_raised_in_the_loop() -> None:
    with pytest.raises(OSError, match="the disk has gone"):
        list(read_batches(patch_set(Broken(), 10), [np.array([0])], CPU))


def test_a_loop_that_stops_early_leaves_no_thread_behind() -> None:
    images = np.zeros((10, 96, 96, 3), np.uint8)
    loop = read_batches(patch_set(images, 10), [np.array([0])] * 100, CPU)
    next(loop)
    loop.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "patches"]
