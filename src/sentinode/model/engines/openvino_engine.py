"""The engine for processors: OpenVINO lays the network out anew for the machine that it finds."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import platform
import queue
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
from sentinode.model.dense import Features, Lattice, check_region, feature_views, lattice_of, window_margins
from sentinode.model.engines import compile_cache
from sentinode.model.engines.torch_engine import BLOCK, TILE, TorchEngine, check_size
from sentinode.model.hardware import choose_precision, processor

TOLERANCE = {"float32": 0.001, "bfloat16": 0.05}
"""How far a probability may lie from PyTorch's in float32 on the patches that every engine is tried on."""

TRIED = 16

MOST_STREAMS = 4
"""How many batches or regions are computed at once; each takes memory."""


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

    def __init__(self, bundle: Bundle, *, precision: str = "auto", tta: bool = False, dense: bool = False) -> None:
        if not available():
            raise DeviceError("OpenVINO is not installed.", hint="Install it: pip install 'sentinode[fast]'.")
        reference = TorchEngine(bundle, device="cpu", precision="float32")
        kind = str(choose_precision(precision, reference.device)).removeprefix("torch.")
        self.name = f"openvino cpu {kind}{' tta' if tta else ''}"
        self.batch, self.tile, self.block = reference.batch, TILE, BLOCK
        threads = torch.get_num_threads()
        self.streams = min(threads, MOST_STREAMS)
        self.temperature, self.tta, self.geometry = bundle.card.temperature, False, bundle.card.geometry
        self._bundle, self._network = bundle, reference.network
        self._lock = threading.Lock()
        self._compiled: dict[bool, Any] = {}
        self._requests: dict[bool, queue.SimpleQueue[Any]] = {}
        self._settings = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[kind],
            # Two networks that run side by side wait for each other less than two threads of one network.
            "NUM_STREAMS": self.streams,
            "INFERENCE_NUM_THREADS": threads,
        }
        # OpenVINO raises plain RuntimeErrors and errors of its own for what it cannot do.
        try:
            if dense:
                _ = self.lattice
            if not self._recall(dense):
                gap = self._dense_gap(reference) if dense else self._gap(reference)
                if not gap <= TOLERANCE[kind]:
                    raise DeviceError(f"OpenVINO's answers lie {gap:.3f} from PyTorch's here.", where=bundle.path)
                self._remember(dense)
        except SentinodeError:
            raise
        except Exception as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise DeviceError(f"OpenVINO cannot run this network ({first}).", where=bundle.path) from error
        self.tta = tta

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

    def features(self, region: NDArray[np.uint8]) -> Features:
        """The feature map of a region; see :meth:`TorchEngine.features`."""
        check_region(region, self.lattice)
        batch = torch.from_numpy(np.require(region, requirements=["C", "W"]))[None]
        return feature_views(self._features, batch, tta=self.tta)

    def pooled(self, features: Features, tops: ArrayLike, lefts: ArrayLike) -> NDArray[np.float32]:
        """The margins of windows of a feature map; see :meth:`TorchEngine.pooled`."""
        assert isinstance(self._network, Classifier)
        with _one_thread():
            answer: NDArray[np.float32] = window_margins(self._network, self.lattice, features, tops, lefts).numpy()
        return answer

    def dense(self, region: NDArray[np.uint8], tops: ArrayLike, lefts: ArrayLike) -> NDArray[np.float32]:
        """The margins of windows of a region, whose convolutions are shared: ``pooled`` from its ``features``."""
        return self.pooled(self.features(region), tops, lefts)

    def _margins(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = self._infer(np.ascontiguousarray(images), dense=False)
        return np.asarray(logits[:, 1] - logits[:, 0], np.float32)

    def _features(self, region: Tensor) -> Tensor:
        """uint8 (1, H, W, 3) to the feature map, float32 (1, C, h, w)."""
        return torch.from_numpy(self._infer(region.numpy(), dense=True))

    def _infer(self, images: NDArray[np.uint8], *, dense: bool) -> NDArray[np.float32]:
        """What the network compiled for regions, or for batches of patches, makes of them."""
        requests = self._requests_for(dense)
        request = requests.get()
        try:
            return np.array(request.infer({0: images})[0], np.float32)
        finally:
            requests.put(request)

    def _requests_for(self, dense: bool) -> queue.SimpleQueue[Any]:
        """As many requests to a compiled network as it may serve at once; it is compiled at its first use."""
        with self._lock:
            if dense not in self._requests:
                self._take(dense, self._compile(dense))
            return self._requests[dense]

    def _take(self, dense: bool, compiled: Any) -> None:
        self._compiled[dense], self._requests[dense] = compiled, queue.SimpleQueue()
        for _ in range(self.streams):
            self._requests[dense].put(compiled.create_infer_request())

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
            self._take(dense, compiled)
        return compiled is not None

    def _remember(self, dense: bool) -> None:
        key = self._key(dense)
        if key is not None:
            compile_cache.keep(key, self._compiled[dense])

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
        rng = np.random.default_rng(0)
        images = rng.integers(256, size=(TRIED, *self.geometry.shape), dtype=np.uint8)
        images[TRIED // 2 :] = images[TRIED // 2 :, :1, :1]
        return float(np.abs(self.probabilities(images) - reference.probabilities(images)).max())

    def _dense_gap(self, reference: TorchEngine) -> float:
        """Likewise in dense reading, on a region that is half noise and half a flat colour.

        It is larger than the picture that OpenVINO's converter was shown: what that fixed would be seen here.
        """
        side, rng = 2 * self.geometry.size, np.random.default_rng(0)
        region = rng.integers(256, size=(side, side, 3), dtype=np.uint8)
        region[side // 2 :] = region[:1, :1]
        starts = np.linspace(0, side - self.geometry.size, 4)
        ours, theirs = (
            torch.sigmoid(torch.from_numpy(engine.dense(region, starts, starts)) / self.temperature)
            for engine in (self, reference)
        )
        return float((ours - theirs).abs().max())


class _Features(nn.Module):
    """A classifier up to its feature map."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        assert isinstance(network, Classifier)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.features(images)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Small sums on one thread of PyTorch: its others would wait actively for more, and take time from OpenVINO's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
