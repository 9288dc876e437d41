"""The patch classifier: a timm backbone and our own head, from uint8 to logits."""

from __future__ import annotations

import contextlib
import pickle
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import register_module_parameter_registration_hook

import sentinode.model.equivariant  # noqa: F401  (timm learns its names)
from sentinode.errors import RecipeError, WeightsError, nearest
from sentinode.geometry import PCAM, PatchGeometry
from sentinode.model.lattice import shares
from sentinode.names import shortened
from sentinode.progress import console

Floats = NDArray[np.float64]

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
STRIDE = 32
POOLINGS = ("avg", "max", "avgmax", "gem", "centre", "avgcentre")
AVERAGES = ("avg", "centre", "avgcentre")
"""The poolings that are linear in the feature map."""
CENTRED = ("centre", "avgcentre")
"""The poolings that need a label of the centre alone. Where it covers the whole patch, ``avg`` is the same."""


class Classifier(nn.Module):
    """A backbone without its own head, and a head.

    ``forward`` takes uint8 (B, S, S, 3) RGB and returns logits (B, 2), the negative class before the positive. The
    network itself scales and normalises its input, so that a caller cannot do it wrongly.

    Args:
        backbone: maps normalised (B, 3, side, side) to a feature map (B, C, h, w), or to tokens.
        head: maps the feature map to logits (B, 2).
        mean: of each channel, on the scale 0 to 1.
        std: of each channel, on the scale 0 to 1.
        side: pixels to which each side of a patch is enlarged before the backbone, bilinearly; 0 leaves it as it is.
        geometry: of the patches.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        side: int = 0,
        geometry: PatchGeometry = PCAM,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.geometry = backbone, head, geometry
        self.side = side or geometry.size
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) to float32 (B, 3, H, W), channels last in memory."""
        mean, std = (each.view(3).repeat(images.shape[2]) for each in (self.mean, self.std))
        # A whole row of pixels at a time: three values at a time take a processor thrice as long.
        rows = (images.flatten(2) - mean) / std
        return rows.view(images.shape).permute(0, 3, 1, 2)

    def features(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) to the backbone's last feature map (B, C, h, w).

        Patches have H = W = S. A larger region is enlarged by the same factor as a patch.
        """
        return as_map(self.backbone(self.prepare(images)), self.backbone)

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) to what the backbone takes: normalised (B, 3, h, w), enlarged where it asks for it."""
        planes = self.normalise(images)
        if self.side != self.geometry.size:
            height, width = (side * self.side // self.geometry.size for side in images.shape[1:3])
            planes = functional.interpolate(planes, (height, width), mode="bilinear", align_corners=False)
        return planes

    @torch.no_grad()
    def add_offset(self, offset: float) -> None:
        """Add ``offset`` to each margin (logit of tumour minus that of normal) by the bias of the head's last layer."""
        last = [module for module in self.head.modules() if isinstance(module, nn.Linear)][-1]
        last.bias.add_(torch.tensor([-offset / 2, offset / 2]).to(last.bias))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (B, S, S, 3) to float32 logits (B, 2).

        Larger images are patches in the middle of their surroundings, which alone are pooled.
        """
        features = self.features(images)
        if images.shape[1] != self.geometry.size:
            around = round(features.shape[2] * (1 - self.geometry.size / images.shape[1]) / 2)
            features = features[:, :, around:-around, around:-around]
        logits: Tensor = self.head(features)
        return logits.float()


def as_map(features: Tensor, backbone: nn.Module) -> Tensor:
    """A backbone's output as (B, C, h, w), whether it comes as a map, channels last, or as tokens."""
    if features.dim() == 3:
        tokens = features[:, getattr(backbone, "num_prefix_tokens", 0) :]
        side = round(int(tokens.shape[1]) ** 0.5)  # a number in tracing, too
        return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], side, -1)
    if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        return features.permute(0, 3, 1, 2)
    return features


