"""An error says what was wrong, where, and what to do next."""

from __future__ import annotations

import errno
import pickle

import pytest

from sentinode.errors import DataError, RecipeError, SentinodeError, from_system, nearest


def test_a_message_says_what_where_and_what_next() -> None:
    error = DataError("holds no patches.", where="train.h5", hint="Give another file.")
    assert str(error) == "train.h5: holds no patches.\nGive another file."


def test_a_message_without_place_or_hint_is_the_sentence_alone() -> None:
    assert str(SentinodeError("something was refused.")) == "something was refused."


def test_an_error_keeps_its_parts_on_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(RecipeError("is wrong.", where="lr", hint="Lower it.")))
    assert (type(error), error.what, error.where, error.hint) == (RecipeError, "is wrong.", "lr", "Lower it.")


@pytest.mark.parametrize(("typed", "meant"), [("resnet5", "resnet50"), ("acuracy", "accuracy"), ("zzz", None)])
def test_the_nearest_known_word_is_found(typed: str, meant: str | None) -> None:
    assert nearest(typed, ["resnet50", "accuracy", "half"]) == meant


def test_what_the_system_refuses_is_no_bug_of_ours_and_the_rest_may_be() -> None:
    refused = from_system(PermissionError(errno.EACCES, "Permission denied", "a.csv"))
    assert refused is not None and str(refused).startswith("a.csv: the system refused it (Permission denied).")
    assert from_system(FileNotFoundError(errno.ENOENT, "No such file", "a")) is None
    assert from_system(OSError("odd")) is None
