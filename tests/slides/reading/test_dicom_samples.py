"""The colours of DICOM frames: by any codec, in any bit depth, RGB as it was scanned; or a refusal that says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_files import (
    ENCAPSULATED_UNCOMPRESSED,
    Frame,
    Pixels,
    jpeg,
    jpeg2000,
    jpeg_rgb,
    rle,
    uncompressed,
    without_marker,
    write_dicom,
)
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.pixels.processing import convert_color_space

from sentinode.errors import SlideError
from sentinode.slides.reading.slide import open_slide

RAMPS = np.stack(
    [
        np.linspace(40, 230, 150)[None].repeat(110, 0),
        np.linspace(230, 40, 110)[:, None].repeat(150, 1),
        np.full((110, 150), 120),
    ],
    axis=-1,
).astype(np.uint8)
"""No channel is another's copy, so that channels that change places are seen."""


def ybr(frame: Frame) -> Pixels:
    return np.asarray(convert_color_space(frame, "RGB", "YBR_FULL"))


def planar(frame: Frame) -> bytes:
    return frame.transpose(2, 0, 1).tobytes()


def native_422(frame: Frame) -> bytes:
    """Of two pixels: the two brightnesses, then one blue and one red (DICOM PS3.3 C.7.6.3.1.2)."""
    luma, blue, red = np.moveaxis(ybr(frame), -1, 0)
    return np.stack([luma[:, ::2], luma[:, 1::2], blue[:, ::2], red[:, ::2]], axis=-1).tobytes()


def is_planar(header: Dataset) -> None:
    header.PlanarConfiguration = 1


def read(path: Path) -> Pixels:
    with open_slide(path) as slide:
        return slide.region(0, 0, slide.width, slide.height, slide.mpp)


LOSSLESS, SMOOTH, LOSSY = 0, 3, 8


@pytest.mark.parametrize(
    ("syntax", "colours", "code", "tolerance"),
    [
        (uid.JPEGBaseline8Bit, "YBR_FULL_422", jpeg, LOSSY),
        (uid.JPEGBaseline8Bit, "RGB", jpeg_rgb, LOSSY),
        (uid.JPEGExtended12Bit, "YBR_FULL_422", jpeg, LOSSY),
        (uid.JPEGLossless, "RGB", lambda frame: imagecodecs.jpeg8_encode(frame, lossless=True), LOSSLESS),
        (uid.JPEGLosslessSV1, "RGB", lambda frame: imagecodecs.jpeg8_encode(frame, lossless=True), LOSSLESS),
        (uid.JPEGLosslessSV1, "YBR_FULL", lambda frame: imagecodecs.jpeg8_encode(ybr(frame), lossless=True), SMOOTH),
        (uid.JPEGLSLossless, "RGB", imagecodecs.jpegls_encode, LOSSLESS),
        (uid.JPEGLSLossless, "YBR_FULL", lambda frame: imagecodecs.jpegls_encode(ybr(frame)), SMOOTH),
        (uid.JPEGLSNearLossless, "RGB", lambda frame: imagecodecs.jpegls_encode(frame, level=2), LOSSY),
        (uid.JPEG2000Lossless, "YBR_RCT", jpeg2000, LOSSLESS),
        (uid.JPEG2000Lossless, "RGB", jpeg2000, LOSSLESS),
        (uid.JPEG2000Lossless, "RGB", lambda frame: jpeg2000(frame, mct=False), LOSSLESS),
        (uid.JPEG2000Lossless, "YBR_FULL", lambda frame: jpeg2000(ybr(frame), mct=False), SMOOTH),
        (uid.JPEG2000, "YBR_ICT", lambda frame: jpeg2000(frame, lossless=False), LOSSY),
        (uid.HTJ2KLossless, "RGB", lambda frame: jpeg2000(frame, mct=False), LOSSLESS),
        (uid.RLELossless, "RGB", rle, LOSSLESS),
        (uid.RLELossless, "YBR_FULL", lambda frame: rle(ybr(frame)), SMOOTH),
        (uid.ExplicitVRLittleEndian, "RGB", uncompressed, LOSSLESS),
        (uid.ExplicitVRLittleEndian, "YBR_FULL", lambda frame: uncompressed(ybr(frame)), SMOOTH),
        (uid.ExplicitVRLittleEndian, "YBR_FULL_422", native_422, SMOOTH),
        (uid.ImplicitVRLittleEndian, "RGB", uncompressed, LOSSLESS),
        (uid.DeflatedExplicitVRLittleEndian, "RGB", uncompressed, LOSSLESS),
        (ENCAPSULATED_UNCOMPRESSED, "RGB", uncompressed, LOSSLESS),
    ],
)
def test_every_transfer_syntax_gives_the_picture_that_was_coded(
    tmp_path: Path, syntax: uid.UID, colours: str, code: Callable[[Frame], bytes], tolerance: int
) -> None:
    path = write_dicom(tmp_path / "slide.dcm", RAMPS, syntax=syntax, colours=colours, code=code)
    np.testing.assert_allclose(read(path).astype(int), RAMPS, atol=tolerance)


