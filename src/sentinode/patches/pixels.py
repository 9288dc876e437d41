"""Pixels on disk: mapped where they lie raw, decoded where they are packed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from sentinode.errors import DataError, PictureError
from sentinode.patches.patch_set import PATCH_SIZE
from sentinode.pictures import read
from sentinode.progress import Bar

SHAPE = (PATCH_SIZE, PATCH_SIZE, 3)
PATCH_BYTES = PATCH_SIZE * PATCH_SIZE * 3
BATCH = 256
"""Patches held at a time while unpacking: 7 MB."""

THREADS = min(8, os.cpu_count() or 1)
T = TypeVar("T")
Decoded = NDArray[np.uint8] | DataError
"""One patch, uint8 (96, 96, 3), or why it cannot be read."""


class Pixels(Protocol):
    """The pixels of some patches as they lie on disk, in the order of the labels."""

    @property
    def files(self) -> Sequence[Path]:
        """The files they come from."""
        ...

    def __len__(self) -> int: ...

    def mapped(self) -> MappedImages | None:
        """The patches at random access where they lie, or None where they must be unpacked first."""
        ...

    def stream(self) -> Iterator[Decoded]:
        """Each patch in turn, in bounded memory."""
        ...

    def unpack(self, target: Path, bar: Bar) -> int:
        """Write the raw patches one after the other into ``target``; return the byte at which they begin.

        Raises:
            DataError: some patches cannot be read; it names them.
        """
        ...


class MappedImages:
    """Raw patches in a file, mapped into memory when they are first read.

    Memory holds only what is being read: the operating system drops the rest when it needs the room. It can
    be sent to another process, which maps the file anew.
    """

    def __init__(self, path: Path, offset: int, count: int) -> None:
        self.path, self.offset, self.count = path, offset, count
        self._map: np.memmap[Any, np.dtype[np.uint8]] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, *SHAPE)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        if self._map is None:
            self._map = np.memmap(self.path, np.uint8, "r", self.offset, self.shape)
        return np.array(self._map[rows])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_map": None}

    def stream(self) -> Iterator[NDArray[np.uint8]]:
        """Each patch in turn."""
        for start in range(0, self.count, BATCH):
            yield from self[start : start + BATCH]


def decode(data: bytes | Path, name: Path | str) -> Decoded:
    """Decode an image of 96 x 96 pixels, from a file or from its bytes, to uint8 (96, 96, 3) RGB."""
    pixels = decode_any_size(data, name)
    if isinstance(pixels, DataError) or pixels.shape == SHAPE:
        return pixels
    height, width = pixels.shape[:2]
    return DataError(f"{width} x {height} pixels, where 96 x 96 are needed.", where=name)


def decode_any_size(data: bytes | Path, name: Path | str) -> Decoded:
    """Decode an image, from a file or from its bytes, to uint8 (H, W, 3) RGB."""
    try:
        return read(data)
    except PictureError as error:
        return DataError(error.what, where=name, hint=error.hint)
    except UnidentifiedImageError:
        return DataError("this is not an image, whatever its name says.", where=name)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        return DataError(f"this image cannot be decoded ({error}).", where=name)


def in_threads(work: Callable[[T], Decoded], items: Iterable[T]) -> Iterator[Decoded]:
    """Apply ``work`` to items in threads, in order, with at most a batch of them in memory."""
    waiting = iter(items)
    with ThreadPoolExecutor(THREADS) as pool:
        while batch := list(islice(waiting, BATCH)):
            yield from pool.map(work, batch)


def write_stream(patches: Iterable[Decoded], target: Path, bar: Bar) -> int:
    """Write patches raw, one after the other, into ``target``; return 0, the byte at which they begin.

    Raises:
        DataError: some cannot be read. All are tried first, so that one run names them all.
    """
    failed: list[DataError] = []
    with target.open("wb") as file:
        for patch in patches:
            if isinstance(patch, DataError):
                failed.append(patch)
            elif not failed:
                file.write(patch.tobytes())
            bar.advance()
    if failed:
        raise _unreadable(failed)
    return 0


def _unreadable(failed: list[DataError]) -> DataError:
    named = "; ".join(f"{Path(str(e.where)).name}: {e.what.rstrip('.')}" for e in failed[:5])
    more = f"; and {len(failed) - 5:,} more" if len(failed) > 5 else ""
    many = "1 patch" if len(failed) == 1 else f"{len(failed):,} patches"
    return DataError(
        f"{many} cannot be used. {named}{more}.",
        where=failed[0].where,
        hint="'sentinode data audit DATA' lists them all. Mend them, or remove them with their labels, and "
        "run the same command again.",
    )
