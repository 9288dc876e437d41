import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sentinode import explanation
from sentinode.errors import BundleError, DataError, OutputError, RecipeError
from sentinode.explanation import EXACT, FIRST_ORDER, Evidence, Explainer, draw, explain
from sentinode.model.bundle import Architecture, Bundle, Card, Threshold, save
from sentinode.model.classifier import Classifier, Head, build_classifier
from sentinode.patches import PatchSet, open_data
from sentinode.patches.unlabelled import Patch


def bundled(network: nn.Module, path: Path, **architecture: object) -> Bundle:
    card = Card(
        name="test",
        created="2026-01-01",
        versions={},
        architecture=Architecture.model_validate(architecture),
        thresholds={"half": Threshold(value=0.5, rule="half", chosen_on="valid", n=1)},
        threshold_rule="half",
    )
    return save(path, network.eval(), card)


@pytest.fixture
def patches(generated: Path) -> PatchSet:
    return open_data(generated, show=False)["test"]


class Bright(nn.Module):
    """Says tumour where the picture is bright: what it looks at is known."""

    def __init__(self) -> None:
        super().__init__()
        self.light = nn.AvgPool2d(8)
        self.layer = nn.Conv2d(3, 1, 1)
        with torch.no_grad():
            self.layer.weight.fill_(1 / 3)
            self.layer.bias.fill_(-0.5)  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        features = self.layer(self.light(images.permute(0, 3, 1, 2).float() / 255))
        margin = features.relu().mean((1, 2, 3))
        return torch.stack([-margin, margin], 1)


