"""A card is a closed schema in which everything has a limit; what is odd is refused in one sentence that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_bundles import CARDS, Change
from pydantic import ValidationError

from sentinode.errors import BundleError
from sentinode.model.bundle import CARD, PACKAGED, json_ready
from sentinode.model.card import (
    LONGEST_LINE,
    Architecture,
    Card,
    Int8,
    Int8Reading,
    MadeFrom,
    Reading,
    Taught,
    Threshold,
    as_line,
    as_text,
    parse_card,
)

SHIPPED = (PACKAGED / CARD).read_bytes()

FIRST = {
    "format": 1,
    "name": "first",
    "created": "2026-11-24T10:00:00+00:00",
    "versions": {"sentinode": "0.1.0", "torch": "2.6.0"},
    "architecture": {"kind": "timm", "backbone": "resnet18", "hidden": [], "dropout": 0, "parameters": 11177538},
    "temperature": 1,
    "thresholds": {"accuracy": {"value": 0.5, "rule": "accuracy", "chosen_on": "valid", "n": 10}},
    "threshold_rule": "accuracy",
    "metrics": {"valid": {"auc": {"value": 0.9, "low": None, "high": None}, "n": 10}},
    "data": {"name": "pcam", "counts": {"train": 20, "valid": {"normal": 5, "tumour": 5}}},
}
"""A card of the first version, which had fewer keys."""


def written(card: Card) -> bytes:
    return card.model_dump_json().encode()


@pytest.mark.parametrize("name", CARDS)
def test_an_odd_card_is_refused(name: str, tmp_path: Path) -> None:
    change: Change
    change, says = CARDS[name]
    (tmp_path / CARD).write_bytes(SHIPPED)
    change(tmp_path)
    with pytest.raises(BundleError, match=says) as caught:
        parse_card((tmp_path / CARD).read_bytes(), tmp_path)
    assert caught.value.where == tmp_path and len(str(caught.value)) < 1500
    assert "\n" not in caught.value.what and "\x1b" not in caught.value.what


def test_a_card_of_the_first_version_opens_with_what_later_ones_added() -> None:
    card = parse_card(json.dumps(FIRST).encode())
    assert (card.patch_size, card.mpp, card.prior, card.architecture.side) == (96, 0.972, 0.5, 96)
    assert card.slide_points is None and card.readings == {} and card.int8 is None


def test_what_is_written_is_read_again() -> None:
    shipped = parse_card(SHIPPED)
    assert parse_card(written(shipped)) == shipped
    figures = {"auc": 0.9, "nll": 0.3, "auc_float32": 0.9, "nll_float32": 0.3, "largest_change": 0.1}
    int8 = Int8(
        graph="0" * 64,
        made_from="1" * 64,
        preset="mixed",
        calibrated_on="pcam",
        n_calibration=300,
        readings={"patch": Int8Reading(**figures, times_faster=2, n=10)},
    )
    taught = Taught(slides={"a.svs": "0" * 64}, held_out=["b.svs"], patches={"missed": 3})
    full = {
        "int8": int8,
        "taught": taught,
        "made_from": MadeFrom(name="first", fingerprint="2" * 64),
        "patch_size": 224,
        "label_region": 224,
        "mpp": None,
        "architecture": Architecture(side=224, hidden=[64], pooling="gem"),
        "format": 2,
        "history": [{"epoch": 1.0, "valid_auc": 0.9}],
    }
    whole = shipped.model_copy(update=full)
    assert parse_card(written(whole)) == whole


@pytest.mark.parametrize("geometry", [{"patch_size": 97, "architecture": {"side": 128}}, {"mpp": 0.5}, {"mpp": None}])
def test_the_first_format_is_of_one_geometry(geometry: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="format 1 is for 96 x 96 pixels"):
        parse_card(json.dumps(FIRST | geometry).encode())
    assert parse_card(json.dumps(FIRST | geometry | {"format": 2}).encode()).mpp == geometry.get("mpp", 0.972)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(Card.model_fields)), PLAIN)
def test_any_value_anywhere_is_taken_or_refused_in_words(key: str, value: object) -> None:
    tables = FIRST | {key: value}
    try:
        card = parse_card(json.dumps(tables).encode())
    except BundleError as error:
        assert "\n" not in error.what
    else:
        assert 0 < card.prior < 1 and 0 <= card.threshold <= 1 and card.geometry.size == 96
        assert parse_card(written(card)) == card


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_in_words(content: bytes) -> None:
    with pytest.raises(BundleError):
        parse_card(content)


@given(st.text())
def test_a_name_from_outside_is_made_fit_for_a_card(text: str) -> None:
    reading = Threshold(value=0.5, rule="half", chosen_on=as_line(text), n=1)
    assert len(reading.chosen_on) <= LONGEST_LINE
    tables = json.loads(SHIPPED) | {
        "name": as_line(text),
        "data": json_ready({"name": as_line(text), "warnings": [text]}),
    }
    assert parse_card(json.dumps(tables).encode()).data["warnings"] == [as_text(text)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"temperature": 1.0, "threshold": float("nan")},
        {"temperature": 1.0, "threshold": 0.5, "halo": -1},
        {"temperature": 1.0, "threshold": 0.5, "prior": 1.0},
        {"temperature": 1.0, "threshold": 0.5, "odd": 1},
    ],
)
def test_a_reading_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Reading(**{"threshold": 0.5} | wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "backbone", ["hf-hub:timm/resnet18", "hf_hub:x", "local-dir:x", "a/b", "a\\b", "", "a.", "x" * 201]
)
def test_a_backbone_that_would_be_fetched_is_refused(backbone: str) -> None:
    with pytest.raises(ValidationError):
        Architecture(backbone=backbone)


@pytest.mark.parametrize("backbone", ["resnet50", "resnet18.a1_in1k", "vit_tiny_patch16_224.augreg_in21k"])
def test_names_of_timm_are_taken(backbone: str) -> None:
    assert Architecture(backbone=backbone).backbone == backbone
