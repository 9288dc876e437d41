from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sentinode.errors import DataError
from sentinode.patches import Expected, PatchData, PatchSet, Reopening, open_data

LABELS = [0, 1] * 10


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="there is nothing here"):
        open_data(tmp_path / "absent")


def test_an_empty_folder_says_so_and_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match="The folder is empty") as refused:
        open_data(tmp_path)
    for known in ("camelyonpatch_level_2_split_", "train_labels.csv", "parquet", "normal/ and tumour/", "data synth"):
        assert known in refused.value.hint


def test_an_unknown_folder_says_what_lies_there(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "slides").mkdir()
    with pytest.raises(DataError, match=r"There is notes\.txt, slides/"):
        open_data(tmp_path)


def test_a_kaggle_folder_without_its_table_is_recognised(tmp_path, disk):
    (tmp_path / "train").mkdir()
    Image.fromarray(disk.patches(1)[0]).save(tmp_path / "train" / "a.tif")
    with pytest.raises(DataError, match=r"as in the Kaggle set, but no train_labels\.csv"):
        open_data(tmp_path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match="A single file must be one of"):
        open_data(tmp_path / "a.txt")


def test_a_folder_that_may_not_be_read_is_refused_in_words(tmp_path, monkeypatch):
    def forbidden(self: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        open_data(tmp_path)


def test_generated_patches_are_a_toy(generated):
    data = open_data(generated)
    assert data.toy
    assert data["train"].toy


def test_only_the_split_that_is_asked_for_is_unpacked(disk, tmp_path):
    for split in ("train", "test"):
        disk.parquet(f"{split}.parquet", disk.patches(4), [0, 1, 0, 1])
    store = tmp_path / "cache"
    open_data(disk.folder, cache=store)["test"]
    assert len(list(store.rglob("pixels.bin"))) == 1


class TestInAnotherProcess:
    """Data is opened again from what can be sent there: the same patches, whatever decided which they are."""

    @staticmethod
    def again(data: PatchData, split: str) -> PatchSet:
        sent: Reopening = pickle.loads(pickle.dumps(Reopening.of(data).anywhere()))
        return sent.open()[split]

    def same(self, data: PatchData, split: str) -> bool:
        here, there = data[split], self.again(data, split)
        slides = here.slides is there.slides is None or np.array_equal(here.slides, there.slides)
        return (here.fingerprint(), here.class_names) == (there.fingerprint(), there.class_names) and slides

    def test_splits_of_its_own(self, generated, tmp_path):
        data = open_data(generated, show=False)
        assert self.same(data, "test")
        assert self.same(data.limited({"test": np.array([5, 3])}).limited({"test": np.array([1])}), "test")

    def test_splits_that_were_made_and_data_as_a_whole(self, disk, tmp_path):
        disk.kaggle(disk.patches(20), LABELS)
        table = tmp_path / "slides.csv"
        ids = open_data(disk.folder, whole=True, show=False)["all"].ids
        table.write_text("id,slide\n" + "".join(f"{name},s{row % 5}\n" for row, name in enumerate(ids)))
        assert self.same(open_data(disk.folder, seed=7, slide_map=table, show=False), "train")
        assert self.same(open_data(disk.folder, whole=True, show=False), "all")

    def test_class_folders_whose_meaning_the_bundle_knows(self, disk):
        disk.classes(disk.patches(4), [0, 1, 0, 1], ("here", "there"))
        assert self.same(open_data(disk.folder, whole=True, positive=["here"], show=False), "all")
        expected = Expected(class_names=("there", "here"), positive=("here",))
        assert self.same(open_data(disk.folder, whole=True, expected=expected, show=False), "all")

    def test_further_patches_and_another_working_folder(self, generated, disk, tmp_path, monkeypatch):
        disk.kaggle(disk.patches(20), LABELS)
        monkeypatch.chdir(disk.folder.parent)
        data = open_data(generated, also=[disk.folder.name], show=False)
        expected, sent = data["train"].fingerprint(), Reopening.of(data).anywhere()
        monkeypatch.chdir("/")
        assert sent.open()["train"].fingerprint() == expected


class TestAStoredSplit:
    """An assignment from a bundle means the same patches for ever."""

    def test_is_the_same_whatever_the_seed(self, disk):
        disk.kaggle(disk.patches(20), LABELS)
        stored = open_data(disk.folder, seed=5).assignment()
        again = open_data(disk.folder, seed=0, assignment=stored)
        assert again.assignment() == stored
        assert again.warnings == ()
        for split in again.splits:
            assert set(again[split].ids) == {name for name, s in stored.items() if s == split}

    def test_leaves_new_patches_out_and_says_so(self, disk):
        disk.kaggle(disk.patches(20), LABELS)
        stored = open_data(disk.folder).assignment()
        first = next(iter(stored))
        del stored[first]
        data = open_data(disk.folder, assignment=stored)
        assert data.warnings == ("1 patches are new since the split was stored, and are left out.",)
        assert all(first not in data[split].ids for split in data.splits)

    def test_refuses_a_split_of_which_patches_are_gone_and_gives_the_others(self, disk):
        disk.kaggle(disk.patches(20), LABELS)
        stored = open_data(disk.folder).assignment() | {"gone": "test"}
        data = open_data(disk.folder, assignment=stored)
        assert "1 patches of the stored split are not in this data." in data.warnings
        assert len(data["valid"]) == 2
        with pytest.raises(DataError, match="1 patches of the test split that was stored are no longer in this data"):
            data["test"]

    def test_refuses_other_data(self, disk):
        disk.kaggle(disk.patches(20), LABELS)
        with pytest.raises(DataError, match="none of these 20 patches is in the stored split"):
            open_data(disk.folder, assignment={"elsewhere": "train"})

    def test_gives_way_to_splits_that_the_data_names_itself(self, generated):
        data = open_data(generated, assignment={"elsewhere": "train"})
        assert data.own_splits
        assert len(data["test"]) == 128


class TestAsAWhole:
    """Patches of another hospital are not to be dealt: all of them are the test."""

    def test_every_patch_is_there_and_nothing_is_dealt(self, disk):
        disk.kaggle(disk.patches(20), LABELS)
        data = open_data(disk.folder, whole=True)
        assert data.splits == ("all",)
        assert len(data["all"]) == 20
        assert data["all"].split == "all"
        assert data.assignment() == {}
        assert data.warnings == ()

    def test_a_stored_split_of_other_patches_does_not_matter(self, disk):
        disk.kaggle(disk.patches(20), LABELS)
        assert len(open_data(disk.folder, assignment={"elsewhere": "train"}, whole=True)["all"]) == 20

    def test_one_slide_alone_is_enough(self, disk, tmp_path):
        disk.kaggle(disk.patches(20), LABELS)
        names = open_data(disk.folder).assignment()
        table = tmp_path / "slides.csv"
        table.write_text("id,slide\n" + "".join(f"{name},one\n" for name in names))
        assert set(open_data(disk.folder, slide_map=table, whole=True)["all"].slides) == {"one"}

    def test_data_with_splits_of_its_own_has_no_all(self, generated):
        with pytest.raises(DataError, match="no split 'all' here, only train, valid, test"):
            open_data(generated, whole=True)["all"]
