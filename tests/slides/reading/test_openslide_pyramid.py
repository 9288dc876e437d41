"""What OpenSlide reads: every tile as the file stores it, and the part of the slide that the scanner filled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from slide_files import halved, tissue_picture, write_scn, write_tiff

from sentinode.errors import SlideError
from sentinode.slides.reading.openslide_pyramid import OpenSlidePyramid, bounds_of
from sentinode.slides.reading.pyramid import Pixels
from sentinode.slides.reading.slide import open_slide
from sentinode.slides.reading.stored_tiles import StoredTiles


def whole(pyramid: OpenSlidePyramid, level: int) -> Pixels:
    """A level put together from its tiles."""
    shape = pyramid.levels[level]
    picture = np.zeros((shape.height, shape.width, 3), np.uint8)
    for row in range(shape.rows):
        for column in range(shape.columns):
            left, top, width, height = shape.tile_box(column, row)
            picture[top : top + height, left : left + width] = pyramid.tile(level, column, row)
    return picture


@pytest.mark.parametrize("compression", [None, "jpeg"])
@pytest.mark.parametrize("size", [(600, 440), (601, 440), (600, 441), (603, 447), (2003, 151), (97, 1201)])
def test_every_tile_of_every_level_is_the_one_that_is_stored(
    tmp_path: Path, size: tuple[int, int], compression: str | None
) -> None:
    picture = tissue_picture(*size)
    path = write_tiff(tmp_path / "slide.tif", picture, levels=3, compression=compression)
    pyramid = OpenSlidePyramid(path)
    with tifffile.TiffFile(path) as tiff:
        for i, page in enumerate(tiff.pages):
            assert (pyramid.levels[i].downsample_x, pyramid.levels[i].downsample_y) == (2**i, 2**i)
            np.testing.assert_array_equal(whole(pyramid, i), page.asarray())
    pyramid.close()


def test_the_tiles_of_a_level_that_is_hardly_reduced_are_the_stored_ones_too(tmp_path: Path) -> None:
    picture = tissue_picture(601, 441)
    smaller = np.asarray(Image.fromarray(picture).resize((481, 353)))
    with tifffile.TiffWriter(tmp_path / "slide.tif") as tiff:
        for i, level in enumerate((picture, smaller)):
            tiff.write(level, photometric="rgb", tile=(64, 64), subfiletype=int(i > 0), metadata=None)
    pyramid = OpenSlidePyramid(tmp_path / "slide.tif")
    assert pyramid.levels[1].downsample_x == pyramid.levels[1].downsample_y == 1.25
    np.testing.assert_array_equal(whole(pyramid, 1), smaller)
    pyramid.close()


@pytest.mark.parametrize("size", [(601, 441), (2003, 151)])
def test_without_stored_tiles_they_are_solved_for_from_pairs_of_readings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    picture = tissue_picture(*size)
    path = write_tiff(tmp_path / "slide.tif", picture, levels=3)
    monkeypatch.setattr(StoredTiles, "tile", lambda *_: None)
    pyramid = OpenSlidePyramid(path)
    for level in (1, 2):
        off = np.abs(whole(pyramid, level).astype(int) - halved(picture, level))
        assert off.mean() < 0.6 and off.max() <= 4
    pyramid.close()


def test_stored_tiles_that_are_not_what_openslide_shows_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tissue_picture(601, 441)
    path = write_tiff(tmp_path / "slide.tif", picture, levels=2)
    stored = StoredTiles.tile

    def swapped(self: StoredTiles, *place: object) -> Pixels | None:
        tile = stored(self, *place)  # type: ignore[arg-type]
        return None if tile is None else tile[..., ::-1]

    monkeypatch.setattr(StoredTiles, "tile", swapped)
    pyramid = OpenSlidePyramid(path)
    np.testing.assert_allclose(whole(pyramid, 1).astype(int), halved(picture, 1), atol=4)
    pyramid.close()


def test_a_tile_that_the_file_does_not_store_is_openslides(tmp_path: Path) -> None:
    picture = halved(tissue_picture(601, 441), 1)
    path = write_tiff(tmp_path / "slide.tif", picture)
    pyramid = OpenSlidePyramid(path)
    stored = StoredTiles(path)
    assert stored.tile(pyramid.levels[0], 1, 1) is not None
    (page,) = next(iter(stored._pages.values()))
    page.databytecounts = (0,) * len(page.databytecounts)
    assert stored.tile(pyramid.levels[0], 1, 1) is None
    stored.close()
    pyramid.close()


def test_a_file_that_is_no_tiff_stores_no_tiles(tmp_path: Path) -> None:
    (tmp_path / "slide.dcm").write_bytes(bytes(200))
    slide = OpenSlidePyramid(write_tiff(tmp_path / "slide.tif", tissue_picture(100, 80)))
    assert StoredTiles(tmp_path / "slide.dcm").tile(slide.levels[0], 0, 0) is None
    slide.close()


@pytest.mark.parametrize("corner", [(700, 300), (131, 77)])
def test_the_tiles_of_a_leica_slide_fit_without_a_seam_where_the_glass_is_odd(
    tmp_path: Path, corner: tuple[int, int]
) -> None:
    picture = tissue_picture(1200, 640, blobs=5)
    path = write_scn(tmp_path / "slide.scn", picture, corner=corner, glass=(2003, 1001), levels=2)
    pyramid = OpenSlidePyramid(path)
    assert pyramid._steps[1] != 2
    for level in (0, 1):
        left, top = (side // 2**level for side in corner)
        seen = whole(pyramid, level)[top:, left:][: 640 >> level, : 1200 >> level]
        np.testing.assert_array_equal(seen, halved(picture, level))
    pyramid.close()


@pytest.mark.real
def test_the_second_level_of_a_real_slide_of_odd_size_is_not_blurred(shared: Path) -> None:
    path = shared / "slides" / "tcga-cr-7395-01a-01-ts1.svs"
    pyramid = OpenSlidePyramid(path)
    with tifffile.TiffFile(path) as tiff:
        (page,) = (page for page in tiff.pages if page.shape[:2] == (1783, 2221))
        np.testing.assert_array_equal(whole(pyramid, 1), page.asarray())
    assert pyramid.levels[1].downsample_x == pyramid.levels[1].downsample_y == 2
    pyramid.close()


# Bounds


def test_the_part_that_the_scanner_filled_is_known(tmp_path: Path) -> None:
    path = write_scn(tmp_path / "slide.scn", tissue_picture(300, 220), corner=(130, 70), glass=(640, 480))
    with open_slide(path) as slide:
        assert (slide.width, slide.height) == (640, 480)
        assert slide.bounds == (130, 70, 300, 220)


def test_a_slide_that_states_no_bounds_has_none(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "slide.tif", tissue_picture(100, 80))) as slide:
        assert slide.bounds is None


def stated(*values: str) -> dict[str, str]:
    names = ("x", "y", "width", "height")
    return {f"openslide.bounds-{name}": value for name, value in zip(names, values, strict=True)}


def test_bounds_end_at_the_slides_edge() -> None:
    path, size = Path("slide.mrxs"), (1000, 800)
    assert bounds_of(path, stated("0", "0", "1000", "800"), size) == (0, 0, 1000, 800)
    assert bounds_of(path, stated("500", "300", "501", "501"), size) == (500, 300, 500, 500)


@pytest.mark.parametrize("values", [("1.5", "2", "10", "10"), ("", "2", "10", "10"), ("a", "b", "c", "d")])
def test_bounds_that_are_no_whole_numbers_are_ignored_as_qupath_ignores_them(values: tuple[str, str, str, str]) -> None:
    assert bounds_of(Path("slide.mrxs"), stated(*values), (1000, 800)) is None
    assert bounds_of(Path("slide.mrxs"), {"openslide.bounds-x": "5", "openslide.bounds-y": "5"}, (1000, 800)) is None


@pytest.mark.parametrize("values", ["-1 0 10 10", "1000 0 10 10", "0 0 0 10", "0 0 10 900", "990 0 20 9"])
def test_bounds_outside_the_slide_are_refused(values: str) -> None:
    with pytest.raises(SlideError, match="1000 x 800 pixels, and the part of it that it says is filled lies outside"):
        bounds_of(Path("slide.mrxs"), stated(*values.split()), (1000, 800))
