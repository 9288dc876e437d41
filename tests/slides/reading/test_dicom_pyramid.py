"""A DICOM series as a pyramid: levels by the spacing of their pixels, and the picture that other containers have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import pytest
from dicom_files import MPP, jpeg, jpeg2000, jpeg_rgb, uncompressed, write_dicom
from PIL import Image, ImageCms
from pydicom import uid
from pydicom.dataset import Dataset
from slide_files import Pixels, halved, tissue_picture

from sentinode.errors import SlideError
from sentinode.slides.reading.slide import Slide, open_slide

PICTURE = tissue_picture(320, 256)
RAW = {"syntax": uid.ExplicitVRLittleEndian, "colours": "RGB", "code": uncompressed}


def whole(slide: Slide) -> Pixels:
    return slide.region(0, 0, slide.width, slide.height, slide.mpp)


def filled_up(picture: Pixels, tile: int) -> Pixels:
    """To whole tiles, which some scanners count as part of the picture."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, -height % tile), (0, -width % tile), (0, 0)), constant_values=255)


def spaced(x: float | None, y: float | None = None) -> Callable[[Dataset], None]:
    """Pixels of x by y microns; None for no spacing."""

    def change(header: Dataset) -> None:
        measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        if x is None:
            del measures.PixelSpacing
        else:
            measures.PixelSpacing = [(y or x) / 1000, x / 1000]  # down, along

    return change


def of_volume(width: float, height: float) -> Callable[[Dataset], None]:
    """No spacing of pixels, but the millimetres that the picture covers."""

    def change(header: Dataset) -> None:
        spaced(None)(header)
        header.ImagedVolumeWidth, header.ImagedVolumeHeight = width, height

    return change


# Levels


