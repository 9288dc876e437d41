"""The geometry of patches: what it may be, and what it means at every size."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinode.errors import DataError
from sentinode.geometry import AGREES, LARGEST, PCAM, SMALLEST, PatchGeometry, agree, difference

sizes = st.integers(SMALLEST, LARGEST)
resolutions = st.none() | st.floats(0.05, 50)


@st.composite
def geometries(draw: st.DrawFn) -> PatchGeometry:
    size = draw(sizes)
    return PatchGeometry(size, draw(resolutions), draw(st.integers(1, size)))


def test_patchcamelyon_has_the_centre_32_of_96_pixels_of_0_972_um() -> None:
    assert PatchGeometry(96, 0.972, 32) == PCAM
    assert (PCAM.whole, PCAM.max_shift, PCAM.margin, PCAM.stride) == (False, 16, 32, 32)
    assert (PCAM.shape, PCAM.patch_bytes) == ((96, 96, 3), 27_648)
    assert str(PCAM) == "96 x 96 pixels, 0.972 um per pixel, label of the centre 32 x 32"


def test_a_label_of_the_whole_patch_allows_more() -> None:
    whole = PatchGeometry(224, None, 224)
    assert (whole.whole, whole.max_shift, whole.margin, whole.stride) == (True, 112, 0, 112)
    assert str(whole) == "224 x 224 pixels, unknown microns per pixel, label of the whole patch"


@given(geometries())
def test_the_region_lies_in_the_middle_and_shifts_stay_within_it(geometry: PatchGeometry) -> None:
    assert 2 * geometry.margin + geometry.label_region == geometry.size
    assert geometry.whole == (geometry.margin == 0)
    assert 0 <= 2 * geometry.max_shift <= geometry.label_region
    assert 1 <= geometry.stride <= geometry.size
    assert geometry.patch_bytes == math.prod(geometry.shape)


@given(geometries())
def test_nothing_differs_from_itself(geometry: PatchGeometry) -> None:
    assert difference(geometry, geometry) is None


@pytest.mark.parametrize(
    ("size", "mpp", "region", "says"),
    [
        (0, 0.5, 1, "0 x 0 pixels"),
        (-96, 0.5, 32, "-96 x -96 pixels"),
        (SMALLEST - 1, 0.5, 8, "16 to 4096"),
        (LARGEST + 1, 0.5, 8, "16 to 4096"),
        (96, 0.5, 97, "cannot cover the centre 97 x 97 of a patch of 96 x 96"),
        (96, 0.5, 0, "cannot cover"),
        (96, 0.5, -32, "cannot cover"),
        (96, 0.0, 32, "0 microns per pixel is outside the range"),
        (96, -0.5, 32, "-0.5 microns"),
        (96, 0.0005, 32, "0.05 to 50"),
        (96, 250.0, 32, "0.05 to 50"),
        (96, math.nan, 32, "nan microns"),
        (96, math.inf, 32, "inf microns"),
    ],
)
def test_what_no_patch_can_be_is_refused(size: int, mpp: float, region: int, says: str) -> None:
    with pytest.raises(DataError, match=says):
        PatchGeometry(size, mpp, region)


@given(resolutions.filter(bool))
def test_resolutions_agree_up_to_what_scanners_differ(mpp: float) -> None:
    assert agree(mpp, mpp * (1 + AGREES / 2))
    assert not agree(mpp, mpp * (1 + 2 * AGREES))


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        (PatchGeometry(224, 0.972, 32), "are 224 x 224 pixels, not 96 x 96"),
        (PatchGeometry(96, 0.5, 32), "have 0.5 microns per pixel, not 0.972"),
        (PatchGeometry(96, 0.972, 96), "have labels of the centre 96 x 96, not 32 x 32"),
        (PatchGeometry(96, None, 32), None),
        (PatchGeometry(96, 0.97, 32), None),
    ],
)
def test_what_differs_is_named(given_: PatchGeometry, says: str | None) -> None:
    assert difference(PCAM, given_) == says
