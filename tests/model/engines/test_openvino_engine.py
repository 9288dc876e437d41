"""OpenVINO answers as PyTorch does, or is not taken."""

from __future__ import annotations

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from sentinode.errors import DeviceError
from sentinode.model import engines
from sentinode.model.bundle import Architecture, Bundle, save
from sentinode.model.classifier import build_classifier
from sentinode.model.engines import OpenVinoEngine, TorchEngine, compile_cache, open_engine, openvino_engine

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 96, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> OpenVinoEngine:
    pytest.importorskip("openvino", reason="OpenVINO (sentinode[fast]) is not installed here")
    return OpenVinoEngine(bundle, precision="float32")


def test_openvino_reports_nothing_to_its_makers(engine: OpenVinoEngine) -> None:
    """It would say that it was imported, by a process of its own. The frame of tests/hostile sees that, too."""
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"


def test_its_answers_are_those_of_pytorch(bundle: Bundle, engine: OpenVinoEngine) -> None:
    reference = TorchEngine(bundle, device="cpu", precision="float32")
    np.testing.assert_allclose(engine.probabilities(IMAGES), reference.probabilities(IMAGES), atol=1e-3)
    assert engine.name == "openvino cpu float32" and engine.batch == reference.batch


def test_batches_may_have_any_size_and_answers_keep_their_order(engine: OpenVinoEngine) -> None:
    whole = engine.margins(IMAGES)
    assert engine.margins(IMAGES[:0]).shape == (0,)
    np.testing.assert_allclose(engine.margins(IMAGES[::-1])[::-1], whole, atol=1e-4)
    np.testing.assert_allclose(engine.margins(IMAGES[2:3]), whole[2:3], atol=1e-4)


def test_the_same_batch_gets_the_same_bytes(engine: OpenVinoEngine) -> None:
    assert engine.margins(IMAGES).tobytes() == engine.margins(IMAGES).tobytes()


def test_threads_get_the_answers_to_their_own_questions(engine: OpenVinoEngine) -> None:
    whole = engine.margins(IMAGES)
    with ThreadPoolExecutor(4) as pool:
        for i, answer in enumerate(pool.map(lambda i: engine.margins(IMAGES[i % 6 : i % 6 + 1]), range(24))):
            np.testing.assert_allclose(answer, whole[i % 6 : i % 6 + 1], atol=1e-4)


@pytest.mark.usefixtures("engine")
def test_the_symmetries_averaged_make_the_answer_invariant(bundle: Bundle) -> None:
    averaged = OpenVinoEngine(bundle, precision="float32", tta=True)
    np.testing.assert_allclose(averaged.margins(IMAGES), averaged.margins(np.rot90(IMAGES, 1, (1, 2))), atol=1e-3)
    assert averaged.name.endswith("tta")


