"""An exported network beside PyTorch, on the same patches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sentinode.errors import DataError, ExportError
from sentinode.geometry import PatchGeometry
from sentinode.model.bundle import Bundle
from sentinode.patches.synthetic import draw_tissue, generate
from sentinode.patches.unlabelled import read_patches

PATCHES = 256
UNLIKE_TISSUE = 32
"""How many of them are noise or one colour; the others are tissue, real or generated."""
TOLERANCE = 1e-4
"""How far a probability may lie from PyTorch's in float32."""
MARGIN_TOLERANCE = 1e-3
"""How far the difference of the two logits may lie from PyTorch's, as a share of its size and at least of 1.

Where a probability is close to 0 or 1 it hardly shows an error; the margin does."""
BATCHES = (0, 1, 8, 72, 136, 200, PATCHES)
"""Where batches begin and end: a network that holds for one size of batch alone is found out."""


def trial_patches(geometry: PatchGeometry, data: str | Path | None = None) -> tuple[NDArray[np.uint8], int]:
    """The patches to compare on, uint8 (256, S, S, 3), and how many of them come from ``data``.

    Args:
        geometry: of the patches that the network takes.
        data: images, a folder, an HDF5 or a Parquet file; its first patches take the place of generated ones.

    Raises:
        DataError: no patch of ``data`` can be used.
    """
    rng = np.random.default_rng(0)
    unlike = rng.integers(256, size=(UNLIKE_TISSUE, *geometry.shape), dtype=np.uint8)
    unlike[UNLIKE_TISSUE // 2 :] = unlike[UNLIKE_TISSUE // 2 :, :1, :1]
    unlike[-2], unlike[-1] = 0, 255
    wanted = PATCHES - UNLIKE_TISSUE
    real = [] if data is None else _read(data, geometry, wanted)
    made = _generated(wanted - len(real), geometry, rng)
    return np.concatenate([unlike, *(patch[None] for patch in real), made]), len(real)


def _read(data: str | Path, geometry: PatchGeometry, wanted: int) -> list[NDArray[np.uint8]]:
    found: list[NDArray[np.uint8]] = []
    failed: Exception | None = None
    for patch in read_patches([data], geometry=geometry):
        if isinstance(patch.pixels, Exception):
            failed = failed or patch.pixels
        else:
            found.append(patch.pixels)
        if len(found) == wanted:
            break
    if not found:
        raise DataError(
            f"no patch here can be used to compare with ({failed or 'there is none'}).",
            where=data,
            hint="Give patches of the size that the bundle takes, or leave --data out.",
        )
    return found


def _generated(count: int, geometry: PatchGeometry, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Generated tissue, repeated or cut to the size of the patches."""
    images = generate(count, draw_tissue(8, rng), rng).images if count else np.zeros((0, 96, 96, 3), np.uint8)
    places = np.arange(geometry.size) % images.shape[1]
    return np.ascontiguousarray(images[:, places][:, :, places])


@torch.inference_mode()
def reference_logits(bundle: Bundle, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What PyTorch says in float32, with the network as the bundle holds it and the temperature applied.

    Raises:
        ExportError: these are not two finite logits for each patch.
    """
    network = bundle.classifier()
    logits = in_batches(lambda batch: _logits(network, batch), images) / np.float32(bundle.card.temperature)
    if logits.shape != (len(images), 2) or not np.isfinite(logits).all():
        raise ExportError(
            f"the network does not give two finite logits for each patch (shape {logits.shape[1:]}).",
            where=bundle.path,
            hint="An exported network must map uint8 (B, S, S, 3) to logits (B, 2).",
        )
    return logits


def _logits(network: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    answer: NDArray[np.float32] = network(torch.from_numpy(images)).float().numpy()
    return answer


def in_batches(
    score: Callable[[NDArray[np.uint8]], NDArray[np.float32]], images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """What ``score`` gives for all patches, asked in batches of several sizes."""
    return np.concatenate([score(np.ascontiguousarray(images[start:stop])) for start, stop in pairwise(BATCHES)])


def largest_difference(logits: NDArray[np.float32], reference: NDArray[np.float32], to: str) -> float:
    """The largest difference of a probability.

    Raises:
        ExportError: the shapes differ, or a difference is above the tolerance.
    """
    if logits.shape != reference.shape:
        raise ExportError(f"the exported network gives {logits.shape}, not {reference.shape}; nothing was written.")
    margins, expected = (np.diff(each.astype(np.float64), axis=1)[:, 0] for each in (logits, reference))
    gaps = np.abs(1 / (1 + np.exp(-margins)) - 1 / (1 + np.exp(-expected)))
    relative = np.abs(margins - expected) / np.maximum(1, np.abs(expected))
    gap, margin_gap = float(gaps.max()), float(relative.max())
    # Not `>`: a difference that is no number is too large, too.
    if not (gap <= TOLERANCE and margin_gap <= MARGIN_TOLERANCE):
        raise ExportError(
            f"the network as {to} answers otherwise than PyTorch: on {PATCHES} patches its probabilities differ by up "
            f"to {gap:.1e} (allowed: {TOLERANCE:.0e}), its margins by up to {margin_gap:.1e} (allowed: "
            f"{MARGIN_TOLERANCE:.0e}). Nothing was written.",
            hint="Choose another format, or another version of its packages.",
        )
    return gap
