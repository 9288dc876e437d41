"""From the bytes of a DICOM frame to RGB: codecs, bit depths and colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import SlideError
from sentinode.slides.reading.pyramid import Pixels
from sentinode.slides.reading.streams import require_size, segments

Samples = NDArray[np.uint8] | NDArray[np.uint16]

_REQUIRED = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")

EXPORT = "Export it as a DICOM whole-slide image in colour, with JPEG frames of 8 bits, or as a tiled TIFF."


@dataclass(frozen=True)
class FrameFormat:
    """How the bytes of a file's frames are to be read.

    Attributes:
        codec: decompresses a frame.
        photometric: what the header says the three samples of a pixel are.
        rows, columns: size of a frame in pixels.
        planar: whether uncompressed frames hold all of the first sample, then all of the second and the third.
        allocated, stored: bits that a sample takes, and those of them that count.
    """

    codec: Codec
    photometric: str
    rows: int
    columns: int
    planar: bool
    allocated: int
    stored: int

    @classmethod
    def of(cls, header: Any, path: Path) -> FrameFormat:
        """What a header states.

        Raises:
            SlideError: it states what is not read, or what contradicts itself.
        """
        lacking = [keyword for keyword in _REQUIRED if header.get(keyword) is None]
        if lacking:
            raise SlideError(f"its DICOM header lacks {', '.join(lacking)}.", where=path, hint=EXPORT)
        syntax, photometric = header.file_meta.TransferSyntaxUID, str(header.get("PhotometricInterpretation", ""))
        allocated, stored, samples = int(header.BitsAllocated), int(header.BitsStored), int(header.SamplesPerPixel)
        codec, refusal = CODECS.get(str(syntax)), None
        if codec is None:
            refusal = f"its frames are coded as '{syntax.name}' ({syntax}), which Sentinode does not decode"
        elif samples != 3:
            refusal = f"its pixels are '{photometric}' with {samples} sample each; only colour with 3 can be read"
        elif codec is not _jpeg_xl and photometric not in (_COLOURS | _TRANSFORMED if codec is _jpeg2000 else _COLOURS):
            refusal = f"its colours are called '{photometric}', which is not read from '{syntax.name}'"
        elif allocated not in (8, 16) or not 0 < stored <= allocated:
            refusal = f"its samples have {stored} bits of {allocated}, and only 8 and 16 are read"
        elif int(header.get("PixelRepresentation") or 0) or int(header.get("HighBit", stored - 1)) != stored - 1:
            refusal = "its samples are signed, or do not lie in the lowest bits"
        if codec is None or refusal:
            raise SlideError(f"{refusal}.", where=path, hint=EXPORT)
        planar = bool(header.get("PlanarConfiguration") or 0)
        return cls(codec, photometric, int(header.Rows), int(header.Columns), planar, allocated, stored)

    @property
    def dtype(self) -> str:
        """That of a sample as it is stored."""
        return "u1" if self.allocated == 8 else "<u2"

    @property
    def uncompressed_bytes(self) -> int:
        """Bytes of a frame that is not compressed."""
        samples = 2 if self.photometric == "YBR_FULL_422" else 3  # two pixels share their blue and their red
        return self.rows * self.columns * samples * self.allocated // 8

    def decode(self, data: bytes) -> Pixels:
        """uint8 (rows, columns, 3) RGB of one frame.

        Raises:
            ValueError: the data are damaged, or contradict the header.
        """
        from pydicom.pixels.processing import convert_color_space

        require_size(data, self.columns, self.rows)
        samples = self.codec(data, self)
        if samples.shape != (self.rows, self.columns, 3):
            raise ValueError(f"a frame is {samples.shape}, and the header says {(self.rows, self.columns, 3)}")
        pixels = _to_8_bits(samples, self.stored)
        if self.becomes_rgb(data):
            return pixels
        return np.asarray(convert_color_space(pixels, "YBR_FULL", "RGB"))

    def becomes_rgb(self, data: bytes) -> bool:
        """Whether a frame is RGB once it is decompressed; if not, it is YCbCr.

        Raises:
            ValueError: stream and header contradict each other.
        """
        if self.codec in (_jpeg, _jpeg_xl) or self.photometric == "RGB":
            return True  # a JPEG decoder converts by itself
        if self.codec is not _jpeg2000:
            return False
        transforms = _jpeg2000_transforms(data)
        if transforms != (self.photometric in _TRANSFORMED):
            does = "transform" if transforms else "do not transform"
            raise ValueError(f"its colours are called '{self.photometric}', but its JPEG 2000 streams {does} them")
        return transforms


def _to_8_bits(samples: Samples, stored: int) -> Pixels:
    if samples.dtype == np.uint8 and stored == 8:
        return samples.astype(np.uint8, copy=False)
    largest = 2**stored - 1
    if (samples.dtype == np.uint8 and stored > 8) or samples.max() > largest:
        raise ValueError(f"a frame's samples are {samples.dtype}, and the header says that they have {stored} bits")
    scaled: NDArray[np.float64] = samples * (255 / largest)
    return scaled.round().astype(np.uint8)


Codec = Callable[[bytes, FrameFormat], Samples]


def _uncompressed(data: bytes, format: FrameFormat) -> Samples:
    data = data[: format.uncompressed_bytes]
    if format.photometric == "YBR_FULL_422":
        from pydicom.pixels.utils import expand_ybr422

        data = expand_ybr422(data, format.allocated)
    return _arranged(np.frombuffer(data, format.dtype), format, format.planar)


def _rle(data: bytes, format: FrameFormat) -> Samples:
    import imagecodecs

    flat = np.frombuffer(imagecodecs.dicomrle_decode(data, format.dtype), format.dtype)
    return _arranged(flat, format, planar=True)


def _arranged(flat: Any, format: FrameFormat, planar: bool) -> Samples:
    if planar:
        return np.asarray(flat).reshape(3, format.rows, format.columns).transpose(1, 2, 0)
    return np.asarray(flat).reshape(format.rows, format.columns, 3)


def _jpeg(data: bytes, format: FrameFormat) -> Samples:
    import imagecodecs

    # The decoder would fill what is missing with grey and say nothing.
    if not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise ValueError("a frame's JPEG stream is cut off")
    # What a stream says of its colours counts for more than the header, which many converters get wrong.
    stated = None if _jpeg_names_its_colours(data) else "RGB" if format.photometric == "RGB" else "YCBCR"
    return np.asarray(imagecodecs.jpeg8_decode(data, colorspace=stated, outcolorspace="RGB"))


def _lossless_jpeg(data: bytes, format: FrameFormat) -> Samples:
    import imagecodecs

    return np.asarray(imagecodecs.jpegsof3_decode(data))


def _jpeg_ls(data: bytes, format: FrameFormat) -> Samples:
    import imagecodecs

    return np.asarray(imagecodecs.jpegls_decode(data))


def _jpeg2000(data: bytes, format: FrameFormat) -> Samples:
    import imagecodecs

    return np.asarray(imagecodecs.jpeg2k_decode(data))


def _jpeg_xl(data: bytes, format: FrameFormat) -> Samples:
    import imagecodecs

    return np.asarray(imagecodecs.jpegxl_decode(data))


CODECS: dict[str, Codec] = {
    "1.2.840.10008.1.2": _uncompressed,  # implicit VR, little endian
    "1.2.840.10008.1.2.1": _uncompressed,  # explicit VR, little endian
    "1.2.840.10008.1.2.1.98": _uncompressed,  # encapsulated
    "1.2.840.10008.1.2.1.99": _uncompressed,  # the whole file deflated
    "1.2.840.10008.1.2.4.50": _jpeg,
    "1.2.840.10008.1.2.4.51": _jpeg,
    "1.2.840.10008.1.2.4.57": _lossless_jpeg,
    "1.2.840.10008.1.2.4.70": _lossless_jpeg,
    "1.2.840.10008.1.2.4.80": _jpeg_ls,
    "1.2.840.10008.1.2.4.81": _jpeg_ls,
    "1.2.840.10008.1.2.4.90": _jpeg2000,
    "1.2.840.10008.1.2.4.91": _jpeg2000,
    "1.2.840.10008.1.2.4.110": _jpeg_xl,
    "1.2.840.10008.1.2.4.111": _jpeg_xl,
    "1.2.840.10008.1.2.4.112": _jpeg_xl,
    "1.2.840.10008.1.2.4.201": _jpeg2000,  # high throughput
    "1.2.840.10008.1.2.4.202": _jpeg2000,
    "1.2.840.10008.1.2.4.203": _jpeg2000,
    "1.2.840.10008.1.2.5": _rle,
}
"""The transfer syntaxes that are read, and what decompresses a frame of each."""

_COLOURS = {"RGB", "YBR_FULL", "YBR_FULL_422"}
_TRANSFORMED = {"YBR_ICT", "YBR_RCT"}
"""RGB that JPEG 2000 transforms while it compresses, and gives back when it decompresses."""


def _jpeg_names_its_colours(data: bytes) -> bool:
    """Whether a JPEG says what its components are: by a JFIF or Adobe marker, or by components called R, G and B."""
    for marker, content in segments(data):
        if (marker == 0xE0 and content[:4] == b"JFIF") or (marker == 0xEE and content[:5] == b"Adobe"):
            return True
        if 0xC0 <= marker <= 0xC3 and content[6::3] == b"RGB":
            return True
    return False


def _jpeg2000_transforms(data: bytes) -> bool:
    """Whether a JPEG 2000 stream transforms its colours: the fifth byte of its COD segment (ISO/IEC 15444-1, A.6.1)."""
    position = data.find(b"\xff\x4f\xff\x51") + 2
    while 2 <= position < len(data) - 8 and data[position : position + 2] != b"\xff\x52":
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    if data[position : position + 2] != b"\xff\x52":
        raise ValueError("a frame is not a JPEG 2000 stream")
    return data[position + 8] == 1
