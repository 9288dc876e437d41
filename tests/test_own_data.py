"""Patches of a lab's own size and classes, from training to every page: 64 pixels, wholly labelled, three folders."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import sentinode
from sentinode.augmentation.preview import preview
from sentinode.augmentation.transforms import Augment
from sentinode.cli import app
from sentinode.errors import BundleError, DataError, RecipeError
from sentinode.evaluation import evaluate
from sentinode.evaluation.stress import stress
from sentinode.explanation import Explainer, explain
from sentinode.geometry import PatchGeometry
from sentinode.model.bundle import CARD, Bundle, load
from sentinode.model.engines import open_engine
from sentinode.patches import open_data
from sentinode.prediction import predict

TINY = ("model.backbone=test_resnet", "training.epochs=1", "training.batch_size=16", "augment.stain=0")
GEOMETRY = PatchGeometry(64, None, 64)


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Below splits, folders of dark ``gland``, dark ``duct`` and bright ``stroma``, 64 x 64 pixels."""
    root = tmp_path_factory.mktemp("own") / "tissue"
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("valid", 12), ("test", 12)):
        for name, low in (("gland", 40), ("duct", 60), ("stroma", 130)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(low, low + 120, (64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def bundle(tissue: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("own_runs") / "run"
    settings = (*TINY, "augment.crop=0.3", "augment.shift=20", "augment.jpeg=0.5", "augment.noise=4")
    positive = ("gland", "duct")
    return sentinode.train(
        tissue, out, recipe="quick", weights="none", settings=settings, positive=positive, device="cpu", show=False
    )


def test_the_card_says_what_the_network_takes_and_tells_apart(bundle: Bundle) -> None:
    card = bundle.card
    assert card.geometry == GEOMETRY
    assert (card.class_names, card.positive) == (["stroma", "duct+gland"], ["gland", "duct"])
    assert card.data["counts"]["train"] == {"stroma": 24, "duct+gland": 48}
    assert (card.architecture.side, card.architecture.pooling) == (64, "avg")
    assert card.format == 2


def test_evaluation_takes_the_classes_from_the_bundle_and_speaks_in_their_words(
    bundle: Bundle, tissue: Path, tmp_path: Path
) -> None:
    done = evaluate(bundle, tissue, "test", tmp_path, resamples=5, device="cpu", show=False)
    assert done.labels.sum() == 24
    assert done.as_dict()["class_names"] == ["stroma", "duct+gland"]
    page = done.report.read_text("utf-8")
    visible = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert "tumour" not in visible
    assert "normal" not in visible
    assert "P(duct+gland)" in visible
    assert "called duct+gland" in re.sub(r"\s+", " ", visible)
    assert "64 x 64 pixels" in visible
    assert 'href="#square"' not in page


def test_a_table_of_predictions_has_a_column_of_the_classs_name(bundle: Bundle, tissue: Path) -> None:
    out = io.StringIO()
    predict(bundle, [tissue / "test" / "gland"], out=out, device="cpu", show=False)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert list(rows[0]) == ["id", "probability", "duct+gland", "error"]
    assert {row["duct+gland"] for row in rows} <= {"true", "false"}


def test_evidence_is_for_a_class_by_its_name(bundle: Bundle, tissue: Path, tmp_path: Path) -> None:
    images = open_data(tissue, positive=("gland", "duct"), show=False)["test"].images[:2]
    found = Explainer(bundle, device="cpu").evidence(images, "stroma")
    assert {evidence.target for evidence in found} == {"stroma"}
    assert found[0].pixels.shape == (64, 64)
    done = explain(bundle, [tissue / "test" / "gland" / "0.png"], tmp_path, device="cpu", show=False)
    assert len(done.pictures) == 1
    with pytest.raises(RecipeError, match="there is no target 'tumour'") as caught:
        explain(bundle, [tissue], tmp_path, target="tumour", device="cpu", show=False)
    assert caught.value.hint == "Choose one of called, duct+gland, stroma."


def test_stress_and_preview_take_any_size(bundle: Bundle, tissue: Path, tmp_path: Path) -> None:
    points = stress(bundle, tissue, "test", tmp_path, count=12, resamples=2, device="cpu", show=False)
    assert {point.disturbance for point in points} >= {"magnification", "jpeg"}
    patches = open_data(tissue, positive=("gland", "duct"), show=False)["test"]
    sheet = preview(patches, Augment(crop=0.3, shift=32, geometry=patches.geometry), tmp_path / "sheet.png", count=2)
    assert sheet.exists()


def test_patches_of_another_size_are_refused_by_every_way_in(bundle: Bundle, generated: Path, tmp_path: Path) -> None:
    for work in (evaluate, stress):
        with pytest.raises(DataError, match="are 96 x 96 pixels, not 64 x 64"):
            work(bundle, generated, "test", tmp_path, device="cpu", show=False)
    with pytest.raises(DataError, match="are 96 x 96 pixels, not 64 x 64"):
        evaluate(bundle, open_data(generated, show=False), "test", tmp_path, device="cpu", show=False)
    images = np.zeros((1, 96, 96, 3), np.uint8)
    for scorer in (open_engine(bundle, device="cpu").margins, Explainer(bundle, device="cpu").evidence):
        with pytest.raises(DataError, match="are 96 x 96 pixels, and the bundle takes 64 x 64"):
            scorer(images)
    Image.new("RGB", (96, 96)).save(tmp_path / "large.png")
    with pytest.raises(DataError, match="96 x 96 pixels; 64 x 64 are needed"):
        predict(bundle, [tmp_path / "large.png"], device="cpu", show=False)


def test_what_needs_the_resolution_waits_until_it_is_stated(bundle: Bundle, tissue: Path, tmp_path: Path) -> None:
    image = tissue / "test" / "gland" / "0.png"
    for work in (
        lambda: predict(bundle, [image], mpp=0.5, device="cpu", show=False),
        lambda: explain(bundle, [image], tmp_path, mpp=0.5, device="cpu", show=False),
        lambda: sentinode.scan(bundle, [image], tmp_path / "maps", show=False),
    ):
        with pytest.raises(BundleError, match="microns per pixel of this bundle are unknown") as caught:
            work()
        assert caught.value.hint == f"State them once: sentinode bundle {bundle.path} --mpp UM"
    assert not (tmp_path / "maps").exists()


def test_the_resolution_is_stated_once(bundle: Bundle, tissue: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(bundle.path, tmp_path / "bundle")
    before = load(copy).fingerprint
    done = CliRunner().invoke(app, ["bundle", str(copy), "--mpp", "0.5", "--json"])
    assert json.loads(done.stdout)["mpp"] == 0.5
    stated = load(copy)
    assert (stated.card.mpp, stated.fingerprint) == (0.5, before)
    assert stated.card.model_copy(update={"mpp": None}) == bundle.card
    predicted = predict(stated, [tissue / "test" / "gland" / "0.png"], mpp=0.5, device="cpu", show=False)
    same = predict(bundle, [tissue / "test" / "gland" / "0.png"], device="cpu", show=False)
    assert predicted.rows[0].probability == same.rows[0].probability
    other = CliRunner().invoke(app, ["bundle", str(copy), "--mpp", "0.25"])
    assert isinstance(other.exception, BundleError)
    assert "trained at 0.5 microns per pixel, and you state 0.25" in other.exception.what
    wrong = CliRunner().invoke(app, ["bundle", str(bundle.path), "--mpp", "0"])
    assert isinstance(wrong.exception, DataError)
    assert load(bundle.path).card.mpp is None


def test_a_card_whose_geometry_cannot_be_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    import hashlib
    import shutil

    copy = shutil.copytree(bundle.path, tmp_path / "bundle")
    card = json.loads((copy / CARD).read_text()) | {"label_region": 65}
    (copy / CARD).write_text(json.dumps(card))
    sums = (copy / "SHA256SUMS").read_text().splitlines()
    digest = hashlib.sha256((copy / CARD).read_bytes()).hexdigest()
    (copy / "SHA256SUMS").write_text("\n".join(f"{digest}  {CARD}" if CARD in s else s for s in sums) + "\n")
    with pytest.raises(BundleError, match="cannot cover the centre 65 x 65 of a patch of 64 x 64"):
        load(copy)


def test_a_run_goes_on_only_with_the_geometry_that_it_was_begun_with(bundle: Bundle, tissue: Path) -> None:
    with pytest.raises(DataError, match="started with other sizes, resolutions or labelled regions of patches"):
        sentinode.train(
            tissue, bundle.path.parent, positive=("gland", "duct"), mpp=0.5, resume=True, device="cpu", show=False
        )


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        (("augment.shift=33",), "augment.shift"),
        (("model.side=48",), "model.side"),
        (("model.backbone=vit_tiny_patch16_224", "model.side=100"), "model.backbone"),
        (("model.backbone=p4m_resnet", "model.side=100"), "model.backbone"),
    ],
)
def test_a_recipe_that_does_not_suit_the_size_is_refused(
    tissue: Path, tmp_path: Path, settings: tuple[str, ...], where: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        sentinode.train(
            tissue,
            tmp_path / "run",
            recipe="quick",
            weights="none",
            settings=(*TINY, *settings),
            positive=("gland", "duct"),
            device="cpu",
            show=False,
        )
    assert caught.value.where == where


def test_crops_are_refused_where_the_label_covers_the_centre_alone(generated: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a crop could cut off a part of the centre 32 x 32"):
        sentinode.train(
            generated,
            tmp_path / "run",
            recipe="quick",
            weights="none",
            settings=(*TINY, "augment.crop=0.2"),
            show=False,
        )


def test_a_centre_of_another_size_is_pooled_and_kept(tissue: Path, tmp_path: Path) -> None:
    bundle = sentinode.train(
        tissue,
        tmp_path / "run",
        recipe="quick",
        weights="none",
        settings=(*TINY, "model.pooling=centre"),
        positive=("gland",),
        mpp=0.5,
        label_region=32,
        device="cpu",
        show=False,
    )
    assert bundle.card.geometry == PatchGeometry(64, 0.5, 32)
    assert bundle.card.architecture.pooling == "centre"
    network = load(bundle.path).classifier()
    features = torch.arange(64.0).view(1, 1, 8, 8)
    pooled = network.head[0](features)  # type: ignore[index]
    assert pooled.item() == pytest.approx(features[..., 2:6, 2:6].mean().item())


def test_openvino_runs_networks_of_another_size(bundle: Bundle, tissue: Path) -> None:
    pytest.importorskip("openvino")
    images = open_data(tissue, positive=("gland", "duct"), show=False)["test"].images[:4]
    fast, reference = (
        open_engine(bundle, kind=kind, device="cpu", precision="float32") for kind in ("openvino", "torch")
    )
    np.testing.assert_allclose(fast.probabilities(images), reference.probabilities(images), atol=0.001)
    with pytest.raises(DataError, match="are 96 x 96 pixels, and the bundle takes 64 x 64"):
        fast.margins(np.zeros((1, 96, 96, 3), np.uint8))
