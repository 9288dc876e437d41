"""An export answers as PyTorch does, says how it is used, or is not written."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import sentinode
from sentinode.cli import app
from sentinode.errors import BundleError, DataError, ExportError, OutputError
from sentinode.geometry import PCAM, PatchGeometry
from sentinode.model.bundle import Architecture, Bundle, save, with_card
from sentinode.model.classifier import POOLINGS, build_classifier
from sentinode.model.exporting import export, formats
from sentinode.model.exporting.comparing import PATCHES, TOLERANCE, largest_difference, reference_logits, trial_patches
from sentinode.model.exporting.formats import FORMATS, Format
from sentinode.model.exporting.networks import exportable

FORMAT_NAMES = list(FORMATS)
IMAGES = np.random.default_rng(3).integers(256, size=(5, 96, 96, 3), dtype=np.uint8)
WSINFER_PYTHON = "SENTINODE_WSINFER_PYTHON"
"""The variable that names the Python of an environment in which WSInfer is installed."""


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def calibrated(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose pooling needs the centre, and whose temperature is far from 1."""
    network = build_classifier("test_resnet", pooling="avgcentre")[0].eval()
    changes = {"architecture": Architecture(backbone="test_resnet", pooling="avgcentre"), "temperature": 2.5}
    card = bundle.card.model_copy(update=changes)
    return save(tmp_path_factory.mktemp("calibrated") / "bundle", network, card)


