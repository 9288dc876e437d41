"""Patches of any size: what is read from them, what is taken for granted and said, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sentinode.errors import DataError
from sentinode.geometry import PCAM, PatchGeometry
from sentinode.patches import Expected, open_data
from sentinode.patches.audit import audit
from sentinode.patches.official import EXTRACTED, STEM
from sentinode.patches.table import read_table


def noise(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(count, size, size, 3), dtype=np.uint8)


def folders(root: Path, size: int, *names: str, count: int = 6) -> Path:
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for row, image in enumerate(noise(count, size, number)):
            Image.fromarray(image).save(root / name / f"{row}.png")
    return root


def official(root: Path, size: int, *, split: str = "train", count: int = 6, **storage: object) -> np.ndarray:
    root.mkdir(exist_ok=True)
    images = noise(count, size)
    with h5py.File(root / f"{STEM}{split}_x.h5", "w") as file:
        file.create_dataset("x", data=images, **storage)
    with h5py.File(root / f"{STEM}{split}_y.h5", "w") as file:
        file["y"] = (np.arange(count) % 2).astype(np.uint8).reshape(-1, 1, 1, 1)
    return images


@settings(max_examples=12, deadline=None)
@given(size=st.integers(16, 300), packed=st.booleans())
def test_hdf5_of_any_square_size_is_read_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, size: int, packed: bool
) -> None:
    root = tmp_path_factory.mktemp("data")
    images = official(root, size, **({"compression": "gzip"} if packed else {}))
    data = open_data(root, cache=root / "cache", show=False)
    assert data.geometry == (PCAM if size == 96 else PatchGeometry(size, None, size))
    np.testing.assert_array_equal(data["train"].images[:], images)


@pytest.mark.parametrize("storage", [{}, {"compression": "gzip"}])
def test_a_gzipped_file_says_its_size_before_it_is_unpacked(tmp_path: Path, storage: dict[str, str]) -> None:
    import gzip

    images = official(tmp_path, 64, **storage)
    unpacked = tmp_path / f"{STEM}train_x.h5"
    unpacked.with_name(f"{unpacked.name}.gz").write_bytes(gzip.compress(unpacked.read_bytes()))
    unpacked.unlink()
    data = open_data(tmp_path, cache=tmp_path / "cache", show=False)
    assert data.geometry.size == 64
    np.testing.assert_array_equal(data["train"].images[:], images)


@pytest.mark.parametrize("size", [64, 100, 224])
def test_images_of_any_square_size_are_read_as_they_are(tmp_path: Path, size: int) -> None:
    data = open_data(folders(tmp_path / "data", size, "normal", "tumour"), cache=tmp_path, whole=True, show=False)
    patches = data["all"]
    assert (patches.geometry, patches.images.shape) == (PatchGeometry(size, None, size), (12, size, size, 3))
    assert data.geometry == patches.subset([0, 3]).geometry
    assert any("microns per pixel are unknown" in warning and "whole patch" in warning for warning in data.warnings)


def test_images_of_96_pixels_are_taken_for_patchcamelyons_and_it_is_said(tmp_path: Path) -> None:
    root = folders(tmp_path / "data", 96, "normal", "tumour")
    data = open_data(root, cache=tmp_path, whole=True, show=False)
    assert data.geometry == PCAM
    assert any("assumed to be patches like PatchCamelyon's" in warning for warning in data.warnings)
    stated = open_data(root, cache=tmp_path, whole=True, mpp=0.5, label_region=96, show=False)
    assert stated.geometry == PatchGeometry(96, 0.5, 96)
    assert not any("taken" in warning for warning in stated.warnings)


def test_of_96_pixels_at_another_resolution_the_label_is_of_the_whole_patch(tmp_path: Path) -> None:
    root = folders(tmp_path / "data", 96, "normal", "tumour")
    assert open_data(root, cache=tmp_path, whole=True, mpp=0.5, show=False).geometry == PatchGeometry(96, 0.5, 96)
    assert open_data(root, cache=tmp_path, whole=True, mpp=0.97, show=False).geometry == PatchGeometry(96, 0.97, 32)
    centre = open_data(root, cache=tmp_path, whole=True, label_region=48, show=False)
    assert centre.geometry == PatchGeometry(96, None, 48)


def test_images_of_several_sizes_are_counted_with_an_example_of_each(tmp_path: Path) -> None:
    root = folders(tmp_path / "data", 64, "normal", "tumour")
    for name, size in (("normal/9.png", (80, 80)), ("tumour/8.png", (80, 80)), ("tumour/9.png", (64, 48))):
        Image.new("RGB", size).save(root / name)
    with pytest.raises(DataError) as caught:
        open_data(root, cache=tmp_path, whole=True, show=False)["all"]
    what = caught.value.what
    assert "12 of 64 x 64 pixels" in what
    assert "2 of 80 x 80 (such as 9.png)" in what
    assert "1 of 64 x 48 (such as 9.png)" in what
    found = audit(root, cache=tmp_path, show=False).splits[0]
    assert len(found.corrupt) == 3
    assert "80 x 80 pixels; 64 x 64" in found.corrupt["normal/9.png"]


def test_images_that_are_not_square_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("normal", "tumour"):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (96, 64)).save(root / name / "a.png")
    with pytest.raises(DataError, match="96 x 64 pixels; patches must be square"):
        open_data(root, cache=tmp_path, whole=True, show=False)


def test_splits_of_two_sizes_are_refused(tmp_path: Path) -> None:
    official(tmp_path, 64)
    official(tmp_path, 96, split="valid")
    with pytest.raises(DataError, match="several sizes: train 64 x 64, valid 96 x 96"):
        open_data(tmp_path, cache=tmp_path, show=False)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ({"label_region": 65}, "cannot cover the centre 65 x 65"),
        ({"label_region": 0}, "cannot cover"),
        ({"mpp": 0.0}, "outside the range of microscopes"),
        ({"mpp": 500.0}, "outside the range of microscopes"),
        ({"positive": ("tumour",)}, "only for class folders"),
    ],
)
def test_a_statement_that_cannot_be_is_refused(tmp_path: Path, statement: dict[str, object], says: str) -> None:
    official(tmp_path, 64)
    with pytest.raises(DataError, match=says):
        open_data(tmp_path, cache=tmp_path, show=False, **statement)  # type: ignore[arg-type]


def test_what_the_data_records_is_read_and_not_contradicted(tmp_path: Path) -> None:
    official(tmp_path, 64)
    (tmp_path / EXTRACTED).write_text(json.dumps({"size": 64, "mpp": 0.5, "label_region": 32}))
    assert open_data(tmp_path, cache=tmp_path, show=False).geometry == PatchGeometry(64, 0.5, 32)
    assert open_data(tmp_path, cache=tmp_path, mpp=0.501, show=False).geometry.label_region == 32
    for statement in ({"mpp": 0.25}, {"label_region": 64}):
        with pytest.raises(DataError, match=r"records that its patches are 64 x 64 pixels, 0\.5 um"):
            open_data(tmp_path, cache=tmp_path, show=False, **statement)  # type: ignore[arg-type]


def test_a_record_of_another_size_than_the_file_is_refused(tmp_path: Path) -> None:
    official(tmp_path, 64)
    (tmp_path / EXTRACTED).write_text(json.dumps({"size": 96, "mpp": 0.5, "label_region": 32}))
    with pytest.raises(DataError, match="64 x 64 pixels, and the data records 96 x 96"):
        open_data(tmp_path, cache=tmp_path, show=False)


def test_an_earlier_record_is_of_patchcamelyons_geometry(tmp_path: Path) -> None:
    official(tmp_path, 96)
    (tmp_path / EXTRACTED).write_text(json.dumps({"mpp": 0.972, "seed": 0}))
    assert open_data(tmp_path, cache=tmp_path, show=False).geometry == PCAM


def test_a_folder_is_taken_for_what_the_bundle_was_trained_on(tmp_path: Path) -> None:
    root = folders(tmp_path / "data", 64, "normal", "tumour")
    expected = Expected(PatchGeometry(64, 0.25, 32))
    data = open_data(root, cache=tmp_path, whole=True, expected=expected, show=False)
    assert data.geometry == expected.geometry
    assert any("like those of the bundle's training" in warning for warning in data.warnings)


@pytest.mark.parametrize(
    ("expected", "statement", "says"),
    [
        (PCAM, {}, "are 64 x 64 pixels, not 96 x 96"),
        (PatchGeometry(64, 0.25, 64), {"mpp": 0.5}, "have 0.5 microns per pixel, not 0.25"),
        (PatchGeometry(64, 0.25, 64), {"label_region": 32}, "labels of the centre 32 x 32, not 64 x 64"),
    ],
)
def test_patches_that_a_bundle_does_not_take_are_refused(
    tmp_path: Path, expected: PatchGeometry, statement: dict[str, object], says: str
) -> None:
    root = folders(tmp_path / "data", 64, "normal", "tumour")
    with pytest.raises(DataError, match=says):
        open_data(root, cache=tmp_path, whole=True, expected=Expected(expected), show=False, **statement)  # type: ignore[arg-type]


def test_classes_that_a_bundle_does_not_tell_apart_are_refused_unless_stated(tmp_path: Path) -> None:
    root = folders(tmp_path / "data", 64, "normal", "tumor")
    lung = Expected(PatchGeometry(64, None, 64), ("lung_n", "lung_aca"))
    with pytest.raises(DataError, match="classes here are normal and tumor, but the bundle was trained on lung_n and"):
        open_data(root, cache=tmp_path, whole=True, expected=lung, show=False)
    data = open_data(root, cache=tmp_path, whole=True, expected=lung, positive=("tumor",), show=False)
    assert any("here they mean normal and tumor" in warning for warning in data.warnings)
    same = Expected(PatchGeometry(64, None, 64), ("normal", "tumour"))
    assert open_data(root, cache=tmp_path, whole=True, expected=same, show=False).class_names == ("normal", "tumor")


def test_a_bundle_knows_which_folders_are_positive(tmp_path: Path) -> None:
    root = folders(tmp_path / "data", 64, "lung_aca", "lung_n", "lung_scc")
    lung = Expected(PatchGeometry(64, None, 64), ("lung_n", "lung_aca+lung_scc"), ("lung_aca", "lung_scc"))
    patches = open_data(root, cache=tmp_path, whole=True, expected=lung, show=False)["all"]
    assert patches.labels.sum() == 12
    assert patches.class_names == ("lung_n", "lung_aca+lung_scc")


def test_folders_of_other_names_without_a_statement_are_refused(tmp_path: Path) -> None:
    root = folders(tmp_path / "data", 64, "lung_aca", "lung_n", "lung_scc")
    with pytest.raises(DataError, match="lung_aca, lung_n and lung_scc, and their names do not tell which is positive"):
        open_data(root, cache=tmp_path, whole=True, show=False)


def test_class_folders_below_split_folders_may_have_any_names(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        folders(tmp_path / "data" / split, 64, "stroma", "gland")
    data = open_data(tmp_path / "data", cache=tmp_path, positive=("gland",), show=False)
    assert (data.splits, data.class_names) == (("train", "valid", "test"), ("stroma", "gland"))
    assert [int(data[split].labels.sum()) for split in data.splits] == [6, 6, 6]


def test_the_cache_does_not_mix_sizes(tmp_path: Path) -> None:
    root, cache = folders(tmp_path / "data", 64, "normal", "tumour"), tmp_path / "cache"
    assert open_data(root, cache=cache, whole=True, show=False)["all"].images[:].shape[1] == 64
    (about,) = cache.rglob("about.json")
    told = json.loads(about.read_text())
    assert told["size"] == 64
    # An entry of an older version, which knew one size alone, is not taken for one of this size.
    del told["size"]
    about.write_text(json.dumps(told))
    assert open_data(root, cache=cache, whole=True, show=False)["all"].images[:].shape[1] == 64
    assert json.loads(about.read_text())["size"] == 64


def test_lung_tissue_in_three_folders(shared: Path, tmp_path: Path) -> None:
    root = shared / "other" / "lc25000_lung_224"
    data = open_data(root, slide_map=root / "slides.csv", positive=("lung_aca", "lung_scc"), cache=tmp_path, show=False)
    assert data.geometry == PatchGeometry(224, None, 224)
    assert data.class_names == ("lung_n", "lung_aca+lung_scc")


def test_camelyon16_at_256_pixels_with_transparency(shared: Path, tmp_path: Path) -> None:
    root = shared / "other" / "camelyon16_256"
    patches = open_data(root, mpp=0.243, cache=tmp_path, whole=True, show=False)["all"]
    assert patches.images[:1].shape == (1, 256, 256, 3)
    assert (patches.geometry, patches.class_names) == (PatchGeometry(256, 0.243, 256), ("normal", "tumor"))
    assert len(patches) == 89


@pytest.mark.slow
def test_copies_among_lung_tissue_are_found_and_never_of_two_tiles(shared: Path, tmp_path: Path) -> None:
    root = shared / "other" / "lc25000_lung_224"
    found = audit(root, positive=("lung_aca", "lung_scc"), cache=tmp_path, show=False)
    assert (found.splits[0].exact_duplicates, found.splits[0].near_duplicates) == (30, 89)
    assert any("Patches that repeat others: 119, in 111 groups" in finding for finding in found.findings())
    tile = dict(read_table(root / "slides.csv", ("id",), ("slide",)))
    assert all(len({tile[id] for id in copies.ids}) == 1 for copies in found.copies)
