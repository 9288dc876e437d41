"""The engine that runs wherever PyTorch does."""

from __future__ import annotations

import contextlib
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from sentinode.augmentation.transforms import symmetry
from sentinode.errors import BundleError
from sentinode.model.bundle import Bundle
from sentinode.model.classifier import Classifier
from sentinode.model.dense import feature_views, lattice_of, window_margins
from sentinode.model.engines.contract import BATCH, BLOCK, GPU_BATCH, TILE, check_size, finite
from sentinode.model.equivariant import P4MResNet
from sentinode.model.hardware import choose_device, choose_precision, keep_freed_memory
from sentinode.model.lattice import Features, Lattice, check_region


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
        self.network = (
            fold_batch_norms(with_fixed_padding(bundle.classifier()))
            .to(self.device)
            .to(memory_format=torch.channels_last)
        )
        self.batch = BATCH if self.device.type == "cpu" else GPU_BATCH
        self.tile, self.block = (TILE, BLOCK) if self.device.type == "cpu" else (2 * BLOCK, 2 * BLOCK)
        self.streams = 1
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
        return finite(answer)

    @cached_property
    def lattice(self) -> Lattice:
        """How the cells of the network lie over a region.

        Raises:
            BundleError: the network cannot read densely.
        """
        return lattice_of(self.network)

    def features(self, region: NDArray[np.uint8]) -> Features:
        """The feature map of a region, uint8 (H, W, 3); H and W are multiples of the lattice's unit."""
        check_region(region, self.lattice)
        network = self.network
        assert isinstance(network, Classifier)
        batch = torch.from_numpy(np.require(region, requirements=["C", "W"]))[None].to(self.device)
        with torch.inference_mode(), self._precision():
            return feature_views(network.features, batch, tta=self.tta)

    def pooled(self, features: Features, tops: ArrayLike, lefts: ArrayLike) -> NDArray[np.float32]:
        """The margins of windows of a feature map, float32 (R, K), before any calibration.

        Args:
            features: (V, C, h, w).
            tops: pixels from the map's upper edge to that of each row of windows, (R,).
            lefts: pixels from the map's left edge to that of each column of windows, (K,).
        """
        network = self.network
        assert isinstance(network, Classifier)
        answer: NDArray[np.float32] = window_margins(network, self.lattice, features, tops, lefts).cpu().numpy()
        return answer

    def dense(self, region: NDArray[np.uint8], tops: ArrayLike, lefts: ArrayLike) -> NDArray[np.float32]:
        """The margins of windows of a region, whose convolutions are shared: ``pooled`` from its ``features``."""
        return self.pooled(self.features(region), tops, lefts)

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


def with_fixed_padding(network: nn.Module) -> nn.Module:
    """A classifier whose convolutions of TensorFlow pad by fixed amounts; the function stays the same.

    They compute their padding from the size of what they get, which keeps compilers from merging it into the
    convolution. It is the same for patches and for all regions where it is for a patch and for one unit more. Where it
    is not, the network is returned as it is.
    """
    if not isinstance(network, Classifier):
        return network
    found = {name: module for name, module in network.named_modules() if isinstance(module, Conv2dSame)}
    if not found:
        return network
    seen: dict[str, set[tuple[int, int]]] = {name: set() for name in found}
    hooks = [
        module.register_forward_pre_hook(lambda _, given, name=name: seen[name].add(tuple(given[0].shape[2:])))
        for name, module in found.items()
    ]
    try:
        sides = _sides(network)
        with torch.inference_mode():
            for side in sides:
                network.features(torch.zeros(1, side, side, 3, dtype=torch.uint8, device=network.mean.device))
    finally:
        for hook in hooks:
            hook.remove()
    for name, module in found.items():
        paddings = {_padding(module, size) for size in seen[name]}
        if len(paddings) == 1:
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, _padded(module, paddings.pop()))
    return network


def _sides(network: Classifier) -> list[int]:
    try:
        lattice = lattice_of(network)
    except BundleError:
        return [network.geometry.size]
    return [lattice.size, lattice.size + lattice.unit]


def _padding(module: nn.Conv2d, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """What TensorFlow's 'same' adds on the left, on the right, above and below."""
    down, across = (
        get_same_padding(length, kernel, stride, dilation)
        for length, kernel, stride, dilation in zip(
            size, module.kernel_size, module.stride, module.dilation, strict=True
        )
    )
    return across // 2, across - across // 2, down // 2, down - down // 2


def _padded(module: nn.Conv2d, padding: tuple[int, int, int, int]) -> nn.Module:
    """The convolution of a :class:`Conv2dSame` after fixed padding."""
    left, right, top, bottom = padding
    symmetric = left == right and top == bottom
    convolution = nn.Conv2d(
        module.in_channels,
        module.out_channels,
        module.kernel_size,  # type: ignore[arg-type]
        module.stride,  # type: ignore[arg-type]
        (top, left) if symmetric else 0,
        module.dilation,  # type: ignore[arg-type]
        module.groups,
        bias=module.bias is not None,
    )
    convolution.weight, convolution.bias = module.weight, module.bias
    return convolution if symmetric else nn.Sequential(nn.ZeroPad2d(padding), convolution)


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
