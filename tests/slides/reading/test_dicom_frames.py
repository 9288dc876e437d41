"""Where the frames of a DICOM file lie in it, however they are stored; a file that was cut is called damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from dicom_files import Frame, jpeg, jpeg2000, rle, uncompressed, write_dicom
from pydicom import uid
from pydicom.dataset import Dataset
from slide_files import tissue_picture

from sentinode.errors import SlideError
from sentinode.slides.reading.slide import open_slide

PICTURE = tissue_picture(150, 110)
LOSSLESS = {"syntax": uid.JPEG2000Lossless, "colours": "RGB", "code": jpeg2000}


@pytest.mark.parametrize(
    ("fragments", "table"),
    [(1, "basic"), (1, "none"), (1, "extended"), (2, "basic"), (2, "none"), (3, "basic"), (3, "none")],
)
def test_a_frame_may_lie_in_several_fragments_with_or_without_a_table(
    tmp_path: Path, fragments: int, table: str
) -> None:
    path = write_dicom(tmp_path / "slide.dcm", PICTURE, fragments=fragments, table=table, **LOSSLESS)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.region(0, 0, 150, 110, slide.mpp), PICTURE)


@pytest.mark.parametrize("wrong", [[0] * 6, [8, 0, 0, 0, 0, 0], [0, 4, 8, 12, 16, 20], [0, 1 << 31, 1, 2, 3, 4]])
def test_a_table_that_is_wrong_is_not_believed(tmp_path: Path, wrong: list[int]) -> None:
    path = write_dicom(tmp_path / "slide.dcm", PICTURE, fragments=1, table="basic", **LOSSLESS)
    data = path.read_bytes()
    table = data.index(b"\xfe\xff\x00\xe0\x18\0\0\0") + 8
    path.write_bytes(data[:table] + np.asarray(wrong, "<u4").tobytes() + data[table + 24 :])
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.region(0, 0, 150, 110, slide.mpp), PICTURE)


def test_frames_may_lie_in_another_order_in_the_file_than_in_its_table(tmp_path: Path) -> None:
    def two_change_places(header: Dataset) -> None:
        offsets = np.frombuffer(header.ExtendedOffsetTable, "<u8").copy()
        offsets[[1, 4]] = offsets[[4, 1]]
        header.ExtendedOffsetTable = offsets.tobytes()

    path = write_dicom(tmp_path / "slide.dcm", PICTURE, table="extended", change=two_change_places, **LOSSLESS)
    expected = np.pad(PICTURE, ((0, 18), (0, 42), (0, 0)), constant_values=255)
    first, other = expected[:64, 64:128].copy(), expected[64:, 64:128].copy()
    expected[:64, 64:128], expected[64:, 64:128] = other, first
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.region(0, 0, 150, 110, slide.mpp), expected[:110, :150])


def test_a_single_frame_may_lie_in_several_fragments(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "slide.dcm", PICTURE, tile=150, fragments=4, table="none", **LOSSLESS)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.region(0, 0, 150, 110, slide.mpp), PICTURE)


def test_frames_without_a_marker_whose_fragments_are_in_no_table_are_refused(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "slide.dcm",
        PICTURE,
        syntax=uid.RLELossless,
        colours="RGB",
        code=rle,
        fragments=2,
        table="none",
    )
    with pytest.raises(SlideError, match="it has 0 frames, and its header counts 6"):
        open_slide(path)


@pytest.mark.parametrize("count", [5, 7])
def test_a_header_that_counts_other_frames_than_there_are_is_called_damaged(tmp_path: Path, count: int) -> None:
    def miscount(header: Dataset) -> None:
        header.NumberOfFrames = count

    with pytest.raises(SlideError, match=f"it has 6 frames, and its header counts {count}"):
        open_slide(write_dicom(tmp_path / "slide.dcm", PICTURE, change=miscount))


@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
@pytest.mark.parametrize(
    ("syntax", "code"),
    [
        (uid.JPEGBaseline8Bit, jpeg),
        (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
        (uid.ExplicitVRLittleEndian, uncompressed),
        (uid.ImplicitVRLittleEndian, uncompressed),
    ],
)
def test_a_file_that_was_cut_is_called_damaged_before_it_is_scanned(
    tmp_path: Path, syntax: uid.UID, code: Callable[[Frame], bytes], share: float
) -> None:
    path = write_dicom(tmp_path / "cut.dcm", PICTURE, syntax=syntax, colours="RGB", code=code)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SlideError, match="the slide is damaged"):
        open_slide(path)


def test_a_file_without_pixels_is_refused(tmp_path: Path) -> None:
    def without_pixels(header: Dataset) -> None:
        del header.PixelData

    with pytest.raises(SlideError, match="holds no pixels"):
        open_slide(write_dicom(tmp_path / "slide.dcm", PICTURE, change=without_pixels))
