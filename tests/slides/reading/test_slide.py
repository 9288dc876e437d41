"""Reading a slide: any file, any place, any resolution, from any thread."""

from __future__ import annotations

import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from slide_files import halved, tissue_picture, write_tiff

from sentinode.errors import SlideError
from sentinode.slides.reading.slide import Slide, open_slide

PICTURE = tissue_picture(300, 220)


@pytest.fixture(scope="module")
def pyramid_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("slides") / "pyramid.tif", PICTURE, levels=3)


@pytest.fixture
def pyramid(pyramid_file: Path) -> Slide:
    return open_slide(pyramid_file)


def test_a_slide_tells_its_size_resolution_and_levels(pyramid: Slide) -> None:
    assert (pyramid.width, pyramid.height) == (300, 220)
    assert pyramid.mpp == pytest.approx(0.972)
    assert [level.downsample for level in pyramid.levels] == pytest.approx([1, 2, 4])


@pytest.mark.parametrize("kind", ["tiled", "strips", "jpeg", "ome", "png"])
def test_every_kind_of_file_gives_the_same_pixels(tmp_path: Path, kind: str) -> None:
    path = tmp_path / {"ome": "slide.ome.tif", "png": "slide.png"}.get(kind, "slide.tif")
    if kind == "ome":
        metadata = {"PhysicalSizeX": 972.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.972}
        tifffile.imwrite(path, PICTURE, photometric="rgb", tile=(64, 64), metadata=metadata)
    elif kind == "png":
        Image.fromarray(PICTURE).save(path, dpi=(25_400 / 0.972,) * 2)
    else:
        tile = None if kind == "strips" else 64
        write_tiff(path, PICTURE, tile=tile, compression="jpeg" if kind == "jpeg" else None)
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.972, rel=1e-3)
        read = slide.region(0, 0, 300, 220, slide.mpp)
    assert read.dtype == np.uint8
    np.testing.assert_allclose(read.astype(int), PICTURE, atol=60 if kind == "jpeg" else 0)


@given(st.integers(-120, 320), st.integers(-120, 240), st.integers(1, 130), st.integers(1, 130))
@settings(max_examples=60, deadline=None)
def test_a_region_is_the_pixels_of_the_slide_and_white_beyond_its_edges(
    pyramid_file: Path, x: int, y: int, width: int, height: int
) -> None:
    canvas = np.full((220 + 600, 300 + 600, 3), 255, np.uint8)
    canvas[200:420, 200:500] = PICTURE
    with open_slide(pyramid_file) as slide:
        read = slide.region(x, y, width, height, slide.mpp)
    np.testing.assert_array_equal(read, canvas[y + 200 : y + 200 + height, x + 200 : x + 200 + width])


def test_a_coarser_region_comes_from_the_level_that_has_it(pyramid: Slide) -> None:
    read = pyramid.region(40, 20, 50, 40, 2 * pyramid.mpp)
    np.testing.assert_array_equal(read, halved(PICTURE, 1)[10:50, 20:70])


def test_a_region_between_levels_is_antialiased(tmp_path: Path) -> None:
    stripes = np.zeros((240, 240, 3), np.uint8)
    stripes[:, ::2] = 255  # the finest pattern there is; what aliases turns into broad bands
    with open_slide(write_tiff(tmp_path / "stripes.tif", stripes)) as slide:
        read = slide.region(24, 24, 60, 60, 3.2 * slide.mpp)
    assert abs(read.astype(int) - 127).max() < 16


def test_regions_that_touch_fit_without_a_seam(pyramid: Slide) -> None:
    mpp, side = 2.7 * pyramid.mpp, 37
    whole = pyramid.region(10.25, 7.5, 2 * side, side, mpp)
    left = pyramid.region(10.25, 7.5, side, side, mpp)
    right = pyramid.region(10.25 + side * 2.7, 7.5, side, side, mpp)
    np.testing.assert_allclose(np.hstack([left, right]).astype(int), whole, atol=1)


def test_a_region_lies_where_it_says_to_a_fraction_of_a_pixel(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 100, 0).repeat(3, 2)
    with open_slide(write_tiff(tmp_path / "ramp.tif", ramp)) as slide:
        read = slide.region(50.5, 20, 30, 10, 2 * slide.mpp)[5, :, 0]
    # Output pixel i covers 50.5 + 2i to 52.5 + 2i, and a pixel's grey is that of its left edge plus half.
    np.testing.assert_allclose(read, 51 + 2 * np.arange(30), atol=0.51)


@pytest.mark.parametrize("more", [(1, 0), (0, 1), (1, 1), (3, 3)])
@pytest.mark.parametrize("times", [2, 4])
def test_a_slide_with_a_pixel_more_gives_the_same_regions(
    pyramid: Slide, tmp_path: Path, times: int, more: tuple[int, int]
) -> None:
    padded = np.pad(PICTURE, ((0, more[1]), (0, more[0]), (0, 0)), constant_values=90)
    with open_slide(write_tiff(tmp_path / "odd.tif", padded, levels=3)) as odd:
        for x, y in [(0, 0), (40, 24), (120, 80), (200, 140)]:
            expected = pyramid.region(x, y, 20, 18, times * pyramid.mpp)
            np.testing.assert_array_equal(odd.region(x, y, 20, 18, times * odd.mpp), expected)


