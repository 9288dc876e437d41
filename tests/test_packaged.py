"""The bundle that comes with Sentinode: whole, small, licensed, and as good as its card says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import sentinode
from sentinode.cli import app
from sentinode.model import bundle as bundles
from sentinode.model.bundle import Bundle
from sentinode.model.engines import open_engine
from sentinode.patches import open_data
from sentinode.recipes import load_recipe
from sentinode.scoring import auc

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "model-card.md"


@pytest.fixture(scope="module")
def packaged() -> Bundle:
    return sentinode.load()


def test_it_is_small_trained_on_tissue_and_of_a_permissive_licence(packaged: Bundle) -> None:
    assert sum(file.stat().st_size for file in bundles.PACKAGED.iterdir()) < 5_000_000
    assert not packaged.card.toy
    assert packaged.card.licence.startswith("Apache-2.0")
    assert "Apache-2.0" in packaged.card.initial_weights


def test_its_page_speaks_of_this_very_bundle(packaged: Bundle) -> None:
    page = PAGE.read_text("utf-8")
    assert packaged.card.name in page
    assert f"{packaged.card.architecture.parameters:,} parameters" in page
    assert f"threshold ({packaged.card.threshold:.3f}" in page
    assert f"| auc | {packaged.card.metrics['valid']['auc']['value']:.3f} (" in page


def test_a_run_from_before_a_key_of_the_recipe_still_follows_it() -> None:
    specification = importlib.util.spec_from_file_location("package_bundle", ROOT / "benchmarks" / "package_bundle.py")
    assert specification is not None and specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    recipe = load_recipe("slides", ["model.weights=start.pth", "training.seed=7"]).model_dump(mode="json")
    card = sentinode.load().card.model_copy(update={"recipe": recipe, "seed": 7})
    assert script.follows(card, "slides")
    del recipe["training"]["surroundings"]
    assert script.follows(card, "slides")
    recipe["training"]["ema"] = 0.5
    assert not script.follows(card, "slides")


def test_on_real_patches_it_ranks_as_its_card_says(packaged: Bundle, shared: Path) -> None:
    valid = open_data(shared / "pcam" / "valid.parquet", show=False)
    patches = valid[valid.splits[0]]
    rows = np.arange(0, len(patches), 6)
    engine = open_engine(packaged, device="cpu", precision="float32")
    margins = np.concatenate([engine.margins(patches.images[part]) for part in np.array_split(rows, 8)])
    assert auc(patches.labels[rows], margins) == pytest.approx(packaged.card.metrics["valid"]["auc"]["value"], abs=0.03)


def test_a_real_slide_is_scanned_where_no_bundle_is_named(shared: Path, tmp_path: Path) -> None:
    slide = shared / "slides" / "CMU-1-Small-Region.svs"
    result = CliRunner().invoke(app, ["scan", str(slide), "--out", str(tmp_path), "--stride", "96", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / slide.stem / "map.json").is_file()
