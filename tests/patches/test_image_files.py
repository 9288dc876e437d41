from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sentinode.errors import DataError
from sentinode.patches import open_data
from sentinode.patches.audit import audit

LABELS = [0, 1] * 10


def everything(folder):
    """All patches of data without splits, by id."""
    data = open_data(folder)
    return {
        name: (image, label)
        for split in data.splits
        for name, image, label in zip(data[split].ids, data[split].images[:], data[split].labels, strict=True)
    }


def test_the_kaggle_layout_is_read_by_id(disk):
    images = disk.patches(20)
    disk.kaggle(images, LABELS)
    data = open_data(disk.folder)
    assert (data.kind, data.own_splits, data.splits) == ("kaggle", False, ("train", "valid", "test"))
    read = everything(disk.folder)
    assert len(read) == 20
    for i, (image, label) in enumerate(zip(images, LABELS, strict=True)):
        np.testing.assert_array_equal(read[f"{i:040x}"][0], image)
        assert read[f"{i:040x}"][1] == label


def test_the_table_itself_may_be_given(disk):
    disk.kaggle(disk.patches(20), LABELS)
    assert open_data(disk.folder / "train_labels.csv").kind == "kaggle"


def test_leakage_is_warned_of_where_no_slide_is_known(disk):
    disk.kaggle(disk.patches(20), LABELS)
    (warning,) = open_data(disk.folder).warnings
    assert warning.startswith("Leakage: the slides of these patches are unknown")
    assert "--slides" in warning


def table_of(disk, ids, images=None):
    """A Kaggle folder whose table holds these ids; ``images`` are the files of train/, by default abc.tif for each."""
    folder = disk.folder
    (folder / "train").mkdir(parents=True)
    for name in images or [f"{stem}.tif" for stem in "abcdefghij"]:
        Image.fromarray(disk.patches(1, seed=len(name))[0]).save(folder / "train" / name)
    rows = [f"{name},{number % 2}" for number, name in enumerate(ids)]
    (folder / "train_labels.csv").write_text("\n".join(["id,label", *rows]), "utf-8")
    return folder


@pytest.mark.parametrize("ending", [".tif", ".TIF", ".png", ""])
def test_ids_may_have_an_images_ending(disk, ending):
    # .png, though the files end in .tif: whoever converted the images left the table as it was.
    data = open_data(table_of(disk, [f"{stem}{ending}" for stem in "abcdefghij"]))
    assert sorted(everything(disk.folder)) == list("abcdefghij")
    assert not [warning for warning in data.warnings if "left out" in warning]


def test_an_id_that_could_be_two_images_is_refused(disk):
    folder = table_of(disk, "abcdefghij", [*(f"{stem}.tif" for stem in "abcdefghij"), "c.png"])
    with pytest.raises(DataError, match=r"'c' could be c\.png or c\.tif"):
        open_data(folder)


def test_an_ending_tells_two_images_apart(disk):
    names = [*(f"{stem}.tif" for stem in "abcdefghij"), "c.png"]
    read = everything(table_of(disk, names, names))
    assert sorted(read) == sorted(names)


def test_two_ids_for_one_image_are_refused(disk):
    with pytest.raises(DataError, match="ids occur more than once, such as c"):
        open_data(table_of(disk, ["c.tif", *"abcdefghij"]))


def test_an_id_with_a_dot_is_no_ending(disk):
    stems = [f"x_0.{number}" for number in range(10)]
    assert sorted(everything(table_of(disk, stems, [f"{stem}.tif" for stem in stems]))) == stems


def test_a_row_without_an_id_is_named(disk):
    folder = table_of(disk, "abcdefghij")
    table = folder / "train_labels.csv"
    table.write_text("label,id\n" + "".join(f"{n % 2},{name}\n" for n, name in enumerate("abcdefghij")) + "1\n")
    with pytest.raises(DataError, match="line 12 has 1 cells"):
        open_data(folder)


