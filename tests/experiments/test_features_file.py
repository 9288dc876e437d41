"""Files of features: what is written comes back, and what is no such file is refused by name."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sentinode.errors import DataError, OutputError
from sentinode.experiments import features_file
from sentinode.experiments.features_file import Embeddings, read_embeddings, write_embeddings
from sentinode.patches import parquet


@pytest.mark.parametrize("ending", ["npz", "parquet"])
@pytest.mark.parametrize("known", [True, False])
def test_what_is_written_comes_back(features: Embeddings, tmp_path: Path, ending: str, known: bool) -> None:
    given = replace(features, about={"backbone": "größe", "class_names": ["a", "b"]})
    given = given if known else replace(given, slides=None)
    path = tmp_path / f"f.{ending}"
    write_embeddings(path, given)
    back = read_embeddings(path)
    for name in ("features", "labels", "ids", "split"):
        np.testing.assert_array_equal(getattr(back, name), getattr(given, name))
    assert (back.slides is None) == (not known)
    assert back.about == given.about
    assert back.class_names == ("a", "b")
    assert back.splits == ("train", "valid", "test")


def test_another_program_may_write_the_file(features: Embeddings, file: Path) -> None:
    np.savez(file, features=features.features, labels=features.labels, ids=features.ids, split=features.split)
    assert len(read_embeddings(file)) == len(features)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"features": np.zeros((400,), np.float32)}, "not a vector for each patch"),
        ({"features": np.zeros((3, 5), np.float32)}, "3 vectors, but 400 labels"),
        ({"features": np.full((400, 5), np.nan, np.float32)}, "400 patches are not numbers"),
        ({"labels": np.full(400, 2)}, "labels other than 0 and 1"),
        ({"ids": np.full(400, "same")}, "same id"),
        ({"split": np.full(400, "validation")}, "a split 'validation'"),
        ({"slides": np.array(["one"])}, "but 1 slides"),
        ({"about": np.array("{")}, "what it says of its making"),
        ({"ids": np.array([object()] * 400, dtype=object)}, "not a file of features"),  # a pickle is never opened
    ],
)
def test_arrays_that_do_not_fit_are_refused(features: Embeddings, file: Path, change: dict, told: str) -> None:  # type: ignore[type-arg]
    arrays = {name: getattr(features, name) for name in ("features", "labels", "ids", "split")} | change
    np.savez(file, **arrays, allow_pickle=True)
    with pytest.raises(DataError, match=told):
        read_embeddings(file)


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_embeddings(tmp_path / name)
    (tmp_path / name).write_bytes(b"no such thing")
    with pytest.raises(DataError, match=r"not a file of features|Parquet"):
        read_embeddings(tmp_path / name)


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_a_file_that_unpacks_to_much_more_than_it_holds_is_refused_before(
    features: Embeddings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    path = tmp_path / f"f.{ending}"
    zeros = replace(features, features=np.zeros((len(features), 1000), np.float32))
    write_embeddings(path, zeros)
    if ending == "npz":
        arrays = {name: getattr(zeros, name) for name in ("features", "labels", "ids", "split")}
        np.savez_compressed(path, **arrays)
    read_embeddings(path)
    for module in (features_file, parquet):
        monkeypatch.setattr(module, "MOST_UNPACKED", 100)
        monkeypatch.setattr(module, "MOST_PACKED", 2)
    with pytest.raises(DataError, match="unpacks from"):
        read_embeddings(path)


def test_an_array_that_claims_more_than_the_memory_is_refused(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as written:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 20)}
        )
        written.writestr("features.npy", header.getvalue())
    with pytest.raises(DataError, match="not a file of features"):
        read_embeddings(file)


def test_missing_arrays_are_named(file: Path) -> None:
    np.savez(file, features=np.zeros((2, 2), np.float32), labels=np.array([0, 1]))
    with pytest.raises(DataError, match="no ids and no split"):
        read_embeddings(file)


def test_an_unknown_ending_is_refused(features: Embeddings, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.pkl"):
        write_embeddings(tmp_path / "f.pkl", features)