@pytest.fixture(scope="module")
def exports(calibrated: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of the bundle in a format, written when it is first asked for; skips where a package is missing."""
    folder = tmp_path_factory.mktemp("exports")

    def folder_of(to: str) -> Path:
        for name in FORMATS[to].packages:
            pytest.importorskip(name, reason=f"{name} is not installed here")
        if not (folder / to).exists():
            done = export(calibrated, folder / to, to=to)  # type: ignore[arg-type]
            assert done.largest_difference <= TOLERANCE
            assert {file.name for file in (folder / to).iterdir()} == set(done.files)
        return folder / to

    return folder_of


@pytest.mark.parametrize("to", FORMAT_NAMES)
def test_the_softmax_of_the_two_logits_is_sentinodes_probability(
    to: str, exports: Callable[[str], Path], calibrated: Bundle
) -> None:
    logits = FORMATS[to].load(exports(to))(IMAGES)
    expected = sentinode.open_engine(calibrated, device="cpu", precision="float32").probabilities(IMAGES)
    np.testing.assert_allclose(softmax(logits)[:, 1], expected, atol=1e-5)
    assert not np.allclose(logits.sum(1), 1)  # no softmax inside


@pytest.mark.parametrize("to", FORMAT_NAMES)
def test_batches_may_have_any_size(to: str, exports: Callable[[str], Path]) -> None:
    score = FORMATS[to].load(exports(to))
    whole = score(IMAGES)
    for start in range(len(IMAGES)):
        np.testing.assert_allclose(score(IMAGES[start : start + 1]), whole[start : start + 1], atol=1e-5)


@pytest.mark.parametrize("to", FORMAT_NAMES)
def test_what_lies_beside_the_network_says_how_it_is_used(
    to: str, exports: Callable[[str], Path], calibrated: Bundle
) -> None:
    facts = json.loads((exports(to) / "export.json").read_text("utf-8"))
    card = calibrated.card
    assert (facts["exported_as"], facts["mpp"], facts["patch_size"]) == (to, 0.972, 96)
    assert (facts["class_names"], facts["temperature_applied"]) == (["normal", "tumour"], 2.5)
    assert facts["threshold"] == {"rule": card.threshold_rule, "value": card.threshold}
    assert facts["bundle"] == calibrated.fingerprint and not facts["prior_corrected"]
    assert facts["compared"]["patches"] == PATCHES
    given = ("float32", ["batch", 3, 96, 96]) if to == "wsinfer" else ("uint8", ["batch", 96, 96, 3])
    assert (facts["input"]["type"], facts["input"]["shape"]) == given
    page = (exports(to) / "README.md").read_text("utf-8")
    for words in ("Research only", "do not normalise before it", "0.972 um per pixel", "already applied", "a toy"):
        assert words in page


def test_onnx_states_its_batch_its_operators_and_what_it_is(exports: Callable[[str], Path]) -> None:
    folder = exports("onnx")
    import onnx
    import onnxruntime

    path = str(folder / "model.onnx")
    model = onnx.load(path)
    onnx.checker.check_model(path, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", formats.OPSET)]
    told = {one.key: one.value for one in model.metadata_props}
    assert json.loads(told["class_names"]) == ["normal", "tumour"]
    assert (told["mpp"], told["patch_size"], told["temperature_applied"]) == ("0.972", "96", "2.5")
    assert "Research only" in told["intended_use"]
    (given,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["batch", 96, 96, 3])


def test_openvino_keeps_the_weights_in_float32_and_says_what_it_is(exports: Callable[[str], Path]) -> None:
    folder = exports("openvino")
    import openvino

    model = openvino.Core().read_model(folder / "model.xml")
    assert model.get_rt_info(["sentinode", "temperature_applied"]).astype(str) == "2.5"
    assert model.inputs[0].partial_shape[0].is_dynamic
    floats = {op.get_element_type().get_type_name() for op in model.get_ops() if op.get_type_name() == "Constant"}
    assert "f32" in floats and "f16" not in floats


@pytest.mark.parametrize("to", ["torchscript", "wsinfer"])
def test_torchscript_carries_its_facts_and_is_tied_to_no_device(to: str, exports: Callable[[str], Path]) -> None:
    extra = {"sentinode.json": ""}
    path = exports(to) / FORMATS[to].files[0]
    traced = torch.jit.load(str(path), _extra_files=extra)
    assert json.loads(extra["sentinode.json"])["exported_as"] == to
    constants = [node for node in traced.inlined_graph.nodes() if node.kind() == "prim::Constant"]
    assert not [node for node in constants if 'value="cpu"' in str(node)]
    # A number is taken along to any device; a tensor with a dimension would stay, and Apple's GPUs have no float64.
    values = [node.t("value") for node in constants if node.hasAttribute("value") and node.kindOf("value") == "t"]
    assert not [value for value in values if value.dim() or value.dtype == torch.float64]


def test_wsinfer_gets_a_description_by_its_schema_without_a_second_normalisation(
    exports: Callable[[str], Path],
) -> None:
    config = json.loads((exports("wsinfer") / "config.json").read_text("utf-8"))
    assert config["spec_version"] == "1.0" and isinstance(config["architecture"], str)
    assert (config["num_classes"], config["class_names"]) == (2, ["normal", "tumour"])
    assert (config["patch_size_pixels"], config["spacing_um_px"]) == (96, 0.972)
    assert config["transform"] == [{"name": "Resize", "arguments": {"size": 96}}, {"name": "ToTensor"}]
    assert config["sentinode"]["temperature_applied"] == 2.5


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_floats_from_0_to_1_are_the_bytes_that_they_were(seed: int) -> None:
    images = np.random.default_rng(seed).integers(256, size=(2, 8, 8, 3), dtype=np.uint8)
    seen = formats.FromFloats(torch.nn.Identity())
    floats = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(seen(floats), torch.from_numpy(images))


@pytest.mark.parametrize("backbone", ["test_convnext", "test_vit", "test_efficientnet"])
def test_networks_of_many_kinds_are_exported_as_they_are(bundle: Bundle, tmp_path: Path, backbone: str) -> None:
    network = build_classifier(backbone, pooling="centre")[0].eval()
    card = bundle.card.model_copy(update={"architecture": Architecture(backbone=backbone, pooling="centre")})
    other = save(tmp_path / "bundle", network, card)
    done = export(other, tmp_path / "out", to="wsinfer")
    assert done.largest_difference <= TOLERANCE


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_is_exported_as_it_is(bundle: Bundle, tmp_path: Path, pooling: str) -> None:
    network = build_classifier("test_resnet", pooling=pooling)[0].eval()
    card = bundle.card.model_copy(update={"architecture": Architecture(backbone="test_resnet", pooling=pooling)})
    other = save(tmp_path / "bundle", network, card)
    with torch.inference_mode():
        logits = exportable(other)(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(logits, reference_logits_of(other), atol=1e-5)


def reference_logits_of(bundle: Bundle) -> np.ndarray:
    repeated = np.resize(IMAGES, (PATCHES, *IMAGES.shape[1:]))
    return reference_logits(bundle, repeated)[: len(IMAGES)]


class Brightness(torch.nn.Module):
    """A network of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.01))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = (images.float().mean((1, 2, 3)) - 128) * self.scale
        return torch.stack([-mean, mean], 1)


