"""The truth as an image file: what the raster says, tile by tile."""

import numpy as np
import pytest
import tifffile
from made_maps import asap, square

from sentinode.errors import OutputError
from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.reading.mask_file import write_mask


@pytest.fixture
def regions(tmp_path):
    return read_annotations(asap(tmp_path / "a.xml", square(700, 900, 1500.5), square(2500, 20, 300)))


@pytest.mark.parametrize("downsample", [1.0, 2.5, 8.0])
def test_the_file_holds_the_mask_and_its_resolution(tmp_path, regions, downsample):
    write_mask(tmp_path / "mask.tif", regions, 3000, 2600, 0.5, downsample)
    with tifffile.TiffFile(tmp_path / "mask.tif") as tif:
        np.testing.assert_array_equal(tif.asarray(), regions.mask(3000, 2600, downsample))
        across, of = tif.pages[0].tags["XResolution"].value
    assert across / of == pytest.approx(1e4 / (0.5 * downsample))


def test_a_place_that_cannot_be_written_is_refused(tmp_path, regions):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_mask(tmp_path / "file" / "mask.tif", regions, 3000, 2600, 0.5)
