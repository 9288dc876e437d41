"""The engine that runs wherever PyTorch does."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from sentinode.augmentation.transforms import symmetry
from sentinode.errors import DataError
from sentinode.geometry import PatchGeometry
from sentinode.model.bundle import Bundle
from sentinode.model.classifier import Classifier
from sentinode.model.equivariant import P4MResNet
from sentinode.model.hardware import choose_device, choose_precision, keep_freed_memory


class TorchEngine:
    """A bundle's network in eval mode, batch norms folded into the convolutions before them, channels last.

    Args:
        bundle: the model.
        device: where to compute.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        tta: average the logits over the eight symmetries of the square.
    """

    def __init__(self, bundle: Bundle, *, device: str = "auto", precision: str = "auto", tta: bool = False) -> None:
        keep_freed_memory()
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self.temperature, self.tta, self.geometry = bundle.card.temperature, tta, bundle.card.geometry
        self.network = fold_batch_norms(bundle.classifier()).to(self.device).to(memory_format=torch.channels_last)
        self.batch = 64 if self.device.type == "cpu" else 512
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
        network.backbone = network.backbone.plain()
    elif isinstance(network, Classifier):
        # Tracing fails in as many ways as there are networks, and none of them matters here.
        with contextlib.suppress(Exception):
            network.backbone = fuse(network.backbone)
    return network
