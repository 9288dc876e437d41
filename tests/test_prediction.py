import csv
import errno
import io
import json
import os
import sys
import tracemalloc
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from sentinode import prediction
from sentinode.errors import DataError, OutputError
from sentinode.model.bundle import Bundle
from sentinode.model.engines import open_engine
from sentinode.patches import open_data
from sentinode.patches.table import read_table
from sentinode.prediction import predict


@pytest.fixture(scope="module")
def images(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten patches as PNG files."""
    folder = tmp_path_factory.mktemp("images")
    for number, pixels in enumerate(open_data(generated, show=False)["test"].images[:10]):
        Image.fromarray(pixels).save(folder / f"patch{number}.png")
    return folder


@pytest.fixture
def mixed(images: Path, tmp_path: Path) -> Path:
    """The same with a broken one among them."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for image in images.iterdir():
        (folder / image.name).write_bytes(image.read_bytes())
    (folder / "patch3.png").write_text("this is text")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_for_each_image_with_the_engines_probability(
    bundle: Bundle, images: Path, tmp_path: Path
) -> None:
    done = predict(bundle, [images], out=tmp_path / "out.csv", device="cpu", precision="float32", show=False)
    table = rows(tmp_path / "out.csv")
    assert list(table[0]) == ["id", "probability", "tumour", "error"]
    assert [row["id"] for row in table] == [f"{images.as_posix()}/patch{number}.png" for number in range(10)]
    pixels = np.stack([np.asarray(Image.open(row["id"])) for row in table])
    expected = open_engine(bundle, kind="fastest", device="cpu", precision="float32").probabilities(pixels)
    probabilities = np.array([float(row["probability"]) for row in table])
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)
    assert [row["tumour"] for row in table] == [
        "true" if p >= bundle.card.threshold else "false" for p in probabilities
    ]
    assert (done.done, done.failures, done.out) == (10, (), tmp_path / "out.csv")


def test_kaggles_columns_are_id_and_label(bundle: Bundle, images: Path, tmp_path: Path) -> None:
    predict(bundle, [images], out=tmp_path / "submission.csv", format="kaggle", show=False)
    table = rows(tmp_path / "submission.csv")
    assert list(table[0]) == ["id", "label"]
    assert table[0]["id"] == "patch0"
    assert 0 <= float(table[0]["label"]) <= 1


def test_kaggles_ids_are_those_of_the_images_in_parquet(bundle: Bundle, images: Path, tmp_path: Path) -> None:
    names = [f"{number:040x}.tif" for number in range(10)]
    held = [{"bytes": (images / f"patch{number}.png").read_bytes(), "path": name} for number, name in enumerate(names)]
    pq.write_table(pa.table({"image": held}), tmp_path / "images.parquet")
    predict(bundle, [tmp_path / "images.parquet"], out=tmp_path / "submission.csv", format="kaggle", show=False)
    predict(bundle, [images], out=tmp_path / "same.csv", format="kaggle", show=False)
    table, same = rows(tmp_path / "submission.csv"), rows(tmp_path / "same.csv")
    assert [row["id"] for row in table] == [f"{number:040x}" for number in range(10)]
    assert [row["label"] for row in table] == [row["label"] for row in same]


