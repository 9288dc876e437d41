"""Which picture of a TIFF is the slide: one, with its own levels and its own size of a pixel, or none at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from slide_files import Pixels, halved, tissue_picture

from sentinode.errors import SlideError
from sentinode.slides.reading.slide import Slide, open_slide
from sentinode.slides.reading.tiff_images import find_slide

SLIDE = tissue_picture(640, 480, seed=1)
REGION = tissue_picture(520, 500, seed=2)
PHOTO = tissue_picture(300, 120, seed=3)
MASK = np.where(SLIDE[..., 1] < 200, 255, 0).astype(np.uint8)
HALF, QUARTER = halved(SLIDE, 1), halved(SLIDE, 2)

MASK_OF = 4

Page = tuple[Pixels, dict[str, Any]]


def page(
    pixels: Pixels, *, mpp: float | None = None, tile: int | None = 128, reduced: bool = False, **more: Any
) -> Page:
    """One page for :func:`write`."""
    options: dict[str, Any] = {"photometric": "rgb", "metadata": None, "subfiletype": int(reduced)}
    if tile:
        options["tile"] = (tile, tile)
    if mpp:
        options |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    return pixels, options | more


def write(path: Path, pages: Sequence[Page]) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for pixels, options in pages:
            tiff.write(pixels, **options | ({"subfiletype": 1} if options["subfiletype"] == MASK_OF else {}))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for one, (_, options) in zip(tiff.pages, pages, strict=True):
            if options["subfiletype"] == MASK_OF:  # which tifffile would write for a bilevel picture only
                one.aspage().tags[254].overwrite(MASK_OF)
    return path


def opened(tmp_path: Path, *pages: Page) -> Slide:
    return open_slide(write(tmp_path / "slide.tif", pages))


def picture(slide: Slide) -> Pixels:
    return slide.region(0, 0, slide.width, slide.height, slide.mpp)


def sizes(slide: Slide) -> list[tuple[int, int]]:
    return [(level.width, level.height) for level in slide.levels]


# Levels of one picture

PYRAMID = [(640, 480), (320, 240), (160, 120)]


@pytest.mark.parametrize("tile", [128, None], ids=["tiled", "strips"])
@pytest.mark.parametrize("reduced", [True, False], ids=["flagged", "unflagged"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)], ids=["largest first", "smallest first", "mixed"])
def test_the_pages_of_a_pyramid_are_its_levels_in_any_order(
    tmp_path: Path, order: tuple[int, ...], reduced: bool, tile: int | None
) -> None:
    pages = [
        page(pixels, mpp=0.972 * 2**i, tile=tile, reduced=reduced and i > 0)
        for i, pixels in enumerate((SLIDE, HALF, QUARTER))
    ]
    slide = opened(tmp_path, *[pages[i] for i in order])
    assert sizes(slide) == PYRAMID
    assert slide.mpp == pytest.approx(0.972)
    assert slide.notes == ()
    np.testing.assert_array_equal(picture(slide), SLIDE)
    np.testing.assert_array_equal(slide.region(0, 0, 160, 120, 4 * slide.mpp), QUARTER)


def test_the_size_of_a_pixel_is_that_of_the_first_level_where_all_levels_state_the_same(tmp_path: Path) -> None:
    slide = opened(tmp_path, page(HALF, mpp=0.972), page(SLIDE, mpp=0.972))
    assert sizes(slide) == PYRAMID[:2]
    assert slide.mpp == pytest.approx(0.972)


def test_levels_thinned_out_instead_of_averaged_are_levels(tmp_path: Path) -> None:
    assert sizes(opened(tmp_path, page(SLIDE, mpp=1.0), page(SLIDE[::2, ::2]), page(SLIDE[::4, ::4]))) == PYRAMID


def test_a_pyramid_in_sub_directories_is_read(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "slide.tif") as tiff:
        tiff.write(SLIDE, **page(SLIDE, mpp=0.972)[1], subifds=2)
        tiff.write(HALF, **page(HALF, reduced=True)[1])
        tiff.write(QUARTER, **page(QUARTER, reduced=True)[1])
    slide = open_slide(tmp_path / "slide.tif")
    assert sizes(slide) == PYRAMID
    np.testing.assert_array_equal(picture(slide), SLIDE)


def test_levels_that_are_filled_up_to_whole_tiles_are_levels_up_to_a_single_tile(tmp_path: Path) -> None:
    # As in Camelyon16, at a sixteenth: tumor_001 has 97,792 x 221,184 pixels, and then 49,152 x 110,592 to 512 x 512.
    stored = [(6112, 13824), (3072, 6912), (1536, 3584), (768, 1792), (384, 1024), (256, 512), (128, 256), (128, 128)]
    pages = [
        page(np.full((height, width, 3), 200, np.uint8), tile=128, reduced=i > 0, compression="zlib")
        for i, (width, height) in enumerate(stored)
    ]
    path = write(tmp_path / "filled.tif", pages)
    with tifffile.TiffFile(path) as tiff:
        slide = find_slide(path, tiff)
    assert [(level.width, level.height) for level in slide.pages] == stored[:6]
    assert slide.notes == ()


def test_a_page_that_is_a_smaller_copy_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="levels disagree"):
        opened(tmp_path, page(SLIDE, mpp=0.972), page(REGION[:100, :300], mpp=1.944, reduced=True))


def test_levels_that_are_turned_in_different_ways_are_refused(tmp_path: Path) -> None:
    turned = page(SLIDE, mpp=0.972, extratags=[(274, "H", 1, 3, True)])
    with pytest.raises(SlideError, match="turned in different ways"):
        opened(tmp_path, turned, page(HALF, reduced=True))


# Pictures beside the slide


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("beside", "what"),
    [
        (page(PHOTO, tile=None), "300 x 120"),
        (page(PHOTO, tile=None, mpp=25_400 / 300), "300 x 120"),
        (page(PHOTO, mpp=40.0), "300 x 120"),
        (page(np.tile(PHOTO, (5, 3, 1)), tile=None), "900 x 600"),  # larger than the slide
        (page(MASK, photometric="minisblack"), "has no colours"),
        (page(MASK > 0, photometric="minisblack", tile=None), "has no colours"),  # type: ignore[arg-type]
        (page(MASK, photometric="minisblack", subfiletype=MASK_OF), "has no colours"),
        (page(SLIDE, subfiletype=MASK_OF), "has no colours"),
        (page(PHOTO, mpp=0.972, description="label"), "300 x 120"),
        (page(PHOTO, mpp=0.972, extratags=[(285, "s", 0, "Macro", True)]), "300 x 120"),
        (page(halved(SLIDE, 3), tile=None, mpp=0.972), "80 x 60"),  # a thumbnail that copies the slide's tags
    ],
    ids=[
        "photo",
        "dpi",
        "coarse",
        "large",
        "mask",
        "bilevel",
        "flagged mask",
        "colour mask",
        "label",
        "macro",
        "thumb",
    ],
)
def test_a_picture_that_is_surely_not_the_slide_is_left_out_and_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], beside: Page, what: str, first: bool
) -> None:
    pages = [page(SLIDE, mpp=0.972), page(HALF, mpp=1.944, reduced=True)]
    slide = opened(tmp_path, *([beside, *pages] if first else [*pages, beside]))
    assert sizes(slide) == PYRAMID[:2]
    assert slide.mpp == pytest.approx(0.972)
    np.testing.assert_array_equal(picture(slide), SLIDE)
    (note,) = slide.notes
    assert "of 640 x 480 pixels is read as the slide. Left out:" in note
    assert what in note
    assert note in capfd.readouterr().err.replace("\n", "")


def test_where_no_size_of_a_pixel_is_stated_tiles_tell_the_slide_from_a_photo(tmp_path: Path) -> None:
    slide = opened(tmp_path, page(PHOTO, tile=None), page(SLIDE))
    assert sizes(slide) == [(640, 480)]
    assert "300 x 120" in slide.notes[0]


@pytest.mark.parametrize(
    "others",
    [
        [page(REGION, mpp=0.972)],
        [page(REGION, mpp=1.2)],
        [page(REGION[:90, :100], mpp=0.972)],
        [page(SLIDE[::-1], mpp=0.972)],
        [page(SLIDE[::-1], mpp=0.972)] * 3,
        [page(tissue_picture(320, 240, seed=9), mpp=0.972)],  # the shape of a level, and another picture
        [page(REGION, mpp=0.972), page(halved(REGION, 1), mpp=1.944, reduced=True)],
    ],
    ids=["region", "finer region", "small region", "plane", "planes", "shape of a level", "two pyramids"],
)
def test_two_pictures_that_may_each_be_the_slide_are_refused_by_name(tmp_path: Path, others: list[Page]) -> None:
    with pytest.raises(
        SlideError,
        match=rf"contains {len(others[:3]) + 1 - sum(o[1]['subfiletype'] for o in others)} "
        r"pictures, and it is not clear which is the slide: page \d of \d+ x \d+ pixels; page",
    ):
        opened(tmp_path, page(SLIDE, mpp=0.972), *others)


def test_a_larger_picture_of_no_stated_size_may_be_the_slide_as_well(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="not clear which is the slide"):
        opened(tmp_path, page(SLIDE, tile=None), page(PHOTO, tile=None, mpp=0.972))


def test_all_that_is_left_out_is_named(tmp_path: Path) -> None:
    flagged = [page(PHOTO, tile=None, subfiletype=kind) for kind in (1, 9)]  # as the label and the macro of an SVS
    (note,) = opened(tmp_path, page(SLIDE), page(HALF), *flagged).notes
    assert note.endswith("Left out: page 3 of 300 x 120 pixels; page 4 of 300 x 120 pixels.")


def test_pictures_without_any_size_of_a_pixel_are_refused_if_both_lie_in_strips(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="not clear which is the slide"):
        opened(tmp_path, page(SLIDE, tile=None), page(PHOTO, tile=None))


def test_colours_beside_a_larger_grey_picture_are_not_taken_for_the_slide(tmp_path: Path) -> None:
    fluorescence = page(np.tile(MASK, (2, 2)), mpp=0.5, photometric="minisblack")
    with pytest.raises(SlideError, match="the largest picture is grey, page 1 of 1280 x 960"):
        opened(tmp_path, fluorescence, page(PHOTO, tile=None))


def test_nothing_but_masks_is_no_slide(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="only masks"):
        opened(tmp_path, page(SLIDE, subfiletype=MASK_OF))


@pytest.mark.parametrize("kind", ["imagej", "shaped", "depth"])
def test_a_stack_behind_one_page_is_refused(tmp_path: Path, kind: str) -> None:
    path, stack = tmp_path / "stack.tif", np.stack([SLIDE, SLIDE[::-1], SLIDE])
    if kind == "imagej":
        tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYXS"})
    elif kind == "shaped":
        tifffile.imwrite(path, stack, photometric="rgb", metadata={"truncate": True})
    else:
        tifffile.imwrite(path, stack, photometric="rgb", volumetric=True, metadata=None)
    with pytest.raises(SlideError, match=r"3 planes|contains 3 pictures"):
        open_slide(path)


# OME-TIFF


def write_ome(path: Path, images: Sequence[tuple[list[Pixels], dict[str, Any]]], tile: int = 128) -> Path:
    """Images, each with its levels below it and its metadata."""
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for (finest, *levels), metadata in images:
            options: dict[str, Any] = {"photometric": metadata.pop("photometric", "rgb"), "tile": (tile, tile)}
            tiff.write(finest, **options, metadata=metadata, subifds=len(levels))
            for level in levels:
                tiff.write(level, **options, subfiletype=1, metadata=None)
    return path


def physical(size: float | None, name: str = "", **units: str) -> dict[str, Any]:
    stated = {"PhysicalSizeX": size, "PhysicalSizeY": size} if size else {}
    return {**stated, **units, **({"Name": name} if name else {})}


@pytest.mark.parametrize("macro_first", [True, False])
@pytest.mark.parametrize("macro", [physical(1.2, "macro image"), physical(None, "x"), physical(30.0, "x")])
def test_an_ome_tiff_is_read_at_the_pixel_size_of_its_slide_not_of_its_macro(
    tmp_path: Path, macro: dict[str, Any], macro_first: bool
) -> None:
    images = [([PHOTO], dict(macro)), ([SLIDE, HALF, QUARTER], physical(0.972, "slide"))]
    slide = open_slide(write_ome(tmp_path / "slide.ome.tif", images if macro_first else images[::-1]))
    assert sizes(slide) == PYRAMID
    assert slide.mpp == pytest.approx(0.972)
    assert "'slide' of 640 x 480 pixels is read as the slide" in slide.notes[0]
    np.testing.assert_array_equal(picture(slide), SLIDE)


def test_a_macro_larger_than_the_slide_is_not_taken_for_it(tmp_path: Path) -> None:
    images = [([np.tile(PHOTO, (6, 3, 1))], physical(1.2, "macro")), ([SLIDE], physical(0.972, "slide"))]
    slide = open_slide(write_ome(tmp_path / "slide.ome.tif", images))
    assert sizes(slide) == [(640, 480)]
    assert slide.mpp == pytest.approx(0.972)


def test_a_slide_with_a_macro_in_its_name_is_not_taken_for_one(tmp_path: Path) -> None:
    images = [([SLIDE], physical(0.972, "macro_metastasis_7.svs")), ([REGION], physical(0.972, "label-free 2"))]
    with pytest.raises(SlideError, match="not clear which is the slide"):
        open_slide(write_ome(tmp_path / "slide.ome.tif", images))


def test_an_ome_tiff_with_a_further_picture_of_slide_kind_is_refused(tmp_path: Path) -> None:
    images = [([SLIDE], physical(0.972, "scan 1")), ([REGION], physical(0.972, "scan 2"))]
    with pytest.raises(SlideError, match="'scan 1' of 640 x 480 pixels; 'scan 2' of 520 x 500"):
        open_slide(write_ome(tmp_path / "slide.ome.tif", images))


def test_the_levels_of_an_ome_tiff_may_be_images_of_their_own(tmp_path: Path) -> None:
    images = [([SLIDE], physical(0.972)), ([HALF], physical(None)), ([QUARTER], physical(None))]
    slide = open_slide(write_ome(tmp_path / "slide.ome.tif", images))
    assert sizes(slide) == PYRAMID
    assert slide.mpp == pytest.approx(0.972)


@pytest.mark.parametrize(
    ("size", "unit"),
    [(0.972, "µm"), (972.0, "nm"), (9.72e-4, "mm"), (9.72e-5, "cm"), (9720.0, "Å"), (0.972 / 25_400, "in")],
)
def test_the_units_of_ome_are_known(tmp_path: Path, size: float, unit: str) -> None:
    stated = physical(size, PhysicalSizeXUnit=unit, PhysicalSizeYUnit=unit)
    assert open_slide(write_ome(tmp_path / "slide.ome.tif", [([SLIDE], stated)])).mpp == pytest.approx(0.972)


@pytest.mark.parametrize(
    "stated", [physical(None), physical(0.972, PhysicalSizeXUnit="pixel", PhysicalSizeYUnit="pixel")]
)
def test_a_size_that_is_missing_or_in_no_unit_of_length_is_asked_for(tmp_path: Path, stated: dict[str, Any]) -> None:
    slide = open_slide(write_ome(tmp_path / "slide.ome.tif", [([SLIDE], stated)]))
    with pytest.raises(SlideError, match="--mpp"):
        _ = slide.mpp


@pytest.mark.parametrize("axes", ["ZYXS", "TYXS"])
def test_a_stack_of_focus_or_of_time_is_refused(tmp_path: Path, axes: str) -> None:
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, np.stack([SLIDE] * 3), photometric="rgb", metadata={"axes": axes}, ome=True)
    with pytest.raises(SlideError, match="has 3 planes"):
        open_slide(path)


def test_channels_in_pictures_of_their_own_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "channels.ome.tif"
    tifffile.imwrite(path, SLIDE.transpose(2, 0, 1), photometric="minisblack", metadata={"axes": "CYX"}, ome=True)
    with pytest.raises(SlideError, match="grey"):
        open_slide(path)


def test_the_bits_that_ome_says_count_are_brought_to_eight(tmp_path: Path) -> None:
    path, twelve = tmp_path / "twelve.ome.tif", (SLIDE.astype(np.uint32) * 4095 // 255).astype(np.uint16)
    tifffile.imwrite(path, twelve, photometric="rgb", metadata={**physical(0.972), "SignificantBits": 12})
    np.testing.assert_array_equal(picture(open_slide(path)), SLIDE)
    path.write_bytes(path.read_bytes().replace(b'SignificantBits="12"', b'SignificantBits="16"'))
    with pytest.raises(SlideError, match="the upper ones are empty"):
        open_slide(path)


# What states the size of a pixel


@pytest.mark.parametrize("unit", ["um", "\xb5m", "micron", "microns", "\\u00B5m"])
def test_imagej_names_the_unit_of_its_resolution(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "imagej.tif"
    metadata = {"unit": unit.replace("\xb5", "u"), "axes": "YXS"}
    tifffile.imwrite(path, SLIDE, imagej=True, resolution=(1 / 0.972, 1 / 0.972), metadata=metadata)
    path.write_bytes(path.read_bytes().replace(b"unit=um", f"unit={unit[:2]}".encode("latin-1")))
    assert open_slide(path).mpp == pytest.approx(0.972)


@pytest.mark.parametrize("unit", ["pixel", "furlong"])
def test_a_unit_that_is_none_is_no_size(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "imagej.tif"
    tifffile.imwrite(
        path, SLIDE, imagej=True, resolution=(1 / 0.972, 1 / 0.972), metadata={"unit": unit, "axes": "YXS"}
    )
    with pytest.raises(SlideError, match="--mpp"):
        _ = open_slide(path).mpp


def test_aperios_size_counts_where_openslide_does_not_read_the_file(tmp_path: Path) -> None:
    aperio = "Aperio Image Library v11.2.1\n640x480 [0,0 640x480] (128x128)|AppMag = 20|MPP = 0.4990|Left = 1.0"
    label = "Aperio Image Library v11.2.1\nlabel 300x120"
    deep = SLIDE.astype(np.uint16) * 257
    slide = opened(
        tmp_path,
        page(deep, description=aperio),
        page(QUARTER, tile=None, description=aperio),
        page(PHOTO, description=label),
    )
    assert slide.mpp == pytest.approx(0.499)
    assert sizes(slide) == [(640, 480)]
    np.testing.assert_array_equal(picture(slide), SLIDE)


# Scanners' files


def test_an_scn_of_two_main_images_of_unlike_objectives_is_refused_by_name(scanner_files: Path) -> None:
    with pytest.raises(
        SlideError, match=r"2 main images .* 480 x 768 pixels with an objective of 10x; 960 x 1536 .* 20x"
    ):
        open_slide(scanner_files / "two_unlike.scn")
    assert open_slide(scanner_files / "bounds.scn").mpp == pytest.approx(0.972)


@pytest.fixture(scope="module")
def scanner_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scn")
    for name, objectives in (("bounds", ("10",)), ("two_unlike", ("10", "20"))):
        write_scn(folder / f"{name}.scn", objectives)
    return folder


def write_scn(path: Path, objectives: Sequence[str]) -> None:
    """A Leica SCN of 1,920 x 1,344 pixels at 0.972 um with a main image for each objective."""
    whole, nm = (1920 * 972, 1344 * 972), 972
    pages, images = [np.full((112, 160, 3), 255, np.uint8)], [(0, 160, 112, (0, 0, *whole), "1.25")]
    for i, objective in enumerate(objectives):
        times = int(objective) // 10
        pixels = np.asarray(Image.fromarray(tissue_picture(480, 768, seed=i)).resize((480 * times, 768 * times)))
        pages.append(pixels)
        view = ((96 + 700 * i) * nm, 96 * nm, 480 * nm, 768 * nm)
        images.append((i + 1, 480 * times, 768 * times, view, objective))
    described = "".join(
        f'<image name="image_{i}" uuid="u{i}"><creationDate>2020-01-01T00:00:00Z</creationDate><device model="M" '
        f'version="1"/><pixels sizeX="{w}" sizeY="{h}"><dimension sizeX="{w}" sizeY="{h}" r="0" ifd="{i}"/></pixels>'
        f'<view sizeX="{view[2]}" sizeY="{view[3]}" offsetX="{view[0]}" offsetY="{view[1]}" spacingZ="0"/>'
        f"<scanSettings><objectiveSettings><objective>{objective}</objective></objectiveSettings><illuminationSettings>"
        "<numericalAperture>0.4</numericalAperture><illuminationSource>brightfield</illuminationSource>"
        "</illuminationSettings></scanSettings></image>"
        for i, w, h, view, objective in images
    )
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="c" uuid="c" sizeX="{whole[0]}" sizeY="{whole[1]}"><barcode>QUJD</barcode>{described}'
        "</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for i, (pixels, image) in enumerate(zip(pages, images, strict=True)):
            per_centimetre = 1e7 * image[1] / image[3][2]
            tiff.write(
                pixels,
                photometric="rgb",
                tile=(128, 128),
                compression="zlib",
                metadata=None,
                description=xml if i == 0 else None,
                software=None,
                resolution=(per_centimetre, per_centimetre),
                resolutionunit="CENTIMETER",
            )
