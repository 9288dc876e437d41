"""The contract behind every source of labelled patches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sentinode.geometry import PCAM, PatchGeometry

CLASS_NAMES = ("normal", "tumour")
"""What PatchCamelyon's labels 0 and 1 mean, and those of data that does not name its classes."""

SPLITS = ("train", "valid", "test")
ALL = "all"
"""The name for every patch of data without splits."""


class Images(Protocol):
    """Patches that are read when they are asked for: a memory map, an array, or a selection of one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> NDArray[np.uint8]:
        """uint8 (n, S, S, 3) RGB for a slice or an array of n row numbers."""
        ...


@dataclass(frozen=True)
class PatchSet:
    """Labelled patches of one split.

    Attributes:
        images: uint8 (N, S, S, 3) RGB, S the size of the geometry, read on access; index them with a slice or an
            array of row numbers.
        labels: uint8 (N,), 1 where the patch is of the positive class. In PatchCamelyon: where the centre 32 x 32
            pixels hold at least one pixel of tumour.
        ids: str (N,), unique within the split and the same on every machine.
        slides: str (N,) naming the slide of each patch, an empty string where it is unknown; None where no slides are
            known.
        split: ``train``, ``valid``, ``test`` or ``all``.
        source: the path that the user gave.
        kind: ``official``, ``kaggle``, ``folder`` or ``parquet``.
        toy: True for generated patches; a model trained on them is marked as a toy everywhere.
        geometry: size, microns per pixel, and the region that the label covers.
        class_names: the names of labels 0 and 1, as in the data.
    """

    images: Images
    labels: NDArray[np.uint8]
    ids: NDArray[np.str_]
    split: str
    source: Path
    kind: str
    slides: NDArray[np.str_] | None = None
    toy: bool = False
    geometry: PatchGeometry = PCAM
    class_names: tuple[str, str] = CLASS_NAMES
    warnings: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: Sequence[int] | NDArray[np.int64]) -> PatchSet:
        """The patches at ``rows``, in that order, still lazily read."""
        rows = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            images=Selection(self.images, rows),
            labels=self.labels[rows],
            ids=self.ids[rows],
            slides=None if self.slides is None else self.slides[rows],
        )

    def fingerprint(self, sample: int = 512) -> str:
        """SHA-256 of the labels, the ids and ``sample`` patches spread evenly: the same for the same data.

        It does not depend on the machine or on the path of the files.
        """
        digest = hashlib.sha256(f"{len(self)}x{self.images.shape[1:]}".encode())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        digest.update("\n".join(self.ids.tolist()).encode())
        if len(self):
            rows = np.unique(np.linspace(0, len(self) - 1, min(sample, len(self))).astype(np.int64))
            for start in range(0, len(rows), 64):
                digest.update(np.ascontiguousarray(self.images[rows[start : start + 64]]).tobytes())
        return digest.hexdigest()


class Selection:
    """Some rows of other images, read when asked for."""

    def __init__(self, images: Images, rows: NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._rows), *self._images.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._images[self._rows[rows]]
