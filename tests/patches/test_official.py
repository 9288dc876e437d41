from __future__ import annotations

import errno
import gzip
import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sentinode.errors import DataError
from sentinode.patches import SPLITS, official, open_data
from sentinode.patches.cache import cache_folder
from sentinode.patches.pixels import MappedImages

STEM = official.STEM
LABELS = [0, 1, 1, 0, 1, 0]


def test_three_splits_are_read_with_ids_that_name_the_row(disk):
    written = {split: disk.patches(6, seed) for seed, split in enumerate(SPLITS)}
    for split, images in written.items():
        disk.official(split, images, LABELS)
    data = open_data(disk.folder)
    assert (data.kind, data.splits, data.own_splits, data.toy) == ("official", SPLITS, True, False)
    assert data.warnings == ()
    for split, images in written.items():
        patches = data[split]
        np.testing.assert_array_equal(patches.images[:], images)
        np.testing.assert_array_equal(patches.images[np.array([4, 0])], images[[4, 0]])
        assert patches.labels.dtype == np.uint8
        assert patches.labels.tolist() == LABELS
        assert patches.ids.tolist() == [f"{split}/{row:06d}" for row in range(6)]
        assert patches.slides is None


def test_one_split_alone_is_enough_and_another_is_named_as_missing(disk):
    disk.official("test", disk.patches(6), LABELS)
    data = open_data(disk.folder)
    assert data.splits == ("test",)
    with pytest.raises(DataError, match=r"no split 'train' here, only test"):
        data["train"]


def test_a_single_file_stands_for_its_split(disk):
    disk.official("valid", disk.patches(6), LABELS)
    disk.official("train", disk.patches(6), LABELS)
    assert open_data(disk.folder / f"{STEM}valid_x.h5").splits == ("valid",)


def test_contiguous_files_are_mapped_where_they_lie(disk):
    disk.official("train", disk.patches(6), LABELS)
    images = open_data(disk.folder)["train"].images
    assert isinstance(images, MappedImages)
    assert images.path == disk.folder / f"{STEM}train_x.h5"


@pytest.mark.parametrize("layout", [{"chunks": (2, 96, 96, 3)}, {"chunks": (4, 48, 48, 3), "compression": "gzip"}])
@pytest.mark.parametrize("packed", [False, True])
def test_chunked_and_gzipped_files_hold_the_same_patches(disk, tmp_path, layout, packed):
    images = disk.patches(6)
    disk.official("train", images, LABELS, packed=packed, **layout)
    np.testing.assert_array_equal(open_data(disk.folder, cache=tmp_path / "c")["train"].images[:], images)


def test_gzipped_contiguous_files_take_their_own_size_in_the_cache(disk, tmp_path):
    images = disk.patches(6)
    disk.official("train", images, LABELS, packed=True)
    np.testing.assert_array_equal(open_data(disk.folder, cache=tmp_path / "c")["train"].images[:], images)
    (kept,) = (tmp_path / "c").rglob("pixels.bin")
    assert kept.stat().st_size < images.nbytes + 4096


def test_patches_go_to_another_process_as_a_path_not_as_pixels(disk):
    disk.official("train", disk.patches(6), LABELS)
    patches = open_data(disk.folder)["train"]
    before = patches.images[:]
    sent = pickle.dumps(patches)
    assert len(sent) < 5_000
    np.testing.assert_array_equal(pickle.loads(sent).images[:], before)


def test_slides_come_from_the_meta_csv(disk):
    slides = ["camelyon16_test_001"] * 3 + ["camelyon16_test_002"] * 3
    disk.official("test", disk.patches(6), LABELS, slides)
    assert open_data(disk.folder)["test"].slides.tolist() == slides


@pytest.mark.parametrize("split", ["valid", "test"])
def test_exchanged_valid_and_test_are_refused_by_their_slides(disk, split):
    of_the_other = "camelyon16_train_tumor_001" if split == "test" else "camelyon16_test_001"
    disk.official(split, disk.patches(6), LABELS, [of_the_other] * 6)
    with pytest.raises(DataError, match="valid and test are exchanged") as refused:
        open_data(disk.folder)
    assert of_the_other in refused.value.what
    assert "README prints the MD5 sums" in refused.value.hint


def test_exchanged_files_without_meta_are_known_by_the_published_checksum(disk, monkeypatch):
    disk.official("valid", disk.patches(6), LABELS)
    content = (disk.folder / f"{STEM}valid_y.h5").read_bytes()
    published = {**official.PUBLISHED_MD5, f"{STEM}test_y.h5": hashlib.md5(content).hexdigest()}
    monkeypatch.setattr(official, "PUBLISHED_MD5", published)
    with pytest.raises(DataError, match=r"valid_y\.h5 is the published file of the test split"):
        open_data(disk.folder)


