"""Draws of patches and of slides: seeded, and a smaller one is part of a larger one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinode.errors import DataError
from sentinode.experiments.draws import draw_patches, draw_share, draw_slides

SLIDES = np.repeat(["a", "b", "c", "d", "e", "f", ""], [3, 7, 5, 9, 2, 4, 6])
MIXED = (np.arange(len(SLIDES)) % 2).astype(np.uint8)


@given(st.integers(2, 20), st.integers(0, 20), st.integers(0, 1000))
def test_a_smaller_draw_is_part_of_a_larger_one(each: int, more: int, seed: int) -> None:
    labels = (np.arange(100) % 3 == 0).astype(np.uint8)
    small, large = draw_patches(labels, each, seed), draw_patches(labels, each + more, seed)
    assert set(small.tolist()) <= set(large.tolist())
    assert np.bincount(labels[small]).tolist() == [each, each]
    assert (np.diff(small) > 0).all()


@given(st.integers(2, 60), st.integers(0, 60), st.integers(1, 119), st.integers(0, 1000))
def test_a_share_keeps_the_classes_in_their_shares(total: int, more: int, positive: int, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.arange(120) < positive).astype(np.uint8)
    small, large = draw_share(labels, total, seed), draw_share(labels, total + more, seed)
    assert set(small.tolist()) <= set(large.tolist())
    assert len(small) == total and (np.diff(small) > 0).all()
    assert abs(labels[small].sum() - total * positive / 120) <= 1
    assert len(np.unique(labels[small])) == 2


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 1000))
def test_slides_are_never_split_and_a_smaller_draw_is_part_of_a_larger_one(counts: list[int], seed: int) -> None:
    draws = draw_slides(SLIDES, MIXED, counts, seed)
    for count, rows in zip(counts, draws, strict=True):
        names = set(SLIDES[rows].tolist())
        assert len(names) == count and "" not in names
        assert rows.tolist() == np.flatnonzero(np.isin(SLIDES, list(names))).tolist()
    ordered = [set(rows.tolist()) for _, rows in sorted(zip(counts, draws, strict=True), key=lambda one: one[0])]
    assert all(small <= large for small, large in pairwise(ordered))
    assert [rows.tolist() for rows in draw_slides(SLIDES, MIXED, counts, seed)] == [rows.tolist() for rows in draws]


@given(st.integers(0, 1000))
def test_the_fewest_slides_have_both_classes_where_that_can_be(seed: int) -> None:
    pure = np.isin(SLIDES, ["a", "b"]).astype(np.uint8)
    (two,) = draw_slides(SLIDES, pure, [2], seed)
    assert len(np.unique(pure[two])) == 2


def test_slides_of_one_class_each_cannot_begin_with_one() -> None:
    pure = np.isin(SLIDES, ["a", "b"]).astype(np.uint8)
    with pytest.raises(DataError, match="no 1 of the 6 slides were found that have patches of both classes"):
        draw_slides(SLIDES, pure, [1, 4], 0)