class Flat(nn.Module):
    """A network without a feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.float().mean((1, 2)) / 255)
        return logits


def test_the_evidence_lies_where_the_network_looks(tmp_path: Path) -> None:
    bundle = bundled(Bright(), tmp_path / "bundle", kind="custom", class_name="Bright")
    image = np.zeros((96, 96, 3), np.uint8)
    image[:32, 64:] = 255  # the upper right
    (evidence,) = Explainer(bundle, device="cpu").evidence(image[None], "tumour")
    assert evidence.cells.shape == (12, 12)
    lit = np.zeros((12, 12), bool)
    lit[:4, 8:] = True
    assert (evidence.cells[lit] == 1).all()
    assert (evidence.cells[~lit] == 0).all()
    assert evidence.pixels[10, 86] == 1
    assert evidence.pixels[86, 10] == 0


class Colours(nn.Module):
    """A backbone whose feature map is the picture itself: three channels of 12 x 12 cells."""

    def forward(self, planes: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(planes, 8)


def coloured(pooling: str, *, average: float, special: float) -> Classifier:
    """A network for which brightness means tumour: ``average`` weighs the mean, ``special`` the other pooled half."""
    network = Classifier(Colours(), Head(3, pooling), mean=(0, 0, 0), std=(1, 1, 1)).eval()
    linear = network.head[-1]
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.0], [1.0]]) * torch.tensor([average] * 3 + [special] * 3))
        linear.bias.copy_(torch.tensor([0.25, -0.5]))
    return network


def evidence_in(network: nn.Module, image: np.ndarray, monkeypatch: pytest.MonkeyPatch, path: Path) -> Evidence:
    bundle = bundled(network, path)
    monkeypatch.setattr(bundle, "classifier", lambda: network)
    (evidence,) = Explainer(bundle, device="cpu").evidence(image[None], "tumour")
    return evidence


def test_a_weight_on_the_centre_is_seen_in_the_centre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((96, 96, 3), 51, np.uint8)
    image[:16, :16] = 255  # the brightest cells lie in a corner, of which the network thinks little
    network = coloured("avgcentre", average=0.1, special=1.0)
    evidence = evidence_in(network, image, monkeypatch, tmp_path / "bundle")
    assert evidence.method == EXACT
    # Of 12 x 12 cells the middle 4 x 4 are the centre: each has a 16th of its mean, and each cell a 144th of the whole.
    expected = np.full((12, 12), 0.1 * 3 * 0.2 / 144)
    expected[:2, :2] = 0.1 * 3 * 1.0 / 144
    expected[4:8, 4:8] += 1.0 * 3 * 0.2 / 16
    np.testing.assert_allclose(evidence.contributions, expected, rtol=1e-5)
    assert (evidence.cells[4:8, 4:8] == 1).all()


def test_of_a_maximum_the_cell_that_has_it_is_the_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((96, 96, 3), 51, np.uint8)
    image[80:88, 8:16] = 255
    network = coloured("avgmax", average=0.0, special=1.0)
    evidence = evidence_in(network, image, monkeypatch, tmp_path / "bundle")
    expected = np.zeros((12, 12))
    expected[10, 1] = 3.0
    np.testing.assert_allclose(evidence.contributions, expected, rtol=1e-5)


BACKBONES = ("test_resnet", "test_efficientnet", "test_convnext", "test_vit", "p4m_resnet")


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("pooling", ["avg", "centre", "avgcentre", "max", "avgmax"])
def test_contributions_and_bias_add_up_to_the_margin(backbone: str, pooling: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, _ = build_classifier(backbone, pooling=pooling)
    torch.nn.init.normal_(network.head[-1].bias)
    bundle = bundled(network, tmp_path / "bundle", backbone=backbone, pooling=pooling)
    images = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    with torch.inference_mode():
        logits = network(torch.from_numpy(images)).double().numpy()
    bias = network.head[-1].bias.detach().double().numpy()
    explainer = Explainer(bundle, device="cpu")
    for target, other in ((1, 0), (0, 1)):
        for evidence, logit in zip(explainer.evidence(images, ["normal", "tumour"][target]), logits, strict=True):
            total = evidence.contributions.sum() + bias[target] - bias[other]
            # Float32 carries seven digits of the sums that the margin is the difference of.
            scale = np.abs(evidence.contributions).sum() + np.abs(logit).sum() + np.abs(bias).sum()
            assert total == pytest.approx(logit[target] - logit[other], abs=1e-6 * scale)


@pytest.mark.parametrize(
    ("head", "method"),
    [
        ({"pooling": "avg"}, EXACT),
        ({"pooling": "centre", "dropout": 0.5}, EXACT),
        ({"pooling": "avgcentre"}, EXACT),
        ({"pooling": "max"}, FIRST_ORDER),
        ({"pooling": "avgmax"}, FIRST_ORDER),
        ({"pooling": "gem"}, FIRST_ORDER),
        ({"pooling": "avg", "hidden": [8]}, FIRST_ORDER),
    ],
)
def test_it_says_whether_the_contributions_are_exact(head: dict[str, object], method: str, tmp_path: Path) -> None:
    network, _ = build_classifier("test_resnet", **head)  # type: ignore[arg-type]
    bundle = bundled(network, tmp_path / "bundle", backbone="test_resnet", **head)
    explainer = Explainer(bundle, device="cpu")
    (evidence,) = explainer.evidence(np.full((1, 96, 96, 3), 200, np.uint8))
    assert explainer.method == evidence.method == method


def test_a_step_along_the_evidence_of_another_head_moves_the_margin_as_it_says(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_classifier("test_resnet", pooling="avgmax", hidden=[16])[0].eval()
    bundle = bundled(network, tmp_path / "bundle", backbone="test_resnet", pooling="avgmax", hidden=[16])
    images = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), dtype=np.uint8)
    (evidence,) = Explainer(bundle, device="cpu").evidence(images, "tumour")
    head = network.head.double()
    with torch.inference_mode():
        features = network.features(torch.from_numpy(images)).double()
        for row, column in np.ndindex(evidence.contributions.shape):
            more = features.clone()
            more[..., row, column] *= 1 + 1e-5
            (before,), (after,) = (head(each) for each in (features, more))
            moved = (after[1] - after[0]) - (before[1] - before[0])
            assert float(moved) == pytest.approx(1e-5 * evidence.contributions[row, column], abs=1e-8, rel=1e-2)


def test_a_network_that_works_in_place_after_its_map_is_explained(tmp_path: Path) -> None:
    network = Bright()
    network.after = nn.ReLU(inplace=True)
    network.forward = lambda images: in_place(network, images)  # type: ignore[method-assign]
    bundle = bundled(network, tmp_path / "bundle", kind="custom", class_name="Bright")
    (evidence,) = Explainer(bundle, device="cpu").evidence(np.full((1, 96, 96, 3), 255, np.uint8), "tumour")
    np.testing.assert_allclose(evidence.contributions, 0.5 * 2 / 144, rtol=1e-5)
    assert evidence.method == FIRST_ORDER


def in_place(network: Bright, images: Tensor) -> Tensor:
    features = network.layer(network.light(images.permute(0, 3, 1, 2).float() / 255))
    margin = nn.functional.relu_(features).mean((1, 2, 3))
    return torch.stack([-margin, margin], 1)


class Blind(Bright):
    """A network through which no gradient leads."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(images)


