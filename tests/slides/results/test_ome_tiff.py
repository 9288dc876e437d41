"""The map as an OME-TIFF that lies over its slide."""

from xml.etree import ElementTree

import numpy as np
import openslide
import pytest
import tifffile
from made_maps import MPP, made_map

from sentinode.slides.results.ome_tiff import write_ome_tiff

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


@pytest.fixture
def probability_map():
    probability = np.random.default_rng(0).random((300, 530), np.float32)
    probability[:40] = np.nan
    return made_map(probability)


def test_it_holds_the_map_and_where_it_lies(tmp_path, probability_map):
    write_ome_tiff(tmp_path / "map.ome.tif", probability_map)
    with tifffile.TiffFile(tmp_path / "map.ome.tif") as tif:
        np.testing.assert_array_equal(tif.series[0].asarray(), probability_map.probability)
        pixels = ElementTree.fromstring(tif.ome_metadata).find(f".//{OME}Pixels")
    assert float(pixels.get("PhysicalSizeX")) == float(pixels.get("PhysicalSizeY")) == pytest.approx(32 * MPP)
    assert pixels.get("PhysicalSizeXUnit") == "µm"
    plane = pixels.find(f"{OME}Plane")
    position = float(plane.get("PositionX")), float(plane.get("PositionY"))
    assert position == pytest.approx((15.5 * MPP, 15.5 * MPP))


def test_a_viewer_that_counts_from_the_centres_of_pixels_lays_it_over_the_slide(tmp_path):
    """As napari does: a layer's first pixel is centred on its translation, and the slide's on nought."""
    probability_map = made_map(np.random.default_rng(0).random((30, 50), np.float32), stride=66.1, mpp=0.48)
    write_ome_tiff(tmp_path / "map.ome.tif", probability_map)
    with tifffile.TiffFile(tmp_path / "map.ome.tif") as tif:
        pixels = ElementTree.fromstring(tif.ome_metadata).find(f".//{OME}Pixels")
    plane = pixels.find(f"{OME}Plane")
    for axis, side, windows in (("X", probability_map.slide.width, 50), ("Y", probability_map.slide.height, 30)):
        size, translation = float(pixels.get(f"PhysicalSize{axis}")), float(plane.get(f"Position{axis}"))
        assert plane.get(f"Position{axis}Unit") == "µm"
        corner_of_slide, end_of_slide = -0.5 * 0.48, (side - 0.5) * 0.48
        assert translation - size / 2 == pytest.approx(corner_of_slide)
        assert translation + (windows - 0.5) * size == pytest.approx(end_of_slide, abs=0.5)


def test_each_level_is_the_mean_of_the_finer_one(tmp_path, probability_map):
    write_ome_tiff(tmp_path / "map.ome.tif", probability_map)
    with tifffile.TiffFile(tmp_path / "map.ome.tif") as tif:
        levels = [level.asarray() for level in tif.series[0].levels]
    assert [level.shape for level in levels] == [(300, 530), (150, 265), (75, 133)]
    assert np.isnan(levels[1][:20]).all()
    assert levels[1][20, 0] == pytest.approx(probability_map.probability[40:42, 0:2].mean())
    assert levels[2][-1, -1] == pytest.approx(np.nanmean(probability_map.probability[296:, 528:]), rel=1e-6)


def test_the_same_map_gives_the_same_bytes(tmp_path, probability_map):
    for name in ("a.tif", "b.tif"):
        write_ome_tiff(tmp_path / name, probability_map)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_it_does_not_pass_for_a_slide(tmp_path, probability_map):
    """Float pixels are no colours: a scanner of folders that meets the map must not take it for tissue."""
    write_ome_tiff(tmp_path / "map.ome.tif", probability_map)
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(tmp_path / "map.ome.tif").read_region((0, 0), 0, (8, 8))
