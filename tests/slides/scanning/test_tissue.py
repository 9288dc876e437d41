"""Tissue is found by its stain, and nothing else that lies on a slide is taken for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from slide_files import tissue_picture, write_tiff

from sentinode.slides.reading.slide import open_slide
from sentinode.slides.scanning.tissue import MASK_MPP, Tissue, find_tissue, glass_colour, tissue_mask

GLASS = (242, 241, 243)
PINK, PURPLE = (214, 150, 196), (150, 98, 165)


def glass_with(draw_on: str = "") -> Image.Image:
    """A slide of 600 x 400 pixels at the mask's resolution with a piece of tissue, and something else."""
    image = Image.new("RGB", (600, 400), GLASS)
    draw = ImageDraw.Draw(image)
    draw.ellipse((80, 100, 280, 300), fill=PINK)
    draw.ellipse((130, 150, 220, 240), fill=PURPLE)
    match draw_on:
        case "green pen":
            draw.line((330, 40, 560, 360), fill=(20, 140, 95), width=20)
        case "blue pen":
            draw.line((330, 40, 560, 360), fill=(35, 50, 165), width=20)
        case "red pen":
            draw.line((330, 40, 560, 360), fill=(205, 35, 45), width=20)
        case "black pen":
            draw.line((330, 40, 560, 360), fill=(35, 30, 38), width=20)
        case "crosses":
            for x, y in ((380, 80), (520, 320)):
                draw.rectangle((x - 25, y - 6, x + 25, y + 6), fill=(70, 62, 70))
                draw.rectangle((x - 6, y - 25, x + 6, y + 25), fill=(70, 62, 70))
        case "dust":
            rng = np.random.default_rng(1)
            for x, y in rng.uniform((320, 20), (580, 380), (60, 2)):
                draw.ellipse((x, y, x + 7, y + 7), fill=tuple(rng.integers(60, 160, 3).tolist()))
        case "glass edges":
            draw.rectangle((310, 0, 318, 400), fill=(150, 150, 152))
            draw.rectangle((540, 0, 600, 400), fill=(205, 204, 206))
        case "white fill":
            draw.rectangle((300, 0, 600, 400), fill=(255, 255, 255))
        case "fat":
            for x in range(320, 580, 22):
                for y in range(20, 380, 22):
                    draw.ellipse((x, y, x + 21, y + 21), fill=(244, 240, 244), outline=(236, 222, 233))
    noise = np.random.default_rng(0).integers(-3, 4, (400, 600, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "also",
    ["", "green pen", "blue pen", "red pen", "black pen", "crosses", "dust", "glass edges", "white fill", "fat"],
)
def test_tissue_is_kept_and_nothing_else(also: str) -> None:
    mask = tissue_mask(np.asarray(glass_with(also)), MASK_MPP)
    y, x = np.mgrid[:400, :600]
    distance = np.hypot(x - 180, y - 200)
    assert mask[distance < 98].all()
    assert not mask[distance > 110].any()


def test_ink_over_tissue_is_left_out() -> None:
    image = glass_with()
    ImageDraw.Draw(image).line((60, 200, 300, 200), fill=(20, 140, 95), width=30)
    mask = tissue_mask(np.asarray(image), MASK_MPP)
    assert not mask[195:205, 120:240].any()
    assert mask[130:170, 150:210].all()


def test_pale_stain_and_tinted_glass_do_not_matter() -> None:
    picture = np.asarray(glass_with()).astype(int)
    pale = (255 - (255 - picture) // 2).astype(np.uint8)
    tinted = np.clip(picture - (0, 5, 0), 0, 255).astype(np.uint8)
    expected = tissue_mask(picture.astype(np.uint8), MASK_MPP)
    for other in (pale, tinted):
        assert (tissue_mask(other, MASK_MPP) == expected).mean() > 0.995


@pytest.mark.parametrize("grey", [0, 128, 241, 255])
def test_empty_glass_has_no_tissue(grey: int) -> None:
    noise = np.random.default_rng(0).integers(-3, 4, (200, 300, 3))
    assert not tissue_mask(np.clip(grey + noise, 0, 255).astype(np.uint8), MASK_MPP).any()


SIDES = [3, 6, 12, 20, 30, 60]
"""Of pictures cut out of a slide, in pixels of the mask: from 23 um, less than a patch, to half a millimetre."""


def noisy(colours: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).integers(-3, 4, colours.shape)
    return np.clip(colours + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("colour", [(255, 255, 255), GLASS, (128, 128, 128), (0, 0, 0)])
def test_a_small_blank_picture_has_no_tissue(side: int, colour: tuple[int, int, int]) -> None:
    flat = np.full((side, side, 3), colour)
    assert not tissue_mask(flat.astype(np.uint8), MASK_MPP).any()
    assert not tissue_mask(noisy(flat), MASK_MPP).any()


@pytest.mark.parametrize("side", [*SIDES, 300])
@pytest.mark.parametrize("colours", [(PINK, PINK), (PURPLE, PURPLE), (PINK, PURPLE)])
def test_a_picture_cut_out_of_tissue_is_all_tissue(side: int, colours: tuple[tuple[int, int, int], ...]) -> None:
    picture = np.full((side, side, 3), colours[0])
    picture[:, side // 2 :] = colours[1]
    assert tissue_mask(picture.astype(np.uint8), MASK_MPP).all()
    assert tissue_mask(noisy(picture), MASK_MPP).all()


def test_pale_tissue_beside_dark_tissue_is_kept() -> None:
    """A threshold between the two would leave out the pale one."""
    picture = np.full((200, 400, 3), GLASS)
    picture[40:160, 40:160] = (90, 20, 120)
    picture[40:160, 240:360] = (235, 215, 232)
    mask = tissue_mask(noisy(picture), MASK_MPP)
    assert mask[40:160, 40:160].all() and mask[44:156, 244:356].all()
    assert not mask[:, 170:230].any()


@pytest.mark.parametrize("glass", [GLASS, (235, 228, 240), (220, 205, 190), (220, 218, 235), (205, 205, 205)])
def test_the_colour_of_glass_is_measured(glass: tuple[int, int, int]) -> None:
    picture = np.full((200, 300, 3), glass)
    picture[50:150, 50:150] = np.array(PURPLE) * np.array(glass) // 255
    picture[:, 250:] = 255  # what was not scanned is filled with white
    picture = noisy(picture)
    smooth = np.asarray(Image.fromarray(picture).filter(ImageFilter.BoxBlur(1)))
    assert glass_colour(smooth) == pytest.approx(glass, abs=3)
    mask = tissue_mask(picture, MASK_MPP)
    assert mask[50:150, 50:150].all()
    assert not mask[:40].any() and not mask[:, 200:].any()


@pytest.mark.parametrize("colour", [PINK, PURPLE, (90, 20, 120)])
def test_tissue_is_no_glass(colour: tuple[int, int, int]) -> None:
    assert glass_colour(noisy(np.full((100, 100, 3), colour))) == (255, 255, 255)


@pytest.mark.parametrize("side", [20, 30, 60])
def test_glass_in_a_small_picture_is_left_out(side: int) -> None:
    picture = np.full((side, side, 3), GLASS)
    picture[:, : side // 2] = PINK
    mask = tissue_mask(noisy(picture), MASK_MPP)
    assert mask[:, : side // 2].all()
    assert not mask[:, side // 2 + 4 :].any()  # but for the margin


def test_the_mask_of_a_slide_is_its_own_whatever_its_resolution(tmp_path: Path) -> None:
    picture = tissue_picture(1200, 900, seed=3)
    fine = np.asarray(Image.fromarray(picture).resize((2400, 1800), Image.Resampling.BICUBIC))
    with (
        open_slide(write_tiff(tmp_path / "one.tif", picture, mpp=0.972)) as one,
        open_slide(write_tiff(tmp_path / "two.tif", fine, mpp=0.486)) as two,
    ):
        coarse, finer = find_tissue(one), find_tissue(two)
    assert coarse.scale == pytest.approx(8, rel=1e-6) and finer.scale == pytest.approx(16, rel=1e-6)
    assert (coarse.mask == finer.mask).mean() > 0.99
    assert coarse.area_mm2 == pytest.approx(finer.area_mm2, rel=0.02)


def test_a_cell_of_a_grid_holds_tissue_where_any_of_its_pixels_does() -> None:
    mask = np.zeros((10, 14), bool)
    mask[3, 5] = True
    tissue = Tissue(mask, scale=8.0, mpp=MASK_MPP, thumbnail=np.zeros((10, 14, 3), np.uint8))
    cells = tissue.cells(rows=3, columns=4, stride=32)
    assert np.argwhere(cells).tolist() == [[0, 1]]
    # A cell smaller than a pixel of the mask belongs to the pixel that it lies in.
    assert np.argwhere(tissue.cells(rows=20, columns=28, stride=4)).tolist() == [[6, 10], [6, 11], [7, 10], [7, 11]]


@pytest.fixture(scope="module")
def nodes(shared: Path) -> dict[str, np.ndarray]:
    """Pictures of lymph nodes without glass, one of each of five hospitals, at the mask's resolution."""
    pictures = {}
    for path in sorted((shared / "slides" / "camelyon17").glob("*.jpeg")):
        with open_slide(path, mpp=0.25) as slide:
            pictures[path.stem] = slide.thumbnail(MASK_MPP)
    assert len(pictures) == 5
    return pictures


def diluted(picture: np.ndarray, times: int) -> np.ndarray:
    """A picture that absorbs so many times less."""
    return (255 - (255 - picture.astype(int)) // times).astype(np.uint8)


def crops(picture: np.ndarray, side: int, count: int = 20) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for y, x in rng.integers(0, np.array(picture.shape[:2]) - side + 1, (count, 2)):
        yield picture[y : y + side, x : x + side]


@pytest.mark.real
@pytest.mark.parametrize("times", [1, 2])
def test_a_node_of_any_hospital_is_kept_whole_and_in_crops(nodes: dict[str, np.ndarray], times: int) -> None:
    for name, node in nodes.items():
        assert tissue_mask(diluted(node, times), MASK_MPP).mean() >= 0.98, name
        for side in (8, 16, 32):  # 62 to 250 um
            kept = [tissue_mask(crop, MASK_MPP).mean() for crop in crops(diluted(node, times), side)]
            assert min(kept) >= 0.98, (name, side)


@pytest.mark.real
@pytest.mark.parametrize("glass", [(255, 255, 255), GLASS, (235, 228, 240), (220, 218, 235)])
def test_a_node_on_glass_is_kept_and_so_is_a_paler_one_beside_it(
    nodes: dict[str, np.ndarray], glass: tuple[int, int, int]
) -> None:
    for name, node in nodes.items():
        picture = noisy(np.full((200, 300, 3), glass))
        picture[100:166, 100:166], picture[100:166, 200:266] = node, diluted(node, 2)
        mask = tissue_mask(picture, MASK_MPP)
        assert mask[100:166, 100:166].mean() >= 0.98, name
        assert mask[100:166, 200:266].mean() >= 0.95, name
        assert not mask[:90].any(), name


@pytest.mark.real
def test_two_nodes_of_unlike_stain_are_both_kept_with_little_glass_and_without(nodes: dict[str, np.ndarray]) -> None:
    pictures = list(nodes.values())
    for one, other in zip(pictures, pictures[1:] + pictures[:1], strict=True):
        assert tissue_mask(np.hstack([one, other]), MASK_MPP).mean() >= 0.98
        strip = noisy(np.full((66, 6, 3), GLASS))
        mask = tissue_mask(np.hstack([one, strip, other]), MASK_MPP)
        assert mask[:, :66].mean() >= 0.98 and mask[:, 72:].mean() >= 0.98


@pytest.mark.real
def test_fat_beside_a_node_is_mostly_left_out(shared: Path) -> None:
    """A slide of the second hospital: the node is violet, the fat pink."""
    with open_slide(shared / "slides" / "camelyon16_overviews" / "normal_102_normal.jpg", mpp=15.55) as slide:
        picture = slide.thumbnail(MASK_MPP)
    mask = tissue_mask(picture, MASK_MPP)
    assert mask[1930:2030, 800:1000].mean() > 0.95  # within the node
    assert mask.mean() < 0.22  # half of the slide is fat
    assert not mask[2300:, :300].any()  # glass


@pytest.mark.real
def test_every_lesion_of_tumor_001_lies_in_tissue_and_the_crosses_do_not(shared: Path) -> None:
    with open_slide(shared / "slides" / "camelyon16_tumor_001_level5.tif", mpp=MASK_MPP) as slide:
        tissue = find_tissue(slide)
    lesions = Image.new("1", (tissue.mask.shape[1], tissue.mask.shape[0]))
    truth = json.loads((shared / "slides" / "camelyon16_tumor_001.json").read_text())
    for lesion in truth["positive"]:
        ImageDraw.Draw(lesions).polygon([(x / 32, y / 32) for x, y in lesion["vertices"]], fill=1)
    assert tissue.mask[np.asarray(lesions)].mean() > 0.999
    assert tissue.mask.mean() < 0.1
    assert not tissue.mask[:1500].any()  # crosses, glass edges, a hair and an air bubble


@pytest.mark.real
def test_the_ink_on_the_dicom_slide_is_left_out(shared: Path) -> None:
    with open_slide(shared / "slides" / "small_dicom.dcm", mpp=MASK_MPP) as slide:
        tissue, picture = find_tissue(slide), slide.thumbnail(MASK_MPP).astype(int)
    green = (picture[..., 1] > picture[..., 0] + 30) & (picture[..., 1] > picture[..., 2] + 10)
    assert green.mean() > 0.02
    assert tissue.mask[green].mean() < 0.05