def test_a_network_without_gradients_is_refused_in_words(tmp_path: Path) -> None:
    bundle = bundled(Blind(), tmp_path / "bundle", kind="custom", class_name="Blind")
    with pytest.raises(BundleError, match="gradient of its network cannot be computed"):
        Explainer(bundle, device="cpu").evidence(np.zeros((1, 96, 96, 3), np.uint8))


def test_where_nothing_speaks_for_a_class_its_map_is_empty(tmp_path: Path) -> None:
    bundle = bundled(Bright(), tmp_path / "bundle", kind="custom", class_name="Bright")
    image = np.full((1, 96, 96, 3), 255, np.uint8)
    (evidence,) = Explainer(bundle, device="cpu").evidence(image, "normal")
    assert not evidence.cells.any()


def test_the_probability_beside_the_evidence_is_the_calibrated_one(bundle: Bundle, patches: PatchSet) -> None:
    images = patches.images[:8]
    explained = Explainer(bundle, device="cpu").evidence(images)
    with torch.inference_mode():
        logits = bundle.classifier()(torch.from_numpy(images))
    margins = (logits[:, 1] - logits[:, 0]) / bundle.card.temperature
    probabilities = [evidence.probability for evidence in explained]
    np.testing.assert_allclose(probabilities, torch.sigmoid(margins).numpy(), rtol=1e-4)
    for evidence in explained:
        assert evidence.target == ("tumour" if evidence.probability >= bundle.card.threshold else "normal")
        assert evidence.cells.min() >= 0
        assert evidence.cells.max() in (0, 1)


def test_a_patch_has_the_same_evidence_alone_and_in_a_batch(bundle: Bundle, patches: PatchSet) -> None:
    explainer = Explainer(bundle, device="cpu")
    batch = explainer.evidence(patches.images[:4], "tumour")
    (alone,) = explainer.evidence(patches.images[2:3], "tumour")
    np.testing.assert_allclose(batch[2].cells, alone.cells, atol=1e-3)


@pytest.mark.parametrize("backbone", ["test_vit", "test_convnext", "test_efficientnet"])
def test_transformers_and_other_backbones_are_explained_too(backbone: str, tmp_path: Path) -> None:
    network, _ = build_classifier(backbone)
    bundle = bundled(network, tmp_path / "bundle", backbone=backbone)
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    for evidence in Explainer(bundle, device="cpu").evidence(images):
        assert evidence.cells.ndim == 2
        assert min(evidence.cells.shape) > 1
        assert np.isfinite(evidence.cells).all()


def test_a_network_without_a_feature_map_is_refused_in_words(tmp_path: Path) -> None:
    bundle = bundled(Flat(), tmp_path / "bundle", kind="custom", class_name="Flat")
    with pytest.raises(BundleError, match="feature map"):
        Explainer(bundle, device="cpu")