def test_hidden_files_beside_the_images_are_not_images(disk):
    folder = table_of(disk, "abcdefghij")
    (folder / "train" / "._a.tif").write_bytes(b"macOS")
    assert not [warning for warning in open_data(folder).warnings if "left out" in warning]


def test_missing_images_are_named(disk):
    disk.kaggle(disk.patches(20), LABELS)
    (disk.folder / "train" / f"{3:040x}.tif").unlink()
    with pytest.raises(DataError, match=rf"1 of 20 rows have no image .*{3:040x}"):
        open_data(disk.folder)


def test_images_that_the_table_does_not_name_are_left_out_and_said(disk):
    disk.kaggle(disk.patches(20), LABELS)
    Image.fromarray(disk.patches(1)[0]).save(disk.folder / "train" / "extra.tif")
    data = open_data(disk.folder)
    assert data.warnings[0].startswith("1 images")
    assert "extra" not in everything(disk.folder)


def test_an_id_that_stands_twice_is_refused(disk):
    disk.kaggle(disk.patches(20), LABELS)
    with (disk.folder / "train_labels.csv").open("a") as file:
        file.write(f"{3:040x},1\n")
    with pytest.raises(DataError, match=rf"1 ids occur more than once, such as {3:040x}"):
        open_data(disk.folder)


@pytest.mark.parametrize("label", ["tumour", "2", "", "0.5"])
def test_other_labels_in_the_table_are_refused(disk, label):
    disk.kaggle(disk.patches(20), LABELS)
    table = disk.folder / "train_labels.csv"
    table.write_text(table.read_text().replace(f"{3:040x},1", f"{3:040x},{label}"))
    with pytest.raises(DataError, match="must be 0"):
        open_data(disk.folder)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("False", "True"), "20 of 20 are not: 'False' (10), 'True' (10)"),
        (("normal", "tumor"), "20 of 20 are not: 'normal' (10), 'tumor' (10)"),
        (("0", "tumor"), "10 of 20 are not: 'tumor' (10)"),
    ],
)
def test_words_in_place_of_labels_are_refused_with_those_found(disk, words, message):
    disk.kaggle(disk.patches(20), [words[label] for label in LABELS])
    with pytest.raises(DataError) as refused:
        open_data(disk.folder)
    assert message in refused.value.what


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "this table is empty"),
        ("id,label\n", "a header, but no rows"),
        ("id;label\na;1\n", "separated by semicolons"),
        ("id,label\na\n", "line 2 has 1 cells"),
    ],
)
def test_a_table_without_rows_or_with_other_separators_is_refused(disk, content, message):
    disk.kaggle(disk.patches(20), LABELS)
    (disk.folder / "train_labels.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        open_data(disk.folder)


@pytest.mark.parametrize("labels", [("0", "1"), ("0.0", "1.0"), (" 0", "1 ")])
def test_numbers_are_read_however_they_are_written(disk, labels):
    disk.kaggle(disk.patches(4), [labels[label] for label in (0, 1, 0, 1)])
    assert open_data(disk.folder, whole=True)["all"].labels.tolist() == [0, 1, 0, 1]


def test_ids_may_carry_the_ending_of_their_files(disk):
    disk.kaggle(disk.patches(4), [0, 1, 0, 1], ["a", "b", "c", "d.tif"])
    table = disk.folder / "train_labels.csv"
    table.write_text(table.read_text().replace("a,", "a.tif,").replace("b,", "b.TIF,"))
    assert open_data(disk.folder, whole=True)["all"].ids.tolist() == ["a", "b", "c", "d.tif"]


def test_files_that_begin_with_a_dot_are_no_images(disk):
    disk.kaggle(disk.patches(4), [0, 1, 0, 1])
    (disk.folder / "train" / "._a.tif").write_bytes(b"of a Macintosh")
    assert open_data(disk.folder, whole=True).warnings == ()


def test_other_columns_are_refused(disk):
    disk.kaggle(disk.patches(20), LABELS)
    (disk.folder / "train_labels.csv").write_text("name,class\na,1\n")
    with pytest.raises(DataError, match="'id,label'"):
        open_data(disk.folder)


def test_a_text_file_called_tif_is_refused_by_name_with_all_others_like_it(disk):
    disk.kaggle(disk.patches(20), LABELS)
    for i in (3, 7):
        (disk.folder / "train" / f"{i:040x}.tif").write_text("I am text")
    with pytest.raises(DataError, match="2 patches cannot be used") as refused:
        open_data(disk.folder)["train"]
    assert f"{3:040x}.tif: this is not an image" in refused.value.what
    assert f"{7:040x}.tif" in refused.value.what
    assert "data audit" in refused.value.hint


def test_a_truncated_image_is_refused_by_name(disk):
    disk.kaggle(disk.patches(20), LABELS)
    path = disk.folder / "train" / f"{3:040x}.tif"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=rf"{3:040x}.tif"):
        open_data(disk.folder)["train"]