def test_jpeg_xl_is_read_though_pydicom_does_not_know_it(tmp_path: Path) -> None:
    code = lambda frame: imagecodecs.jpegxl_encode(frame, lossless=True)  # noqa: E731
    path = write_dicom(tmp_path / "slide.dcm", RAMPS, syntax=uid.HTJ2KLossless, colours="RGB", code=code)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.201", b"1.2.840.10008.1.2.4.110"))
    np.testing.assert_array_equal(read(path), RAMPS)


@pytest.mark.parametrize(
    ("syntax", "code"), [(uid.ExplicitVRLittleEndian, planar), (ENCAPSULATED_UNCOMPRESSED, planar)]
)
def test_uncompressed_frames_may_hold_one_sample_after_the_other(
    tmp_path: Path, syntax: uid.UID, code: Callable[[Frame], bytes]
) -> None:
    path = write_dicom(tmp_path / "slide.dcm", RAMPS, syntax=syntax, colours="RGB", code=code, change=is_planar)
    np.testing.assert_array_equal(read(path), RAMPS)


@pytest.mark.parametrize(
    ("syntax", "code"),
    [
        (uid.JPEGBaseline8Bit, jpeg_rgb),
        (uid.RLELossless, rle),
        (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
        (uid.JPEG2000Lossless, jpeg2000),
    ],
)
def test_the_order_of_samples_counts_only_where_nothing_is_compressed(
    tmp_path: Path, syntax: uid.UID, code: Callable[[Frame], bytes]
) -> None:
    path = write_dicom(tmp_path / "slide.dcm", RAMPS, syntax=syntax, colours="RGB", code=code, change=is_planar)
    np.testing.assert_allclose(read(path).astype(int), RAMPS, atol=LOSSY)


@pytest.mark.parametrize("stored", [10, 12, 16])
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLSLossless])
def test_samples_of_more_bits_are_brought_to_8_by_the_bits_that_count(
    tmp_path: Path, stored: int, syntax: uid.UID
) -> None:
    def only_some_bits_count(header: Dataset) -> None:
        header.BitsStored, header.HighBit = stored, stored - 1

    fine = (RAMPS * ((2**stored - 1) / 255)).round().astype(np.uint16)
    code = {uid.RLELossless: rle, uid.JPEGLSLossless: imagecodecs.jpegls_encode}.get(syntax, uncompressed)

    def coded(frame: Frame) -> bytes:
        return code(frame & (2**stored - 1))  # the white beyond the picture's edge has no more bits either

    path = write_dicom(
        tmp_path / "slide.dcm", fine, syntax=syntax, colours="RGB", code=coded, change=only_some_bits_count
    )
    np.testing.assert_array_equal(read(path), RAMPS)


@pytest.mark.parametrize("colours", ["RGB", "YBR_FULL_422", "YBR_FULL"])
@pytest.mark.parametrize("code", [jpeg, jpeg_rgb])
def test_a_jpeg_that_names_its_colours_is_believed_rather_than_the_header(
    tmp_path: Path, code: Callable[[Frame], bytes], colours: str
) -> None:
    path = write_dicom(tmp_path / "slide.dcm", RAMPS, colours=colours, code=code)
    np.testing.assert_allclose(read(path).astype(int), RAMPS, atol=LOSSY)


def test_the_marker_is_found_behind_other_segments(tmp_path: Path) -> None:
    def late(frame: Frame) -> bytes:
        coded = jpeg_rgb(frame)
        comment = b"\xff\xfe" + (2 + 500).to_bytes(2, "big") + b" " * 500
        return coded[:2] + comment + coded[2:]

    path = write_dicom(tmp_path / "slide.dcm", RAMPS, colours="YBR_FULL_422", code=late)
    np.testing.assert_allclose(read(path).astype(int), RAMPS, atol=LOSSY)


@pytest.mark.parametrize(("colours", "code"), [("RGB", jpeg_rgb), ("YBR_FULL_422", jpeg), ("YBR_FULL", jpeg)])
def test_a_jpeg_that_does_not_name_its_colours_is_read_by_the_header(
    tmp_path: Path, colours: str, code: Callable[[Frame], bytes]
) -> None:
    path = write_dicom(tmp_path / "slide.dcm", RAMPS, colours=colours, code=without_marker(code))
    np.testing.assert_allclose(read(path).astype(int), RAMPS, atol=LOSSY)