@pytest.mark.parametrize("size", [(300, 250), (257, 193), (500, 130), (640, 512)])
def test_a_level_that_is_filled_up_to_whole_tiles_has_the_downsample_of_its_pixels(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    picture = tissue_picture(*size)
    write_dicom(tmp_path / "0.dcm", filled_up(picture, 64), **RAW)
    write_dicom(tmp_path / "1.dcm", filled_up(halved(picture, 1), 64), mpp=2 * MPP, **RAW)
    write_dicom(tmp_path / "2.dcm", filled_up(halved(picture, 2), 64), mpp=4 * MPP, **RAW)
    with open_slide(tmp_path / "0.dcm") as slide:
        assert [level.downsample for level in slide.levels] == [1, 2, 4]
        # What fills a level up beyond level 0 is not part of the slide.
        for level in slide.levels:
            assert (level.width, level.height) == (slide.width / level.downsample, slide.height / level.downsample)
        coarse = halved(picture, 2)
        read = slide.region(0, 0, coarse.shape[1], coarse.shape[0], 4 * MPP)
    np.testing.assert_array_equal(read, coarse)


@pytest.mark.parametrize("stated", [4 * MPP, 3.89, 3.888000001, 3.9])
def test_a_spacing_that_was_rounded_does_not_move_the_level(tmp_path: Path, stated: float) -> None:
    write_dicom(tmp_path / "0.dcm", PICTURE, **RAW)
    write_dicom(tmp_path / "1.dcm", halved(PICTURE, 2), change=spaced(stated), **RAW)
    with open_slide(tmp_path / "0.dcm") as slide:
        assert [level.downsample for level in slide.levels] == [1, 4]


def test_a_downsample_that_is_no_whole_number_is_the_simple_factor_that_rounding_explains(tmp_path: Path) -> None:
    coarse = np.asarray(Image.fromarray(PICTURE).resize((128, 102)))
    write_dicom(tmp_path / "0.dcm", PICTURE, **RAW)
    write_dicom(tmp_path / "1.dcm", coarse, change=spaced(320 / 128 * MPP, 256 / 102 * MPP), **RAW)
    with open_slide(tmp_path / "0.dcm") as slide:
        assert (slide.levels[1].downsample_x, slide.levels[1].downsample_y) == (2.5, 2.5)


@pytest.mark.parametrize("stated", [MPP, 3 * MPP, 8 * MPP])
def test_a_level_whose_spacing_does_not_fit_its_size_is_refused(tmp_path: Path, stated: float) -> None:
    write_dicom(tmp_path / "0.dcm", PICTURE, **RAW)
    write_dicom(tmp_path / "1.dcm", halved(PICTURE, 1)[:100, :130], mpp=stated, **RAW)
    with pytest.raises(SlideError, match=r"disagree: by the spacing .* 1.dcm with 130 x 100|of one resolution"):
        open_slide(tmp_path / "0.dcm")


def test_levels_that_state_no_spacing_go_by_their_sizes(tmp_path: Path) -> None:
    write_dicom(tmp_path / "0.dcm", PICTURE, change=spaced(None), **RAW)
    write_dicom(tmp_path / "1.dcm", halved(PICTURE, 1), change=spaced(None), **RAW)
    with open_slide(tmp_path / "0.dcm", mpp=MPP) as slide:
        assert [level.downsample for level in slide.levels] == [1, 2]


# Resolution


def test_the_spacing_of_rows_and_of_columns_are_told_apart(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "slide.dcm", PICTURE, change=spaced(0.5, 0.6), **RAW)
    with open_slide(path) as slide, pytest.raises(SlideError, match=r"0\.5 microns per pixel in x and 0\.6 in y"):
        _ = slide.mpp


def per_frame(header: Dataset) -> None:
    """The spacing stands with each frame, and not once for all."""
    header.PerFrameFunctionalGroupsSequence = [header.SharedFunctionalGroupsSequence[0]] * int(header.NumberOfFrames)
    header.SharedFunctionalGroupsSequence = [Dataset()]


@pytest.mark.parametrize(
    "change",
    [
        per_frame,
        of_volume(320 * MPP / 1000, 256 * MPP / 1000),
        lambda header: [of_volume(320 * MPP / 1000, 256 * MPP / 1000)(header), spaced(0.0)(header)],
    ],
)
def test_the_resolution_is_found_where_the_file_states_it(tmp_path: Path, change: Callable[[Dataset], None]) -> None:
    with open_slide(write_dicom(tmp_path / "slide.dcm", PICTURE, change=change, **RAW)) as slide:
        assert slide.mpp == pytest.approx(MPP, rel=1e-6)


def test_the_spacing_counts_for_more_than_the_volume(tmp_path: Path) -> None:
    def both(header: Dataset) -> None:
        header.ImagedVolumeWidth = header.ImagedVolumeHeight = 15.0

    with open_slide(write_dicom(tmp_path / "slide.dcm", PICTURE, change=both, **RAW)) as slide:
        assert slide.mpp == pytest.approx(MPP)


def test_levels_by_the_volume_are_as_those_by_the_spacing(tmp_path: Path) -> None:
    volume = of_volume(320 * MPP / 1000, 256 * MPP / 1000)
    write_dicom(tmp_path / "0.dcm", PICTURE, change=volume, **RAW)
    write_dicom(tmp_path / "1.dcm", halved(PICTURE, 1), change=volume, **RAW)
    with open_slide(tmp_path / "1.dcm") as slide:
        assert [level.downsample for level in slide.levels] == [1, 2]


def test_a_missing_resolution_is_asked_for(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "slide.dcm", PICTURE, change=spaced(None), **RAW)
    with open_slide(path) as slide, pytest.raises(SlideError, match="--mpp"):
        _ = slide.mpp


def of_the_optical_path(header: Dataset, profile: bytes) -> None:
    header.OpticalPathSequence = [Dataset()]
    header.OpticalPathSequence[0].ICCProfile = profile


def of_the_image(header: Dataset, profile: bytes) -> None:
    header.ICCProfile = profile


@pytest.mark.parametrize("with_profile", [of_the_optical_path, of_the_image])
def test_the_colour_profile_is_applied_when_asked_for(
    tmp_path: Path, with_profile: Callable[[Dataset, bytes], None]
) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ").replace(b"....", b"gXYZ")
    red = np.full((64, 64, 3), (250, 10, 10), np.uint8)
    path = write_dicom(
        tmp_path / "red_stored_as_green.dcm", red, change=lambda header: with_profile(header, swapped), **RAW
    )
    with open_slide(path) as unmanaged, open_slide(path, icc=True) as managed:
        stored, shown = (slide.region(0, 0, 1, 1, MPP)[0, 0].astype(int) for slide in (unmanaged, managed))
    np.testing.assert_array_equal(stored, (250, 10, 10))
    np.testing.assert_allclose(shown, (10, 250, 10), atol=2)


# Beside OpenSlide, which reads what keeps to the standard


def as_openslide_wants_it(header: Dataset) -> None:
    header.TotalPixelMatrixFocalPlanes = 1
    header.OpticalPathSequence = [Dataset()]
    header.OpticalPathSequence[0].OpticalPathIdentifier = "1"


@pytest.mark.parametrize("order", ["TILED_FULL", "TILED_SPARSE"])
@pytest.mark.parametrize(
    ("syntax", "colours", "code"),
    [
        (uid.JPEGBaseline8Bit, "YBR_FULL_422", jpeg),
        (uid.JPEGBaseline8Bit, "RGB", jpeg_rgb),
        (uid.JPEG2000Lossless, "RGB", jpeg2000),
        (uid.JPEG2000, "YBR_ICT", lambda frame: jpeg2000(frame, lossless=False)),
        (uid.ExplicitVRLittleEndian, "RGB", uncompressed),
    ],
)
def test_what_openslide_reads_is_read_as_openslide_does(
    tmp_path: Path, order: str, syntax: uid.UID, colours: str, code: Callable[[Pixels], bytes]
) -> None:
    coded = {"order": order, "syntax": syntax, "colours": colours, "code": code, "change": as_openslide_wants_it}
    write_dicom(tmp_path / "0.dcm", PICTURE, **coded)
    write_dicom(tmp_path / "1.dcm", halved(PICTURE, 2), mpp=4 * MPP, **coded)
    with openslide.OpenSlide(tmp_path / "1.dcm") as reference, open_slide(tmp_path / "1.dcm") as slide:
        assert [(level.width, level.height) for level in slide.levels] == list(reference.level_dimensions)
        assert [level.downsample for level in slide.levels] == list(reference.level_downsamples)
        assert slide.mpp == pytest.approx(float(reference.properties["openslide.mpp-x"]))
        for number, level in enumerate(slide.levels):
            region = reference.read_region((0, 0), number, (level.width, level.height))
            expected = np.asarray(Image.alpha_composite(Image.new("RGBA", region.size, "white"), region).convert("RGB"))
            read = slide.region(0, 0, level.width, level.height, slide.mpp * level.downsample)
            np.testing.assert_array_equal(read, expected)


# The inputs that went wrong


@pytest.fixture(scope="module")
def cases(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``work`` that the generators beside the data write: one picture, in many ways of DICOM."""
    folder = tmp_path_factory.mktemp("cases")
    for generator in ("base.py", "dcm.py"):
        command = [sys.executable, str(shared.parent / "cases" / "make" / generator)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "work"


REFUSED = {
    "mono": "'MONOCHROME2' with 1 sample",
    "overview": "only OVERVIEW",
    "trunc": "damaged",
}


@pytest.mark.real
def test_every_case_gives_the_right_picture_or_is_refused_by_name(cases: Path) -> None:
    expected = np.load(cases / "base.npy").astype(int)
    files = sorted((cases / "in" / "dcm").rglob("*.dcm"))
    assert len(files) > 25
    for file in files:
        if reason := REFUSED.get(file.parent.name):
            with pytest.raises(SlideError, match=reason):
                open_slide(file)
            continue
        with open_slide(file, mpp=MPP if file.parent.name == "nospacing_novolume" else None) as slide:
            if file.parent.name == "uncropped":
                assert [level.downsample for level in slide.levels] == [1, 2, 8]
                assert slide.mpp == pytest.approx(MPP / 2)
                read = slide.region(380, 500, 960, 768, slide.mpp)  # the picture lies on a larger white one
            else:
                assert slide.mpp == pytest.approx(MPP)
                read = whole(slide)
        assert np.abs(read - expected).mean() < 2, file


# The real slides


@pytest.mark.real
@pytest.mark.parametrize("series", ["CMU-1-Small-Region", "CMU-1-Small-Region-J2K"])
def test_each_file_of_the_real_series_gives_the_picture_of_the_svs(shared: Path, series: str) -> None:
    with open_slide(shared / "slides" / "CMU-1-Small-Region.svs") as svs:
        expected, mpp = whole(svs), svs.mpp
    files = sorted((shared / "slides" / "containers" / series).iterdir())
    assert len(files) == 3  # among them its label and its overview
    for file in files:
        with open_slide(file) as slide:
            assert slide.mpp == pytest.approx(mpp)
            np.testing.assert_array_equal(whole(slide), expected)


@pytest.mark.real
@pytest.mark.parametrize("name", ["jpeg", "jpeg2000"])
def test_the_real_slides_of_the_camelyon_challenge_are_read_as_openslide_reads_them(shared: Path, name: str) -> None:
    path = shared / "slides" / "containers" / f"multi_frame_{name}_camelyon_challenge_image.dcm"
    with openslide.OpenSlide(path) as reference, open_slide(path) as slide:
        assert slide.mpp == pytest.approx(28.9685)
        expected = np.asarray(reference.read_region((0, 0), 0, (slide.width, slide.height)).convert("RGB"))
        np.testing.assert_array_equal(whole(slide), expected)


@pytest.mark.real
def test_the_real_slide_that_openslide_refuses_is_laid_out_and_coloured_as_it_was_scanned(shared: Path) -> None:
    with open_slide(shared / "slides" / "small_dicom.dcm", mpp=8.0) as slide:
        picture = whole(slide).astype(int)
    # Glass is white, not the pink that YCbCr looks like when it is taken for RGB.
    assert np.median(picture[-800:, 1400:1800], axis=(0, 1)).min() > 230
    # Frames lie so that neighbours fit: steps across their seams are as small as those inside them.
    seams = [abs(picture[:, x] - picture[:, x - 1]).mean() for x in range(500, 3236, 500)]
    inside = [abs(picture[:, x] - picture[:, x - 1]).mean() for x in range(250, 3236, 500)]
    assert np.mean(seams) < 1.5 * np.mean(inside)
