"""Where the frames of a DICOM slide lie in its picture; what has no plain answer is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
import pytest
from dicom_files import MPP, jpeg2000, placed, uncompressed, write_dicom
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset
from slide_files import tissue_picture

from sentinode.errors import SlideError
from sentinode.slides.reading.dicom_header import frame_positions
from sentinode.slides.reading.slide import open_slide

PICTURE = tissue_picture(300, 220)
RAW = {"syntax": uid.ExplicitVRLittleEndian, "colours": "RGB", "code": uncompressed}


@pytest.mark.parametrize("order", ["TILED_FULL", "TILED_SPARSE", "positions", "rows", "columns"])
def test_the_frames_lie_where_they_belong(tmp_path: Path, order: str) -> None:
    with open_slide(write_dicom(tmp_path / "slide.dcm", PICTURE, order=order, **RAW)) as slide:
        read = slide.region(0, 0, 300, 220, slide.mpp)
    expected = PICTURE.copy()
    if order in ("TILED_SPARSE", "positions"):
        expected[:64, :64] = 255  # this one is not in the file
    np.testing.assert_array_equal(read, expected)


def test_frames_whose_order_is_not_stated_go_by_rows_unless_columns_fit_clearly_better(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (220, 300, 3), np.uint8)  # fits neither way
    with open_slide(write_dicom(tmp_path / "slide.dcm", noise, order="rows", **RAW)) as slide:
        np.testing.assert_array_equal(slide.region(0, 0, 300, 220, slide.mpp), noise)


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    tile=st.integers(8, 40),
    order=st.sampled_from(["TILED_FULL", "TILED_SPARSE"]),
    fragments=st.integers(1, 3),
    cut=st.integers(0, 200),
)
@settings(max_examples=40, deadline=None)
def test_any_size_tile_and_way_of_storing_gives_the_picture(
    size: tuple[int, int], tile: int, order: str, fragments: int, cut: int
) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    frames = -(-size[0] // tile) * -(-size[1] // tile) - (order == "TILED_SPARSE")
    coded = {"syntax": uid.JPEG2000Lossless, "colours": "RGB", "code": jpeg2000, "fragments": fragments}
    with TemporaryDirectory() as folder:
        cut = cut % max(frames, 1)
        pieces = [slice(0, cut), slice(cut, None)] if cut else [slice(None)]
        if frames == 0:
            return
        for number, piece in enumerate(pieces, start=1):
            path = write_dicom(
                Path(folder) / f"part{number}.dcm",
                picture,
                tile=tile,
                order=order,
                part=(number, len(pieces)),
                frames_of_part=piece,
                **coded,
            )
        with open_slide(path) as slide:
            read = slide.region(0, 0, *size, slide.mpp)
    if order == "TILED_SPARSE":
        picture[:tile, :tile] = 255
    np.testing.assert_array_equal(read, picture)


def at(*positions: tuple[int, int]) -> Callable[[Dataset], None]:
    """Frames at other columns and rows than where they belong."""

    def change(header: Dataset) -> None:
        header.PerFrameFunctionalGroupsSequence = [placed(*position) for position in positions]

    return change


def several(keyword: str, count: int) -> Callable[[Dataset], None]:
    return lambda header: setattr(header, keyword, count)


def two_optical_paths(header: Dataset) -> None:
    header.OpticalPathSequence = [Dataset(), Dataset()]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (at((1, 1), (65, 1), (1, 60), (65, 60)), "do not lie on one grid: .* begins in column 1 and row 60"),
        (at((11, 11), (75, 11), (11, 75), (75, 75)), "do not lie on one grid: .* begins in column 11 and row 11"),
        (at((1, 1), (65, 1), (1, 65), (1, 65)), "several of its frames lie in the same place"),
        (at((1, 1), (65, 1), (1, 65), (129, 65)), "lies outside of its pixel matrix"),
        (at((-63, 1), (65, 1), (1, 65), (65, 65)), "lies outside of its pixel matrix"),
        (at((1, 1), (65, 1)), "only 2 of its 4 frames have a place"),
        (lambda header: delattr(header, "PerFrameFunctionalGroupsSequence"), "TILED_SPARSE, and its frames have no"),
        (several("TotalPixelMatrixFocalPlanes", 3), "3 focal planes"),
        (several("NumberOfOpticalPaths", 2), "2 optical paths"),
        (two_optical_paths, "2 optical paths"),
    ],
)
def test_frames_without_one_plain_place_are_refused_by_name(
    tmp_path: Path, change: Callable[[Dataset], None], reason: str
) -> None:
    def sparse(header: Dataset) -> None:
        at((1, 1), (65, 1), (1, 65), (65, 65))(header)
        header.DimensionOrganizationType = "TILED_SPARSE"
        change(header)

    path = write_dicom(tmp_path / "slide.dcm", PICTURE[:100, :128], order="rows", change=sparse, **RAW)
    with pytest.raises(SlideError, match=reason):
        open_slide(path)


def narrower(header: Dataset) -> None:
    header.TotalPixelMatrixColumns = 64


def wider(header: Dataset) -> None:
    header.TotalPixelMatrixColumns = 640


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (narrower, "it has 20 frames for 4 tiles, as with focal planes or optical paths"),
        (wider, "damaged: it has 20 frames, and its matrix has 40 tiles"),
        (several("TotalPixelMatrixRows", 0), "does not state the size of its pixel matrix"),
    ],
)
def test_a_full_matrix_needs_one_frame_for_each_tile(
    tmp_path: Path, change: Callable[[Dataset], None], reason: str
) -> None:
    with pytest.raises(SlideError, match=reason):
        open_slide(write_dicom(tmp_path / "slide.dcm", PICTURE, change=change, **RAW))


def test_one_optical_path_and_one_focal_plane_may_be_stated(tmp_path: Path) -> None:
    def one_plane(header: Dataset) -> None:
        header.NumberOfOpticalPaths = header.TotalPixelMatrixFocalPlanes = 1
        header.OpticalPathSequence = [Dataset()]

    with open_slide(write_dicom(tmp_path / "slide.dcm", PICTURE, change=one_plane, **RAW)) as slide:
        assert slide.mpp == pytest.approx(MPP)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined_length", [False, True])
def test_positions_are_read_quickly_and_slowly_alike(tmp_path: Path, syntax: uid.UID, undefined_length: bool) -> None:
    def with_length(header: Dataset) -> None:
        header["PerFrameFunctionalGroupsSequence"].is_undefined_length = undefined_length

    coded = {**RAW, "syntax": syntax}
    path = write_dicom(tmp_path / "slide.dcm", PICTURE, order="TILED_SPARSE", change=with_length, **coded)
    header = pydicom.dcmread(path, stop_before_pixels=True)
    if not undefined_length:
        assert isinstance(header.get_item("PerFrameFunctionalGroupsSequence").value, bytes)  # it is not parsed
    quickly = frame_positions(header, 19)
    assert header.PerFrameFunctionalGroupsSequence is not None  # from here on it is parsed
    np.testing.assert_array_equal(quickly, frame_positions(header, 19))
    assert quickly[0].tolist() == [257, 193]
    assert quickly[-1].tolist() == [65, 1]