def test_the_picture_shows_patch_and_evidence_side_by_side(bundle: Bundle) -> None:
    pixels = np.full((96, 96, 3), 200, np.uint8)
    evidence = Evidence(0.8, "tumour", np.eye(3, dtype=np.float32))
    picture = np.asarray(Image.open(io.BytesIO(draw(Patch("in/patch.png", pixels), evidence, bundle.card))))
    height, width = picture.shape[:2]
    assert width > 1.5 * height
    # The centre square is drawn into both halves, the colours of the evidence into the right one alone.
    left, right = picture[:, : width // 3, :3], picture[:, width // 2 :, :3]
    colourful = [np.ptp(half.astype(int), axis=2).max() for half in (left, right)]
    assert colourful[0] < 10 < colourful[1]


def test_a_picture_for_each_image_named_after_it(bundle: Bundle, patches: PatchSet, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(patches.images[:1][0]).save(tmp_path / folder / "same.png")
    done = explain(bundle, [tmp_path / "a", tmp_path / "b"], tmp_path / "out", device="cpu", show=False)
    assert [picture.name for picture in done.pictures] == ["same.png", "same-2.png"]
    assert done.method in (EXACT, FIRST_ORDER)
    assert all(Image.open(picture).format == "PNG" for picture in done.pictures)


def test_a_broken_image_is_reported_and_the_rest_goes_on(
    bundle: Bundle, patches: PatchSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.tif").write_text("this is text")
    Image.fromarray(patches.images[:1][0]).save(tmp_path / "b.png")
    done = explain(bundle, [tmp_path / "a.tif", tmp_path / "b.png"], tmp_path / "out", device="cpu")
    assert [picture.name for picture in done.pictures] == ["b.png"]
    assert done.failures == (((tmp_path / "a.tif").as_posix(), "this is not an image, although its name says so."),)
    assert "not an image" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "name", ["a$^$b.png", "$x$.png", "スライド👩‍🔬.png", "[red]{}_^\\.png", "x" * 251 + ".png", "a\nb.png"]
)
def test_an_image_of_any_name_is_explained(bundle: Bundle, tmp_path: Path, name: str) -> None:
    try:
        Image.new("RGB", (96, 96), "plum").save(tmp_path / name)
    except OSError:
        pytest.skip("this disk takes no such name")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = explain(bundle, [tmp_path / name], tmp_path / "out", device="cpu", show=False)
    assert done.failures == ()
    assert Image.open(done.pictures[0]).format == "PNG"


def test_a_fault_of_ours_on_one_image_does_not_cost_the_others(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(patch: Patch, *rest: object) -> bytes:
        if "b.png" in patch.id:
            raise ZeroDivisionError("by zero")
        return draw(patch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(explanation, "draw", faulty)
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (96, 96), "plum").save(tmp_path / name)
    done = explain(bundle, [tmp_path], tmp_path / "out", device="cpu", show=False)
    assert [picture.name for picture in done.pictures] == ["a.png", "c.png"]
    assert [reason for _, reason in done.failures] == ["a bug in Sentinode: ZeroDivisionError: by zero"]


def test_pictures_whose_names_differ_in_case_alone_stay_two(bundle: Bundle, tmp_path: Path) -> None:
    for folder, name in (("a", "Same.png"), ("b", "same.png")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (96, 96), "plum").save(tmp_path / folder / name)
    done = explain(bundle, [tmp_path / "a", tmp_path / "b"], tmp_path / "out", device="cpu", show=False)
    assert [picture.name for picture in done.pictures] == ["Same.png", "same-2.png"]


def test_nothing_to_explain_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the 1 images"):
        explain(bundle, [tmp_path / "gone.png"], tmp_path / "out", show=False)
    assert not (tmp_path / "out").exists()


def test_an_unknown_target_names_those_there_are(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="called, tumour, normal"):
        explain(bundle, [tmp_path], tmp_path / "out", target="cat", show=False)
    with pytest.raises(RecipeError, match="called, tumour, normal"):
        Explainer(bundle, device="cpu").evidence(np.zeros((1, 96, 96, 3), np.uint8), "cat")


def test_a_place_below_a_file_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    Image.new("RGB", (96, 96)).save(tmp_path / "patch.png")
    with pytest.raises(OutputError):
        explain(bundle, [tmp_path / "patch.png"], tmp_path / "file" / "out", show=False)


def test_the_nearest_training_patches_lie_below_the_evidence(
    bundle: Bundle, patches: PatchSet, generated: Path, tmp_path: Path
) -> None:
    image = open_data(generated, show=False)["train"].images[:1][0]
    Image.fromarray(image).save(tmp_path / "patch.png")
    plain = explain(bundle, [tmp_path / "patch.png"], tmp_path / "plain", device="cpu", show=False)
    done = explain(
        bundle, [tmp_path / "patch.png"], tmp_path / "out", neighbours=4, data=generated, device="cpu", show=False
    )
    (near,) = done.neighbours
    assert len(near) >= 4 and near[0].copy
    assert Image.open(done.pictures[0]).height > 1.3 * Image.open(plain.pictures[0]).height
    assert plain.neighbours == ()


@pytest.mark.parametrize("options", [{"neighbours": 3}, {"data": "pcam"}, {"neighbours": -1, "data": "pcam"}])
def test_neighbours_without_data_and_data_without_neighbours_are_refused(
    bundle: Bundle, tmp_path: Path, options: dict[str, object]
) -> None:
    with pytest.raises(RecipeError, match="neighbours need"):
        explain(bundle, [tmp_path], tmp_path / "out", show=False, **options)  # type: ignore[arg-type]


def test_a_picture_never_takes_the_place_of_an_image(bundle: Bundle, tmp_path: Path) -> None:
    image = tmp_path / "x.png"
    Image.new("RGB", (96, 96)).save(image)
    before = image.read_bytes()
    for given in (image, tmp_path):
        with pytest.raises(OutputError, match="among the images"):
            explain(bundle, [given], tmp_path, show=False)
    assert image.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