class Head(nn.Sequential):
    """Pooling, hidden layers with dropout, and two logits.

    Args:
        channels: of the feature map.
        pooling: one of ``POOLINGS``.
        hidden: width of each hidden layer.
        dropout: share of inputs dropped before each linear layer.
        geometry: of the patches.
    """

    def __init__(
        self,
        channels: int,
        pooling: str = "avg",
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        geometry: PatchGeometry = PCAM,
    ) -> None:
        pool = Pool(pooling, geometry)
        layers: list[nn.Module] = [pool]
        width = channels * pool.widening
        for size in hidden:
            layers += [nn.Dropout(dropout), nn.Linear(width, size), nn.ReLU()]
            width = size
        super().__init__(*layers, nn.Dropout(dropout), nn.Linear(width, 2))
        self.linear = not hidden and pooling in AVERAGES
        """Whether the logits are linear in the feature map, up to the bias."""

    def windows(self, x: Tensor, tops: Floats, lefts: Floats, cells: int) -> Tensor:
        """Logits (B, R, K, 2) of the windows of a larger feature map; see :meth:`Pool.windows`."""
        pool, *layers = self.children()
        assert isinstance(pool, Pool)
        x = pool.windows(x, tops, lefts, cells)
        for layer in layers:
            x = layer(x)
        return x


class Pool(nn.Module):
    """A feature map (B, C, h, w) as one vector (B, C) or (B, 2 C).

    ``gem`` is the generalised mean of Radenovic et al. (2018) with a learned power. ``centre`` averages what lies over
    the labelled centre of the patch, cells on its border by their share of it.
    """

    def __init__(self, pooling: str, geometry: PatchGeometry = PCAM) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise RecipeError(f"there is no pooling '{pooling}'.", hint=f"Choose one of {', '.join(POOLINGS)}.")
        self.pooling, self.geometry = pooling, geometry
        self.widening = 2 if pooling in ("avgmax", "avgcentre") else 1
        self.power = nn.Parameter(torch.tensor(3.0)) if pooling == "gem" else None

    def forward(self, x: Tensor) -> Tensor:
        if self.power is not None:
            return x.float().clamp(min=1e-6).pow(self.power).mean((2, 3)).pow(1 / self.power)
        average = x.mean((2, 3))
        match self.pooling:
            case "max":
                return x.amax((2, 3))
            case "avgmax":
                return torch.cat([average, x.amax((2, 3))], 1)
            case "centre":
                return self._centre(x)
            case "avgcentre":
                return torch.cat([average, self._centre(x)], 1)
        return average

    def windows(self, x: Tensor, tops: Floats, lefts: Floats, cells: int) -> Tensor:
        """What ``forward`` makes of each window of a larger feature map: (B, R, K, C) or (B, R, K, 2 C).

        Where a window begins within a cell, averages take each cell by the window's share of it, and the maximum is
        that of the cells from the nearest whole place on.

        Args:
            x: the feature map (B, C, h, w).
            tops: cells from its upper edge to that of each row of windows, (R,).
            lefts: cells from its left edge to that of each column of windows, (K,).
            cells: a window's side.
        """
        if self.power is not None:
            raised = x.float().clamp(min=1e-6).pow(self.power)
            return _averages(raised, tops, lefts, cells).pow(1 / self.power)
        if self.pooling == "max":
            return _maxima(x, tops, lefts, cells)
        if self.pooling == "centre":
            return self._centres(x, tops, lefts, cells)
        average = _averages(x, tops, lefts, cells)
        match self.pooling:
            case "avgmax":
                return torch.cat([average, _maxima(x, tops, lefts, cells)], 3)
            case "avgcentre":
                return torch.cat([average, self._centres(x, tops, lefts, cells)], 3)
        return average

    def _centres(self, x: Tensor, tops: Floats, lefts: Floats, cells: int) -> Tensor:
        inwards, side = (
            cells * pixels / self.geometry.size for pixels in (self.geometry.margin, self.geometry.label_region)
        )
        return _averages(x, tops + inwards, lefts + inwards, side)

    def _centre(self, x: Tensor) -> Tensor:
        rows, cols = (_share_of_centre(size, self.geometry, x) for size in x.shape[2:])
        return torch.einsum("bchw,h,w->bc", x, rows, cols)


def _share_of_centre(cells: int, geometry: PatchGeometry, like: Tensor) -> Tensor:
    """How much of the labelled centre each of ``cells`` equal parts of a side covers; they add up to 1."""
    edges = torch.linspace(0, geometry.size, cells + 1, device=like.device)
    low, high = geometry.margin, geometry.size - geometry.margin
    covered = (edges[1:].clamp(max=high) - edges[:-1].clamp(min=low)).clamp(min=0)
    return (covered / geometry.label_region).to(like.dtype)


