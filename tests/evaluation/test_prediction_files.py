"""Tables of predictions as any program writes them: what is read, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentinode.errors import DataError
from sentinode.evaluation.prediction_files import read_predictions, write_predictions
from sentinode.model.bundle import Bundle
from sentinode.patches import open_data
from sentinode.prediction import predict

ROWS = "a,0,0.1\nb,1,0.75\nc,0,0.5\n"


@pytest.fixture
def table(tmp_path: Path) -> Any:
    def write(content: str | bytes, name: str = "model.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    "content",
    [
        "id,label,probability\n" + ROWS,
        "\ufeffID , Label, Probability\r\na,0,0.1\r\nb,1,0.75\r\nc,0,0.5\r\n",  # with a byte-order mark
        "probability,label,id\n0.1,0,a\n0.75,1,b\n0.5,0,c\n",
        "image_id,y_true,y_prob\na,0,1e-1\nb,1,0.75\nc,0,0.5\n",
        "filename,target,prob_tumor,prob_normal\na,0.0,0.1,0.9\nb,1.0,0.75,0.25\nc,0,0.5,0.5\n",
        ",y,score\na,0,0.1\nb,1,0.75\nc,0,0.5\n",  # pandas with an index
        "patch-id,Ground Truth,prob 1,pred\na,0,0.1,0\nb,1,0.75,1\nc,0,0.5,1\n",
        "id,label,probability,score\na,0,0.1,-2\nb,1,0.75,1\nc,0,0.5,0\n",  # the clearest name is taken
    ],
)
def test_the_columns_of_other_programs_are_found(table: Any, content: str) -> None:
    predictions = read_predictions(table(content))
    assert predictions.name == "model"
    assert predictions.ids.tolist() == ["a", "b", "c"]
    assert predictions.labels.tolist() == [0, 1, 0]
    assert predictions.probabilities.tolist() == [0.1, 0.75, 0.5]
    assert predictions.slides is None and predictions.copies is None
    assert predictions.threshold is None


def test_a_column_that_was_taken_under_another_name_is_told(table: Any) -> None:
    predictions = read_predictions(table("id,label,score\n" + ROWS))
    assert predictions.notes == ("Columns of model.csv: probability from 'score'.",)


def test_slides_and_copies_are_read_and_an_unknown_slide_is_empty(table: Any) -> None:
    predictions = read_predictions(
        table("id,label,probability,wsi,copies\na,0,0.1,s,x\nb,1,0.7,unknown,x\nc,0,0.5,s,\n")
    )
    assert predictions.slides is not None and predictions.copies is not None
    assert predictions.slides.tolist() == ["s", "", "s"]
    assert predictions.copies.tolist() == ["x", "x", ""]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        # ids
        ("label,probability\n0,0.1\n", "no column tells the id"),
        ("id,label,probability\na,0,0.1\n,1,0.7\n", "1 of 2 rows have no id; the first is row 2"),
        ("id,label,probability\na,0,0.1\na,1,0.7\n", "1 ids occur more than once, such as a"),
        # probabilities
        ("id,label\na,0\nb,1\n", "no column tells the probability"),
        ("id,label,probability\na,0,0.1\nb,1,nan\n", "1 of 2 rows have no probability; the first is row 2"),
        ("id,label,probability\na,0,\nb,1,0.5\n", "1 of 2 rows have no probability"),
        ("id,label,probability\na,0,0.1\nb,1,inf\n", "1 probabilities are infinite"),
        ("id,label,probability\na,0,0.1\nb,1,high\n", "'high' in row 2 of the column 'probability' is not a number"),
        ('id,label,probability\na,0,"0,1"\n', "Write decimals with a point"),
        ("id,label,probability\na,0,10\nb,1,97.5\n", "run from 10 to 97.5. They may be percent"),
        ("id,label,probability\na,0,10%\nb,1,97%\n", "If they are percent, say --scale percent"),
        ("id,label,probability\na,0,-3.2\nb,1,4\n", "They look like logits"),
        ("id,label,logit\na,0,0.1\nb,1,0.7\n", "called that of logits"),
        ("id,label,probability\na,0,-0.0001\nb,1,1.0\n", "Probabilities lie from 0 to 1"),
        ("id,label,probability\na,0,0\nb,1,1\nc,1,0\n", "look like the classes called"),
        ("id,label,pred\na,0,true\nb,1,false\n", "'true' in row 1"),
        ("id,label,prob,proba\na,0,0.1,0.2\n", "several columns may be the probability: 'prob', 'proba'"),
        ("id,label,probability,probability\na,0,0.1,0.2\n", "several columns may be the probability"),
        # labels
        ("id,probability\na,0.1\n", "no column tells the label"),
        ("id,label,probability\na,0,0.1\nb,,0.7\n", "1 of 2 rows have no label"),
        ("id,label,probability\na,normal,0.1\nb,tumour,0.7\n", "labels must be 0 or 1; these are 'normal', 'tumour'"),
        ("id,label,probability\na,-1,0.1\nb,1,0.7\n", "labels must be 0 or 1; these are '-1', '1'"),
        ("id,label\na,0.2\nb,0.9\n", "looks like a submission to Kaggle"),
        # the file
        ("", "this table is empty"),
        ("id,label,probability\n", "no rows"),
        ("id;label;probability\na;0;0,1\n", "separated by semicolons"),
        ("id\tlabel\tprobability\na\t0\t0.1\n", "separated by tabs"),
        ("id,label,probability\na,0\n", "line 2 has 2 cells"),
        ("id,label,probability\né,0,0.1\n".encode("latin-1"), "not a table in UTF-8"),
        ("id,label,probability\na,0,0.1\n".encode("utf-16"), "not a table in UTF-8"),
        (b"id,label,probability\na,0,0.1\n" + b"b" * 200_000 + b",1,0.5\n", "a cell is longer than 131,072 letters"),
        ("id,label,probability\na\0b,0,x\n", "holds a zero byte"),
        ("<!doctype html><p>sign in", "this is a web page"),
    ],
)
def test_what_could_be_misread_is_refused_by_name(table: Any, content: str | bytes, told: str) -> None:
    with pytest.raises(DataError, match=told) as refused:
        read_predictions(table(content))
    assert refused.value.where is not None


@pytest.mark.parametrize("name", ["model.xlsx", "model.txt", "model"])
def test_another_kind_of_file_is_refused(table: Any, name: str) -> None:
    with pytest.raises(DataError, match="not a table of predictions"):
        read_predictions(table("id,label,probability\n" + ROWS, name))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name in ("absent.csv", "absent.parquet", "absent.jsonl"):
        with pytest.raises(DataError, match="cannot be read"):
            read_predictions(tmp_path / name)


class TestOptions:
    def test_columns_are_named(self, table: Any) -> None:
        path = table("key,answer,m,v\na,0,0.1,s\nb,1,0.7,t\n")
        columns = {"id": "key", "label": "answer", "probability": "m", "slide": "v"}
        predictions = read_predictions(path, columns=columns)
        assert predictions.ids.tolist() == ["a", "b"]
        assert predictions.slides is not None

    @pytest.mark.parametrize(
        ("columns", "told"),
        [
            ({"id": "key"}, "the column 'key' .id. is not in this table"),
            ({"ids": "id"}, "no column role 'ids'; did you mean id"),
            ({"label": "probability"}, "one column has two roles"),
        ],
    )
    def test_columns_that_cannot_be_meant_are_refused(self, table: Any, columns: dict[str, str], told: str) -> None:
        with pytest.raises(DataError, match=told):
            read_predictions(table("id,label,probability\n" + ROWS), columns=columns)

    def test_logits_become_probabilities(self, table: Any) -> None:
        predictions = read_predictions(table("id,label,logit\na,0,-2\nb,1,3\n"), scale="logit")
        assert predictions.probabilities == pytest.approx([0.1192029, 0.9525741])

    def test_percent_becomes_probabilities(self, table: Any) -> None:
        predictions = read_predictions(table("id,label,probability\na,0,2%\nb,1,97.5\n"), scale="percent")
        assert predictions.probabilities == pytest.approx([0.02, 0.975])

    @pytest.mark.parametrize(
        ("scale", "cells", "told"),
        [
            ("logit", "0.1 0.9", "as probabilities do, and are said to be logits"),
            ("percent", "0.1 0.9", "as probabilities do, and are said to be percent"),
            ("percent", "-3 99", "which is not percent"),
            ("percent", "3 101", "which is not percent"),
            ("probability", "3 99", "may be percent"),
            ("odds", "3 99", "no scale 'odds'"),
        ],
    )
    def test_a_scale_that_the_numbers_contradict_is_refused(
        self, table: Any, scale: str, cells: str, told: str
    ) -> None:
        first, second = cells.split()
        with pytest.raises(DataError, match=told):
            read_predictions(table(f"id,label,probability\na,0,{first}\nb,1,{second}\n"), scale=scale)

    def test_sure_probabilities_are_taken_if_they_are_said_to_be_some(self, table: Any) -> None:
        path = table("id,label,probability\na,0,0\nb,1,1\nc,1,0\n")
        assert read_predictions(path, scale="probability").probabilities.tolist() == [0, 1, 0]

    def test_words_as_labels_need_the_positive_one(self, table: Any) -> None:
        path = table("id,label,probability\na,benign,0.1\nb,metastasis,0.7\n")
        predictions = read_predictions(path, positive=("metastasis",))
        assert predictions.labels.tolist() == [0, 1]
        assert predictions.class_names == ("benign", "metastasis")
        minus = table("id,label,probability\na,-1,0.1\nb,1.0,0.7\n")
        assert read_predictions(minus, positive=("1",)).labels.tolist() == [0, 1]

    @pytest.mark.parametrize(
        ("labels", "positive", "told"),
        [
            ("benign,metastasis", "tumour", "no label is 'tumour'"),
            ("benign,unknown,metastasis", "metastasis", "exactly one negative class"),
            ("metastasis,metastasis", "metastasis", "no label is left"),
            ("0,1", "0", "the labels are 0 and 1"),
        ],
    )
    def test_words_that_do_not_name_two_classes_are_refused(
        self, table: Any, labels: str, positive: str, told: str
    ) -> None:
        rows = "".join(f"{row},{label},0.{row + 1}\n" for row, label in enumerate(labels.split(",")))
        with pytest.raises(DataError, match=told):
            read_predictions(table("id,label,probability\n" + rows), positive=(positive,))

    def test_labels_slides_and_copies_come_from_other_tables(self, table: Any) -> None:
        path = table("id,probability\nb,0.7\na,0.1\n")
        labels = table("id,label\na,0\nb,1\nc,1\n", "labels.csv")
        slides = table("id,slide\na,s\nb,t\n", "slides.csv")
        copies = table("id,copies\na,x\nb,x\n", "copies.csv")
        predictions = read_predictions(path, labels=labels, slides=slides, copies=copies)
        assert predictions.labels.tolist() == [1, 0]
        assert predictions.slides is not None and predictions.slides.tolist() == ["t", "s"]
        assert predictions.copies is not None and predictions.copies.tolist() == ["x", "x"]
        assert predictions.notes == ("1 of 3 patches of labels.csv have no prediction, such as c. They are left out.",)

    @pytest.mark.parametrize(
        ("role", "here", "there"), [("label", "0", "1"), ("slide", "s", "t"), ("copies", "x", "y")]
    )
    def test_another_table_that_contradicts_a_column_is_refused(
        self, table: Any, role: str, here: str, there: str
    ) -> None:
        labels = [] if role == "label" else ["label", "0", "1"]
        rows = [["id", "a", "b"], ["probability", "0.1", "0.8"], [role, here, here], *([labels] if labels else [])]
        path = table("".join(",".join(cells) + "\n" for cells in zip(*rows, strict=True)))
        other = table(f"id,{role}\na,{here}\nb,{there}\n", "other.csv")
        option = {"label": "labels", "slide": "slides"}.get(role, role)
        with pytest.raises(DataError, match=r"1 of 2 patches have other \w+ here than in other\.csv, such as b"):
            read_predictions(path, **{option: other})

    def test_a_patch_that_the_other_table_lacks_is_refused(self, table: Any) -> None:
        path = table("id,probability\nb,0.7\nz,0.1\n")
        with pytest.raises(DataError, match=r"1 of 2 patches of model\.csv have no label here, such as z"):
            read_predictions(path, labels=table("id,label\na,0\nb,1\n", "labels.csv"))


class TestParquet:
    def test_numbers_as_ids_and_booleans_as_labels(self, tmp_path: Path) -> None:
        path = tmp_path / "model.parquet"
        pq.write_table(pa.table({"id": [3.0, 12.0], "label": [False, True], "probability": [0.2, 0.9]}), path)
        predictions = read_predictions(path)
        assert predictions.ids.tolist() == ["3", "12"]
        assert predictions.labels.tolist() == [0, 1]

    @pytest.mark.parametrize(
        ("columns", "told"),
        [
            ({"probability": [[0.1, 0.9]]}, "not one value a row"),
            ({"probability": [None]}, "1 of 1 rows have no probability"),
            ({"probability": [float("nan")]}, "1 of 1 rows have no probability"),
            ({"probability": [True]}, "the classes called, not probabilities"),
            ({"score": [2.5]}, "run from 2.5 to 2.5"),
        ],
    )
    def test_what_could_be_misread_is_refused(self, tmp_path: Path, columns: dict[str, Any], told: str) -> None:
        path = tmp_path / "model.parquet"
        pq.write_table(pa.table({"id": ["a"], "label": [1], **columns}), path)
        with pytest.raises(DataError, match=told):
            read_predictions(path)

    def test_a_truncated_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "model.parquet"
        pq.write_table(pa.table({"id": ["a"], "label": [1], "probability": [0.5]}), path)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(DataError, match="truncated or damaged"):
            read_predictions(path)

    @pytest.mark.parametrize("about", ["{", "[1]", '{"threshold": 2}', '{"class_names": "ab"}', "[" * 100_000])
    def test_a_damaged_note_beside_them_is_refused(self, tmp_path: Path, about: str) -> None:
        path = tmp_path / "model.parquet"
        columns = pa.table({"id": ["a"], "label": [1], "probability": [0.5]})
        pq.write_table(columns.replace_schema_metadata({"sentinode": about}), path)
        with pytest.raises(DataError, match="beside the predictions is damaged"):
            read_predictions(path)

    def test_what_is_written_is_read_back_whole(self, table: Any, tmp_path: Path) -> None:
        source = table("id,label,probability,slide,copies\na,n,0.1,s,x\nb,t,0.7,,x\n")
        written = read_predictions(source, positive=("t",), name="mine")
        path = tmp_path / "other.parquet"
        write_predictions(path, written)
        again = read_predictions(path)
        for name in ("name", "class_names", "threshold", "rule"):
            assert getattr(again, name) == getattr(written, name)
        for name in ("ids", "labels", "probabilities", "slides", "copies"):
            np.testing.assert_array_equal(getattr(again, name), getattr(written, name))


class TestJsonLines:
    def test_they_are_read(self, table: Any) -> None:
        rows = [{"id": "a", "label": 0, "probability": 0.1}, {"id": "b", "label": 1, "probability": 0.7, "error": None}]
        path = table("\n".join(map(json.dumps, rows)) + "\n\n", "model.jsonl")
        assert read_predictions(path).probabilities.tolist() == [0.1, 0.7]

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ("", "this table is empty"),
            ("[1]\n", "line 1 is not an object"),
            ('{"id": 1}\n{"id": \n', "line 2 is not JSON"),
            ("[" * 100_000, "line 1 is not JSON"),
            ('{"id": 1, "label": 0}\n', "no column tells the probability"),
            ('{"id": 1, "label": 0, "probability": [1]}\n', "not a number"),
        ],
    )
    def test_what_is_not_such_a_table_is_refused(self, table: Any, content: str, told: str) -> None:
        with pytest.raises(DataError, match=told):
            read_predictions(table(content, "model.jsonl"))


@pytest.mark.parametrize("format", ["csv", "kaggle", "parquet", "jsonl"])
def test_what_predict_writes_is_read_back_with_labels_beside_it(
    bundle: Bundle, generated: Path, tmp_path: Path, format: str
) -> None:
    source = next(generated.glob("*test_x*"))
    patches = open_data(generated, show=False)["test"]
    path = tmp_path / ("out." + ("csv" if format == "kaggle" else format))
    predict(bundle, [source], out=path, format=format, show=False)
    stem = source.stem if format == "kaggle" else source
    rows = "".join(f"{stem}#{row},{label}\n" for row, label in enumerate(patches.labels))
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\n" + rows)
    assert read_predictions(path, labels=labels).labels.tolist() == patches.labels.tolist()


def test_a_patch_that_could_not_be_predicted_is_refused_with_its_reason(table: Any) -> None:
    content = "id,probability,tumour,error\na,0.1,false,\nb,,,this is not an image\n"
    with pytest.raises(DataError, match="1 of 2 rows have no probability") as refused:
        read_predictions(table(content), labels=table("id,label\na,0\nb,1\n", "labels.csv"))
    assert "this is not an image" in str(refused.value)