class OneOrTwo(Brightness):
    """Its answer depends on a choice that tracing cannot see."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return logits if float(images.float().mean()) > 140 else -logits


class OneLogit(Brightness):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images)[:, 1]


def custom(bundle: Bundle, folder: Path, network: torch.nn.Module) -> Bundle:
    card = bundle.card.model_copy(update={"architecture": Architecture(kind="custom", class_name="mine.Network")})
    return save(folder, network, card)


def test_a_network_of_ones_own_is_exported_where_its_class_is_given(bundle: Bundle, tmp_path: Path) -> None:
    path = custom(bundle, tmp_path / "mine", Brightness()).path
    with pytest.raises(BundleError, match=r"mine\.Network"):
        export(sentinode.load(path), tmp_path / "out", to="torchscript")
    assert not (tmp_path / "out").exists()
    export(sentinode.load(path, module=Brightness), tmp_path / "out", to="torchscript")
    assert json.loads((tmp_path / "out" / "export.json").read_text("utf-8"))["architecture"] == "mine.Network"


@pytest.mark.parametrize(
    ("network", "why"),
    [(OneOrTwo, "answers otherwise than PyTorch"), (OneLogit, "does not give two finite logits")],
)
def test_what_would_answer_otherwise_is_refused_and_nothing_is_written(
    bundle: Bundle, tmp_path: Path, network: type[torch.nn.Module], why: str
) -> None:
    other = custom(bundle, tmp_path / "mine", network())
    with pytest.raises(ExportError, match=why):
        export(other, tmp_path / "out", to="torchscript")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_format_that_cannot_hold_the_network_is_refused(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setitem(FORMATS, "onnx", Format(("model.onnx",), (), "export", fails, formats.ONNX.load))
    with pytest.raises(ExportError, match=r"cannot be exported as onnx \(no such operator\)"):
        export(bundle, tmp_path / "out", to="onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [np.nan, 0.1])
def test_a_difference_above_the_tolerance_is_refused(wrong: float) -> None:
    logits = np.random.default_rng(0).normal(size=(PATCHES, 2)).astype(np.float32)
    changed = logits.copy()
    changed[7, 1] += wrong
    assert largest_difference(logits, logits, "onnx") == 0
    with pytest.raises(ExportError, match="as onnx answers otherwise than PyTorch: on 256 patches"):
        largest_difference(changed, logits, "onnx")
    with pytest.raises(ExportError, match="nothing was written"):
        largest_difference(logits[:, :1], logits, "onnx")


def test_a_difference_that_hides_in_a_probability_close_to_1_is_seen() -> None:
    logits = np.tile(np.float32([-20, 20]), (PATCHES, 1))
    with pytest.raises(ExportError, match=r"its margins by up to 5\.0e-02"):
        largest_difference(logits * np.float32(1.05), logits, "onnx")


@pytest.mark.parametrize("made", ["file", "folder"])
def test_what_exists_is_not_overwritten(bundle: Bundle, tmp_path: Path, made: str) -> None:
    out = tmp_path / "out"
    out.mkdir() if made == "folder" else out.touch()
    with pytest.raises(OutputError, match="is not overwritten"):
        export(bundle, out, to="torchscript")


def test_wsinfer_needs_the_resolution(bundle: Bundle, tmp_path: Path) -> None:
    unknown = with_card(bundle, bundle.card.model_copy(update={"mpp": None}), tmp_path / "unknown")
    with pytest.raises(BundleError, match="microns per pixel of this bundle are unknown"):
        export(unknown, tmp_path / "out", to="wsinfer")
    export(unknown, tmp_path / "out", to="torchscript")
    assert "unknown" in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_a_missing_package_and_its_extra_are_named(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "onnx" in name else found(name))
    with pytest.raises(ExportError, match="needs onnx and onnxruntime, which is not installed") as caught:
        export(bundle, tmp_path / "out", to="onnx")
    assert "sentinode[export]" in (caught.value.hint or "")


def test_an_unknown_format_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no format 'tflite'"):
        export(bundle, tmp_path / "out", to="tflite")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [64, 96, 224])
def test_the_patches_of_the_comparison_have_the_size_of_the_bundles(size: int) -> None:
    images, real = trial_patches(PatchGeometry(size, 0.5, size))
    assert images.shape == (PATCHES, size, size, 3) and images.dtype == np.uint8 and real == 0
    assert (images[30] == 0).all() and (images[31] == 255).all()


def test_patches_of_ones_own_take_the_place_of_generated_ones(tmp_path: Path) -> None:
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    images, real = trial_patches(PCAM, tmp_path)
    assert real == len(IMAGES) and len(images) == PATCHES
    np.testing.assert_array_equal(images[32:37], IMAGES)


@pytest.mark.parametrize("size", [None, 64])
def test_data_without_a_patch_that_fits_is_refused(tmp_path: Path, size: int | None) -> None:
    if size:
        Image.new("RGB", (size, size)).save(tmp_path / "small.png")
    with pytest.raises(DataError, match="no patch here can be used to compare with"):
        trial_patches(PCAM, tmp_path)


def test_the_command_prints_its_files_and_the_comparison(run: Path, generated: Path, tmp_path: Path) -> None:
    data = next(generated.glob("*valid_x.h5"))
    words = ["export", str(run), "--to", "torchscript", "--out", str(tmp_path / "out"), "--data", str(data)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == str(tmp_path / "out" / "model.pt")
    told = json.loads((tmp_path / "out" / "export.json").read_text("utf-8"))
    assert told["compared"]["real"] == 128
    again = CliRunner().invoke(app, words)
    assert isinstance(again.exception, OutputError)


WSINFER = """
import sys
import wsinfer_zoo.client as client
client.load_registry = lambda *_, **__: client.ModelRegistry(models={})  # it is fetched from the internet
from wsinfer.cli.cli import cli
cli(sys.argv[1:], standalone_mode=False)
"""


def wsinfer_python() -> str:
    """The Python of an environment with WSInfer; skips where there is none."""
    beside = shutil.which("wsinfer")
    python = os.environ.get(WSINFER_PYTHON) or (str(Path(beside).with_name("python")) if beside else None)
    if python is None:
        pytest.skip(f"WSInfer is not installed here: put `wsinfer` on the PATH, or name its Python in {WSINFER_PYTHON}")
    return python


@pytest.mark.slow
def test_wsinfer_gives_sentinodes_probabilities(
    exports: Callable[[str], Path], calibrated: Bundle, tmp_path: Path
) -> None:
    import csv

    import tifffile

    python, folder = wsinfer_python(), exports("wsinfer")
    picture = slide_picture()
    (tmp_path / "slides").mkdir()
    tifffile.imwrite(
        tmp_path / "slides" / "a.tif",
        picture,
        photometric="rgb",
        tile=(256, 256),
        resolution=(1e4 / 0.972, 1e4 / 0.972),
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    places = ["-i", tmp_path / "slides", "-o", tmp_path / "out"]
    model = ["-p", folder / "torchscript_model.pt", "-c", folder / "config.json", "-n", 1]
    command = [python, "-c", WSINFER, "--backend", "openslide", "run", *places, *model]
    environment = {**os.environ, "WSINFER_FORCE_CPU": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (table,) = (tmp_path / "out" / "model-outputs-csv").glob("*.csv")
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert len(rows) > 20 and {row["width"] for row in rows} == {"96"}
    corners = [(int(row["minx"]), int(row["miny"])) for row in rows]
    patches = np.stack([picture[y : y + 96, x : x + 96] for x, y in corners])
    expected = sentinode.open_engine(calibrated, device="cpu", precision="float32").probabilities(patches)
    np.testing.assert_allclose([float(row["prob_tumour"]) for row in rows], expected, atol=1e-4)


def slide_picture() -> np.ndarray:
    """uint8 (1536, 1536, 3): a square of purple noise, in which patches differ, on bright glass."""
    rng = np.random.default_rng(0)
    picture = np.full((1536, 1536, 3), 243, np.uint8)
    blocks = rng.integers(-40, 40, (32, 32, 3)).repeat(32, 0).repeat(32, 1)
    tissue = blocks + rng.integers(-20, 20, blocks.shape) + np.array([170, 90, 160])
    picture[256:1280, 256:1280] = tissue.clip(0, 255)
    return picture