def _averages(x: Tensor, tops: Floats, lefts: Floats, side: float) -> Tensor:
    """The average of a map (B, C, h, w) over windows of ``side`` x ``side`` cells: (B, R, K, C)."""
    rows, columns = (
        torch.from_numpy(shares(starts, side, cells)).to(x)
        for starts, cells in zip((tops, lefts), x.shape[2:], strict=True)
    )
    # Two products of matrices; the same as one einsum takes seven times as long.
    return torch.matmul(rows, torch.matmul(x, columns.T)).permute(0, 2, 3, 1)


def _maxima(x: Tensor, tops: Floats, lefts: Floats, cells: int) -> Tensor:
    """The maximum of a map (B, C, h, w) over windows of ``cells`` x ``cells``: (B, R, K, C)."""
    every = functional.max_pool2d(x, cells, 1)
    rows, columns = (torch.from_numpy(np.rint(starts).astype(np.int64)).to(x.device) for starts in (tops, lefts))
    return every[:, :, rows][:, :, :, columns].permute(0, 2, 3, 1)


def pooling_for(pooling: str, geometry: PatchGeometry) -> str:
    """The pooling that does what ``pooling`` asks for: the average where a label of the whole patch has no centre."""
    return "avg" if geometry.whole and pooling in CENTRED else pooling


def build_classifier(
    backbone: str = "resnet50",
    *,
    weights: str | Path = "none",
    pooling: str = "avg",
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
    side: int = 0,
    stride: int = STRIDE,
    geometry: PatchGeometry = PCAM,
) -> tuple[Classifier, str]:
    """Build a classifier; also return a sentence on the source and the licence of its weights.

    Args:
        backbone: name of a timm model.
        weights: ``imagenet``, ``none``, or a file (safetensors or .pth) with timm's or torchvision's key names.
        pooling: the pooling of the head; see ``POOLINGS`` and :func:`pooling_for`.
        hidden: widths of the head's hidden layers.
        dropout: share of the head's inputs that training drops.
        side: side in pixels to which patches are enlarged for the backbone; 0 for no enlargement.
        stride: image pixels per cell of the last feature map; below 32, the later layers are left out.
        geometry: of the patches.

    Raises:
        RecipeError: timm has no such backbone, or it cannot end at that stride, or it cannot take patches of this size.
        WeightsError: the weights cannot be found or downloaded, are unsafe to load, or belong to another network.
    """
    if not timm.is_model(backbone.partition(".")[0]):
        raise _no_backbone(backbone)
    side = _side(side, geometry)
    if weights == "imagenet":
        net, origin = _from_hub(backbone, side, stride)
    else:
        net, origin = _create(backbone, side, stride), "random initialisation"
        if weights != "none":
            origin = load_backbone(net, Path(weights))
    config = getattr(net, "pretrained_cfg", {}) or {}
    mean, std = config.get("mean") or MEAN, config.get("std") or STD
    classifier = Classifier(net, nn.Identity(), mean, std, side, geometry)
    channels = _channels(classifier, backbone)
    classifier.head = Head(channels, pooling_for(pooling, geometry), hidden, dropout, geometry)
    return classifier, origin


