"""The heatmap shows what is probable, leaves the rest as it is, and measures right."""

import warnings

import numpy as np
import pytest
from made_maps import asap, blob, made_map, square
from PIL import Image

from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.results.heatmap import HATCH, KEY_WIDTH, LARGEST_ZOOM, SIDE, overlay, write_heatmap, write_small
from sentinode.slides.results.lesions import find_lesions
from sentinode.slides.scanning.quality import Quality


@pytest.fixture
def lesions():
    probability = blob(60, 40, (10, 10, 30, 30))
    probability[50:] = np.nan
    return find_lesions(made_map(probability))


@pytest.fixture
def picture():
    return np.full((240, 160, 3), 200, np.uint8)


def test_what_is_low_or_no_tissue_keeps_its_colour(lesions, picture):
    shown = overlay(picture, 8.0, lesions)
    changed = (shown != picture).any(axis=2)
    assert not changed[:28].any()
    assert not changed[200:].any()
    assert changed[48:112, 48:112].all()


def test_tissue_that_cannot_be_judged_has_grey_stripes_and_no_colour(picture):
    quality = np.zeros((60, 40), np.uint8)
    quality[10:20, 10:30] = Quality.OUT_OF_FOCUS
    quality[50:] = Quality.INK  # no tissue there
    probability = blob(60, 40, (10, 10, 30, 30))
    probability[50:] = np.nan
    shown = overlay(picture, 8.0, find_lesions(made_map(probability, quality=quality)))
    striped = (shown == HATCH).all(axis=2)
    assert striped[40:80, 40:120].mean() == pytest.approx(0.5, abs=0.02)
    assert ((shown == 200).all(axis=2) | striped)[40:80, 40:120].all()
    assert not striped[80:].any() and (shown[84:112, 48:112] != 200).any(axis=2).all()


def test_the_key_names_what_cannot_be_judged(tmp_path, picture):
    quality = np.zeros((60, 40), np.uint8)
    for name in ("without.png", "with.png"):
        write_heatmap(tmp_path / name, picture, 8.0, find_lesions(made_map(blob(60, 40), quality=quality)))
        quality = quality.copy()
        quality[:30] = Quality.FOLD
    without, with_stripes = (
        np.asarray(Image.open(tmp_path / name).convert("L")) for name in ("without.png", "with.png")
    )
    assert (without[400:500, -KEY_WIDTH:] != with_stripes[400:500, -KEY_WIDTH:]).sum() > 200


def test_the_legend_stands_beside_the_slide(tmp_path, lesions):
    picture = np.full((960, 640, 3), 200, np.uint8)
    write_heatmap(tmp_path / "heatmap.png", picture, 2.0, lesions)
    with Image.open(tmp_path / "heatmap.png") as image:
        assert image.size == (round(SIDE * 640 / 960) + KEY_WIDTH, SIDE)


def test_the_scale_bar_is_as_long_as_it_says(tmp_path, lesions, picture):
    """The slide is 160 pixels of 8 x 0.972 um wide; a sixth of that rounds down to 200 um."""
    write_heatmap(tmp_path / "heatmap.png", picture, 8.0, lesions)
    with Image.open(tmp_path / "heatmap.png") as image:
        row = np.asarray(image.convert("L"))[round(240 * LARGEST_ZOOM) - 27]
    long = np.count_nonzero(row[: round(160 * LARGEST_ZOOM)] < 60)
    assert long == pytest.approx(200 / (8 * 0.972) * LARGEST_ZOOM, abs=3)


def test_annotations_are_drawn_over_it(tmp_path, lesions, picture):
    truth = read_annotations(asap(tmp_path / "a.xml", square(100, 100, 500)))
    for name, annotations in (("without.png", None), ("with.png", truth)):
        write_heatmap(tmp_path / name, picture, 8.0, lesions, annotations)
    without, with_truth = (
        np.asarray(Image.open(tmp_path / name).convert("RGB"), int) for name in ("without.png", "with.png")
    )
    changed = (without != with_truth).any(axis=2)
    start, side = round(100 / 8 * LARGEST_ZOOM), round(500 / 8 * LARGEST_ZOOM)
    assert changed[start - 3 : start + 4, start : start + side].any(axis=0).mean() > 0.9


def test_a_slide_without_tissue_and_one_of_one_window_have_pictures_too(tmp_path):
    for i, probability in enumerate((np.full((4, 9), np.nan), [[0.9]])):
        lesions = find_lesions(made_map(probability))
        picture = np.full((np.shape(probability)[0] * 4, np.shape(probability)[1] * 4, 3), 240, np.uint8)
        write_heatmap(tmp_path / f"{i}.png", picture, 8.0, lesions)
        write_small(tmp_path / f"{i}.small.png", picture, 8.0, lesions)
        assert (tmp_path / f"{i}.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["a$^$b.svs", "スライド👩‍🔬.tif", "x" * 250 + ".svs", "検" * 80, "[red]\\frac{1}.tif"])
def test_any_name_is_drawn_beside_the_slide_without_a_warning(tmp_path, picture, name):
    lesions = find_lesions(made_map(blob(60, 40, (10, 10, 30, 30)), name=name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_heatmap(tmp_path / "a.png", picture, 8.0, lesions)


def test_the_same_map_gives_the_same_bytes(tmp_path, lesions, picture):
    for name in ("a.png", "b.png"):
        write_heatmap(tmp_path / name, picture, 8.0, lesions)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
