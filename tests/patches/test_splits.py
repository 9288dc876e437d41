from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinode.errors import DataError
from sentinode.patches.splits import deal


@settings(deadline=None)
@given(st.integers(30, 400), st.floats(0.1, 0.9), st.integers(0, 5))
def test_without_slides_each_class_is_dealt_80_10_10(count, share, seed):
    labels = (np.random.default_rng(seed).random(count) < share).astype(np.uint8)
    ids = np.array([f"p{i}" for i in range(count)])
    dealt = deal(ids, labels, seed=seed)
    for label in (0, 1):
        of_class = dealt[labels == label]
        if len(of_class) >= 3:
            held_out = max(1, round(0.1 * len(of_class)))
            assert (of_class == "valid").sum() == (of_class == "test").sum() == held_out
    assert set(dealt) <= {"train", "valid", "test"}


@settings(deadline=None)
@given(st.integers(0, 2**31), st.permutations(range(40)))
def test_the_order_of_the_files_does_not_matter(seed, order):
    ids = np.array([f"p{i:02d}" for i in range(40)])
    labels = (np.arange(40) % 3 == 0).astype(np.uint8)
    slides = np.array([f"s{i % 7}" for i in range(40)])
    for given_slides in (None, slides):
        dealt = deal(ids, labels, given_slides, seed)
        shuffled = deal(ids[order], labels[order], None if given_slides is None else slides[order], seed)
        assert (dealt[order] == shuffled).all()


def test_another_seed_deals_another_way():
    ids, labels = np.array([f"p{i}" for i in range(100)]), np.arange(100).astype(np.uint8) % 2
    assert (deal(ids, labels, seed=0) == deal(ids, labels, seed=0)).all()
    assert (deal(ids, labels, seed=0) != deal(ids, labels, seed=1)).any()


@settings(deadline=None)
@given(st.integers(3, 40), st.integers(0, 1000))
def test_no_slide_lies_on_both_sides(many, seed):
    rng = np.random.default_rng(seed)
    slides = np.concatenate([[f"s{i}"] * rng.integers(1, 30) for i in range(many)])
    ids = np.array([f"p{i}" for i in range(len(slides))])
    dealt = deal(ids, rng.integers(0, 2, len(slides)).astype(np.uint8), slides, seed)
    assert all(len(set(dealt[slides == slide])) == 1 for slide in set(slides))
    assert set(dealt) == {"train", "valid", "test"}


def test_with_many_slides_the_shares_and_the_classes_come_out_right():
    rng = np.random.default_rng(0)
    slides = np.repeat([f"s{i}" for i in range(120)], 25)
    of_slide = np.repeat(rng.random(120), 25)  # slides differ in how much tumour they hold
    labels = (rng.random(3000) < of_slide).astype(np.uint8)
    dealt = deal(np.array([f"p{i}" for i in range(3000)]), labels, slides)
    for split, share in (("train", 0.8), ("valid", 0.1), ("test", 0.1)):
        assert (dealt == split).mean() == pytest.approx(share, abs=0.03)
        assert labels[dealt == split].mean() == pytest.approx(labels.mean(), abs=0.05)


def test_patches_of_unknown_slide_go_to_train():
    slides = np.array(["", "a", "b", "c", "d", ""])
    dealt = deal(np.array(list("uvwxyz")), np.array([0, 1, 0, 1, 0, 1], np.uint8), slides)
    assert dealt[[0, 5]].tolist() == ["train", "train"]


def test_two_slides_are_too_few():
    with pytest.raises(DataError, match="2 slides cannot be divided"):
        deal(np.array(["a", "b"]), np.zeros(2, np.uint8), np.array(["x", "y"]))
