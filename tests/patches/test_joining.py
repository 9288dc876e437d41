"""Further patches in the train split: what joins, under which ids, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sentinode.errors import DataError
from sentinode.patches import open_data
from sentinode.patches.joining import Joined
from sentinode.patches.synthetic import synthesise


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    synthesise(folder, train=24, valid=12, test=12, slides=3, show=False)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    synthesise(folder, train=10, valid=4, test=4, slides=2, seed=7, show=False)
    return folder


def folders(root: Path, names: tuple[str, ...], size: int = 96, each: int = 6) -> Path:
    for shade, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(each):
            Image.new("RGB", (size, size), (100 + number, 50 * shade, 90)).save(root / name / f"{number}.png")
    return root


@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(sum),
    data=st.data(),
)
def test_rows_of_joined_images_are_those_of_one_array(sizes: list[int], data: st.DataObject) -> None:
    parts = [np.random.default_rng(size).integers(0, 256, (size, 4, 4, 3), np.uint8) for size in sizes]
    whole, joined = np.concatenate(parts), Joined(parts)
    assert (joined.shape, len(joined)) == (whole.shape, len(whole))
    rows = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=12)), np.int64)
    np.testing.assert_array_equal(joined[rows], whole[rows])
    start, stop = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 12))
    np.testing.assert_array_equal(joined[start:stop], whole[start:stop])


def test_the_train_split_of_other_data_joins_the_train_split(first: Path, other: Path) -> None:
    alone, more = open_data(first, show=False), open_data(other, show=False)
    data = open_data(first, also=[other], show=False)
    train = data["train"]
    assert len(train) == 34
    np.testing.assert_array_equal(train.labels, np.concatenate([alone["train"].labels, more["train"].labels]))
    rows = np.arange(20, 28)
    expected = np.concatenate([alone["train"].images[20:24], more["train"].images[0:4]])
    np.testing.assert_array_equal(train.images[rows], expected)
    assert len(set(train.ids.tolist())) == 34
    assert train.ids[24] == "also-1/train/000000"
    assert train.slides is not None
    assert len(train.slides) == 34
    for split in ("valid", "test"):
        assert data[split].fingerprint() == alone[split].fingerprint()
    assert any("only the train split is used; valid and test are left out" in warning for warning in data.warnings)


def test_data_without_splits_joins_whole(first: Path, tmp_path: Path) -> None:
    path = folders(tmp_path / "hard", ("normal", "tumour"))
    train = open_data(first, also=[path], show=False)["train"]
    assert len(train) == 24 + 12
    assert train.labels[24:].tolist() == [0] * 6 + [1] * 6


def test_patches_of_one_class_may_join(first: Path, tmp_path: Path) -> None:
    path = folders(tmp_path / "hard", ("normal",))
    assert open_data(first, also=[path], show=False)["train"].labels[24:].tolist() == [0] * 6


def test_the_same_data_twice_has_two_names(first: Path, other: Path) -> None:
    ids = open_data(first, also=[other, other], show=False)["train"].ids.tolist()
    assert len(set(ids)) == len(ids) == 44


def test_it_joins_the_train_split_that_is_dealt(other: Path, tmp_path: Path) -> None:
    path = folders(tmp_path / "dealt", ("normal", "tumour"), each=20)
    alone, data = open_data(path, show=False), open_data(path, also=[other], show=False)
    assert len(data["train"]) == len(alone["train"]) + 10
    assert data.assignment() == alone.assignment()


def test_slides_of_valid_among_further_patches_are_said(first: Path, tmp_path: Path) -> None:
    hard = folders(tmp_path / "hard", ("normal",))
    data = open_data(first, also=[hard], show=False)
    assert not any("Leakage" in warning for warning in data.warnings)
    name = sorted(data.slides("valid"))[0]
    copy = tmp_path / "copy"
    synthesise(copy, train=10, valid=4, test=4, slides=2, show=False)
    meta = copy / "camelyonpatch_level_2_split_train_meta.csv"
    lines = meta.read_text("utf-8").splitlines()
    column = lines[0].split(",").index("wsi")
    rows = [line.split(",") for line in lines[1:]]
    meta.write_text("\n".join([lines[0], *(",".join([*r[:column], name, *r[column + 1 :]]) for r in rows)]), "utf-8")
    warned = open_data(first, also=[copy], show=False).warnings
    assert any(f"such as {name}, are named like slides of valid" in warning for warning in warned)


def test_other_patches_are_refused(first: Path, tmp_path: Path) -> None:
    path = folders(tmp_path / "large", ("normal", "tumour"), size=128)
    with pytest.raises(DataError, match="128 x 128 pixels, not 96 x 96; the data that they join has others") as no:
        open_data(first, also=[path], show=False)
    assert "bundle" not in str(no.value)


def test_other_classes_are_refused(tmp_path: Path) -> None:
    lung = folders(tmp_path / "lung", ("aca", "n"), each=20)
    with pytest.raises(DataError, match="no class folder aca"):
        open_data(lung, positive=["aca"], also=[folders(tmp_path / "node", ("normal", "tumour"))], show=False)
    node = folders(tmp_path / "other", ("normal", "tumour"), each=20)
    with pytest.raises(DataError, match="their names do not tell which is positive"):
        open_data(node, also=[lung], show=False)
    colon = folders(tmp_path / "colon", ("aca", "benign"))
    with pytest.raises(DataError, match="benign and aca, but the data that these patches are to join has n and"):
        open_data(lung, positive=["aca"], also=[colon], show=False)


def test_data_without_a_train_split_is_refused(first: Path, tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    for what in ("x", "y"):
        name = f"camelyonpatch_level_2_split_valid_{what}.h5"
        (tmp_path / "only" / name).write_bytes((first / name).read_bytes())
    with pytest.raises(DataError, match="no train split here, only valid"):
        open_data(first, also=[tmp_path / "only"], show=False)


def test_nothing_at_the_path_is_refused(first: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing here"):
        open_data(first, also=[tmp_path / "gone"], show=False)