@pytest.mark.usefixtures("engine")
def test_the_fastest_engine_is_openvino_where_it_runs_and_pytorch_where_not(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert isinstance(open_engine(bundle, kind="fastest", device="cpu"), OpenVinoEngine)
    monkeypatch.setattr(openvino_engine, "TOLERANCE", {"float32": -1.0, "bfloat16": -1.0})
    monkeypatch.setenv("SENTINODE_CACHE", str(tmp_path))
    assert isinstance(open_engine(bundle, kind="fastest", device="cpu"), TorchEngine)
    with pytest.raises(DeviceError, match="from PyTorch's"):
        open_engine(bundle, kind="openvino", device="cpu")


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("backbone", ["p4m_resnet", "test_convnext", "test_vit", "test_efficientnet"])
def test_backbones_of_many_kinds_run_or_are_left_to_pytorch(bundle: Bundle, tmp_path: Path, backbone: str) -> None:
    network = build_classifier(backbone, pooling="avgcentre")[0]
    card = bundle.card.model_copy(update={"architecture": Architecture(backbone=backbone, pooling="avgcentre")})
    other = save(tmp_path / "bundle", network, card)
    level = logging.getLogger().level
    fast, slow = (open_engine(other, kind=kind, device="cpu", precision="float32") for kind in ("fastest", "torch"))
    np.testing.assert_allclose(fast.probabilities(IMAGES), slow.probabilities(IMAGES), atol=1e-3)
    assert logging.getLogger().level == level


class OfTwo(torch.nn.Module):
    """A network that takes two patches at a time and no other number, once it is traced."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().view(len(images), -1, 2).mean(1)


@pytest.mark.usefixtures("engine")
def test_a_network_that_openvino_cannot_follow_is_left_to_pytorch(bundle: Bundle, tmp_path: Path) -> None:
    card = bundle.card.model_copy(update={"architecture": Architecture(kind="custom", class_name="OfTwo")})
    other = save(tmp_path / "bundle", OfTwo(), card)
    with pytest.raises(DeviceError):
        open_engine(other, kind="openvino", device="cpu")
    assert isinstance(open_engine(other, kind="fastest", device="cpu"), TorchEngine)


def test_where_openvino_is_not_installed_that_is_said_or_pytorch_taken(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_engine, "available", lambda: False)
    assert isinstance(open_engine(bundle, kind="fastest", device="cpu"), TorchEngine)
    with pytest.raises(DeviceError, match="pip install"):
        open_engine(bundle, kind="openvino", device="cpu")


def test_an_engine_that_does_not_exist_is_refused(bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match=engines.KINDS[-1]):
        open_engine(bundle, kind="tensorrt")


# Dense reading

REGION = np.random.default_rng(1).integers(0, 256, (192, 224, 3), dtype=np.uint8)
STARTS = ([0, 10, 96], [3, 64, 128])


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("tta", [False, True])
def test_its_dense_answers_are_those_of_pytorch(bundle: Bundle, tta: bool) -> None:
    fast = OpenVinoEngine(bundle, precision="float32", tta=tta, dense=True)
    slow = TorchEngine(bundle, device="cpu", precision="float32", tta=tta)
    np.testing.assert_allclose(fast.dense(REGION, *STARTS), slow.dense(REGION, *STARTS), atol=1e-3)
    square = np.ascontiguousarray(REGION[:, :192])
    np.testing.assert_allclose(fast.dense(square, *STARTS), slow.dense(square, *STARTS), atol=1e-3)
    np.testing.assert_allclose(fast.margins(IMAGES), slow.margins(IMAGES), atol=1e-3)


def test_a_window_that_is_the_whole_region_gets_the_patchs_answer(bundle: Bundle, engine: OpenVinoEngine) -> None:
    np.testing.assert_allclose(engine.dense(IMAGES[0], [0], [0]).ravel(), engine.margins(IMAGES[:1]), atol=1e-4)


@pytest.mark.usefixtures("engine")
def test_the_second_start_takes_the_compiled_network_from_the_cache(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SENTINODE_CACHE", str(tmp_path))
    first = OpenVinoEngine(bundle, precision="float32", dense=True)
    (entry,) = compile_cache.folder().iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(OpenVinoEngine, "_compile", lambda *_: pytest.fail("compiled again"))
        second = OpenVinoEngine(bundle, precision="float32", dense=True)
    np.testing.assert_array_equal(first.dense(REGION, *STARTS), second.dense(REGION, *STARTS))
    entry.write_bytes(entry.read_bytes()[:-1])
    third = OpenVinoEngine(bundle, precision="float32", dense=True)
    np.testing.assert_array_equal(first.dense(REGION, *STARTS), third.dense(REGION, *STARTS))
    other = OpenVinoEngine(bundle, precision="bfloat16", dense=True)
    assert other.name == "openvino cpu bfloat16" and len(list(compile_cache.folder().iterdir())) == 2


@pytest.mark.usefixtures("engine")
def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "openvino").write_text("a file where the folder should be")
    monkeypatch.setenv("SENTINODE_CACHE", str(tmp_path))
    assert OpenVinoEngine(bundle, precision="float32").margins(IMAGES).shape == (6,)


@pytest.mark.usefixtures("engine")
def test_a_cold_start_a_second_one_and_one_without_a_cache_give_the_same_bytes(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SENTINODE_CACHE", str(tmp_path))
    cold, warm = (OpenVinoEngine(bundle, precision="bfloat16").margins(IMAGES).tobytes() for _ in range(2))
    (tmp_path / "file").touch()
    monkeypatch.setenv("SENTINODE_CACHE", str(tmp_path / "file"))
    assert cold == warm == OpenVinoEngine(bundle, precision="bfloat16").margins(IMAGES).tobytes()


START = """
import sys
import numpy as np
import sentinode
engine = sentinode.open_engine(sentinode.load(sys.argv[1]), kind="openvino", device="cpu", precision="float32")
images = np.random.default_rng(0).integers(0, 256, (6, 96, 96, 3), dtype=np.uint8)
print(engine.margins(images).tobytes().hex(), "torch" in sys.modules)
"""


@pytest.mark.usefixtures("engine")
def test_two_processes_may_start_at_once_and_the_next_needs_no_pytorch(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SENTINODE_CACHE", str(tmp_path))

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", START, bundle.path], stdout=subprocess.PIPE, text=True)

    both = [start(), start()]
    first, second = (process.communicate()[0].split() for process in both)
    third = start().communicate()[0].split()
    assert first[0] == second[0] == third[0]
    assert third[1] == "False"
    assert [file.suffix for file in compile_cache.folder().iterdir()] == [".compiled"]