def test_an_id_that_would_be_a_formula_is_a_text_in_csv_alone(
    bundle: Bundle, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("=1+1.png").write_bytes((images / "patch0.png").read_bytes())
    found = {}
    for name in ("out.csv", "out.jsonl", "kaggle.csv"):
        format = "kaggle" if name == "kaggle.csv" else None
        predict(bundle, ["=1+1.png"], out=tmp_path / name, format=format, device="cpu", show=False)
        found[name] = (tmp_path / name).read_text("utf-8")
    assert found["out.csv"].splitlines()[1].startswith("'=1+1.png,")
    assert json.loads(found["out.jsonl"])["id"] == "=1+1.png"
    assert found["kaggle.csv"].splitlines()[1].startswith("=1+1,")
    assert read_table(tmp_path / "out.csv", ("id",)) == [("=1+1.png",)]


def test_a_submission_with_an_id_twice_is_refused(bundle: Bundle, images: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "patch0.png").write_bytes((images / "patch0.png").read_bytes())
    with pytest.raises(OutputError, match="the id 'patch0' means two patches") as refused:
        predict(bundle, [images, tmp_path / "other"], out=tmp_path / "out.csv", format="kaggle", show=False)
    assert "other/patch0.png" in refused.value.what
    assert not (tmp_path / "out.csv").exists()
    assert predict(bundle, [images, tmp_path / "other"], out=tmp_path / "out.csv", show=False).done == 11


def test_parquet_and_json_lines_say_the_same(bundle: Bundle, mixed: Path, tmp_path: Path) -> None:
    predict(bundle, [mixed], out=tmp_path / "a.parquet", show=False)
    predict(bundle, [mixed], out=tmp_path / "a.jsonl", show=False)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    for row, line in zip(pq.read_table(tmp_path / "a.parquet").to_pylist(), lines, strict=True):
        assert row["probability"] == (line["probability"] and pytest.approx(line["probability"]))
        assert {key: row[key] for key in ("id", "tumour", "error")} == {
            key: line[key] for key in ("id", "tumour", "error")
        }


def test_a_broken_file_keeps_its_row_with_the_reason_and_the_rest_is_predicted(
    bundle: Bundle, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = predict(bundle, [mixed], out=tmp_path / "out.csv")
    table = rows(tmp_path / "out.csv")
    assert len(table) == 10
    assert table[3]["probability"] == table[3]["tumour"] == ""
    assert "not an image" in table[3]["error"]
    assert all(row["probability"] and not row["error"] for row in table[:3] + table[4:])
    assert done.done == 9
    assert [failed.id for failed in done.failures] == [f"{mixed.as_posix()}/patch3.png"]
    assert "not an image" in " ".join(capsys.readouterr().err.split())


def test_kaggles_table_leaves_out_what_failed(bundle: Bundle, mixed: Path, tmp_path: Path) -> None:
    predict(bundle, [mixed], out=tmp_path / "out.csv", format="kaggle", show=False)
    assert "patch3" not in {row["id"] for row in rows(tmp_path / "out.csv")}


def test_where_nothing_can_be_predicted_nothing_is_written(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the 1 inputs"):
        predict(bundle, [tmp_path / "gone.png"], out=tmp_path / "out.csv", show=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="nothing to predict"):
        predict(bundle, [], show=False)


def test_without_a_file_the_rows_are_returned(bundle: Bundle, images: Path) -> None:
    done = predict(bundle, [images / "patch0.png", images / "patch1.png"], show=False)
    assert [Path(row.id).name for row in done.rows] == ["patch0.png", "patch1.png"]


def test_a_stream_gets_csv(bundle: Bundle, images: Path) -> None:
    stream = io.StringIO()
    predict(bundle, [images], out=stream, show=False)
    assert stream.getvalue().startswith("id,probability,tumour,error\n")
    with pytest.raises(OutputError, match="Parquet cannot"):
        predict(bundle, [images], out=stream, format="parquet", show=False)


def test_hdf5_is_predicted_row_by_row(bundle: Bundle, generated: Path) -> None:
    file = next(generated.glob("*test_x.h5"))
    done = predict(bundle, [file], show=False)
    assert done.done == 128
    assert done.rows[5].id == f"{file.as_posix()}#5"


def test_another_size_needs_its_resolution(bundle: Bundle, tmp_path: Path) -> None:
    Image.new("RGB", (384, 384), "pink").save(tmp_path / "large.png")
    with pytest.raises(DataError, match="--mpp"):
        predict(bundle, [tmp_path / "large.png"], show=False)
    assert predict(bundle, [tmp_path / "large.png"], mpp=0.243, show=False).done == 1


@pytest.mark.parametrize(("name", "format"), [("out.txt", None), ("out.csv", "cvs"), ("out", None)])
def test_an_unknown_format_names_those_there_are(
    bundle: Bundle, images: Path, tmp_path: Path, name: str, format: str | None
) -> None:
    with pytest.raises(OutputError, match="jsonl"):
        predict(bundle, [images], out=tmp_path / name, format=format, show=False)


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out.jsonl"])
def test_a_full_disk_leaves_nothing_half_written(
    bundle: Bundle, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    opened = Path.open

    def full(path: Path, mode: object = "r", **named: object) -> IO[Any]:
        if mode in ("r", "rb"):
            return opened(path, mode, **named)  # type: ignore[arg-type, return-value]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pq, "ParquetWriter", full)
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OutputError, match="disk is full"):
        predict(bundle, [images / "patch0.png"], out=tmp_path / name, show=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_place_that_not_even_root_can_write_is_refused(bundle: Bundle, images: Path) -> None:
    with pytest.raises(OutputError):
        predict(bundle, [images], out="/proc/sentinode/out.csv", show=False)


class Undecided:
    """An engine that costs nothing."""

    name, batch = "undecided", 64

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full(len(images), 0.5, np.float32)


def test_many_patches_need_no_more_memory_than_few(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "open_engine", lambda *_, **__: Undecided())
    with h5py.File(tmp_path / "many.h5", "w") as file:
        images = file.create_dataset("x", (3000, 96, 96, 3), "uint8", chunks=(64, 96, 96, 3), compression="gzip")
        for start in range(0, 3000, 64):
            images[start : start + 64] = 200
    tracemalloc.start()
    predict(bundle, [tmp_path / "many.h5"], out=tmp_path / "out.csv", show=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3000 * 96 * 96 * 3 / 2
