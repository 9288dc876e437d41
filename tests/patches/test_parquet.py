from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentinode.errors import DataError
from sentinode.patches import open_data, parquet

LABELS = [0, 1, 1, 0, 1, 0]


def test_shards_named_by_split_are_joined_in_order(disk):
    images = disk.patches(12)
    disk.parquet("train-00000-of-00002.parquet", images[:6], LABELS)
    disk.parquet("train-00001-of-00002.parquet", images[6:], LABELS)
    disk.parquet("validation-00000-of-00001.parquet", images[:6], LABELS)
    data = open_data(disk.folder)
    assert (data.kind, data.splits, data.warnings) == ("parquet", ("train", "valid"), ())
    np.testing.assert_array_equal(data["train"].images[:], images)
    assert data["train"].labels.tolist() == LABELS * 2
    assert data["train"].ids[-1] == "train/000011"


def test_the_hub_keeps_them_in_a_folder_called_data_with_boolean_labels(disk):
    inside = type(disk)(disk.folder / "data")
    inside.parquet("test-00000-of-00001.parquet", disk.patches(6), [bool(label) for label in LABELS])
    data = open_data(disk.folder)
    assert data.splits == ("test",)
    assert data["test"].labels.tolist() == LABELS


def test_a_column_index_names_the_row_of_the_official_file(disk):
    disk.parquet("test.parquet", disk.patches(6), LABELS, index=[1, 3, 5, 6, 7, 32767])
    assert open_data(disk.folder)["test"].ids[[0, -1]].tolist() == ["test/000001", "test/032767"]


def test_without_it_the_images_own_names_are_the_ids(disk):
    disk.parquet("test.parquet", disk.patches(6), LABELS, index=[-1] * 6)
    assert open_data(disk.folder)["test"].ids.tolist() == ["0", "1", "2", "3", "4", "5"]


def test_a_file_whose_name_is_no_split_is_left_out_and_said(disk):
    disk.parquet("train.parquet", disk.patches(6), LABELS)
    disk.parquet("kaggle.parquet", disk.patches(6), LABELS)
    data = open_data(disk.folder)
    assert data.splits == ("train",)
    assert data.warnings[0].startswith("kaggle.parquet is left out: its name has no split.")


def test_named_as_a_shard_of_train_it_joins_train(disk):
    disk.parquet("train.parquet", disk.patches(6), LABELS, index=range(6))
    disk.parquet("train-kaggle.parquet", disk.patches(2, seed=1), [0, 1], index=[-1, -1])
    train = open_data(disk.folder)["train"]
    assert len(train) == 8
    assert set(train.ids) > {"train/000000", "train/000005"}


def test_one_file_alone_whose_name_is_no_split_is_dealt(disk):
    disk.parquet("kaggle.parquet", disk.patches(6), LABELS)
    data = open_data(disk.folder / "kaggle.parquet")
    assert (data.own_splits, data.splits) == (False, ("train", "valid", "test"))


def test_missing_shards_are_warned_of(disk):
    disk.parquet("train-00001-of-00013.parquet", disk.patches(6), LABELS)
    assert open_data(disk.folder).warnings == ("Only 1 of 13 shards of train are here.",)


def test_labels_of_another_type_are_refused(disk):
    disk.parquet("train.parquet", disk.patches(6), ["no", "yes", "yes", "no", "yes", "no"])
    with pytest.raises(DataError, match="must be integer or boolean; it is string"):
        open_data(disk.folder)


def test_labels_other_than_0_and_1_are_refused(disk):
    disk.parquet("train.parquet", disk.patches(6), [0, 1, 7, 0, 1, 0])
    with pytest.raises(DataError, match="the first being 7 in row 2"):
        open_data(disk.folder)


def test_empty_labels_are_refused(disk):
    disk.parquet("train.parquet", disk.patches(6), pa.array([0, 1, None, 0, 1, 0]))
    with pytest.raises(DataError, match="1 labels are empty"):
        open_data(disk.folder)


def test_other_columns_are_named(disk):
    disk.folder.mkdir()
    pq.write_table(pa.table({"pixels": [1], "label": [0]}), disk.folder / "train.parquet")
    with pytest.raises(DataError, match="no column 'image' with a field 'bytes'; the columns are pixels, label"):
        open_data(disk.folder)


