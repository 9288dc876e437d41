"""A bundle made fast: every engine answers ``probabilities(uint8 batch)``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.errors import BundleError, DeviceError
from sentinode.geometry import PatchGeometry
from sentinode.model.bundle import Bundle
from sentinode.model.engines import int8_engine, openvino_engine
from sentinode.model.engines.int8_engine import Int8Engine
from sentinode.model.engines.openvino_engine import OpenVinoEngine
from sentinode.model.hardware import is_processor
from sentinode.model.lattice import Features, Lattice
from sentinode.progress import console

if TYPE_CHECKING:
    from sentinode.model.engines.torch_engine import TorchEngine

# OpenVINO tells its makers of each import, by this package; without it, it does not. Nothing is sent from here.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

KINDS = ("torch", "openvino", "fastest")


class Engine(Protocol):
    """What scores patches. Safe to call from several threads.

    Attributes:
        name: what it computes with, such as ``torch cpu float32``.
        batch: the number of patches in a batch that suits it.
        streams: how many batches or regions it computes at once, if it is called from as many threads.
        tile: pixels a side of the tiles that suit it in dense reading.
        block: pixels a side of the largest region that it should be given.
        geometry: of the patches that it scores.
        graph: digest of the bundle's int8 network where it computes with that, else None.
    """

    name: str
    batch: int
    streams: int
    tile: int
    block: int
    geometry: PatchGeometry
    graph: str | None

    def margins(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (B, S, S, 3) to float32 (B,): the positive class's logit less the other's, before any calibration."""
        ...

    @property
    def lattice(self) -> Lattice:
        """How the cells of the network lie over a region; a BundleError where it cannot read densely."""
        ...

    def features(self, region: NDArray[np.uint8]) -> Features:
        """The feature map of a region, uint8 (H, W, 3), its sides multiples of the lattice's unit."""
        ...

    def pooled(self, features: Features, tops: ArrayLike, lefts: ArrayLike) -> NDArray[np.float32]:
        """The margins of windows of a feature map, float32 (R, K); see :mod:`sentinode.model.dense`.

        ``tops`` (R,) and ``lefts`` (K,) are pixels from the map's edges to those of the windows.
        """
        ...

    def dense(self, region: NDArray[np.uint8], tops: ArrayLike, lefts: ArrayLike) -> NDArray[np.float32]:
        """The margins of windows of a region: ``pooled`` from its ``features``."""
        ...

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (B, S, S, 3) to float32 (B,): P(positive class) after temperature scaling."""
        ...


def open_engine(
    bundle: Bundle,
    *,
    kind: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    tta: bool = False,
    dense: bool = False,
) -> Engine:
    """The engine that suits this machine.

    Args:
        bundle: the model.
        kind: ``torch``; ``openvino``, on the processor alone; or ``fastest``: OpenVINO on the processor where it is
            installed and runs the network, else PyTorch. None for ``torch``, and for ``openvino`` in int8.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        precision: ``float32``, ``bfloat16``, ``int8`` (the bundle's own, with OpenVINO), or ``auto``: bfloat16
            where the device gains from it; with OpenVINO int8, if the card says that it holds and is faster.
        tta: average the logits over the eight symmetries of the square; eight times the work.
        dense: whether it is to read densely.

    Raises:
        DeviceError: the device or the precision is not to be had.
        BundleError: ``dense``, and the network cannot read densely; or int8, and the bundle has no int8 network that
            can be used.
    """
    if kind is None:
        kind = "openvino" if precision == "int8" else "torch"
    if kind not in KINDS:
        raise DeviceError(f"'{kind}' is no engine.", hint=f"Choose one of {', '.join(KINDS)}.")
    if kind == "openvino" and not is_processor(device):
        raise DeviceError(f"OpenVINO runs on the processor, not on '{device}'.", hint="Use --device cpu.")
    if precision == "int8" and kind != "torch" and is_processor(device):
        return Int8Engine(bundle, tta=tta, dense=dense)
    if kind == "openvino" or (kind == "fastest" and openvino_engine.available() and is_processor(device)):
        if precision == "auto" and int8_engine.chosen_by_auto(bundle.card, dense=dense):
            try:
                return Int8Engine(bundle, tta=tta, dense=dense)
            except (DeviceError, BundleError) as error:
                console.print(f"int8 is not used: {error.what}", markup=False)
        try:
            return OpenVinoEngine(bundle, precision=precision, tta=tta, dense=dense)
        except DeviceError:
            if kind == "openvino":
                raise
    from sentinode.model.engines.torch_engine import TorchEngine

    engine = TorchEngine(bundle, device=device, precision=precision, tta=tta)
    if dense:
        _ = engine.lattice  # refuses a network that cannot
    return engine


def __getattr__(name: str) -> Any:
    """``TorchEngine``, which imports PyTorch, when it is asked for."""
    if name == "TorchEngine":
        from sentinode.model.engines.torch_engine import TorchEngine

        return TorchEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Engine", "Int8Engine", "OpenVinoEngine", "TorchEngine", "open_engine"]
