"""What a coded tile says of its size, before it is decoded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinode.slides.reading.streams import require_size, segments, stated_size

imagecodecs = pytest.importorskip("imagecodecs")
PIXELS = np.zeros((24, 40, 3), np.uint8)

CODED = {
    "JPEG": imagecodecs.jpeg8_encode,
    "JPEG-LS": imagecodecs.jpegls_encode,
    "lossless JPEG": lambda pixels: imagecodecs.ljpeg_encode(pixels[..., 0]),
    "JPEG 2000": lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k"),
    "JP2": lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="jp2"),
    "PNG": imagecodecs.png_encode,
    "lossy WebP": imagecodecs.webp_encode,
    "lossless WebP": lambda pixels: imagecodecs.webp_encode(pixels, lossless=True),
    "WebP with a canvas": lambda pixels: imagecodecs.webp_encode(np.dstack([pixels, pixels[..., 0]])),
    "JPEG XL": imagecodecs.jpegxl_encode,
    "JPEG XL in boxes": lambda pixels: imagecodecs.jpegxl_encode(pixels, usecontainer=True),
    "JPEG XR": imagecodecs.jpegxr_encode,
}


@pytest.mark.parametrize("kind", CODED)
def test_a_stream_states_its_width_and_height(kind: str) -> None:
    assert stated_size(CODED[kind](PIXELS)) == (40, 24)


def test_other_streams_state_nothing_that_is_read() -> None:
    assert stated_size(b"") is None
    assert stated_size(b"\xff\xd8") is None
    assert stated_size(imagecodecs.qoi_encode(PIXELS)) is None


SIDES = [1, 8, 40, 100, 256, 511, 512, 513, 1000, 8200]
NEW = ["lossy WebP", "lossless WebP", "JPEG XL", "JPEG XL in boxes", "JPEG XR"]


@pytest.mark.parametrize("kind", NEW)
def test_each_way_of_writing_a_size_is_read(kind: str) -> None:
    """JPEG XL has eight of them."""
    for width, height in [
        *((side, 24) for side in SIDES),
        *((24, side) for side in SIDES),
        (32, 18),
        (36, 24),
        (80, 40),
    ]:
        assert stated_size(CODED[kind](np.zeros((height, width, 3), np.uint8))) == (width, height)


@pytest.mark.parametrize("kind", NEW)
def test_what_is_cut_off_says_no_more_than_it_holds(kind: str) -> None:
    data = CODED[kind](PIXELS)
    for end in range(min(len(data), 300)):
        stated_size(data[:end])


def test_a_larger_picture_than_the_file_says_is_refused() -> None:
    data = imagecodecs.jpeg8_encode(PIXELS)
    require_size(data, 40, 24)
    require_size(data, 64, 64)
    with pytest.raises(ValueError, match="it states 40 x 24 pixels, and the file says 40 x 23"):
        require_size(data, 40, 23)


HEADS = [b"RIFF1234WEBPVP8X", b"RIFF1234WEBPVP8L", b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n", b"II\xbc\x01WMPHOTO\0"]


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x89PNG\r\n\x1a\n", *HEADS]))
def test_noise_is_looked_at_to_its_end(noise: bytes, head: bytes) -> None:
    stated_size(head + noise)
    list(segments(head + noise))