@pytest.mark.parametrize("names", [("0", "1"), ("normal", "tumor"), ("Normal", "Tumour"), ("benign", "metastasis")])
def test_class_folders_go_by_many_names(disk, names):
    images = disk.patches(20)
    disk.classes(images, LABELS, names)
    assert open_data(disk.folder).kind == "folder"
    read = everything(disk.folder)
    np.testing.assert_array_equal(read[f"{names[1]}/3.png"][0], images[3])
    assert [read[f"{names[LABELS[i]]}/{i}.png"][1] for i in range(20)] == LABELS


def test_split_folders_above_the_classes_are_kept(disk):
    images = disk.patches(20)
    for split in ("train", "val", "test"):
        disk.classes(images, LABELS, ("normal", "tumour"), below=split)
    data = open_data(disk.folder)
    assert (data.own_splits, data.splits) == (True, ("train", "valid", "test"))
    assert set(data["valid"].ids[:2]) == {"val/normal/0.png", "val/normal/10.png"}
    assert data.assignment() == {}


def test_two_folders_for_one_split_are_refused(disk):
    for split in ("val", "validation"):
        disk.classes(disk.patches(20), LABELS, ("normal", "tumour"), below=split)
    with pytest.raises(DataError, match="val and validation are both the valid split"):
        open_data(disk.folder)


def test_one_class_only_is_read(disk):
    disk.classes(disk.patches(20), [1] * 20, ("normal", "tumour"))
    assert open_data(disk.folder)["train"].labels.min() == 1


def test_a_folder_with_images_that_is_no_class_is_refused(disk):
    disk.classes(disk.patches(20), LABELS, ("normal", "tumour"))
    (disk.folder / "tumour").rename(disk.folder / "unsure")
    with pytest.raises(DataError, match="its name is not a known class") as refused:
        open_data(disk.folder)
    assert refused.value.where == disk.folder / "unsure"


def test_class_folders_without_images_are_refused(disk):
    for name in ("normal", "tumour"):
        (disk.folder / name).mkdir(parents=True)
    with pytest.raises(DataError, match="no images in normal or tumour"):
        open_data(disk.folder)


def test_images_of_another_size_are_refused_never_squeezed(disk):
    disk.classes(disk.patches(20), LABELS, ("normal", "tumour"))
    Image.new("RGB", (50, 96)).save(disk.folder / "normal" / "0.png")
    with pytest.raises(DataError, match=r"19 of 96 x 96 pixels, 1 of 50 x 96 \(such as 0.png\)"):
        open_data(disk.folder)["train"]


def test_grey_images_are_refused(disk):
    disk.classes(disk.patches(20), LABELS, ("normal", "tumour"))
    Image.new("I;16", (96, 96)).save(disk.folder / "normal" / "0.png")
    with pytest.raises(DataError, match="not an 8-bit RGB image"):
        open_data(disk.folder)["train"]


def test_the_audit_goes_on_past_what_opening_refuses(disk):
    disk.classes(disk.patches(20), LABELS, ("normal", "tumour"))
    (disk.folder / "normal" / "0.png").write_text("I am text")
    (split,) = audit(disk.folder, show=False).splits
    assert split.patches == 20
    assert split.corrupt == {"normal/0.png": "this is not an image, although its name says so."}
