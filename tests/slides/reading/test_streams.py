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
}


@pytest.mark.parametrize("kind", CODED)
def test_a_stream_states_its_width_and_height(kind: str) -> None:
    assert stated_size(CODED[kind](PIXELS)) == (40, 24)


def test_other_streams_state_nothing_that_is_read() -> None:
    assert stated_size(b"") is None
    assert stated_size(b"\xff\xd8") is None
    assert stated_size(imagecodecs.webp_encode(PIXELS)) is None


def test_a_larger_picture_than_the_file_says_is_refused() -> None:
    data = imagecodecs.jpeg8_encode(PIXELS)
    require_size(data, 40, 24)
    require_size(data, 64, 64)
    with pytest.raises(ValueError, match="it states 40 x 24 pixels, and the file says 40 x 23"):
        require_size(data, 40, 23)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x89PNG\r\n\x1a\n"]))
def test_noise_is_looked_at_to_its_end(noise: bytes, head: bytes) -> None:
    stated_size(head + noise)
    list(segments(head + noise))
