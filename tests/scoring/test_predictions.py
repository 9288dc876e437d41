"""The one form of predictions, and several sets of them as sets of the same patches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinode.errors import DataError
from sentinode.scoring.predictions import Predictions, align, clusters


def of(ids: str, labels: str = "", name: str = "a", **more: Any) -> Predictions:
    """Predictions with one letter for each id."""
    n = len(ids)
    label = np.array([int(one) for one in labels] or [row % 2 for row in range(n)], np.uint8)
    return Predictions(name, np.array(list(ids), dtype=str), label, np.linspace(0.1, 0.9, n), **more)


class TestPredictions:
    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"ids": np.array([], str)}, "no predictions"),
            ({"ids": np.array(["a", "a"])}, "1 ids occur more than once, such as a"),
            ({"labels": np.array([0, 2], np.uint8)}, "labels must be 0 or 1"),
            ({"labels": np.array([0], np.uint8)}, "several lengths"),
            ({"probabilities": np.array([0.5, np.nan])}, "not numbers from 0 to 1"),
            ({"probabilities": np.array([0.5, 1.1])}, "not numbers from 0 to 1"),
            ({"slides": np.array(["s"])}, "several lengths"),
        ],
    )
    def test_what_cannot_be_scored_is_refused(self, changed: dict[str, Any], told: str) -> None:
        parts = {
            "ids": np.array(["a", "b"]),
            "labels": np.array([0, 1], np.uint8),
            "probabilities": np.array([0.2, 0.8]),
        }
        with pytest.raises(DataError, match=told):
            Predictions("a", **{**parts, **changed})


class TestClusters:
    def test_patches_of_a_slide_are_one_and_a_patch_without_a_slide_is_its_own(self) -> None:
        found = clusters(np.array(["s", "", "t", "s", ""]))
        assert found is not None
        assert found.tolist() == [0, 1, 2, 0, 3]

    def test_copies_on_two_slides_join_the_slides(self) -> None:
        found = clusters(np.array(["s", "s", "t", "u"]), np.array(["", "x", "x", ""]))
        assert found is not None
        assert found.tolist() == [0, 0, 0, 1]

    def test_nothing_known_is_none(self) -> None:
        assert clusters(None, np.array(["", ""])) is None

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), min_size=1), st.randoms())
    @settings(max_examples=30, deadline=None)
    def test_the_order_does_not_matter(self, rows: list[tuple[str, str]], random: Any) -> None:
        slides, copies = (np.array(column) for column in zip(*rows, strict=True))
        order = np.array(random.sample(range(len(rows)), len(rows)))
        one, other = clusters(slides, copies), clusters(slides[order], copies[order])
        assert one is not None and other is not None
        assert ((one[order][:, None] == one[order]) == (other[:, None] == other)).all()


class TestAlign:
    def test_the_patches_come_in_the_order_of_the_first(self) -> None:
        first, second = align([of("abcd", "0101"), of("dbca", "1100", name="b")])
        assert second.ids.tolist() == list("abcd")
        assert second.probabilities.tolist() == pytest.approx([0.9, 0.3667, 0.6333, 0.1], abs=1e-3)
        assert first.labels.tolist() == second.labels.tolist() == [0, 1, 0, 1]

    def test_other_patches_are_refused_and_what_is_shared_is_named(self) -> None:
        with pytest.raises(DataError) as refused:
            align([of("abcd"), of("abce", name="b")])
        assert "3 are shared by all: a has 4, 1 of them not shared (such as d); b has 4" in str(refused.value)
        assert "--shared-only" in str(refused.value)

    def test_on_request_the_shared_patches_alone_are_taken(self) -> None:
        first, second = align([of("abcd"), of("cba", "010", name="b")], shared_only=True)
        assert first.ids.tolist() == second.ids.tolist() == ["a", "b", "c"]

    def test_nothing_shared_is_refused_also_on_request(self) -> None:
        with pytest.raises(DataError, match="0 are shared"):
            align([of("ab"), of("cd", name="b")], shared_only=True)

    def test_other_labels_are_refused(self) -> None:
        with pytest.raises(DataError, match="different labels for 1 of 2 patches, such as b"):
            align([of("ab", "01"), of("ab", "00", name="b")])

    def test_slides_that_one_set_knows_are_known_for_all(self) -> None:
        first, second = align([of("ab"), of("ba", "10", name="b", slides=np.array(["t", "s"]))])
        assert first.slides is not None and second.slides is not None
        assert first.slides.tolist() == second.slides.tolist() == ["s", "t"]

    def test_other_slides_are_refused(self) -> None:
        with pytest.raises(DataError, match="different slides for 1 of 2 patches, such as b"):
            align([of("ab", slides=np.array(["s", "s"])), of("ab", name="b", slides=np.array(["s", "t"]))])

    def test_other_copies_are_refused_and_other_names_of_the_same_are_not(self) -> None:
        one = of("abc", copies=np.array(["x", "x", "y"]))
        align([one, of("abc", name="b", copies=np.array(["1", "1", "2"]))])
        with pytest.raises(DataError, match="different groups of copies"):
            align([one, of("abc", name="b", copies=np.array(["1", "2", "2"]))])

    def test_other_classes_are_refused(self) -> None:
        with pytest.raises(DataError, match="different classes"):
            align([of("ab", class_names=("n", "m")), of("ab", name="b", class_names=("x", "y"))])