@contextlib.contextmanager
def at_most(parameters: int) -> Iterator[None]:
    """Stop the building of a network before it takes more memory than so many parameters do.

    Raises:
        OverflowError: the modules that are made within have more parameters.
    """
    count = 0

    def add(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        count += 0 if parameter is None else parameter.numel()
        if count > parameters:
            raise OverflowError(f"more than {parameters:,} parameters")

    hook = register_module_parameter_registration_hook(add)
    try:
        yield
    except Exception:
        if count > parameters:  # whatever was made of it on the way
            raise OverflowError(f"more than {parameters:,} parameters") from None
        raise
    finally:
        hook.remove()


def _no_backbone(name: str) -> RecipeError:
    guess = nearest(name, timm.list_models())
    return RecipeError(
        f"timm has no backbone '{shortened(name, 80)}'{f'; did you mean {guess!r}' if guess else ''}.",
        where="model.backbone",
        hint="Choose one that `python -c 'import timm; print(timm.list_models())'` lists.",
    )


def _side(side: int, geometry: PatchGeometry) -> int:
    """The side of what the backbone sees.

    Raises:
        RecipeError: it is smaller than a patch, whose detail would be lost.
    """
    if side and side < geometry.size:
        raise RecipeError(
            f"patches of {geometry.size} x {geometry.size} pixels would be reduced to {side} x {side}.",
            where="model.side",
            hint=f"Set model.side to 0, which keeps their size, or to {geometry.size} or more.",
        )
    return side or geometry.size


def _create(name: str, side: int, stride: int, **options: Any) -> nn.Module:
    options |= {"num_classes": 0, "global_pool": ""}
    try:
        try:
            # Transformers need to be told the size; convolutional networks take any and refuse the word.
            net = timm.create_model(name, img_size=side, **options)
        except TypeError:
            net = timm.create_model(name, **options)
    except Exception as error:  # a network's constructor raises whatever its author did, and so does the hub's client
        if options.get("pretrained") and not isinstance(error, AssertionError | ValueError | TypeError):
            raise
        if isinstance(error, RuntimeError) and "pretrained tag" in str(error):
            raise _no_backbone(name) from error
        raise _refused_size(name, side, _first_line(error)) from error
    unit = input_unit(net)
    if side % unit:
        raise _refused_size(name, side, f"its side must be a multiple of {unit}", unit)
    return net if stride == STRIDE else _ended_at(net, name, stride)


def input_unit(net: nn.Module) -> int:
    """What the side of its input must be a multiple of, lest pixels at a border are left out."""
    unit = getattr(net, "unit", None)
    if unit is None:  # a transformer cuts the input into squares
        unit = getattr(getattr(net, "patch_embed", None), "patch_size", 1)
    return int(unit[0] if isinstance(unit, Sequence) else unit) if isinstance(unit, int | Sequence) else 1


def _refused_size(name: str, side: int, why: str, unit: int = 32) -> RecipeError:
    return RecipeError(
        f"'{name}' cannot take {side} x {side} pixels: {why}.",
        where="model.backbone",
        hint=f"Enlarge the patches for it, for example --set model.side={-(-side // unit) * unit}, or choose a "
        "convolutional backbone such as resnet18.",
    )


def _ended_at(net: nn.Module, name: str, stride: int) -> nn.Module:
    """``net`` without the layers after its feature map of ``stride`` pixels a cell."""
    strides = [level["reduction"] for level in getattr(net, "feature_info", ())]
    if strides.count(stride) != 1 or not hasattr(net, "prune_intermediate_layers"):
        raise RecipeError(
            f"'{name}' cannot end at a stride of {stride}.",
            where="model.stride",
            hint="Leave it at 32, or choose a convolutional backbone such as resnet50.",
        )
    level = strides.index(stride)
    stages = net.stages if isinstance(net, ConvNeXt) else nn.Sequential()
    net.prune_intermediate_layers([level])  # type: ignore[operator]
    if isinstance(net, EfficientNet):
        # timm before 1.0.30 leaves the convolution after the last stage, which no longer fits the stages that are kept.
        net.conv_head, net.bn2 = nn.Identity(), nn.Identity()
    if isinstance(net, ConvNeXt):
        # timm before 1.0.31 leaves the norms after the last stage, and early versions end a stage sooner.
        net.stages, net.norm_pre, net.head.norm = stages[: level + 1], nn.Identity(), nn.Identity()
    return net


@torch.inference_mode()
def _channels(classifier: Classifier, name: str) -> int:
    """The channels of the feature map, seen on one blank patch.

    Raises:
        RecipeError: the backbone cannot take patches of this size.
    """
    was = classifier.training
    blank = torch.zeros(1, *classifier.geometry.shape, dtype=torch.uint8)
    try:
        features = classifier.eval().features(blank)
        if features.dim() != 4 or not features.numel():
            raise ValueError(f"its output {tuple(features.shape)} is no feature map")
    except Exception as error:  # a network for other things than images, such as text, fails in its own way
        raise _refused_size(name, classifier.side, _first_line(error)) from error
    classifier.train(was)
    return int(features.shape[1])


def _from_hub(name: str, side: int, stride: int) -> tuple[nn.Module, str]:
    """ImageNet weights from timm's hub, else from torchvision's where it has the same network."""
    console.print(f"Fetching ImageNet weights for {name}, unless they are in the cache.", markup=False)
    try:
        net = _create(name, side, stride, pretrained=True)
    except RecipeError:
        raise
    except Exception as from_timm:  # the hub's client raises whatever its transport does
        net = _create(name, side, stride)
        try:
            return net, _from_torchvision(net, name)
        except Exception as from_torchvision:
            raise WeightsError(
                f"no ImageNet weights for '{name}' can be fetched: {_first_line(from_timm)}; "
                f"torchvision: {_first_line(from_torchvision)}.",
                hint="Check the network (`sentinode doctor`), give a file that you have with --weights FILE, "
                "or start from random weights with --weights none.",
            ) from from_timm
    config = getattr(net, "pretrained_cfg", {}) or {}
    tag, licence = config.get("tag") or "default", config.get("license") or "licence not stated"
    return net, f"imagenet, timm {name.partition('.')[0]}.{tag} ({licence})"


def _from_torchvision(net: nn.Module, name: str) -> str:
    from torchvision.models import get_model_weights

    chosen = get_model_weights(name).DEFAULT
    with contextlib.redirect_stdout(sys.stderr):  # it says there where it downloads from; ours is for results
        tensors = chosen.get_state_dict(progress=False, check_hash=True)
    _fill(net, tensors, where=str(chosen))
    return f"imagenet, torchvision {chosen} (BSD-3-Clause)"


def _first_line(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    short = textwrap.shorten(first.rstrip("."), 160, placeholder=" ...")
    return f"{type(error).__name__}: {short}" if short else type(error).__name__


def load_backbone(net: nn.Module, path: Path) -> str:
    """Load a backbone's weights from a file without running code that the file may contain.

    Args:
        net: a timm backbone without its head.
        path: safetensors, or a .pth of tensors alone.

    Returns:
        A sentence that names the file.

    Raises:
        WeightsError: the file is missing, damaged, holds more than tensors, or belongs to another network.
    """
    _fill(net, read_tensors(path), where=path)
    return f"file {path.name}; its licence is that of the file"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a safetensors or .pth file.

    Raises:
        WeightsError: the file is missing, damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise WeightsError(
            "there is no such weights file.",
            where=path,
            hint="--weights takes imagenet, none, or a path to a file.",
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            "this file contains more than tensors, or is not a weights file. It was not opened, because "
            "unpickling it could run code.",
            where=path,
            hint="Save only the state dict, preferably as .safetensors, and give that file.",
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise WeightsError(
            f"cannot be read as weights ({_first_line(error)}).", where=path, hint="Download the file again."
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    if not isinstance(held, dict) or not any(isinstance(value, Tensor) for value in held.values()):
        raise WeightsError("contains no named tensors.", where=path, hint="Give a state dict.")
    return {str(key): value for key, value in held.items() if isinstance(value, Tensor)}


def _fill(net: nn.Module, tensors: dict[str, Tensor], *, where: str | Path) -> None:
    """Copy the tensors that the backbone knows by name; those of a head are left out."""
    wanted = net.state_dict()
    for prefix in ("module.", "model.", "backbone.", "encoder."):
        if not wanted.keys() & tensors.keys():
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    missing = [key for key in wanted if key not in tensors and not key.endswith("num_batches_tracked")]
    if missing:
        raise WeightsError(
            f"these weights belong to another network: {len(missing)} of {len(wanted)} tensors are missing, "
            f"such as {missing[0]}.",
            where=where,
            hint="Choose the backbone that they were trained for: --set model.backbone=NAME. For networks other than "
            "ResNets the key names must be timm's.",
        )
    for key, value in wanted.items():
        if key in tensors and tensors[key].shape != value.shape:
            raise WeightsError(
                f"tensor {key} has the shape {tuple(tensors[key].shape)}; this backbone needs {tuple(value.shape)}.",
                where=where,
                hint="Choose the backbone that they were trained for: --set model.backbone=NAME.",
            )
    net.load_state_dict({key: tensors.get(key, value) for key, value in wanted.items()})
