"""The cache of compiled networks: what is damaged, half-written or one too many."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sentinode.model.engines import compile_cache


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and bytes that are a network by themselves."""
    monkeypatch.setenv("SENTINODE_CACHE", str(tmp_path))
    monkeypatch.setattr(compile_cache, "_imported", lambda data, settings: data)
    return tmp_path / "openvino"


def test_what_was_kept_comes_back_under_its_key_alone() -> None:
    compile_cache.keep("a", b"network", b"about")
    assert compile_cache.load("a", {}) == compile_cache.Entry(b"network", b"about")
    assert compile_cache.load("b", {}) is None


@pytest.mark.parametrize("data", [b"", b"short", b"0" * 100])
def test_a_damaged_entry_counts_as_none(cache: Path, data: bytes) -> None:
    compile_cache.keep("a", b"network", b"about")
    (cache / "a.compiled").write_bytes(data)
    assert compile_cache.load("a", {}) is None
    compile_cache.keep("a", b"network")
    assert compile_cache.load("a", {}) == compile_cache.Entry(b"network", b"")


def test_a_change_of_any_byte_counts_as_damage(cache: Path) -> None:
    compile_cache.keep("a", b"network", b"about")
    whole = (cache / "a.compiled").read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        (cache / "a.compiled").write_bytes(changed)
        assert compile_cache.load("a", {}) is None


def test_the_entry_that_was_not_used_for_the_longest_time_goes_first(cache: Path) -> None:
    for number in range(compile_cache.KEPT):
        compile_cache.keep(f"{number}", b"network")
        os.utime(cache / f"{number}.compiled", (number, number))
    assert compile_cache.load("0", {}) is not None
    compile_cache.keep("new", b"network")
    assert not (cache / "1.compiled").exists()
    assert len(list(cache.iterdir())) == compile_cache.KEPT


def test_what_a_killed_process_left_goes_after_an_hour(cache: Path) -> None:
    compile_cache.keep("a", b"network")
    old, new = cache / ".x.1.part.compiled", cache / ".y.2.part.compiled"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * compile_cache.LEFT_S,) * 2)
    compile_cache.keep("b", b"network")
    assert not old.exists() and new.exists()


def test_a_folder_that_cannot_be_written_is_left_alone(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    compile_cache.keep("a", b"network")
    assert compile_cache.load("a", {}) is None
