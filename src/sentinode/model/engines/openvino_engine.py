"""The engine for processors: OpenVINO lays the network out anew for the machine that it finds."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentinode.augmentation.transforms import SYMMETRIES, symmetry
from sentinode.errors import DeviceError
from sentinode.geometry import PatchGeometry
from sentinode.model.bundle import Bundle
from sentinode.model.engines.torch_engine import TorchEngine, check_size
from sentinode.model.hardware import choose_precision

TOLERANCE = {"float32": 0.001, "bfloat16": 0.05}
"""How far a probability may lie from PyTorch's in float32 on the patches that every engine is tried on."""

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

    Raises:
        DeviceError: OpenVINO is missing, cannot follow the network, or answers otherwise than PyTorch does.
    """

    def __init__(self, bundle: Bundle, *, precision: str = "auto", tta: bool = False) -> None:
        if not available():
            raise DeviceError("OpenVINO is not installed.", hint="Install it: pip install 'sentinode[fast]'.")
        reference = TorchEngine(bundle, device="cpu", precision="float32")
        kind = str(choose_precision(precision, reference.device)).removeprefix("torch.")
        self.name, self.batch = f"openvino cpu {kind}{' tta' if tta else ''}", reference.batch
        self.temperature, self.tta, self.geometry = bundle.card.temperature, False, bundle.card.geometry
        self._lock = threading.Lock()
        # OpenVINO raises plain RuntimeErrors and errors of its own for what it cannot do.
        try:
            self._request = _compiled(reference.network, kind, self.geometry).create_infer_request()
            gap = self._gap(reference)
        except Exception as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise DeviceError(f"OpenVINO cannot run this network ({first}).", where=bundle.path) from error
        if not gap <= TOLERANCE[kind]:
            raise DeviceError(f"OpenVINO's answers lie {gap:.3f} from PyTorch's on this machine.", where=bundle.path)
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

    def _margins(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._lock:
            logits = self._request.infer({0: np.ascontiguousarray(images)})[0]
            return np.asarray(logits[:, 1] - logits[:, 0], np.float32)

    def _gap(self, reference: TorchEngine) -> float:
        """How far the answers lie from PyTorch's, on noise and on flat colours."""
        rng = np.random.default_rng(0)
        images = rng.integers(256, size=(TRIED, *self.geometry.shape), dtype=np.uint8)
        images[TRIED // 2 :] = images[TRIED // 2 :, :1, :1]
        return float(np.abs(self.probabilities(images) - reference.probabilities(images)).max())


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


def _compiled(network: torch.nn.Module, kind: str, geometry: PatchGeometry) -> Any:
    import openvino

    example, batches = torch.zeros(2, *geometry.shape, dtype=torch.uint8), openvino.PartialShape([-1, *geometry.shape])
    with _quiet():
        model = openvino.convert_model(network, example_input=example, input=batches)
    settings = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[kind],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    return openvino.Core().compile_model(model, "CPU", settings)
