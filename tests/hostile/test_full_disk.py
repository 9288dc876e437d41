"""A disk that is full, wherever the file is that no longer fits.

A small file system cannot be mounted where tests run. A limit on the size of files (``ulimit -f``) ends the same
writes, in Python and in the libraries, with another number.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sound
from harness import Case, Hostile, by_name

SMALL = "--recipe quick --weights none --set model.backbone=test_resnet --set training.epochs=1"
LARGE = 8192
"""Bytes: enough for what is printed, too few for weights and images."""

FULL = "(not be so large here|disk is full|File too large|cannot be written)"


def training(folder: Path) -> list[str]:
    sound.data(folder)
    return ["train", "data", "--out", "run", "--device", "cpu", *SMALL.split()]


def with_patch(*arguments: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        sound.picture(folder / "a.png")
        return list(arguments)

    return make


def scanning(folder: Path) -> list[str]:
    sound.slide(folder / "s.tif", side=2048)
    return ["scan", "s.tif", "--out", "maps", "--device", "cpu"]


RUN = ("run", "run/*")
CASES = [
    *(
        Case(f"training with {size} bytes a file", training, FULL, leaves=RUN, file_size=size)
        for size in (1_000, 8_192, 30_000, 200_000)
    ),
    Case("explaining", with_patch("explain", "a.png", "--out", "e"), FULL, leaves=("e",), file_size=LARGE),
    Case(
        "generating",
        lambda folder: ["data", "synth", "made"],
        FULL,
        leaves=("made", "made/*"),
        file_size=LARGE,
    ),
    Case("scanning", scanning, FULL, leaves=("maps", "maps/*"), file_size=LARGE, fault="no_openvino"),
    Case(
        "predicting as Parquet",
        with_patch("predict", "a.png", "--out", "o.parquet"),
        FULL,
        file_size=1_000,
        fault="no_openvino",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_it_is_said(case: Case, hostile: Hostile) -> None:
    hostile(case)
