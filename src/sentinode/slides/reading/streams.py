"""What a coded tile says of its own size, read before a decoder believes it and takes gigabytes."""

from __future__ import annotations

import re
from collections.abc import Iterator

NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})
"""Markers among those of JPEG's frames that begin none: tables, and what is reserved."""


JPEG_XL = b"\0\0\0\x0cJXL \r\n\x87\n"
"""How a JPEG XL stream begins that lies in boxes."""

WMPHOTO = b"WMPHOTO\0"
"""How the picture in a JPEG XR file begins."""


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment before the first scan of a JPEG, a lossless JPEG or a JPEG-LS stream."""
    position = 2
    while position + 4 <= len(data) and data[position + 1] != 0xDA:
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        yield data[position + 1], data[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)


def stated_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a coded picture states; None where it is no JPEG, JPEG-LS, JPEG 2000, PNG, WebP, JPEG XL or
    JPEG XR stream, or is cut off before."""
    if data.startswith(b"\xff\xd8"):
        for marker, content in segments(data):
            if (0xC0 <= marker <= 0xCF and marker not in NO_FRAME) or marker == 0xF7:
                return int.from_bytes(content[3:5], "big"), int.from_bytes(content[1:3], "big")
        return None
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _of_webp(data)
    if data.startswith((b"\xff\x0a", JPEG_XL)):
        return _of_jpeg_xl(data)
    if WMPHOTO in data:
        return _of_jpeg_xr(data)
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # after the boxes of a JP2 file, or at once
    if start < 0:
        return None
    right, lower, left, top = (int.from_bytes(data[start + at : start + at + 4], "big") for at in (8, 12, 16, 20))
    return right - left, lower - top


def _of_webp(data: bytes) -> tuple[int, int] | None:
    """By RFC 9649, section 2.5 to 2.7."""
    content = data[20:]
    match data[12:16]:
        case b"VP8 ":
            return _little(content[6:8]) & 0x3FFF, _little(content[8:10]) & 0x3FFF
        case b"VP8L":
            sides = _little(content[1:5])
            return (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return _little(content[4:7]) + 1, _little(content[7:10]) + 1
    return None


def _of_jpeg_xl(data: bytes) -> tuple[int, int] | None:
    """By ISO/IEC 18181-1, D.2 (the size), and 18181-2 (the boxes around it)."""
    position = 0
    while data.startswith(JPEG_XL) and position + 8 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        head = 8
        if length == 1:
            length, head = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            data = data[position + head + (4 if kind == b"jxlp" else 0) :]
            break
        position += max(length, head) if length else len(data)
    if not data.startswith(b"\xff\x0a"):
        return None
    bits, at = _little(data[2:16]), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return bits >> (at - count) & ((1 << count) - 1)

    eighths = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if eighths else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * over // under if ratio else side(), height


def _of_jpeg_xr(data: bytes) -> tuple[int, int]:
    """By ITU-T T.832, 8.3: the largest of the pictures in it, because which is decoded stands elsewhere."""
    sides = []
    for found in re.finditer(WMPHOTO, data):
        head = data[found.end() : found.end() + 12]
        short = len(head) > 2 and head[2] & 0x80
        size = 2 if short else 4
        sides.append([int.from_bytes(head[at : at + size], "big") + 1 for at in (4, 4 + size)])
    width, height = (max(side) for side in zip(*sides, strict=True))
    return width, height


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def require_size(data: bytes, width: int, height: int) -> None:
    """Refuse a stream that states a larger picture than its file says it is.

    Raises:
        ValueError: it does.
    """
    size = stated_size(data)
    if size is not None and (size[0] > width or size[1] > height):
        raise ValueError(f"it states {size[0]} x {size[1]} pixels, and the file says {width} x {height}")