def test_the_far_end_of_a_narrow_slide_is_read_from_where_it_lies(tmp_path: Path) -> None:
    picture = tissue_picture(4003, 103, blobs=6)
    with open_slide(write_tiff(tmp_path / "narrow.tif", picture, levels=3)) as slide:
        read = slide.region(3600, 8, 96, 20, 4 * slide.mpp)
    np.testing.assert_array_equal(read, halved(picture, 2)[2:22, 900:996])


@pytest.mark.parametrize("mpp", [0.972376, 0.9705, 0.968])
def test_pixels_of_the_same_resolution_to_half_a_percent_are_copied(tmp_path: Path, mpp: float) -> None:
    with open_slide(write_tiff(tmp_path / "slide.tif", PICTURE, mpp=mpp)) as slide:
        for x, y in [(0, 0), (100.3, 60.4), (99.8, 60), (204, 124)]:
            left, top = (round(start + 48 * (0.972 / mpp - 1)) for start in (x, y))  # of the same centre
            read = slide.region(x, y, 96, 96, 0.972)
            np.testing.assert_array_equal(read, PICTURE[top : top + 96, left : left + 96])


def test_beyond_half_a_percent_and_over_wide_pictures_pixels_are_resampled(tmp_path: Path) -> None:
    picture = tissue_picture(1200, 100, blobs=6)
    with open_slide(write_tiff(tmp_path / "slide.tif", picture, mpp=0.9705)) as slide:
        wide = slide.region(0, 0, 1190, 20, 0.972).astype(int)
        # The last pixel shows what lies two pixels further than a copy would take it from.
        tail = [abs(wide[:, -60:] - picture[:20, start : start + 60]).mean() for start in (1130, 1131, 1132, 1133)]
        assert np.argmin(tail) == 2
    with open_slide(write_tiff(tmp_path / "finer.tif", picture, mpp=0.966)) as slide:
        assert (slide.region(0, 0, 96, 96, 0.972) != picture[:96, :96]).any()


def test_the_resolution_of_windows_is_that_of_a_level_where_one_has_it_to_half_a_percent(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "slide.tif", PICTURE, mpp=0.2425, levels=3)) as slide:
        assert slide.windows_mpp(0.972) == pytest.approx(0.970)
        assert slide.windows_mpp(0.486) == pytest.approx(0.485)
        assert slide.windows_mpp(1.0) == 1.0


def test_many_threads_read_what_one_reads(pyramid_file: Path) -> None:
    boxes = [(x, y, 60, 60) for y in range(-30, 200, 35) for x in range(-30, 280, 35)]
    with open_slide(pyramid_file) as slide:
        mpp = 1.3 * slide.mpp
        alone = [slide.region(*box, mpp) for box in boxes]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda box: slide.region(*box, mpp), boxes))
        ahead = list(slide.regions(boxes, mpp, threads=4))
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(ahead, alone)


@pytest.mark.parametrize("overlap", [0, 16, 48])
def test_regions_decode_each_tile_once_however_much_they_overlap(
    pyramid_file: Path, monkeypatch: pytest.MonkeyPatch, overlap: int
) -> None:
    with open_slide(pyramid_file) as slide:
        decoded: Counter[tuple[int, int, int]] = Counter()
        tile = slide._pyramid.tile

        def counted(*place: int) -> np.ndarray:
            decoded[place] += 1  # type: ignore[index]
            return tile(*place)

        monkeypatch.setattr(slide._pyramid, "tile", counted)
        boxes = [(x, y, 50 + overlap, 50 + overlap) for y in range(0, 220, 50) for x in range(0, 300, 50)]
        for _ in slide.regions(boxes, slide.mpp, threads=3):
            pass
    assert set(decoded.values()) == {1}
    assert len(decoded) == slide.levels[0].columns * slide.levels[0].rows


def test_a_thumbnail_shows_the_whole_slide(pyramid: Slide) -> None:
    thumbnail = pyramid.thumbnail(4 * pyramid.mpp)
    assert thumbnail.shape == (55, 75, 3)
    np.testing.assert_array_equal(thumbnail, halved(PICTURE, 2))


def test_a_given_mpp_stands_above_the_files(pyramid_file: Path) -> None:
    with open_slide(pyramid_file, mpp=0.5) as slide:
        assert slide.mpp == 0.5


