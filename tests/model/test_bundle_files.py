"""A file of a bundle is opened only if it is a regular one, and its size is known before it is read."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_bundles import FILES, SPLITS, odd_bundle

from sentinode.errors import BundleError
from sentinode.model import bundle_files
from sentinode.model.bundle import load
from sentinode.model.bundle_files import (
    ASSIGNMENT,
    CARD,
    CHECKSUMS,
    WEIGHTS,
    checksums,
    is_bundle,
    optional,
    pack_assignment,
    read,
    read_assignment,
    regular,
    shapes,
    verify,
)

linux = pytest.mark.skipif(sys.platform == "win32", reason="pipes and links as on Unix")


@pytest.mark.parametrize("name", FILES)
@linux
def test_an_odd_file_is_refused(name: str, tmp_path: Path) -> None:
    change, says = FILES[name]
    odd = odd_bundle(tmp_path, change)
    assert is_bundle(odd)
    with pytest.raises(BundleError, match=says) as caught:
        load(odd)
    assert caught.value.where == odd and "\n" not in caught.value.what


@pytest.mark.parametrize("name", SPLITS)
def test_an_odd_split_file_is_refused(name: str, tmp_path: Path) -> None:
    change, says = SPLITS[name]
    odd = load(odd_bundle(tmp_path, change))
    with pytest.raises(BundleError, match=says):
        odd.assignment()


@linux
def test_a_bundle_of_links_opens(tmp_path: Path) -> None:
    """Such as from a cache that keeps each file once."""
    from sentinode.model.bundle import PACKAGED

    for file in PACKAGED.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert load(tmp_path).fingerprint == load().fingerprint


@linux
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / CARD).symlink_to("nowhere")
    assert is_bundle(tmp_path)
    with pytest.raises(BundleError, match=r"card\.json is a link that leads nowhere"):
        regular(tmp_path, CARD)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in (CARD, WEIGHTS):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(Path, "open", refused)
    for reading in (read, lambda folder, name, _: shapes(folder)):
        with pytest.raises(BundleError, match=r"cannot be read"):
            reading(tmp_path, CARD, 10)
    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(BundleError, match=r"cannot be read \(Permission denied\)"):
        regular(tmp_path, CARD)


def test_no_more_is_read_than_asked_for(tmp_path: Path) -> None:
    (tmp_path / CARD).write_bytes(b"x" * 100)
    assert read(tmp_path, CARD, 10) == b"x" * 11


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "a\\b", "c:x", "..", ".", "", "a\x07b"])
def test_a_sum_of_a_file_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / CHECKSUMS).write_text(f"{'0' * 64}  {name}\n", "utf-8")
    with pytest.raises(BundleError, match="SHA256SUMS"):
        checksums(tmp_path)


def test_files_larger_than_any_network_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = odd_bundle(tmp_path, lambda _: None)
    verify(odd)
    monkeypatch.setattr(bundle_files, "MOST_BYTES", 1000)
    monkeypatch.setattr(bundle_files, "sha256", None)
    with pytest.raises(BundleError, match="GiB"):
        verify(odd)


def test_a_file_without_a_checksum_is_not_used(tmp_path: Path) -> None:
    odd = odd_bundle(tmp_path, lambda _: None)
    assert optional(odd, "more") is None
    (odd / "more").write_bytes(b"x")
    with pytest.raises(BundleError, match="more is not among its SHA256SUMS"):
        optional(odd, "more")


def test_the_shapes_come_from_the_header(tmp_path: Path) -> None:
    found = shapes(odd_bundle(tmp_path, lambda _: None))
    assert found["head.2.weight"] == (2, 224)


@given(st.dictionaries(st.text(st.characters(exclude_categories=[])), st.sampled_from(["train", "valid", "test"])))
def test_a_split_file_gives_what_was_put_in(assignment: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle_files, "optional", lambda folder, name: folder)
        patch.setattr(gzip, "open", lambda content: gzip.GzipFile(fileobj=content))
        import io

        assert read_assignment(io.BytesIO(pack_assignment(assignment))) == assignment  # type: ignore[arg-type]


def test_a_split_file_keeps_names_that_are_no_text(tmp_path: Path) -> None:
    assignment = {os.fsdecode(b"\xff.png"): "train", 'a"b,\nc': "test"}
    (tmp_path / ASSIGNMENT).write_bytes(pack_assignment(assignment))
    (tmp_path / CHECKSUMS).write_text(f"{'0' * 64}  {ASSIGNMENT}\n", "utf-8")
    assert read_assignment(tmp_path) == assignment


def test_copies_of_a_bundle_have_no_split_file_where_it_had_none(tmp_path: Path) -> None:
    assert load(shutil.copytree(odd_bundle(tmp_path, lambda _: None), tmp_path / "b")).assignment() is None
