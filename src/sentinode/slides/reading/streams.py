"""What a coded tile says of its own size, read before a decoder believes it and takes gigabytes."""

from __future__ import annotations

from collections.abc import Iterator

NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})
"""Markers among those of JPEG's frames that begin none: tables, and what is reserved."""


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment before the first scan of a JPEG, a lossless JPEG or a JPEG-LS stream."""
    position = 2
    while position + 4 <= len(data) and data[position + 1] != 0xDA:
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        yield data[position + 1], data[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)


def stated_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG, JPEG-LS, JPEG 2000 or PNG stream states; None for any other."""
    if data.startswith(b"\xff\xd8"):
        for marker, content in segments(data):
            if (0xC0 <= marker <= 0xCF and marker not in NO_FRAME) or marker == 0xF7:
                return int.from_bytes(content[3:5], "big"), int.from_bytes(content[1:3], "big")
        return None
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # after the boxes of a JP2 file, or at once
    if start < 0:
        return None
    right, lower, left, top = (int.from_bytes(data[start + at : start + at + 4], "big") for at in (8, 12, 16, 20))
    return right - left, lower - top


def require_size(data: bytes, width: int, height: int) -> None:
    """Refuse a stream that states a larger picture than its file says it is.

    Raises:
        ValueError: it does.
    """
    size = stated_size(data)
    if size is not None and (size[0] > width or size[1] > height):
        raise ValueError(f"it states {size[0]} x {size[1]} pixels, and the file says {width} x {height}")