def test_the_fingerprint_is_that_of_the_content(pyramid_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere.tif"
    shutil.copy(pyramid_file, copy)
    assert open_slide(copy).fingerprint == open_slide(pyramid_file).fingerprint
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    assert open_slide(copy).fingerprint != open_slide(pyramid_file).fingerprint


def test_icc_colours_become_srgb_only_when_asked_for(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ").replace(b"....", b"gXYZ")
    path = tmp_path / "red_stored_as_green.png"
    Image.new("RGB", (64, 64), (250, 10, 10)).save(path, icc_profile=swapped)
    with open_slide(path, mpp=1.0) as unmanaged, open_slide(path, mpp=1.0, icc=True) as managed:
        stored, shown = (slide.region(0, 0, 1, 1, 1.0)[0, 0].astype(int) for slide in (unmanaged, managed))
    np.testing.assert_array_equal(stored, (250, 10, 10))
    np.testing.assert_allclose(shown, (10, 250, 10), atol=2)


def test_an_icc_profile_of_another_colour_space_is_refused(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    path = tmp_path / "lab.png"
    Image.fromarray(PICTURE).save(path, icc_profile=lab)
    with pytest.raises(SlideError, match="ICC profile"):
        open_slide(path, mpp=1.0, icc=True)


def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    picture = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)])
    picture[:50] = (10, 20, 30, 0)
    Image.fromarray(picture).save(tmp_path / "cut_out.png")
    with open_slide(tmp_path / "cut_out.png", mpp=1.0) as slide:
        read = slide.region(0, 0, 300, 220, 1.0)
    assert (read[:50] == 255).all()
    np.testing.assert_array_equal(read[50:], PICTURE[50:])


# What cannot be read


def test_a_missing_slide_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="no such file"):
        open_slide(tmp_path / "gone.svs")


def test_a_text_file_called_svs_is_no_slide(tmp_path: Path) -> None:
    path = tmp_path / "notes.svs"
    path.write_text("Remember to scan the second node.\n" * 20)
    with pytest.raises(SlideError, match="not a slide that can be read"):
        open_slide(path)


def test_an_empty_file_is_no_slide(tmp_path: Path) -> None:
    path = tmp_path / "empty.svs"
    path.touch()
    with pytest.raises(SlideError, match="not a slide that can be read"):
        open_slide(path)


@pytest.mark.parametrize("compression", [None, "jpeg"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_a_truncated_slide_is_called_damaged(tmp_path: Path, share: float, compression: str | None) -> None:
    path = write_tiff(tmp_path / "cut.tif", PICTURE, levels=2, compression=compression)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SlideError, match="damaged"):
        open_slide(path).thumbnail(0.972)


def test_levels_that_disagree_are_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "disagree.tif", PICTURE, levels=2, sizes=[(150, 60)])
    with pytest.raises(SlideError, match="levels disagree: level 1 has 150 x 60"):
        open_slide(path)


@pytest.mark.parametrize("size", [(150, 60), (150, 100), (126, 110), (300, 220)])
def test_a_level_that_is_stretched_or_of_the_same_size_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_tiff(tmp_path / "disagree.tif", PICTURE, levels=2, sizes=[size])
    with pytest.raises(SlideError, match=f"levels disagree: level 1 has {size[0]} x {size[1]}"):
        open_slide(path)


def test_a_level_that_was_cut_to_whole_tiles_is_read_at_its_true_factor(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "cut.tif", PICTURE, levels=2, tile=32, sizes=[(128, 96)])) as slide:
        assert (slide.levels[1].downsample_x, slide.levels[1].downsample_y) == (2, 2)


def test_a_missing_mpp_is_asked_for(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "bare.tif", PICTURE, mpp=None)
    with pytest.raises(SlideError, match="--mpp"):
        _ = open_slide(path).mpp


def test_a_printing_resolution_is_not_taken_for_microns(tmp_path: Path) -> None:
    path = tmp_path / "screenshot.png"
    Image.fromarray(PICTURE).save(path, dpi=(72, 72))
    with pytest.raises(SlideError, match="printing resolution"):
        _ = open_slide(path).mpp


def test_an_mpp_that_differs_in_x_and_y_is_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "skew.tif", PICTURE, mpp=(0.5, 0.6))
    with pytest.raises(SlideError, match=r"0\.5 microns per pixel in x and 0\.6 in y"):
        _ = open_slide(path).mpp


@pytest.mark.parametrize("mpp", [0.0, -1.0, 1000.0, float("nan")])
def test_an_absurd_mpp_from_the_user_is_refused(pyramid_file: Path, mpp: float) -> None:
    with pytest.raises(SlideError, match="not a resolution of a microscope slide"):
        open_slide(pyramid_file, mpp=mpp)


def test_a_grey_picture_is_refused_with_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "fluorescence.ome.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16), photometric="minisblack")
    with pytest.raises(SlideError, match="not an 8-bit RGB image but a grey one"):
        open_slide(path)


# The real slides


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "size", "refusal"),
    [
        ("CMU-1-Small-Region.svs", (2220, 2967), None),
        ("tcga-cr-7395-01a-01-ts1.svs", (4443, 3567), "does not state"),
        ("camelyon16_tumor_001_level5.tif", (3072, 7168), "does not state"),
        ("small_dicom.dcm", (3236, 2638), "should agree"),
    ],
)
def test_the_real_slides_open_and_say_what_they_lack(
    shared: Path, name: str, size: tuple[int, int], refusal: str | None
) -> None:
    with open_slide(shared / "slides" / name) as slide:
        assert (slide.width, slide.height) == size
        if refusal is None:
            assert slide.mpp == pytest.approx(0.499)
        else:
            with pytest.raises(SlideError, match=refusal):
                _ = slide.mpp
