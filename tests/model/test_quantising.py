"""An int8 network is made of training patches, holds on valid, and is kept with its card; or it is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sentinode.cli import app
from sentinode.errors import BundleError, DataError, DeviceError, OutputError
from sentinode.model import quantising
from sentinode.model.bundle import PATCH, Architecture, Bundle, Int8Reading, load
from sentinode.model.engines.int8_engine import GRAPH, VALUES
from sentinode.model.quantising import ATTEMPTS, quantise
from sentinode.patches import PatchData, open_data


@pytest.fixture(scope="module")
def data(generated: Path) -> PatchData:
    return open_data(generated, show=False)


def reading(auc: float, nll: float = 0.3) -> Int8Reading:
    kept = {"auc_float32": 0.95, "nll_float32": 0.3, "largest_change": 0.1, "times_faster": 2, "n": 100}
    return Int8Reading.model_construct(auc=auc, nll=nll, **kept)


def test_the_int8_network_lies_in_the_bundle_with_its_section_of_the_card(int8_bundle: Bundle, bundle: Bundle) -> None:
    assert int8_bundle.fingerprint == bundle.fingerprint
    assert {GRAPH, VALUES} <= {file.name for file in int8_bundle.path.iterdir()}
    int8 = load(int8_bundle.path).card.int8
    assert int8 is not None and int8.made_from == bundle.fingerprint
    assert (int8.preset, int8.left_in_float) == ("performance", [])
    assert int8.n_calibration == 32 and int8.versions["nncf"]
    one = int8.readings[PATCH]
    assert one.n == 128 and one.auc == pytest.approx(one.auc_float32, abs=0.05)
    assert one.auc_float32 == pytest.approx(bundle.card.metrics["valid"]["auc"]["value"], abs=1e-6)


def test_dense_reading_is_measured_where_the_bundle_has_it(int8_bundle: Bundle) -> None:
    assert int8_bundle.card.int8 is not None
    assert int8_bundle.card.int8.readings.keys() == int8_bundle.card.readings.keys()


def test_a_bundle_is_changed_in_its_place_only_if_no_other_is_named(bundle: Bundle) -> None:
    assert bundle.card.int8 is None and not (bundle.path / GRAPH).exists()


def test_later_attempts_leave_more_convolutions_at_both_ends_in_float() -> None:
    class Op:
        def __init__(self, name: str, kind: str) -> None:
            self.get_friendly_name, self.get_type_name = lambda: name, lambda: kind

    class Graph:
        def get_ordered_ops(self) -> list[Op]:
            return [Op(str(i), "GroupConvolution" if i % 2 else "Convolution") for i in range(20)] + [Op("x", "Relu")]

    counts = [len(quantising._outermost(Graph(), attempt.in_float)) for attempt in ATTEMPTS]
    assert counts == [0, 0, 2, 6, 12]
    assert quantising._outermost(Graph(), 0.1) == ["0", "19"]
    assert len(quantising._outermost(Graph(), 1)) == 20


@pytest.mark.parametrize(
    ("one", "lost"),
    [
        (reading(0.9485), ""),
        (reading(0.96), ""),
        (reading(0.947), "0.0030 of the AUC"),
        (reading(0.95, 0.35), "0.0500 of the NLL"),
        (reading(float("nan")), "of the AUC"),
        (reading(0.95, float("nan")), "of the NLL"),
    ],
)
def test_what_int8_loses_is_told(one: Int8Reading, lost: str) -> None:
    loss = quantising._loss({PATCH: one})
    assert lost in loss and bool(loss) == bool(lost) and one.holds == (not lost)


def test_where_no_attempt_holds_it_is_refused_and_nothing_is_written(
    bundle: Bundle, data: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf", reason="NNCF (sentinode[quantise]) is not installed here")
    monkeypatch.setattr(quantising, "ATTEMPTS", ATTEMPTS[:1])
    monkeypatch.setattr(quantising, "_quantised", lambda graph, *_, **__: graph)
    monkeypatch.setattr(quantising, "_measure", lambda *_, **__: {PATCH: reading(0.9)})
    with pytest.raises(BundleError, match=r"does not hold.*0\.0500 of the AUC"):
        quantise(bundle, data["train"], data["valid"], out=tmp_path / "new", show=False)
    assert list(tmp_path.iterdir()) == []


def test_without_nncf_the_extra_is_named(bundle: Bundle, data: PatchData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"nncf and openvino.*\n.*sentinode\[quantise\]"):
        quantise(bundle, data["train"], data["valid"], show=False)


def test_what_cannot_be_quantised_is_refused_before_the_work(bundle: Bundle, data: PatchData, tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="NNCF (sentinode[quantise]) is not installed here")
    train, valid = data["train"], data["valid"]
    with pytest.raises(DataError, match="one class only"):
        quantise(bundle, train, valid.subset(np.flatnonzero(valid.labels == 1)), show=False)
    with pytest.raises(DataError, match="no training patches"):
        quantise(bundle, train.subset(np.zeros(0, np.int64)), valid, show=False)
    with pytest.raises(OutputError, match="exists"):
        quantise(bundle, train, valid, out=tmp_path, show=False)
    own = bundle.card.model_copy(update={"architecture": Architecture(kind="custom", class_name="Own")})
    with pytest.raises(BundleError, match="class of a user"):
        quantise(Bundle(bundle.path, own), train, valid, show=False)


def test_the_command_prints_the_section_of_the_card(
    bundle: Bundle, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, int8_bundle: Bundle
) -> None:
    monkeypatch.setattr(quantising, "quantise", lambda *_, **__: int8_bundle)
    arguments = ["quantise", str(bundle.path), str(generated), "--out", str(tmp_path / "new")]
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert told["preset"] == "performance" and told["readings"][PATCH]["n"] == 128
    table = CliRunner().invoke(app, arguments).stdout
    assert "AUC int8" in table and "patch" in table