def test_the_published_checksums_are_those_of_zenodo_not_of_the_readme():
    # The README gives d8c2... to valid and d5b6... to test; see issues 1 and 4 of basveeling/pcam.
    assert official.PUBLISHED_MD5[f"{STEM}valid_x.h5.gz"].startswith("d5b63470")
    assert official.PUBLISHED_MD5[f"{STEM}test_x.h5.gz"].startswith("d8c2d60d")
    assert len(set(official.PUBLISHED_MD5.values())) == 15


def refusal(folder: Path) -> DataError:
    with pytest.raises(DataError) as refused:
        data = open_data(folder)
        for split in data.splits:
            data[split]
    assert refused.value.where is not None
    return refused.value


def test_a_truncated_file_is_refused(disk):
    path = disk.official("train", disk.patches(6), LABELS) / f"{STEM}train_x.h5"
    path.write_bytes(path.read_bytes()[:-50_000])
    error = refusal(disk.folder)
    assert "truncated" in error.what
    assert error.where == path
    assert "data download" in error.hint


def test_a_truncated_gzip_file_is_refused_and_leaves_nothing_in_the_cache(disk):
    path = disk.official("train", disk.patches(6), LABELS, packed=True) / f"{STEM}train_x.h5.gz"
    path.write_bytes(path.read_bytes()[:-2_000])
    error = refusal(disk.folder)
    assert "truncated or damaged" in error.what
    assert error.where == path
    held = {file.name for file in cache_folder().rglob("*") if "train" in file.parent.name and file.is_file()}
    assert not any(name.endswith(".part.bin") for name in held)


def test_a_gzip_file_that_is_none_is_refused(disk):
    disk.official("train", disk.patches(6), LABELS, packed=True)
    (disk.folder / f"{STEM}train_y.h5.gz").write_bytes(b"not gzip at all")
    assert "truncated or damaged" in refusal(disk.folder).what


def test_gzip_around_something_else_names_the_file_that_the_user_knows(disk):
    path = disk.official("train", disk.patches(6), LABELS, packed=True) / f"{STEM}train_x.h5.gz"
    path.write_bytes(gzip.compress(b"text" * 1000))
    assert refusal(disk.folder).where == path


def test_a_web_page_in_place_of_a_file_is_called_so(disk):
    path = disk.official("train", disk.patches(6), LABELS) / f"{STEM}train_x.h5"
    path.write_text("<!DOCTYPE html><html>Google Drive - Virus scan warning</html>")
    assert "web page" in refusal(disk.folder).what


def test_images_and_labels_of_different_length_are_refused(disk):
    disk.official("train", disk.patches(6), LABELS)
    with h5py.File(disk.folder / f"{STEM}train_y.h5", "w") as file:
        file["y"] = np.zeros((5, 1, 1, 1), np.uint8)
    assert "6 images here, and 5 labels" in refusal(disk.folder).what


def test_the_same_in_gzip_is_refused(disk):
    disk.official("train", disk.patches(5), LABELS, packed=True)
    assert "5 images here, and 6 labels" in refusal(disk.folder).what


def test_other_labels_than_0_and_1_are_refused_with_their_row(disk):
    disk.official("train", disk.patches(6), [0, 1, 2, 0, 1, 1])
    assert "the first being 2 in row 2" in refusal(disk.folder).what


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((6, 64, 96, 3), np.uint8), r"uint8 \(6, 64, 96, 3\)"),
        (np.zeros((6, 96, 96), np.uint8), r"uint8 \(6, 96, 96\)"),
        (np.zeros((6, 96, 96, 3), np.float32), r"float32 \(6, 96, 96, 3\)"),
    ],
)
def test_a_wrong_shape_or_type_is_refused(disk, data, message):
    disk.official("train", data, LABELS)
    with pytest.raises(DataError, match=message):
        open_data(disk.folder)


def test_a_file_without_the_dataset_says_what_it_holds(disk):
    disk.official("train", disk.patches(6), LABELS)
    with h5py.File(disk.folder / f"{STEM}train_x.h5", "w") as file:
        file["images"] = np.zeros(3)
    assert refusal(disk.folder).what == "there is no dataset 'x' in this file; it holds 'images'."


@pytest.mark.parametrize("lacking", ["x", "y"])
def test_a_missing_partner_is_named(disk, lacking):
    disk.official("train", disk.patches(6), LABELS)
    (disk.folder / f"{STEM}train_{lacking}.h5").unlink()
    assert f"{STEM}train_{lacking}.h5" in refusal(disk.folder).what


def test_a_meta_csv_of_another_length_is_refused(disk):
    disk.official("train", disk.patches(6), LABELS, ["camelyon16_train_tumor_001"] * 6)
    meta = disk.folder / f"{STEM}train_meta.csv"
    meta.write_text("".join(meta.read_text().splitlines(keepends=True)[:-1]))
    assert "5 rows here, and 6 labels" in refusal(disk.folder).what


