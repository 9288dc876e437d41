from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinode.errors import DataError
from sentinode.patches import PatchData, open_data
from sentinode.patches.slide_map import SlideMap, full_names, read_slide_map

LABELS = [0, 1] * 10


def written(folder: Path, rows: Iterable[tuple[object, object]], head: str = "id,slide") -> Path:
    path = folder / "map.csv"
    path.write_text(f"{head}\n" + "".join(f"{id},{slide}\n" for id, slide in rows))
    return path


def kaggle_ids(count: int = 20) -> list[str]:
    return [f"{i:040x}" for i in range(count)]


def by_id(data: PatchData, split: str) -> dict[str, str]:
    patches = data[split]
    return dict(zip(patches.ids.tolist(), patches.slides.tolist(), strict=True))


class TestWhatItNames:
    @pytest.mark.parametrize("column", ["slide", "wsi", "wsi_id", "slide_id", "Slide", "WSI"])
    def test_it_groups_and_silences_the_warning_of_leakage(self, disk, tmp_path, column):
        disk.kaggle(disk.patches(20), LABELS)
        rows = [(id, f"slide{i // 4}") for i, id in enumerate(kaggle_ids())]
        data = open_data(disk.folder, slide_map=written(tmp_path, rows, f"id,{column}"))
        assert data.warnings == ()
        slides = [set(data[split].slides) for split in data.splits]
        assert sum(len(s) for s in slides) == len(set.union(*slides)) == 5

    @pytest.mark.parametrize(
        "named",
        [
            "{split}/{cls}/{i}.png",
            "./{split}/{cls}/{i}.png",
            ".\\{split}\\{cls}\\{i}.png",
            "/{split}/{cls}/{i}.png",
            "{split}/{cls}/{i}",
            "{cls}/{i}.png",
            "{i}.png",
            "{i}",
            "{i}.tif",  # the same patch before it was converted
        ],
    )
    def test_a_row_may_call_a_patch_by_its_path_or_less_of_it(self, disk, tmp_path, named):
        for split, first in (("train", 0), ("test", 50)):
            disk.classes(disk.patches(4), [0, 1, 0, 1], ("normal", "tumour"), split)
            for number, image in enumerate(sorted((disk.folder / split).rglob("*.png"))):
                image.rename(image.with_name(f"{first + number}.png"))
        ids = [id for split in ("train", "test") for id in open_data(disk.folder)[split].ids]
        wanted = {id: f"slide{number % 3}" for number, id in enumerate(ids)}

        def called(id: str) -> str:
            split, cls, file = id.split("/")
            return named.format(split=split, cls=cls, i=file.removesuffix(".png"))

        path = written(tmp_path, [(called(id), slide) for id, slide in wanted.items()])
        data = open_data(disk.folder, slide_map=path)
        assert by_id(data, "train") | by_id(data, "test") == wanted

    def test_kaggles_ids_may_carry_the_ending_of_their_files(self, disk, tmp_path):
        disk.kaggle(disk.patches(20), LABELS)
        path = written(tmp_path, [(f"{id}.tif", i % 4) for i, id in enumerate(kaggle_ids())])
        assert by_id(open_data(disk.folder, slide_map=path, whole=True), "all") == {
            id: str(i % 4) for i, id in enumerate(kaggle_ids())
        }

    def test_a_number_is_an_id_like_any_other(self, disk, tmp_path):
        disk.kaggle(disk.patches(20), LABELS, [str(i) for i in range(20)])
        path = written(tmp_path, [(i, i // 5) for i in range(20)])
        assert set(open_data(disk.folder, slide_map=path, whole=True)["all"].slides) == {"0", "1", "2", "3"}

    def test_rows_of_other_patches_do_not_matter(self, disk, tmp_path):
        disk.kaggle(disk.patches(20), LABELS)
        rows = [(id, i // 4) for i, id in enumerate(kaggle_ids())] + [("elsewhere", "x")]
        assert "x" not in open_data(disk.folder, slide_map=written(tmp_path, rows), whole=True)["all"].slides

    def test_the_meta_csv_of_the_data_gives_way_to_it(self, disk, tmp_path):
        disk.official("train", disk.patches(6), [0, 1] * 3, ["a", "b"] * 3)
        path = written(tmp_path, [(f"train/{i:06d}", "mine") for i in range(6)])
        assert set(open_data(disk.folder, slide_map=path)["train"].slides) == {"mine"}


class TestWhatItLeavesOut:
    """Nobody means a map that names some patches only: their slides would be made up."""

    def test_ten_named_patches_of_a_thousand_are_no_slides(self):
        ids = [f"test/{i:06d}" for i in range(1000)]
        few = SlideMap(Path("map.csv"), dict.fromkeys(ids[:10], "one"))
        with pytest.raises(DataError) as refused:
            few.of(ids, ids, "the 1,000 patches of test")
        assert "names 10 of the 1,000 patches of test, and not the other 990" in refused.value.what
        assert "such as test/000010" in refused.value.what

    def test_it_is_refused_when_whole_data_is_taken(self, disk, tmp_path):
        disk.kaggle(disk.patches(20), LABELS)
        path = written(tmp_path, [(id, "x") for id in kaggle_ids(16)])
        data = open_data(disk.folder, slide_map=path, whole=True)
        with pytest.raises(DataError, match="names 16 of the 20 patches of all, and not the other 4"):
            data["all"]

    def test_it_is_refused_before_patches_are_dealt(self, disk, tmp_path):
        disk.kaggle(disk.patches(20), LABELS)
        path = written(tmp_path, [(id, i // 4) for i, id in enumerate(kaggle_ids(16))])
        with pytest.raises(DataError, match="names 16 of the 20 patches"):
            open_data(disk.folder, slide_map=path)

    @pytest.mark.parametrize("empty", ["", " ", "nan", "NaN", "None", "NULL", "unknown"])
    def test_a_row_without_a_slide_says_that_it_is_not_known(self, disk, tmp_path, empty):
        disk.kaggle(disk.patches(20), LABELS)
        rows = [(id, f"s{i // 4}" if i < 16 else empty) for i, id in enumerate(kaggle_ids())]
        data = open_data(disk.folder, slide_map=written(tmp_path, rows))
        assert data.warnings[0].startswith("Leakage: the slide map leaves the slide of 4 of 20 patches empty")
        found = by_id(data, "train")
        assert [found[id] for id in kaggle_ids()[16:]] == [""] * 4

    def test_a_map_without_any_slide_is_refused(self, disk, tmp_path):
        disk.kaggle(disk.patches(20), LABELS)
        path = written(tmp_path, [(id, "") for id in kaggle_ids()])
        with pytest.raises(DataError, match="leaves the slide of each of the 20 patches empty"):
            open_data(disk.folder, slide_map=path)

    def test_a_map_of_other_patches_is_refused_and_shows_its_ids(self, disk, tmp_path):
        disk.kaggle(disk.patches(20), LABELS)
        with pytest.raises(DataError, match=r"names none of the 20 patches.*ids of the map are such as something"):
            open_data(disk.folder, slide_map=written(tmp_path, [("something", "else")]))


class TestSplits:
    """Only the split that is used has to be named."""

    def test_a_map_of_test_serves_test_and_not_train(self, disk, tmp_path):
        for split in ("train", "test"):
            disk.official(split, disk.patches(6), [0, 1] * 3)
        path = written(tmp_path, [(f"test/{i:06d}", f"s{i // 2}") for i in range(6)])
        data = open_data(disk.folder, slide_map=path)
        assert data["test"].slides.tolist() == ["s0", "s0", "s1", "s1", "s2", "s2"]
        with pytest.raises(DataError, match="names none of the 6 patches of train"):
            data["train"]

    def test_half_of_test_is_refused_though_all_of_train_is_named(self, disk, tmp_path):
        for split in ("train", "test"):
            disk.official(split, disk.patches(6), [0, 1] * 3)
        rows = [(f"train/{i:06d}", "a") for i in range(6)] + [(f"test/{i:06d}", "b") for i in range(3)]
        data = open_data(disk.folder, slide_map=written(tmp_path, rows))
        assert set(data["train"].slides) == {"a"}
        with pytest.raises(DataError, match="names 3 of the 6 patches of test, and not the other 3"):
            data["test"]

    def test_of_a_stored_split_only_the_part_that_is_used_must_be_named(self, disk, tmp_path):
        disk.kaggle(disk.patches(20), LABELS)
        stored = open_data(disk.folder).assignment()
        named = [id for id, split in stored.items() if split == "test"]
        data = open_data(disk.folder, slide_map=written(tmp_path, [(id, "s") for id in named]), assignment=stored)
        assert set(data["test"].slides) == {"s"}
        with pytest.raises(DataError, match="names none of the 16 patches of train"):
            data["train"]

    def test_it_is_refused_before_pixels_are_unpacked(self, disk, tmp_path):
        disk.kaggle(disk.patches(20), LABELS)
        path = written(tmp_path, [(id, "x") for id in kaggle_ids(16)])
        with pytest.raises(DataError):
            open_data(disk.folder, slide_map=path, whole=True, cache=tmp_path / "cache")["all"]
        assert not list(tmp_path.rglob("pixels.bin"))


class TestNamesThatCouldMeanTwoPatches:
    def test_a_stem_in_two_class_folders_is_refused_with_both(self, disk, tmp_path):
        for name, label in (("normal", 0), ("tumor", 1)):
            disk.classes(disk.patches(3), [label] * 3, ("normal", "tumor"))
            assert (disk.folder / name / "0.png").is_file()
        data = open_data(disk.folder, slide_map=written(tmp_path, [(i, i) for i in range(3)]), whole=True)
        with pytest.raises(DataError, match=r"'0' could be the patch normal/0\.png or tumor/0\.png"):
            data["all"]

    def test_whole_paths_tell_them_apart(self, disk, tmp_path):
        for label in (0, 1):
            disk.classes(disk.patches(3), [label] * 3, ("normal", "tumor"))
        rows = [(f"{name}/{i}.png", f"{name}{i}") for name in ("normal", "tumor") for i in range(3)]
        path = written(tmp_path, [*rows, ("0", "of neither")])
        found = by_id(open_data(disk.folder, slide_map=path, whole=True), "all")
        assert found == dict(rows)

    def test_a_row_of_another_split_is_refused(self, disk, tmp_path):
        for split in ("train", "test"):
            disk.official(split, disk.patches(6), [0, 1] * 3)
        path = written(tmp_path, [(f"{i:06d}", f"s{i}") for i in range(6)])
        with pytest.raises(DataError, match="'000000' could be the patch train/000000 or test/000000"):
            open_data(disk.folder, slide_map=path)["test"]

    def test_a_row_is_clear_where_there_is_one_split(self, disk, tmp_path):
        disk.official("test", disk.patches(6), [0, 1] * 3)
        path = written(tmp_path, [(f"{i:06d}", f"s{i // 3}") for i in range(6)])
        assert set(open_data(disk.folder, slide_map=path)["test"].slides) == {"s0", "s1"}

    def test_ids_that_two_splits_share_need_the_split_in_front(self, disk, tmp_path):
        for split in ("train", "test"):
            disk.parquet(f"{split}.parquet", disk.patches(4), [0, 1, 0, 1])
        assert open_data(disk.folder)["train"].ids.tolist() == open_data(disk.folder)["test"].ids.tolist()
        with pytest.raises(DataError, match="'0' could be the patch train/0 or test/0"):
            open_data(disk.folder, slide_map=written(tmp_path, [(i, f"s{i}") for i in range(4)]))["test"]
        path = written(tmp_path, [(f"test/{i}", f"s{i}") for i in range(4)])
        assert open_data(disk.folder, slide_map=path)["test"].slides.tolist() == ["s0", "s1", "s2", "s3"]

    def test_two_endings_of_one_name_are_two_patches(self):
        names = ["normal/0.png", "normal/0.tif"]
        with pytest.raises(DataError, match="could be the patch"):
            SlideMap(Path("map.csv"), {"normal/0": "a"}).of(names, names, "the patches")


class TestRows:
    @pytest.mark.parametrize(
        "rows", [[("a", "x"), ("a", "y")], [("a/b", "x"), ("./a\\b", "y")], [("a", ""), ("a", "y")]]
    )
    def test_a_map_that_contradicts_itself_is_refused(self, tmp_path, rows):
        with pytest.raises(DataError, match=r"is listed twice, with the slides (x|unknown) and y"):
            read_slide_map(written(tmp_path, rows))

    def test_so_is_one_that_does_so_with_and_without_an_ending(self, tmp_path):
        with pytest.raises(DataError, match=r"a\.tif is listed twice, with the slides x and y"):
            read_slide_map(written(tmp_path, [("a", "x"), ("a.tif", "y")]))

    def test_a_row_may_repeat(self, tmp_path):
        assert read_slide_map(written(tmp_path, [("a", "x"), ("a", "x")])).slides == {"a": "x"}

    def test_a_row_without_an_id_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="a row has no id"):
            read_slide_map(written(tmp_path, [("a", "x"), ("", "y")]))

    def test_a_map_with_other_columns_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="the table has patch, case"):
            read_slide_map(written(tmp_path, [("a", "b")], "patch,case"))


names = st.lists(st.from_regex(r"[ab]/[ab01]{1,2}(\.png|\.tif)", fullmatch=True), unique=True, min_size=1)


@given(names, st.data())
def test_a_patch_gets_its_own_slide_or_the_map_is_refused(ids: list[str], data: st.DataObject) -> None:
    """However rows shorten the names of their patches, no patch is given the slide of another."""
    full = full_names("", ids)
    slides = {}
    for number, name in enumerate(full):
        shorter = data.draw(st.sampled_from([name, name.split("/")[1], name[:-4], name.split("/")[1][:-4]]))
        slides.setdefault(shorter, f"slide {number}")
    try:
        found = SlideMap(Path("map.csv"), slides).of(full, full, "the patches")
    except DataError:
        return
    assert found.tolist() == [f"slide {number}" for number in range(len(full))]


def test_the_split_stands_in_front_of_a_name_once() -> None:
    assert full_names("test", ["test/000001", "b"]) == ["test/000001", "test/b"]
    assert full_names("", ["a\\b", "./c"]) == ["a/b", "c"]
    assert np.array(full_names("train", [])).size == 0
