"""The engine of a bundle's int8 network: its backbone in whole numbers of 8 bits, on a processor with OpenVINO.

The bundle holds the quantised backbone as an OpenVINO graph (``int8.xml``, ``int8.bin``), which
:mod:`sentinode.model.quantising` makes. A graph is data, not code. It is not trusted: its checksum must be
the card's, its input and output must be those of the backbone, and its feature maps must lie near PyTorch's. The head
is the bundle's own and stays in float32.

The feature maps are compared on noise and flat colours, by the norm of the difference as a share of the norm of
PyTorch's. A ResNet-50 lay at 0.26 (0.08 on noise, 0.34 on flat colours, which the ranges were not chosen for). With its
channels exchanged it lay at 1.3, and from another network's features at 4.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import BundleError
from sentinode.model.bundle import DENSE, PATCH, Bundle, Card, Int8
from sentinode.model.bundle_files import optional
from sentinode.model.engines.openvino_engine import OpenVinoEngine
from sentinode.model.hardware import processor_gains_from_int8

GRAPH, VALUES = "int8.xml", "int8.bin"

BRANCHES = ("If", "Loop", "TensorIterator")
"""Operations of OpenVINO with which a graph could compute for ever."""

WORTHWHILE = 1.1
"""How many times faster int8 must have been for ``--precision auto`` to take it."""

MAKE = "Make one: sentinode quantise BUNDLE DATA"


def chosen_by_auto(card: Card, *, dense: bool) -> bool:
    """Whether ``--precision auto`` takes int8: it holds and is faster by the card; the processor has VNNI or AMX."""
    if card.int8 is None or not processor_gains_from_int8():
        return False
    measured = card.int8.readings.get(DENSE if dense else PATCH)
    return measured is not None and measured.holds and measured.times_faster >= WORTHWHILE


class Int8Engine(OpenVinoEngine):
    """A bundle's int8 network as OpenVINO runs it on the processor.

    Args:
        bundle: the model.
        tta: average the logits over the eight symmetries of the square.
        dense: whether it is opened for dense reading.
        measured: False while the int8 network is being made and has not been measured.

    Attributes:
        graph: digest of the quantised network; the weights' digest does not tell it from another of the same bundle.

    Raises:
        DeviceError: OpenVINO is missing, or cannot run the network.
        BundleError: the bundle has no int8 network, or one that is damaged or belongs to another bundle; or ``dense``,
            and int8 was not measured in dense reading.
    """

    def __init__(self, bundle: Bundle, *, tta: bool = False, dense: bool = False, measured: bool = True) -> None:
        if bundle.card.int8 is None:
            raise BundleError("this bundle has no int8 network.", where=bundle.path, hint=MAKE)
        if measured and dense and DENSE not in bundle.card.int8.readings:
            raise BundleError(
                "its int8 network has not been measured in dense reading.",
                where=bundle.path,
                hint="Run sentinode check BUNDLE DATA, then sentinode quantise again. Or use --reading patch.",
            )
        verify(bundle.path, bundle.card.int8, bundle.fingerprint)
        self.graph = bundle.card.int8.graph
        super().__init__(bundle, precision="int8", tta=tta, dense=dense)

    def _kind(self, precision: str) -> str:
        return precision

    def _margins(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        # A patch is a region with one window.
        margins = [self._head.margins(features, [0], [0])[0, 0] for features in self._infer(images, dense=False)]
        return np.asarray(margins, np.float32)

    def _compile(self, dense: bool) -> Any:
        import openvino

        model = read_graph(self._bundle.path)
        model.reshape([1, -1, -1, 3] if dense else [-1, *self.geometry.shape])
        return openvino.Core().compile_model(model, "CPU", self._settings)

    def _gap(self) -> float:
        return self._distance(self._probe(), dense=False)

    def _dense_gap(self) -> float:
        return self._distance(self._probe_region()[None], dense=True)

    def _distance(self, images: NDArray[np.uint8], *, dense: bool) -> float:
        """How far the feature maps lie from PyTorch's."""
        import torch

        from sentinode.model.classifier import Classifier

        network = self._reference.network
        assert isinstance(network, Classifier)
        with torch.inference_mode():
            wanted = network.features(torch.from_numpy(images)).float().numpy()
        return relative_distance(self._infer(images, dense=dense), wanted)


def relative_distance(features: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """The norm of the difference as a share of the norm of what is wanted; infinite where the shapes differ."""
    if features.shape != wanted.shape:
        return float("inf")
    distance = float(np.linalg.norm(features.astype(np.float64) - wanted))
    return distance / max(float(np.linalg.norm(wanted.astype(np.float64))), 1e-12)


def read_graph(folder: Path) -> Any:
    """The quantised backbone of a bundle's folder, uint8 (B, H, W, 3) to float32 (B, C, h, w).

    Raises:
        BundleError: it cannot be read, or takes or gives something else.
    """
    import openvino

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # a file that is replaced or cut while it is used must not matter
    try:
        model = core.read_model(folder / GRAPH, folder / VALUES)
    except Exception as error:  # OpenVINO raises RuntimeErrors and errors of its own
        raise _damaged(folder, "its int8 network cannot be read") from error
    ports = [*model.inputs, *model.outputs]
    kinds = [port.get_element_type().get_type_name() for port in ports]
    ranks = [port.get_partial_shape().rank for port in ports]
    four = all(rank.is_static and rank.get_length() == 4 for rank in ranks)
    if len(model.inputs) != 1 or kinds != ["u8", "f32"] or not four:
        raise _damaged(folder, "its int8 network does not take images and give one feature map")
    if any(op.get_type_name() in BRANCHES for op in model.get_ops()):
        raise _damaged(folder, "its int8 network has loops or branches, which no quantised backbone has")
    return model


def verify(folder: Path, int8: Int8, fingerprint: str) -> None:
    """
    Raises:
        BundleError: the int8 network is missing, is not the one that the card describes, or was made of other weights.
    """
    if int8.made_from != fingerprint:
        raise _damaged(folder, "its int8 network was made of other weights")
    for name in (GRAPH, VALUES):
        if optional(folder, name) is None:
            raise _damaged(folder, f"{name} is missing")
    if digest_of(folder) != int8.graph:
        raise _damaged(folder, "its int8 network is not the one that its card describes")


def digest_of(folder: Path) -> str:
    """SHA-256 of the quantised network's two files."""
    digest = hashlib.sha256()
    for name in (GRAPH, VALUES):
        data = (folder / name).read_bytes()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _damaged(folder: Path, what: str) -> BundleError:
    return BundleError(f"{what}.", where=folder, hint=f"Copy the bundle again, or use another --precision. {MAKE}")
