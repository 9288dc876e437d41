"""The engine that runs wherever PyTorch does."""

from __future__ import annotations

import contextlib
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from sentinode.augmentation.transforms import symmetry
from sentinode.errors import DataError
from sentinode.geometry import PatchGeometry
from sentinode.model.bundle import Bundle
from sentinode.model.classifier import Classifier
from sentinode.model.dense import Lattice, check_region, feature_views, lattice_of, window_margins
from sentinode.model.equivariant import P4MResNet
from sentinode.model.hardware import choose_device, choose_precision, keep_freed_memory

BLOCK = 1120
"""About how many pixels a side of a region suit a processor in dense reading: smaller ones are mostly halo, and larger
ones take memory."""


class TorchEngine:
    """A bundle's network in eval mode, batch norms folded into the convolutions before them, channels last.

    Args:
        bundle: the model.
        device: where to compute.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        tta: average the logits over the eight symmetries of the square.
    """

    graph: str | None = None

    def __init__(self, bundle: Bundle, *, device: str = "auto", precision: str = "auto", tta: bool = False) -> None:
        keep_freed_memory()
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self.temperature, self.tta, self.geometry = bundle.card.temperature, tta, bundle.card.geometry
        self.network = fold_batch_norms(bundle.classifier()).to(self.device).to(memory_format=torch.channels_last)
        self.batch = 64 if self.device.type == "cpu" else 512
        self.block = BLOCK if self.device.type == "cpu" else 2 * BLOCK
        kind = str(self.dtype).removeprefix("torch.")
        self.name = f"torch {self.device.type} {kind}{' tta' if tta else ''}"

    def margins(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (B, S, S, 3) to float32 (B,): the positive class's logit less the other's, before any calibration."""
        if not len(images):
            return np.zeros(0, np.float32)
        check_size(images, self.geometry)
        batch = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        with torch.inference_mode(), self._precision():
            views = [symmetry(batch, k) for k in range(8)] if self.tta else [batch]
            margins = torch.stack([self._margin(view) for view in views]).mean(0)
        answer: NDArray[np.float32] = margins.float().cpu().numpy()
        return answer

    @cached_property
    def lattice(self) -> Lattice:
        """How the cells of the network lie over a region.

        Raises:
            BundleError: the network cannot read densely.
        """
        return lattice_of(self.network)

    def dense(self, region: NDArray[np.uint8], tops: ArrayLike, lefts: ArrayLike) -> NDArray[np.float32]:
        """The margin of each window of a region, whose convolutions are shared.

        Args:
            region: uint8 (H, W, 3); H and W are multiples of the lattice's unit.
            tops: pixels from the region's upper edge to that of each row of windows, (R,).
            lefts: pixels from the region's left edge to that of each column of windows, (K,).

        Returns:
            float32 (R, K), before any calibration.
        """
        check_region(region, self.lattice)
        network, batch = (
            self.network,
            torch.from_numpy(np.require(region, requirements=["C", "W"]))[None].to(self.device),
        )
        assert isinstance(network, Classifier)
        with torch.inference_mode():
            with self._precision():
                views = feature_views(network, batch, tta=self.tta)
            margins = [window_margins(network, self.lattice, features, tops, lefts) for features in views]
            answer: NDArray[np.float32] = torch.stack(margins).mean(0).float().cpu().numpy()
        return answer

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (B, S, S, 3) to float32 (B,): P(positive class) after temperature scaling."""
        margins = torch.from_numpy(self.margins(images))
        answer: NDArray[np.float32] = torch.sigmoid(margins / self.temperature).numpy()
        return answer

    def _margin(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return (logits[:, 1] - logits[:, 0]).float()

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def check_size(images: NDArray[np.uint8], geometry: PatchGeometry) -> None:
    """
    Raises:
        DataError: these are not patches of the size that the bundle was trained on.
    """
    if images.shape[1:] != geometry.shape:
        height, width = images.shape[1:3]
        raise DataError(
            f"these patches are {width} x {height} pixels, and the bundle takes {geometry.size} x {geometry.size}.",
            hint="Resample them to its size and resolution, or train a bundle on patches like these.",
        )


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Merge each batch norm of the backbone into the convolution before it; the function stays the same.

    An equivariant backbone turns its filters once here, in place of in each pass.

    A network that torch.fx cannot trace is returned as it is: it is slower, not different.
    """
    if isinstance(network, Classifier) and isinstance(network.backbone, P4MResNet):
        network.backbone = network.backbone.as_convolutions()
    elif isinstance(network, Classifier):
        # Tracing fails in as many ways as there are networks, and none of them matters here.
        with contextlib.suppress(Exception):
            network.backbone = fuse(network.backbone)
    return network
