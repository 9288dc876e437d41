from __future__ import annotations

import io
import shutil
from itertools import combinations

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from sentinode.patches import SPLITS
from sentinode.patches.audit import audit, render

LABELS = [0, 1] * 8
TRAIN, TEST = "camelyon16_train_tumor_{:03d}", "camelyon16_test_{:03d}"


def planted(disk, change=lambda images, slides: None):
    """An audit of three clean splits after ``change`` has planted a fault in their images and slides."""
    images = {split: disk.patches(16, seed) for seed, split in enumerate(SPLITS)}
    slides = {
        "train": [TRAIN.format(i // 4) for i in range(16)],
        "valid": [TRAIN.format(10 + i // 4) for i in range(16)],
        "test": [TEST.format(i // 4) for i in range(16)],
    }
    change(images, slides)
    for split in SPLITS:
        disk.official(split, images[split], LABELS, slides[split])
    return audit(disk.folder, show=False)


def test_clean_data_has_no_findings(disk):
    found = planted(disk)
    assert found.findings() == []
    assert [(s.split, s.patches, s.positive, s.slides) for s in found.splits] == [(s, 16, 8, 4) for s in SPLITS]
    assert found.copies == []


def test_exchanged_valid_and_test_are_reported_not_refused(disk):
    def exchange(images, slides):
        slides["valid"], slides["test"] = slides["test"], slides["valid"]

    found = planted(disk, exchange)
    assert "camelyon16_test_000" in found.swapped
    assert found.findings()[0].startswith("Valid and test are exchanged")


def test_a_black_and_a_white_patch_are_named(disk):
    def spoil(images, slides):
        images["train"][3] = 0
        images["valid"][5] = 255

    found = planted(disk, spoil)
    assert [split.black for split in found.splits] == [["train/000003"], [], []]
    assert [split.blank for split in found.splits] == [[], ["valid/000005"], []]


def test_one_patch_in_two_splits_is_found(disk):
    def leak(images, slides):
        images["test"][9] = images["train"][2]

    found = planted(disk, leak)
    (copies,) = found.copies
    assert (copies.ids, copies.splits, copies.exact) == (["train/000002", "test/000009"], ["train", "test"], True)
    assert found.across()["train", "test"] == (1, 0)
    assert found.across()["train", "valid"] == (0, 0)
    assert any("both train and test: 1" in finding for finding in found.findings())


def test_a_turned_and_slightly_changed_patch_in_two_splits_is_found_as_near(disk):
    def leak(images, slides):
        images["test"][9] = np.rot90(images["train"][2]) ^ 1

    found = planted(disk, leak)
    assert found.across()["train", "test"] == (0, 1)
    assert not found.copies[0].exact


def test_copies_within_a_split_are_counted(disk):
    def repeat(images, slides):
        images["train"][[4, 6]] = images["train"][2]
        images["train"][8] = images["train"][0] ^ 1

    train = planted(disk, repeat).splits[0]
    assert (train.exact_duplicates, train.near_duplicates) == (2, 1)


def test_copies_with_both_labels_are_found(disk):
    def contradict(images, slides):
        images["train"][3] = images["train"][2]

    found = planted(disk, contradict)
    assert found.copies[0].labels_differ
    assert any("both labels" in finding for finding in found.findings())


def test_a_slide_in_two_splits_is_found(disk):
    def leak(images, slides):
        slides["valid"][0] = slides["train"][0]

    found = planted(disk, leak)
    assert found.shared_slides == {TRAIN.format(0): ["train", "valid"]}


def test_a_corrupt_file_is_reported_and_the_rest_is_looked_through(disk):
    images = disk.patches(16)
    images[5] = images[3]
    disk.kaggle(images, LABELS)
    (disk.folder / "train" / f"{0:040x}.tif").write_text("text")
    Image.new("RGB", (32, 32)).save(disk.folder / "train" / f"{1:040x}.tif")
    found = audit(disk.folder, show=False)
    (split,) = found.splits
    assert split.split == "all"
    assert list(split.corrupt) == [f"{0:040x}", f"{1:040x}"]
    assert "32 x 32 pixels" in split.corrupt[f"{1:040x}"]
    assert [copies.ids for copies in found.copies] == [[f"{3:040x}", f"{5:040x}"]]


def test_one_class_only_is_said(disk):
    disk.kaggle(disk.patches(16), [1] * 16)
    assert audit(disk.folder, show=False).findings() == ["One class only in all."]


def test_nothing_readable_does_not_crash(disk):
    disk.kaggle(disk.patches(3), [0, 1, 1])
    for path in (disk.folder / "train").iterdir():
        path.write_text("text")
    assert len(audit(disk.folder, show=False).splits[0].corrupt) == 3


def test_the_table_says_what_the_findings_say(disk):
    def leak(images, slides):
        images["test"][9] = images["train"][2]

    found = planted(disk, leak)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(found))
    printed = console.export_text()
    assert "train and test" in printed
    assert all(finding[:60] in printed for finding in found.findings())


@pytest.mark.real
def test_the_near_duplicates_of_the_shared_sample_are_found(shared, tmp_path):
    # On valid and test, for time's sake; benchmarks/near_duplicates.py measures all of it.
    for split in ("valid", "test"):
        shutil.copy(shared / "pcam" / f"{split}.parquet", tmp_path)
    found = audit(tmp_path, show=False)
    for split in ("valid", "test"):
        table = pq.read_table(shared / "pcam" / f"{split}.parquet", columns=["index", "cluster"]).to_pydict()
        clusters: dict[int, list[str]] = {}
        for index, cluster in zip(table["index"], table["cluster"], strict=True):
            clusters.setdefault(cluster, []).append(f"{split}/{index:06d}")
        named = {pair for ids in clusters.values() for pair in combinations(sorted(ids), 2)}
        ours = {pair for copies in found.copies for pair in combinations(sorted(copies.ids), 2)}
        assert named == {pair for pair in ours if pair[0].startswith(split)}


def test_patches_without_a_known_slide_are_counted(disk):
    def forget(images, slides):
        slides["valid"][3] = ""

    found = planted(disk, forget)
    assert [(s.slides, s.without_slide) for s in found.splits] == [(4, 0), (4, 1), (4, 0)]
    assert "Patches without a known slide in valid: 1." in found.findings()
