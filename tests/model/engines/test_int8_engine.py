"""A bundle's int8 network is used where its card and its answers allow it, and never trusted blindly."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sentinode.errors import BundleError, DeviceError
from sentinode.model.bundle import DENSE, PATCH, Bundle, Card, Int8, load, with_card
from sentinode.model.engines import Int8Engine, OpenVinoEngine, TorchEngine, int8_engine, open_engine, openvino_engine
from sentinode.model.engines.contract import probabilities_of
from sentinode.model.engines.int8_engine import GRAPH, VALUES, chosen_by_auto, digest_of, relative_distance
from sentinode.patches import open_data

STARTS = ([0, 10, 96], [3, 64, 96])

Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def images(generated: Path) -> Images:
    """Tissue, for which the ranges of whole numbers were chosen."""
    return np.asarray(open_data(generated, show=False)["valid"].images[:6])


@pytest.fixture(scope="module")
def region(images: Images) -> Images:
    return np.vstack([np.hstack(list(images[:2])), np.hstack(list(images[2:4]))])


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SENTINODE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def copied(int8_bundle: Bundle, tmp_path: Path) -> Bundle:
    shutil.copytree(int8_bundle.path, tmp_path / "bundle")
    return load(tmp_path / "bundle")


def with_int8(bundle: Bundle, **update: object) -> Bundle:
    assert bundle.card.int8 is not None
    return Bundle(bundle.path, with_section(bundle.card, bundle.card.int8.model_copy(update=update)))


def with_section(card: Card, int8: Int8 | None) -> Card:
    return card.model_copy(update={"int8": int8})


def stated(bundle: Bundle) -> Bundle:
    """The bundle with a card that describes the files which lie there now."""
    return with_int8(bundle, graph=digest_of(bundle.path))


def faster(bundle: Bundle, times: float) -> Bundle:
    assert bundle.card.int8 is not None
    holding = {"auc": 0.9, "auc_float32": 0.9, "nll": 0.3, "nll_float32": 0.3, "times_faster": times}
    readings = bundle.card.int8.readings
    return with_int8(bundle, readings={name: one.model_copy(update=holding) for name, one in readings.items()})


def test_its_answers_lie_near_pytorchs(int8_bundle: Bundle, images: Images) -> None:
    engine = Int8Engine(int8_bundle)
    reference = TorchEngine(int8_bundle, device="cpu", precision="float32")
    assert engine.name == "openvino cpu int8" and engine.batch == reference.batch
    np.testing.assert_allclose(engine.probabilities(images), reference.probabilities(images), atol=0.1)
    assert (engine.margins(images) != reference.margins(images)).any()
    np.testing.assert_allclose(engine.margins(images[2:3]), engine.margins(images)[2:3], atol=1e-4)
    assert engine.margins(images[:0]).shape == (0,)


@pytest.mark.parametrize("tta", [False, True])
def test_its_dense_answers_lie_near_pytorchs(int8_bundle: Bundle, region: Images, tta: bool) -> None:
    engine = Int8Engine(int8_bundle, dense=True, tta=tta)
    reference = TorchEngine(int8_bundle, device="cpu", precision="float32", tta=tta)
    ours, theirs = (probabilities_of(each.dense(region, *STARTS), each.temperature) for each in (engine, reference))
    np.testing.assert_allclose(ours, theirs, atol=0.1)
    assert (ours != theirs).any()


def test_a_patch_is_a_region_with_one_window(int8_bundle: Bundle, images: Images) -> None:
    engine = Int8Engine(int8_bundle, dense=True)
    np.testing.assert_allclose(engine.dense(images[0], [0], [0]).ravel(), engine.margins(images[:1]), atol=0.02)


@pytest.mark.parametrize("dense", [False, True])
def test_the_second_start_gives_the_same_bytes_and_needs_no_pytorch(
    int8_bundle: Bundle, region: Images, dense: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer() -> bytes:
        engine = Int8Engine(int8_bundle, dense=dense)
        return (engine.dense(region, *STARTS) if dense else engine.margins(region[None, :96, :96])).tobytes()

    monkeypatch.setenv("SENTINODE_CACHE", str(tmp_path))
    first = answer()
    monkeypatch.setattr(TorchEngine, "__init__", lambda *_, **__: pytest.fail("PyTorch was asked"))
    assert answer() == first


def test_threads_get_the_answers_to_their_own_questions(int8_bundle: Bundle, images: Images) -> None:
    engine = Int8Engine(int8_bundle)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: engine.margins(images[i % 6 : i % 6 + 1]), range(24)))
    np.testing.assert_allclose(np.ravel(answers), np.tile(engine.margins(images), 4), atol=1e-4)


@pytest.mark.usefixtures("int8_bundle")
def test_the_network_in_float_never_calls_itself_int8(bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match="int8"):
        OpenVinoEngine(bundle, precision="int8")


def test_int8_can_be_asked_for_by_name(int8_bundle: Bundle, bundle: Bundle) -> None:
    for kind in (None, "openvino", "fastest"):
        assert open_engine(int8_bundle, kind=kind, device="cpu", precision="int8").name == "openvino cpu int8"
    with pytest.raises(DeviceError, match="only with OpenVINO"):
        open_engine(int8_bundle, kind="torch", device="cpu", precision="int8")
    for kind in ("openvino", "fastest"):
        with pytest.raises(BundleError, match=r"no int8 network.\n.*sentinode quantise"):
            open_engine(bundle, kind=kind, device="cpu", precision="int8")


def test_auto_takes_int8_only_where_it_was_faster_and_the_processor_has_it(
    int8_bundle: Bundle, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick, slow = faster(int8_bundle, 1.5), faster(int8_bundle, 1.0)
    monkeypatch.setattr(int8_engine, "processor_gains_from_int8", lambda: True)
    assert chosen_by_auto(quick.card, dense=False) and chosen_by_auto(quick.card, dense=True)
    assert not chosen_by_auto(slow.card, dense=False) and not chosen_by_auto(bundle.card, dense=False)
    assert quick.card.int8 is not None
    worse = quick.card.int8.readings[PATCH].model_copy(update={"auc": 0.89})
    assert not chosen_by_auto(with_int8(quick, readings={PATCH: worse}).card, dense=False)
    alone = with_int8(quick, readings={PATCH: quick.card.int8.readings[PATCH]})
    assert not chosen_by_auto(alone.card, dense=True)
    assert open_engine(quick, kind="fastest", device="cpu").name == "openvino cpu int8"
    assert "int8" not in open_engine(quick, kind="torch", device="cpu").name
    assert "int8" not in open_engine(quick, kind="fastest", device="cpu", precision="float32").name
    monkeypatch.setattr(int8_engine, "processor_gains_from_int8", lambda: False)
    assert not chosen_by_auto(quick.card, dense=False)
    assert "int8" not in open_engine(quick, kind="fastest", device="cpu").name


@pytest.mark.usefixtures("no_cache")
def test_auto_says_why_it_cannot_take_int8_and_goes_on(
    int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(int8_engine, "processor_gains_from_int8", lambda: True)
    monkeypatch.setitem(openvino_engine.TOLERANCE, "int8", -1.0)
    engine = open_engine(faster(int8_bundle, 2), kind="fastest", device="cpu")
    assert isinstance(engine, OpenVinoEngine) and engine.name != "openvino cpu int8"
    assert "int8 is not used" in capsys.readouterr().err
    with pytest.raises(DeviceError, match="from PyTorch's"):
        open_engine(int8_bundle, kind="fastest", device="cpu", precision="int8")


def test_without_openvino_int8_is_refused(int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_engine, "available", lambda: False)
    with pytest.raises(DeviceError, match="pip install"):
        open_engine(int8_bundle, precision="int8", device="cpu")


def test_a_reading_that_was_not_measured_is_refused(int8_bundle: Bundle) -> None:
    assert int8_bundle.card.int8 is not None
    alone = with_int8(int8_bundle, readings={PATCH: int8_bundle.card.int8.readings[PATCH]})
    with pytest.raises(BundleError, match="not been measured in dense reading"):
        Int8Engine(alone, dense=True)


# What is damaged or foreign


@pytest.mark.parametrize("name", [GRAPH, VALUES])
def test_a_truncated_file_is_refused_by_its_checksum_and_by_the_card(copied: Bundle, name: str) -> None:
    file = copied.path / name
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BundleError, match=f"{name} has changed"):
        load(copied.path)
    with pytest.raises(BundleError, match="not the one that its card describes"):
        Int8Engine(copied)
    with pytest.raises((BundleError, DeviceError), match=r"cannot be read|cannot run"):
        Int8Engine(stated(copied))


@pytest.mark.parametrize("name", [GRAPH, VALUES])
def test_a_missing_file_is_refused(copied: Bundle, name: str) -> None:
    (copied.path / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Int8Engine(copied)


def test_a_network_of_other_weights_is_refused(copied: Bundle) -> None:
    with pytest.raises(BundleError, match="made of other weights"):
        Int8Engine(with_int8(copied, made_from="0" * 64))


@pytest.mark.usefixtures("no_cache")
def test_a_graph_of_another_bundle_is_found_by_its_answers(copied: Bundle, int8_graph_of_noise: Path) -> None:
    for name in (GRAPH, VALUES):
        shutil.copyfile(int8_graph_of_noise / name, copied.path / name)
    with pytest.raises(DeviceError, match="from PyTorch's"):
        Int8Engine(stated(copied))


class ToFloat(torch.nn.Module):
    """A network that takes numbers of any shape, and gives them as float32."""

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers.float()


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("shape", [(2, 2), (-1, 4)])
def test_a_graph_of_other_inputs_or_outputs_is_refused(copied: Bundle, shape: tuple[int, ...]) -> None:
    openvino = pytest.importorskip("openvino")
    example = torch.zeros([abs(side) for side in shape], dtype=torch.uint8)
    model = openvino.convert_model(ToFloat(), example_input=example, input=openvino.PartialShape(list(shape)))
    openvino.save_model(model, copied.path / GRAPH, compress_to_fp16=False)
    with pytest.raises(BundleError, match="does not take images"):
        Int8Engine(stated(copied))


def test_features_are_compared_by_their_norms() -> None:
    one = np.ones((2, 3, 4, 4), np.float32)
    assert relative_distance(one, one) == 0
    assert relative_distance(1.1 * one, one) == pytest.approx(0.1, abs=1e-6)
    assert relative_distance(one[:1], one) == float("inf")
    assert not relative_distance(np.full_like(one, np.nan), one) <= 0.5


def test_another_card_keeps_the_int8_network(copied: Bundle, tmp_path: Path) -> None:
    changed = with_card(copied, copied.card.model_copy(update={"name": "other"}), tmp_path / "other")
    assert Int8Engine(load(changed.path)).graph == digest_of(copied.path)
    assert DENSE in load(changed.path).card.readings
