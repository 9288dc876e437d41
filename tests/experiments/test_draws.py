"""Draws of patches: seeded, balanced, and a smaller one is part of a larger one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sentinode.experiments.draws import draw_patches


@given(st.integers(2, 20), st.integers(0, 20), st.integers(0, 1000))
def test_a_smaller_draw_is_part_of_a_larger_one(each: int, more: int, seed: int) -> None:
    labels = (np.arange(100) % 3 == 0).astype(np.uint8)
    small, large = draw_patches(labels, each, seed), draw_patches(labels, each + more, seed)
    assert set(small.tolist()) <= set(large.tolist())
    assert np.bincount(labels[small]).tolist() == [each, each]
    assert (np.diff(small) > 0).all()
