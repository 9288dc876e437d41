"""Dense reading: a region is convolved once, and each window's answer is pooled from its feature map.

Patch by patch, neighbouring windows share most of their pixels, and each pixel is convolved many times. In dense
reading it is convolved once. What a window sees beyond its border differs: the patch's convolutions are padded with
zeros there, and the region has tissue. So the probabilities need a calibration of their own
(:mod:`sentinode.model.readings`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sentinode.augmentation.symmetries import SYMMETRIES, inverse_symmetry
from sentinode.augmentation.transforms import symmetry
from sentinode.errors import BundleError
from sentinode.model.classifier import Classifier, Head
from sentinode.model.lattice import Lattice


def lattice_of(network: nn.Module) -> Lattice:
    """How a network's cells lie over a region.

    Raises:
        BundleError: the network cannot read densely: it has no head of Sentinode's, its features are no map, or a
            larger picture does not have more cells of the same size.
    """
    if not (isinstance(network, Classifier) and isinstance(network.head, Head)):
        raise _refused("it has no head of pooling and layers")
    if getattr(network.backbone, "output_fmt", "NCHW") != "NCHW" or hasattr(network.backbone, "patch_embed"):
        raise _refused("its backbone is not convolutional")
    size = network.geometry.size
    try:
        once, twice = (_cells(network, side) for side in (size, 2 * size))
    except (RuntimeError, AssertionError, ValueError):
        raise _refused("its backbone takes pictures of one size only") from None
    if twice != 2 * once or network.side % once:
        raise _refused(f"a patch of {network.side} pixels is not a whole number of its cells")
    return Lattice(size, once)


@torch.inference_mode()
def _cells(network: Classifier, side: int) -> int:
    device = network.mean.device
    features = network.features(torch.zeros(1, side, side, 3, dtype=torch.uint8, device=device))
    if features.dim() != 4 or features.shape[2] != features.shape[3]:
        raise ValueError("no feature map")
    return int(features.shape[2])


def _refused(why: str) -> BundleError:
    return BundleError(f"this network cannot read densely: {why}.", hint="Use --reading patch.")


def feature_views(features_of: Callable[[Tensor], Tensor], region: Tensor, *, tta: bool = False) -> Tensor:
    """The feature map of a region, (1, C, h, w); with ``tta`` (8, C, h, w), one for each symmetry, each turned back.

    Args:
        features_of: the backbone: uint8 (1, H, W, 3) to (1, C, h, w).
        region: uint8 (1, H, W, 3); H and W are multiples of the lattice's unit.
        tta: whether to look at all eight symmetries.
    """
    if not tta:
        return features_of(region)
    return torch.cat([turned_back(features_of(symmetry(region, k).contiguous()), k) for k in range(SYMMETRIES)])


def turned_back(features: Tensor, k: int) -> Tensor:
    """A feature map (B, C, h, w) of regions that were turned by symmetry ``k``, as the regions lay before."""
    return symmetry(features.permute(0, 2, 3, 1), inverse_symmetry(k)).permute(0, 3, 1, 2)


@torch.inference_mode()
def window_margins(
    network: Classifier, lattice: Lattice, features: Tensor, tops: ArrayLike, lefts: ArrayLike
) -> Tensor:
    """The margin of each window of a feature map: its logit of label 1 minus that of label 0, float32 (R, K).

    Args:
        network: the classifier.
        lattice: its lattice.
        features: (V, C, h, w), of whose views the logits are averaged.
        tops: pixels from the map's upper edge to that of each row of windows, (R,).
        lefts: pixels from the map's left edge to that of each column of windows, (K,).
    """
    head = network.head
    assert isinstance(head, Head)
    down, right = (np.asarray(each, np.float64) * lattice.cells / lattice.size for each in (tops, lefts))
    logits = head.windows(features.float(), down, right, lattice.cells).mean(0)
    return logits[..., 1] - logits[..., 0]


def with_surroundings(images: Tensor, pixels: int) -> Tensor:
    """Patches uint8 (B, S, S, 3) in their mirror image: (B, S + 2 pixels, S + 2 pixels, 3)."""
    size = images.shape[1]
    inside = torch.arange(size, device=images.device)
    places = torch.cat([inside[:pixels].flip(0), inside, inside[size - pixels :].flip(0)])
    return images[:, places][:, :, places]
