"""TIFFs and BigTIFFs whose tags say whatever a test wants, true or not."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 256, 257, 258, 259, 262, 270
SAMPLES, X_RESOLUTION, Y_RESOLUTION, UNIT, TILE_WIDTH, TILE_HEIGHT = 277, 282, 283, 296, 322, 323
OFFSETS, SIZES, ICC = 324, 325, 34675
JPEG, DEFLATE, YCBCR, RGB = 7, 8, 6, 2

SHORT, LONG, ASCII, RATIONAL, UNDEFINED, LONG8 = 3, 4, 2, 5, 7, 16

Value: TypeAlias = int | bytes | list[int] | tuple[int, int, bytes] | None
"""One number, bytes as they are, several numbers, a type with a count and bytes that may disagree, or no tag at all."""


def tissue(side: int = 256) -> np.ndarray:
    """uint8 (side, side, 3): purple noise, which a scan takes for tissue."""
    noise = np.random.default_rng(0).normal((180, 90, 160), 20, (side // 8, side // 8, 3)).clip(0, 255)
    return np.asarray(noise.repeat(8, 0).repeat(8, 1), np.uint8)


def jpeg(pixels: np.ndarray) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.jpeg8_encode(pixels, level=80))


def raw_tiff(
    path: Path,
    tags: Mapping[int, Value] | None = None,
    *,
    tile: bytes | None = None,
    big: bool = False,
    following: int = 0,
    size: int | None = None,
) -> None:
    """One page of 512 x 512 pixels in four equal JPEG tiles at 0.5 um per pixel, but for what ``tags`` say.

    Args:
        path: the file.
        tags: what to write in place of the sound values; None leaves a tag out.
        tile: the coded bytes of each tile.
        big: write a BigTIFF.
        following: the offset of the next page; 0 for none.
        size: bytes of the file, which is then sparse or cut.
    """
    data = jpeg(tissue()) if tile is None else tile
    first, at_page = 16, 16 + len(data)
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, at_page) if big else struct.pack("<2sHI", b"II", 42, at_page)
    resolution = struct.pack("<2I", 20_000, 1)
    sound: dict[int, Value] = {
        **{WIDTH: 512, HEIGHT: 512, BITS: [8, 8, 8], COMPRESSION: JPEG, PHOTOMETRIC: YCBCR, SAMPLES: 3},
        **{X_RESOLUTION: (RATIONAL, 1, resolution), Y_RESOLUTION: (RATIONAL, 1, resolution), UNIT: 3},
        **{TILE_WIDTH: 256, TILE_HEIGHT: 256, OFFSETS: [first] * 4, SIZES: [len(data)] * 4},
    }
    values = {number: value for number, value in sorted({**sound, **(tags or {})}.items()) if value is not None}
    counter, field, entry = ("<Q", 8, 20) if big else ("<H", 4, 12)
    at_extra = at_page + struct.calcsize(counter) + entry * len(values) + field
    entries, extra = b"", b""
    for number, value in values.items():
        kind, count, content = _coded(value)
        if len(content) > field:
            content, extra = (at_extra + len(extra)).to_bytes(field, "little"), extra + content
        entries += struct.pack("<HHQ" if big else "<HHI", number, kind, count) + content.ljust(field, b"\0")
    with path.open("wb") as file:
        file.write(head.ljust(first, b"\0") + data + struct.pack(counter, len(values)) + entries)
        file.write(following.to_bytes(field, "little") + extra)
        if size is not None:
            file.truncate(size)


def _coded(value: Value) -> tuple[int, int, bytes]:
    """Type, count and bytes of a tag."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, bytes):
        return ASCII, len(value), value
    numbers = value if isinstance(value, list) else [value or 0]
    kind, letter = (LONG8, "Q") if max(numbers) >= 1 << 32 else (LONG, "I")
    return kind, len(numbers), struct.pack(f"<{len(numbers)}{letter}", *numbers)