@pytest.mark.parametrize(
    ("colours", "mct", "reason"),
    [
        ("YBR_ICT", False, "'YBR_ICT', but its JPEG 2000 streams do not transform them"),
        ("YBR_RCT", False, "'YBR_RCT', but its JPEG 2000 streams do not transform them"),
        ("YBR_FULL", True, "'YBR_FULL', but its JPEG 2000 streams transform them"),
    ],
)
def test_a_jpeg_2000_stream_that_contradicts_the_header_is_refused(
    tmp_path: Path, colours: str, mct: bool, reason: str
) -> None:
    path = write_dicom(
        tmp_path / "slide.dcm",
        RAMPS,
        syntax=uid.JPEG2000Lossless,
        colours=colours,
        code=lambda frame: jpeg2000(frame, mct=mct),
    )
    with pytest.raises(SlideError, match=reason):
        open_slide(path)


def grey(colours: str) -> Callable[[Dataset], None]:
    def change(header: Dataset) -> None:
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, colours
        del header.PlanarConfiguration

    return change


def stated(**attributes: object) -> Callable[[Dataset], None]:
    return lambda header: [setattr(header, *attribute) for attribute in attributes.items()]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (grey("MONOCHROME2"), "'MONOCHROME2' with 1 sample"),
        (grey("MONOCHROME1"), "'MONOCHROME1' with 1 sample"),
        (grey("PALETTE COLOR"), "'PALETTE COLOR' with 1 sample"),
        (stated(PhotometricInterpretation="YBR_PARTIAL_420"), "'YBR_PARTIAL_420', which is not read"),
        (stated(PhotometricInterpretation="YBR_ICT"), "'YBR_ICT', which is not read from 'Explicit VR Little Endian'"),
        (stated(PhotometricInterpretation="CMYK"), "'CMYK', which is not read"),
        (stated(BitsAllocated=32, BitsStored=32, HighBit=31), "32 bits of 32"),
        (stated(PixelRepresentation=1), "signed"),
        (stated(BitsAllocated=16, BitsStored=12, HighBit=15), "lowest bits"),
        (lambda header: delattr(header, "BitsStored"), "header lacks BitsStored"),
        (lambda header: delattr(header, "Rows"), "header lacks Rows"),
    ],
)
def test_samples_that_are_not_read_are_refused_by_name(
    tmp_path: Path, change: Callable[[Dataset], None], reason: str
) -> None:
    path = write_dicom(
        tmp_path / "slide.dcm",
        RAMPS,
        syntax=uid.ExplicitVRLittleEndian,
        colours="RGB",
        code=uncompressed,
        change=change,
    )
    with pytest.raises(SlideError, match=reason):
        open_slide(path)


@pytest.mark.parametrize("syntax", [uid.MPEG2MPML, uid.JPEG2000MC, uid.HEVCMP51, uid.JPIPHTJ2KReferenced])
def test_a_transfer_syntax_that_is_not_read_is_refused_by_name(tmp_path: Path, syntax: uid.UID) -> None:
    path = write_dicom(tmp_path / "slide.dcm", RAMPS)
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = syntax
    header.save_as(path)
    with pytest.raises(SlideError) as refusal:
        open_slide(path)
    assert f"'{syntax.name}' ({syntax})" in refusal.value.what


def test_big_endian_is_refused_by_name(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", RAMPS, syntax=uid.ExplicitVRBigEndian, colours="RGB", code=uncompressed)
    with pytest.raises(SlideError, match="Explicit VR Big Endian"):
        open_slide(path)


@pytest.mark.parametrize("code", [jpeg, jpeg2000, imagecodecs.jpegls_encode, rle])
def test_a_frame_that_is_cut_off_is_called_damaged(tmp_path: Path, code: Callable[[Frame], bytes]) -> None:
    syntax = {
        jpeg: uid.JPEGBaseline8Bit,
        jpeg2000: uid.JPEG2000Lossless,
        imagecodecs.jpegls_encode: uid.JPEGLSLossless,
        rle: uid.RLELossless,
    }[code]
    path = write_dicom(
        tmp_path / "slide.dcm",
        RAMPS,
        syntax=syntax,
        colours="RGB",
        code=lambda frame: bytes(code(frame))[:-40],
    )
    with open_slide(path) as slide, pytest.raises(SlideError, match="damaged"):
        slide.region(0, 0, 150, 110, slide.mpp)


def test_a_frame_of_another_size_than_the_header_says_is_called_damaged(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "slide.dcm", RAMPS, code=lambda frame: jpeg(np.ascontiguousarray(frame[:48])))
    with open_slide(path) as slide, pytest.raises(SlideError, match=r"a frame is \(48, 64, 3\)"):
        slide.region(0, 0, 150, 110, slide.mpp)


def test_a_frame_of_fewer_bits_than_the_header_says_is_not_darkened_in_silence(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "slide.dcm",
        RAMPS,
        syntax=uid.JPEGLSLossless,
        colours="RGB",
        code=imagecodecs.jpegls_encode,
        change=stated(BitsAllocated=16, BitsStored=12, HighBit=11),
    )
    with open_slide(path) as slide, pytest.raises(SlideError, match="samples are uint8, and the header says"):
        slide.region(0, 0, 150, 110, slide.mpp)
