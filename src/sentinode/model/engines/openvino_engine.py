"""The engine for processors: OpenVINO lays the network out anew for the machine that it finds.

PyTorch makes the network and checks OpenVINO's answers once. What was compiled and found right lies in the cache
(:mod:`~sentinode.model.engines.compile_cache`), from which the next engine takes it. It then needs no PyTorch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import queue
import threading
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode._version import __version__
from sentinode.augmentation.symmetries import SYMMETRIES, inverse_symmetry, turned
from sentinode.errors import DeviceError, SentinodeError
from sentinode.model.bundle import Bundle
from sentinode.model.engines import compile_cache
from sentinode.model.engines.contract import BATCH, BLOCK, MOST_STREAMS, TILE, check_size, finite, probabilities_of
from sentinode.model.hardware import keep_freed_memory, processor, processor_precision, threads
from sentinode.model.lattice import Features, Lattice, check_region
from sentinode.model.pooled_head import PooledHead

if TYPE_CHECKING:
    from sentinode.model.engines.torch_engine import TorchEngine

TOLERANCE = {"float32": 0.001, "bfloat16": 0.05, "int8": 0.5}
"""How far a probability may lie from PyTorch's in float32 on the patches that every engine is tried on.

In int8 it is how far the feature maps may lie from PyTorch's; see :mod:`sentinode.model.engines.int8_engine`."""

HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""What OpenVINO is told of each precision. Layers that are not quantised stay in float32 beside int8."""

TRIED = 16

CODE = (
    "classifier.py",
    "dense.py",
    "equivariant.py",
    "pooled_head.py",
    "engines/int8_engine.py",
    "engines/openvino_conversion.py",
    "engines/openvino_engine.py",
    "engines/torch_engine.py",
)
"""The files of ``model/`` that say what a network computes and how OpenVINO's answers are compared with PyTorch's."""


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
        keep_freed_memory()
        kind = self._kind(precision)
        self.name = f"openvino cpu {kind}{' tta' if tta else ''}"
        self.batch, self.tile, self.block = BATCH, TILE, BLOCK
        self.streams = min(threads(), MOST_STREAMS)
        self.temperature, self.tta, self.geometry = bundle.card.temperature, False, bundle.card.geometry
        self._bundle = bundle
        self._lock = threading.Lock()
        self._requests: dict[bool, queue.SimpleQueue[Any]] = {}
        self._settings = {
            "INFERENCE_PRECISION_HINT": HINTS[kind],
            # Two networks that run side by side wait for each other less than two threads of one network.
            "NUM_STREAMS": self.streams,
            "INFERENCE_NUM_THREADS": threads(),
        }
        # OpenVINO raises plain RuntimeErrors and errors of its own for what it cannot do.
        try:
            if not self._recall(dense):
                self._open(dense, TOLERANCE[kind])
        except SentinodeError:
            raise
        except Exception as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise DeviceError(f"OpenVINO cannot run this network ({first}).", where=bundle.path) from error
        self.tta = tta

    def _kind(self, precision: str) -> str:
        return processor_precision(precision)

    def margins(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (B, S, S, 3) to float32 (B,): the positive class's logit less the other's, before any calibration."""
        if not len(images):
            return np.zeros(0, np.float32)
        check_size(images, self.geometry)
        views = [self._margins(turned(images, k)) for k in range(SYMMETRIES if self.tta else 1)]
        answer: NDArray[np.float32] = np.mean(views, 0, dtype=np.float32)
        return finite(answer)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (B, S, S, 3) to float32 (B,): P(positive class) after temperature scaling."""
        return probabilities_of(self.margins(images), self.temperature)

    @property
    def lattice(self) -> Lattice:
        """How the cells of the network lie over a region.

        Raises:
            BundleError: the network cannot read densely.
        """
        return self._head.lattice

    def features(self, region: NDArray[np.uint8]) -> Features:
        """The feature map of a region; see :meth:`TorchEngine.features`."""
        check_region(region, self.lattice)
        views = []
        for k in range(SYMMETRIES if self.tta else 1):
            features = self._infer(turned(region, k)[None], dense=True)[0].transpose(1, 2, 0)
            views.append(turned(features, inverse_symmetry(k)).transpose(2, 0, 1))
        return np.stack(views)

    def pooled(self, features: Features, tops: ArrayLike, lefts: ArrayLike) -> NDArray[np.float32]:
        """The margins of windows of a feature map; see :meth:`TorchEngine.pooled`."""
        margins = [self._head.margins(np.ascontiguousarray(view), tops, lefts) for view in features]
        answer: NDArray[np.float32] = np.mean(margins, 0, dtype=np.float32)
        return answer

    def dense(self, region: NDArray[np.uint8], tops: ArrayLike, lefts: ArrayLike) -> NDArray[np.float32]:
        """The margins of windows of a region, whose convolutions are shared: ``pooled`` from its ``features``."""
        return self.pooled(self.features(region), tops, lefts)

    def _margins(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = self._infer(images, dense=False)
        return np.asarray(logits[:, 1] - logits[:, 0], np.float32)

    def _infer(self, images: NDArray[np.uint8], *, dense: bool) -> NDArray[np.float32]:
        """What the network compiled for regions, or for batches of patches, makes of them."""
        requests = self._requests_for(dense)
        request = requests.get()
        try:
            return np.array(request.infer({0: np.ascontiguousarray(images)})[0], np.float32)
        finally:
            requests.put(request)

    def _requests_for(self, dense: bool) -> queue.SimpleQueue[Any]:
        """As many requests to a compiled network as it may serve at once; it is compiled at its first use."""
        with self._lock:
            if dense not in self._requests:
                self._take(dense, self._compile(dense))
            return self._requests[dense]

    def _take(self, dense: bool, compiled: Any) -> None:
        self._requests[dense] = queue.SimpleQueue()
        for _ in range(self.streams):
            self._requests[dense].put(compiled.create_infer_request())

    def _open(self, dense: bool, tolerance: float) -> None:
        """Compile the network, compare its answers with PyTorch's, and keep it for the next start.

        Raises:
            DeviceError: the answers lie farther apart than the tolerance.
            BundleError: ``dense``, and the network cannot read densely.
        """
        key = self._key(dense)
        about = self._head.to_bytes() if dense or self.graph else b""
        compiled = self._compile(dense)
        # What the next start will take from the cache is what answers now, so that both give the same bytes.
        exported = None if key is None else compile_cache.exported(compiled, self._settings)
        self._take(dense, compiled if exported is None else exported.network)
        gap = self._dense_gap() if dense else self._gap()
        if not gap <= tolerance:
            raise DeviceError(f"OpenVINO's answers lie {gap:.3f} from PyTorch's here.", where=self._bundle.path)
        if key is not None and exported is not None:
            compile_cache.keep(key, exported.data, about)

    def _compile(self, dense: bool) -> Any:
        import openvino

        from sentinode.model.engines.openvino_conversion import converted

        model = converted(self._reference.network, self.geometry, dense=dense)
        return openvino.Core().compile_model(model, "CPU", self._settings)

    def _recall(self, dense: bool) -> bool:
        """Take the compiled network from the cache, where an earlier engine left it after comparing it with PyTorch."""
        key = self._key(dense)
        entry = None if key is None else compile_cache.load(key, self._settings)
        if entry is None:
            return False
        if entry.about:
            self._head = PooledHead.from_bytes(entry.about, self.geometry)
        self._take(dense, entry.network)
        return True

    def _key(self, dense: bool) -> str | None:
        """The cache's key of a compiled network; None for a network of the user's, whose code may have changed."""
        card = self._bundle.card
        if card.architecture.kind == "custom":
            return None
        versions = __version__, _code(), *(metadata.version(name) for name in ("openvino", "torch", "timm"))
        machine = processor(), platform.machine(), platform.system()
        network = self._bundle.fingerprint, self.graph, card.architecture.model_dump(), card.geometry
        return compile_cache.key_of(versions, machine, network, dense, self._settings, TOLERANCE, TRIED)

    @cached_property
    def _reference(self) -> TorchEngine:
        """The network as PyTorch runs it in float32."""
        from sentinode.model.engines.torch_engine import TorchEngine

        return TorchEngine(self._bundle, device="cpu", precision="float32")

    @cached_property
    def _head(self) -> PooledHead:
        """What pools windows from a region's feature map.

        Raises:
            BundleError: the network cannot read densely.
            DeviceError: its head has layers that are none of Sentinode's.
        """
        from sentinode.model.classifier import Classifier, Head
        from sentinode.model.dense import lattice_of

        network = self._reference.network
        lattice = lattice_of(network)
        assert isinstance(network, Classifier) and isinstance(network.head, Head)
        return PooledHead.of(network.head, lattice)

    def _gap(self) -> float:
        """How far the answers lie from PyTorch's, on noise and on flat colours."""
        images = self._probe()
        return float(np.abs(self.probabilities(images) - self._reference.probabilities(images)).max())

    def _dense_gap(self) -> float:
        """Likewise in dense reading, on a region that is half noise and half a flat colour.

        It is larger than the picture that OpenVINO's converter was shown: what that fixed would be seen here.
        """
        region = self._probe_region()
        starts = np.linspace(0, len(region) - self.geometry.size, 4)
        ours, theirs = (
            probabilities_of(engine.dense(region, starts, starts), self.temperature)
            for engine in (self, self._reference)
        )
        return float(np.abs(ours - theirs).max())

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


def _code() -> str:
    """A digest of the code on which a compiled network depends."""
    files = (Path(__file__).parents[1] / name for name in CODE)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()
