"""The share of the evidence inside the centre square: even, all inside, all outside, and by occlusion."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sentinode.evaluation.evidence import by_class, occlusion, share_in_label
from sentinode.geometry import PCAM, PatchGeometry


@pytest.mark.parametrize("cells", [1, 3, 6, 8, 12])
def test_evidence_that_is_spread_evenly_has_the_share_of_the_area(cells: int) -> None:
    assert share_in_label(np.ones((2, cells, cells)), PCAM) == pytest.approx(1 / 9)
    assert share_in_label(np.ones((1, cells, cells)), PatchGeometry(224, 0.5, 224)) == pytest.approx(1)


def test_evidence_against_the_class_is_left_out_and_none_at_all_has_no_share() -> None:
    maps = np.zeros((3, 3, 3))
    maps[0, 1, 1], maps[0, 0, 0] = 2, -5
    maps[1, 0, 2] = 1
    maps[2] = -1
    assert share_in_label(maps, PCAM)[:2].tolist() == [1, 0]
    assert np.isnan(share_in_label(maps, PCAM)[2])


def test_a_cell_on_the_border_counts_by_the_part_inside() -> None:
    maps = np.zeros((1, 8, 8))
    maps[0, 2, 3] = 1  # pixels 24 to 36 of rows, of which 32 to 36 lie inside
    assert share_in_label(maps, PCAM) == pytest.approx(4 / 12)


def test_occlusion_finds_where_the_margin_comes_from() -> None:
    def margins(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return images[:, 32:64, 32:64, 0].mean((1, 2)).astype(np.float32)

    images = np.zeros((2, 96, 96, 3), np.uint8)
    images[:, 36:60, 36:60] = 200
    falls = occlusion(margins, images)
    assert falls.shape == (2, 6, 6)
    assert share_in_label(falls, PCAM) == pytest.approx(1)
    assert images.max() == 200  # what was given is not changed


def test_shares_are_averaged_by_class_and_by_right_or_wrong() -> None:
    shares = np.array([0.2, 0.4, 0.9, 0.1, np.nan])
    labels, called = np.array([1, 1, 1, 0, 0], np.uint8), np.array([True, True, False, True, False])
    groups = by_class(shares, labels, called, ("normal", "tumour"))
    assert [(group.name, group.right, group.n) for group in groups] == [
        ("tumour", True, 2),
        ("tumour", False, 1),
        ("normal", True, 0),
        ("normal", False, 1),
    ]
    assert groups[0].share.value == pytest.approx(0.3) and groups[0].share.low < 0.3 < groups[0].share.high
    assert np.isnan(groups[1].share.low) and np.isnan(groups[2].share.value)


def test_slides_make_the_interval_where_they_are_known() -> None:
    rng = np.random.default_rng(0)
    slides = np.repeat([f"s{at}" for at in range(6)], 20)
    shares = np.clip(0.3 + np.repeat(rng.normal(0, 0.1, 6), 20) + rng.normal(0, 0.01, 120), 0, 1)
    labels, called = np.ones(120, np.uint8), np.ones(120, bool)
    by_slide, by_patch = (by_class(shares, labels, called, ("a", "b"), known)[0].share for known in (slides, None))
    assert by_slide.high - by_slide.low > 3 * (by_patch.high - by_patch.low)