@pytest.mark.parametrize("content", [b"PAR1 text", b"<html>not here</html>"])
def test_a_damaged_file_is_refused(disk, content):
    disk.parquet("train.parquet", disk.patches(6), LABELS)
    (disk.folder / "train.parquet").write_bytes(content)
    with pytest.raises(DataError) as refused:
        open_data(disk.folder)
    assert refused.value.where == disk.folder / "train.parquet"


def test_an_image_that_cannot_be_decoded_is_named_by_file_and_row(disk):
    disk.folder.mkdir()
    table = pa.table({"image": [{"bytes": b"text", "path": "a"}], "label": [1]})
    pq.write_table(table, disk.folder / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet, row 0: this is not an image"):
        open_data(disk.folder)["train"]


@pytest.mark.real
def test_the_shared_sample_opens(shared):
    data = open_data(shared / "pcam")
    assert data.splits == ("train", "valid", "test")
    test = data["test"]
    assert (len(test), test.ids[0], test.images.shape) == (1000, "test/000001", (1000, 96, 96, 3))
    assert test.images[:4].std() > 10


def refusal(disk) -> str:
    with pytest.raises(DataError) as refused:
        open_data(disk.folder)
    return str(refused.value)


def written(disk, **columns):
    disk.folder.mkdir(parents=True, exist_ok=True)
    image = [{"bytes": b"", "path": f"{i}.png"} for i in range(4)]
    pq.write_table(pa.table({"image": image, "label": [0, 1, 0, 1]} | columns), disk.folder / "test.parquet")
    return disk


class TestWhatNoImageIs:
    @pytest.mark.parametrize("value", [1, [1, 2], {"x": 1}, "text"])
    def test_bytes_of_another_type_are_refused_by_name(self, disk, value):
        assert "the field 'bytes' of 'image' must hold the bytes" in refusal(
            written(disk, image=[{"bytes": value, "path": "a"}] * 4)
        )

    def test_paths_that_are_no_texts_are_refused(self, disk):
        assert "the field 'path' of 'image' must hold texts" in refusal(
            written(disk, image=[{"bytes": b"", "path": 1}] * 4)
        )

    def test_an_index_beyond_64_bits_is_refused(self, disk):
        index = pa.array([2**64 - 1, 1, 2, 3], pa.uint64())
        assert "the column 'index' cannot be read" in refusal(written(disk, index=index))

    def test_a_label_beyond_64_bits_is_refused(self, disk):
        label = pa.array([2**64 - 1, 1, 0, 1], pa.uint64())
        assert "the first being 18446744073709551615 in row 0" in refusal(written(disk, label=label))

    def test_a_path_that_is_longer_than_a_path_is_refused(self, disk):
        assert "holds a text of 5,000 bytes" in refusal(written(disk, image=[{"bytes": b"", "path": "a" * 5000}] * 4))


def test_a_text_that_stands_in_many_rows_is_never_copied_into_all_of_them(disk, monkeypatch):
    monkeypatch.setattr(parquet, "MOST_IN_BATCH", 1 << 20)
    rows = 5000
    image = pa.array([{"bytes": b"x" * 100_000, "path": f"{i}"} for i in range(2)])
    image = image.take(pa.array([i % 2 for i in range(rows)]))
    disk.folder.mkdir(parents=True)
    pq.write_table(pa.table({"image": image, "label": [0] * rows}), disk.folder / "test.parquet", compression="zstd")
    with parquet.open_parquet(disk.folder / "test.parquet") as file:
        batches = parquet.batches(disk.folder / "test.parquet", file, ["image.bytes"], 128)
        assert max(batch.nbytes for batch in (next(batches) for _ in range(20))) < 2 << 20


def test_images_that_are_many_times_their_file_are_refused(disk, monkeypatch):
    monkeypatch.setattr(parquet, "MOST_UNPACKED", 1 << 20)
    rows = 2000
    disk.folder.mkdir(parents=True)
    table = pa.table({"image": [{"bytes": b"x" * 10_000, "path": str(i)} for i in range(rows)], "label": [0] * rows})
    pq.write_table(table, disk.folder / "test.parquet", compression="zstd")
    with pytest.raises(DataError, match="more than 100 times its size"):
        open_data(disk.folder, whole=True)["test"]
