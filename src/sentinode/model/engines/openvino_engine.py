"""The engine for processors: OpenVINO lays the network out anew for the machine that it finds."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import platform
import threading
import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from sentinode._version import __version__
from sentinode.augmentation.transforms import SYMMETRIES, symmetry
from sentinode.errors import DeviceError, SentinodeError
from sentinode.model.bundle import Bundle
from sentinode.model.classifier import Classifier
from sentinode.model.dense import Lattice, check_region, lattice_of, turned_back, window_margins
from sentinode.model.engines import compile_cache
from sentinode.model.engines.torch_engine import BLOCK, TorchEngine, check_size
from sentinode.model.hardware import choose_precision, processor

TOLERANCE = {"float32": 0.001, "bfloat16": 0.05}
"""How far a probability may lie from PyTorch's in float32 on the patches that every engine is tried on."""

HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""What OpenVINO is told of each precision. Layers that are not quantised stay in float32 beside int8."""

TRIED = 16


def available() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


class OpenVinoEngine:
    """A bundle's network as OpenVINO runs it on the processor.

    Args:
        bundle: the model.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        tta: average the logits over the eight symmetries of the square.
        dense: whether it is opened for dense reading; its answers are then compared with PyTorch's on a region.

    Raises:
        DeviceError: OpenVINO is missing, cannot follow the network, or answers otherwise than PyTorch does.
        BundleError: ``dense``, and the network cannot read densely.
    """

    graph: str | None = None

    def __init__(self, bundle: Bundle, *, precision: str = "auto", tta: bool = False, dense: bool = False) -> None:
        if not available():
            raise DeviceError("OpenVINO is not installed.", hint="Install it: pip install 'sentinode[fast]'.")
        reference = TorchEngine(bundle, device="cpu", precision="float32")
        kind = self._kind(precision, reference)
        self.name, self.batch, self.block = f"openvino cpu {kind}{' tta' if tta else ''}", reference.batch, BLOCK
        self.temperature, self.tta, self.geometry = bundle.card.temperature, False, bundle.card.geometry
        self._bundle, self._network = bundle, reference.network
        self._lock = threading.Lock()
        self._requests: dict[bool, Any] = {}
        self._settings = {
            "INFERENCE_PRECISION_HINT": HINTS[kind],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        # OpenVINO raises plain RuntimeErrors and errors of its own for what it cannot do.
        try:
            if dense:
                _ = self.lattice
            if not self._recall(dense):
                gap = self._dense_gap(reference) if dense else self._gap(reference)
                if not gap <= self._tolerance(kind):
                    raise DeviceError(f"OpenVINO's answers lie {gap:.3f} from PyTorch's here.", where=bundle.path)
                self._remember(dense)
        except SentinodeError:
            raise
        except Exception as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise DeviceError(f"OpenVINO cannot run this network ({first}).", where=bundle.path) from error
        self.tta = tta

    def _kind(self, precision: str, reference: TorchEngine) -> str:
        return str(choose_precision(precision, reference.device)).removeprefix("torch.")

    def _tolerance(self, kind: str) -> float:
        return TOLERANCE[kind]

    def margins(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (B, S, S, 3) to float32 (B,): the positive class's logit less the other's, before any calibration."""
        if not len(images):
            return np.zeros(0, np.float32)
        check_size(images, self.geometry)
        if not self.tta:
            return self._margins(images)
        batch = torch.from_numpy(np.ascontiguousarray(images))
        views = [self._margins(symmetry(batch, k).numpy()) for k in range(SYMMETRIES)]
        answer: NDArray[np.float32] = np.mean(views, 0, dtype=np.float32)
        return answer

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (B, S, S, 3) to float32 (B,): P(positive class) after temperature scaling."""
        margins = torch.from_numpy(self.margins(images))
        answer: NDArray[np.float32] = torch.sigmoid(margins / self.temperature).numpy()
        return answer

    @cached_property
    def lattice(self) -> Lattice:
        """How the cells of the network lie over a region.

        Raises:
            BundleError: the network cannot read densely.
        """
        return lattice_of(self._network)

    def dense(self, region: NDArray[np.uint8], tops: ArrayLike, lefts: ArrayLike) -> NDArray[np.float32]:
        """The margin of each window of a region, whose convolutions are shared; see :meth:`TorchEngine.dense`."""
        check_region(region, self.lattice)
        network, batch = self._network, torch.from_numpy(np.require(region, requirements=["C", "W"]))[None]
        assert isinstance(network, Classifier)
        margins = []
        for k in range(SYMMETRIES if self.tta else 1):
            features = torch.from_numpy(self._features(symmetry(batch, k).contiguous().numpy()))
            margins.append(window_margins(network, self.lattice, turned_back(features, k), tops, lefts))
        answer: NDArray[np.float32] = torch.stack(margins).mean(0).numpy()
        return answer

    def _margins(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._lock:
            logits = self._request(dense=False).infer({0: np.ascontiguousarray(images)})[0]
            return np.asarray(logits[:, 1] - logits[:, 0], np.float32)

    def _features(self, region: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (1, H, W, 3) to the feature map, float32 (1, C, h, w)."""
        with self._lock:
            return np.array(self._request(dense=True).infer({0: region})[0], np.float32)

    def _request(self, *, dense: bool) -> Any:
        """A request to the network compiled for regions or for batches of patches; compiled at its first use."""
        if dense not in self._requests:
            self._requests[dense] = self._compile(dense).create_infer_request()
        return self._requests[dense]

    def _compile(self, dense: bool) -> Any:
        import openvino

        # The converter changes the module that it is given.
        network = copy.deepcopy(_Features(self._network) if dense else self._network)
        shape = (1, -1, -1, 3) if dense else (-1, *self.geometry.shape)
        example = torch.zeros(1 if dense else 2, *self.geometry.shape, dtype=torch.uint8)
        with _quiet():
            model = openvino.convert_model(network, example_input=example, input=openvino.PartialShape(list(shape)))
        return openvino.Core().compile_model(model, "CPU", self._settings)

    def _recall(self, dense: bool) -> bool:
        """Take the compiled network from the cache, where an earlier engine left it after comparing it with PyTorch."""
        key = self._key(dense)
        compiled = None if key is None else compile_cache.load(key, self._settings)
        if compiled is not None:
            self._requests[dense] = compiled.create_infer_request()
        return compiled is not None

    def _remember(self, dense: bool) -> None:
        key = self._key(dense)
        if key is not None:
            compile_cache.keep(key, self._requests[dense].get_compiled_model())

    def _key(self, dense: bool) -> str | None:
        """The cache's key of a compiled network; None for a network of the user's, whose code may have changed."""
        card = self._bundle.card
        if card.architecture.kind == "custom":
            return None
        import openvino

        versions = __version__, openvino.__version__, torch.__version__, timm.__version__
        machine = processor(), platform.machine(), platform.system()
        network = self._bundle.fingerprint, card.architecture.model_dump(), card.geometry
        return compile_cache.key_of(versions, machine, network, dense, self._settings)

    def _gap(self, reference: TorchEngine) -> float:
        """How far the answers lie from PyTorch's, on noise and on flat colours."""
        images = self._probe()
        return float(np.abs(self.probabilities(images) - reference.probabilities(images)).max())

    def _dense_gap(self, reference: TorchEngine) -> float:
        """Likewise in dense reading, on a region that is half noise and half a flat colour.

        It is larger than the picture that OpenVINO's converter was shown: what that fixed would be seen here.
        """
        region = self._probe_region()
        starts = np.linspace(0, len(region) - self.geometry.size, 4)
        ours, theirs = (
            torch.sigmoid(torch.from_numpy(engine.dense(region, starts, starts)) / self.temperature)
            for engine in (self, reference)
        )
        return float((ours - theirs).abs().max())

    def _probe(self) -> NDArray[np.uint8]:
        """Patches of noise and of flat colours."""
        images = np.random.default_rng(0).integers(256, size=(TRIED, *self.geometry.shape), dtype=np.uint8)
        images[TRIED // 2 :] = images[TRIED // 2 :, :1, :1]
        return images

    def _probe_region(self) -> NDArray[np.uint8]:
        """A region that is half noise and half a flat colour, twice as large as a patch."""
        side = 2 * self.geometry.size
        region = np.random.default_rng(0).integers(256, size=(side, side, 3), dtype=np.uint8)
        region[side // 2 :] = region[:1, :1]
        return region


class _Features(nn.Module):
    """A classifier up to its feature map."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        assert isinstance(network, Classifier)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.features(images)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of tracing, since comparing with PyTorch shows what they warn of; and the root logger left as it was.

    OpenVINO's converter sets its level, handler and filter, and would silence everybody's messages from then on.
    """
    root = logging.getLogger()
    level, handlers, filters = root.level, root.handlers[:], root.filters[:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            root.setLevel(level)
            root.handlers[:], root.filters[:] = handlers, filters
