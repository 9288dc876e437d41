"""Pixels on disk: mapped where they lie raw, decoded where they are packed."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from sentinode.errors import DataError, PictureError
from sentinode.geometry import PCAM
from sentinode.pictures import TooManyPixelsError, open_picture, read
from sentinode.progress import Bar

BATCH = 256
"""Patches held at a time while unpacking: 7 MB of PatchCamelyon's."""

BATCH_BYTES = 64 * 2**20
"""And how many bytes of larger ones."""

LARGEST_IMAGE = 2**25
"""Pixels of an image that is decoded to cut a patch from it: 5,792 x 5,792."""

SAMPLED = 64
"""Images of a set whose sizes are looked at when it is opened."""

THREADS = min(8, os.cpu_count() or 1)
T = TypeVar("T")
Decoded = NDArray[np.uint8] | DataError
"""One patch, uint8 (S, S, 3), or why it cannot be read."""


class OtherSizeError(DataError):
    """An image that is not of the size of the others, or not square."""

    def __init__(
        self, what: str, *, where: str | Path | None = None, hint: str | None = None, size: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.size = size


class Pixels(Protocol):
    """The pixels of some patches as they lie on disk, in the order of the labels."""

    @property
    def files(self) -> Sequence[Path]:
        """The files they come from."""
        ...

    @property
    def size(self) -> int:
        """Side of the patches in pixels.

        Raises:
            DataError: they are not square.
        """
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

    def __init__(self, path: Path, offset: int, count: int, size: int) -> None:
        self.path, self.offset, self.count, self.size = path, offset, count, size
        self._memory_map: np.memmap[Any, np.dtype[np.uint8]] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, self.size, self.size, 3)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        if self._memory_map is None:
            self._memory_map = np.memmap(self.path, np.uint8, "r", self.offset, self.shape)
        return np.array(self._memory_map[rows])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_memory_map": None}

    def stream(self) -> Iterator[NDArray[np.uint8]]:
        """Each patch in turn."""
        for start in range(0, self.count, BATCH):
            yield from self[start : start + BATCH]


def rows_at_once(size: int) -> int:
    """How many patches of this size are held at a time."""
    return max(1, min(BATCH, BATCH_BYTES // (3 * max(1, size) ** 2)))


def decode(data: bytes | Path, name: Path | str, size: int) -> Decoded:
    """Decode an image of ``size`` x ``size`` pixels, from a file or from its bytes, to uint8 (size, size, 3) RGB.

    One that has more pixels is not decoded.
    """
    pixels = decode_any_size(data, name, most=size * size)
    if isinstance(pixels, OtherSizeError):
        width, height = pixels.size
    elif isinstance(pixels, DataError) or pixels.shape == (size, size, 3):
        return pixels
    else:
        height, width = pixels.shape[:2]
    what = f"{width} x {height} pixels; {size} x {size} are needed."
    return OtherSizeError(what, where=name, size=(width, height))


def size_of_most(images: Iterable[bytes | Path], where: Path) -> int:
    """The side in pixels of most of some images, of which the heads are read.

    Raises:
        DataError: most are not square.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    for image in images:
        with contextlib.suppress(Exception):  # unpacking will say why it cannot be read
            sizes[_size_of(image)] += 1
    (width, height), _ = sizes.most_common(1)[0] if sizes else ((PCAM.size, PCAM.size), 0)
    if width != height:
        raise DataError(
            f"the images are {width} x {height} pixels; patches must be square.",
            where=where,
            hint="Cut squares of one size from them.",
        )
    return width


def _size_of(image: bytes | Path) -> tuple[int, int]:
    """Width and height: from the head of the file, or decoded where Pillow does not know its kind."""
    try:
        with open_picture(image) as picture:
            return picture.size
    except TooManyPixelsError as error:
        return error.size
    except UnidentifiedImageError:
        try:
            height, width, _ = read(image, LARGEST_IMAGE).shape
        except TooManyPixelsError as error:
            return error.size
        return width, height


def spread(count: int) -> list[int]:
    """Up to ``SAMPLED`` row numbers, evenly over all of ``count``."""
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLED)).astype(int)).tolist() if count else []


def decode_any_size(data: bytes | Path, name: Path | str, most: int = LARGEST_IMAGE) -> Decoded:
    """Decode an image of ``most`` pixels at most, from a file or from its bytes, to uint8 (H, W, 3) RGB."""
    try:
        return read(data, most)
    except TooManyPixelsError as error:
        width, height = error.size
        return OtherSizeError(
            f"{width} x {height} pixels; images of up to {most:,} pixels are decoded.", where=name, size=error.size
        )
    except PictureError as error:
        return DataError(error.what, where=name, hint=error.hint)
    except UnidentifiedImageError:
        return DataError("this is not an image, although its name says so.", where=name)
    # Pillow's decoders fail in their own ways on a damaged file.
    except Exception as error:
        return DataError(f"this image cannot be decoded ({error}).", where=name)


def in_threads(work: Callable[[T], Decoded], items: Iterable[T], at_once: int = BATCH) -> Iterator[Decoded]:
    """Apply ``work`` to items in threads, in order, with ``at_once`` of them in memory."""
    waiting = iter(items)
    with ThreadPoolExecutor(THREADS) as pool:
        while batch := list(islice(waiting, at_once)):
            yield from pool.map(work, batch)


def write_stream(patches: Iterable[Decoded], target: Path, bar: Bar) -> int:
    """Write patches raw, one after the other, into ``target``; return 0, the byte at which they begin.

    Raises:
        DataError: some cannot be read, or are of another size. All are tried first, so that one run names them all.
    """
    failed: list[DataError] = []
    usual: tuple[int, ...] = ()
    usual_count = 0
    with target.open("wb") as file:
        for patch in patches:
            if isinstance(patch, DataError):
                failed.append(patch)
            else:
                usual, usual_count = patch.shape, usual_count + 1
                if not failed:
                    file.write(patch.tobytes())
            bar.advance()
    others = [error for error in failed if isinstance(error, OtherSizeError)]
    if others:
        raise _several_sizes(others, usual, usual_count)
    if failed:
        raise _unreadable(failed)
    return 0


def _several_sizes(others: list[OtherSizeError], usual: tuple[int, ...], usual_count: int) -> DataError:
    """What to say of images of several sizes: how many there are of each, and one of each."""
    counts = Counter(error.size for error in others)
    examples = {error.size: Path(str(error.where)).name for error in reversed(others)}
    named = [f"{count:,} of {w} x {h} (such as {examples[w, h]})" for (w, h), count in counts.most_common(5)]
    more = f", and {len(counts) - 5:,} more sizes" if len(counts) > 5 else ""
    most = f"{usual_count:,} of {usual[1]} x {usual[0]} pixels, " if usual else ""
    return DataError(
        f"the images are of several sizes: {most}{', '.join(named)}{more}.",
        where=others[0].where,
        hint="All patches must be squares of one size. Resample them to one resolution, or remove those that differ.",
    )


def _unreadable(failed: list[DataError]) -> DataError:
    named = "; ".join(f"{Path(str(e.where)).name}: {e.what.rstrip('.')}" for e in failed[:5])
    more = f"; and {len(failed) - 5:,} more" if len(failed) > 5 else ""
    many = "1 patch" if len(failed) == 1 else f"{len(failed):,} patches"
    return DataError(
        f"{many} cannot be used. {named}{more}.",
        where=failed[0].where,
        hint="'sentinode data audit DATA' lists them all. Repair them, or remove them with their labels, and "
        "run the same command again.",
    )
