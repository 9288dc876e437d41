"""Every kind of card that was ever shipped is still read. What is added to a card later has a default."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from sentinode.model.bundle import CARD, FORMAT, PACKAGED, Bundle
from sentinode.model.bundle import load as load_bundle

CARDS = Path(__file__).parent / "cards"


def with_card(folder: Path, text: str) -> Bundle:
    """A bundle that has this card. Its weights are not read."""
    for file in PACKAGED.iterdir():
        if file.name not in (CARD, "SHA256SUMS"):
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / CARD).write_text(text, encoding="utf-8")
    files = sorted(folder.iterdir())
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
    return load_bundle(folder)


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.json")), ids=lambda path: path.stem)
def test_a_card_that_was_shipped_is_read(path: Path, tmp_path: Path) -> None:
    bundle = with_card(tmp_path, path.read_text("utf-8"))
    shipped = json.loads(path.read_text("utf-8"))
    assert bundle.card.format == shipped["format"]
    assert bundle.card.model_dump(mode="json")["thresholds"] == shipped["thresholds"]
    assert bundle.card.temperature == shipped["temperature"]


def test_there_is_a_card_of_every_format() -> None:
    formats = {json.loads(path.read_text("utf-8"))["format"] for path in CARDS.glob("*.json")}
    assert formats == set(range(1, FORMAT + 1))