def test_slides_of_the_meta_csv_that_are_not_known_stay_so(disk):
    disk.official("test", disk.patches(6), LABELS, ["camelyon16_test_001"] * 4 + ["", "nan"])
    assert open_data(disk.folder)["test"].slides.tolist() == ["camelyon16_test_001"] * 4 + ["", ""]


def test_a_meta_csv_without_any_slide_names_none(disk):
    disk.official("train", disk.patches(6), LABELS, [""] * 6)
    assert open_data(disk.folder)["train"].slides is None


class TestFilesThatAreWhole:
    """Eight gigabytes are not fetched again for a file that nothing is wrong with."""

    def h5(self, disk) -> Path:
        return disk.official("train", disk.patches(6), LABELS) / f"{STEM}train_x.h5"

    def test_a_file_that_another_program_writes_is_called_locked(self, disk):
        path = self.h5(disk)
        hold = f"import h5py, sys\nf = h5py.File({str(path)!r}, 'a')\nprint(flush=True)\nsys.stdin.read()"
        with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            error = refusal(disk.folder)
            writer.communicate()
        assert error.what == "this HDF5 file is locked: another program has it open for writing."
        assert "download" not in error.hint
        assert len(open_data(disk.folder)["train"]) == 6

    def test_a_file_that_its_writer_did_not_close_is_called_so(self, disk):
        path = self.h5(disk)
        with h5py.File(path, "w", libver="latest") as file:
            file["x"] = disk.patches(6)
        crash = f"import h5py, os\nf = h5py.File({str(path)!r}, 'a', libver='latest')\nf.flush()\nos._exit(0)"
        subprocess.run([sys.executable, "-c", crash], check=True)
        error = refusal(disk.folder)
        assert "was not closed by the program that wrote it" in error.what
        assert "h5clear" in error.hint

    def test_a_file_system_without_locks_is_told_what_to_set(self, disk, monkeypatch):
        self.h5(disk)

        def no_locks(*_: object, **__: object) -> None:
            raise OSError(errno.ENOLCK, "unable to lock file, errno = 37, error message = 'No locks available'")

        monkeypatch.setattr(h5py, "File", no_locks)
        error = refusal(disk.folder)
        assert "cannot be locked for reading" in error.what
        assert "HDF5_USE_FILE_LOCKING=FALSE" in error.hint

    def test_a_file_that_may_not_be_read_is_not_called_damaged(self, disk, monkeypatch):
        path = self.h5(disk)

        def forbidden(self: Path, *_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

        monkeypatch.setattr(Path, "open", forbidden)
        error = refusal(disk.folder)
        assert error.what == "cannot be read (Permission denied)."
        assert str(error.where).startswith(str(path)[:-4])
        assert "download" not in error.hint

    def test_a_file_of_a_newer_hdf5_is_called_so(self, disk):
        path = self.h5(disk)
        content = bytearray(path.read_bytes())
        content[8] = 9  # the version of the superblock
        path.write_bytes(content)
        error = refusal(disk.folder)
        assert "is of a version that HDF5" in error.what
        assert "Update h5py" in error.hint

    def test_a_dataset_of_a_newer_hdf5_is_called_so(self, disk):
        path = self.h5(disk)
        content = bytearray(path.read_bytes())
        with h5py.File(path) as file:
            header = h5py.h5o.get_info(file["x"].id).addr
        content[header] = 200  # the version of the object's header
        path.write_bytes(content)
        assert "is of a version that HDF5" in refusal(disk.folder).what

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_filter_that_is_not_installed_is_named(self, disk, packed):
        path = disk.official("train", disk.patches(6), LABELS, chunks=(2, 96, 96, 3), compression="lzf") / (
            f"{STEM}train_x.h5"
        )
        content = path.read_bytes()
        start = content.rindex((32000).to_bytes(2, "little"), 0, content.index(b"lzf"))
        path.write_bytes(content[:start] + (32999).to_bytes(2, "little") + content[start + 2 :])  # one that nobody has
        if packed:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
            path.unlink()
        error = refusal(disk.folder)
        assert "compressed with a filter that is not installed here (lzf, number 32999)" in error.what
        assert "h5repack" in error.hint


@pytest.mark.parametrize(("content", "message"), [(b"", "this file is empty"), (b"text" * 99, "not an HDF5 file")])
def test_what_is_no_hdf5_is_not_called_damaged(disk, content, message):
    path = disk.official("train", disk.patches(6), LABELS) / f"{STEM}train_x.h5"
    path.write_bytes(content)
    error = refusal(disk.folder)
    assert message in error.what
    assert "damaged" not in error.what


def test_the_sentence_for_a_file_of_the_users_own_does_not_name_our_download(tmp_path):
    (tmp_path / "mine.h5").write_bytes(b"text")
    with pytest.raises(DataError) as refused, official.open_hdf5(tmp_path / "mine.h5"):
        pass
    assert "sentinode" not in refused.value.hint
