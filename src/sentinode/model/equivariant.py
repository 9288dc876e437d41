"""Networks for which tissue has no up or down: group convolutions over the eight symmetries of the square (p4m).

An ordinary network learns each nucleus anew for every way that it can lie. Here each filter is used in its eight
orientations at once, so that turning or mirroring a patch only permutes what the network has found, and after the
average over orientations changes nothing at all. Cohen and Welling (2016), *Group Equivariant Convolutional Networks*;
on PatchCamelyon Veeling et al. (2018), *Rotation Equivariant CNNs for Digital Pathology*.

A *field* is one feature in its eight orientations, eight channels side by side. All sizes are even and all
strides are pooled or sampled symmetrically, so that equivariance is exact, not approximate.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

from sentinode.augmentation.symmetries import SYMMETRIES
from sentinode.augmentation.transforms import symmetry

__all__ = ["FieldConv", "FieldNorm", "P4MResNet"]


class FieldConv(nn.Module):
    """A convolution from fields to fields (B, 8 I, H, W) -> (B, 8 O, H', W'), or from an image (B, I, H, W).

    Its weight is one orientation of its filters, (O, I, values): of each input orientation, if it has any, size * size
    values. The other orientations are made from it in each pass.

    Args:
        inputs: fields, or channels of an image.
        outputs: fields.
        size: side of the filters.
        image: whether the input is an image.
        stride: exact with even sizes where ``size`` is even, too.
    """

    source: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, *, image: bool = False, stride: int = 1) -> None:
        super().__init__()
        orientations = 1 if image else SYMMETRIES
        self.weight = nn.Parameter(torch.empty(outputs, inputs, orientations * size * size))
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="relu")
        self.size, self.orientations = size, orientations
        self.stride, self.padding = stride, (size - stride) // 2 if stride > 1 else size // 2
        self.register_buffer("source", _sources(size, orientations), persistent=False)

    def filters(self) -> Tensor:
        """The filters in all orientations, as a plain convolution takes them: (8 O, 8 I or I, size, size)."""
        outputs, inputs, _ = self.weight.shape
        turned = self.weight[:, :, self.source]  # (O, I, 8, values)
        turned = turned.view(outputs, inputs, SYMMETRIES, self.orientations, self.size**2).transpose(1, 2)
        return turned.reshape(outputs * SYMMETRIES, inputs * self.orientations, self.size, self.size)

    def forward(self, x: Tensor) -> Tensor:
        filters = self.filters().contiguous(memory_format=torch.channels_last)
        return functional.conv2d(x, filters, stride=self.stride, padding=self.padding)


@cache
def _sources(size: int, orientations: int) -> Tensor:
    """int64 (8, orientations * size * size): for each orientation, where each of its filters' values comes from.

    A filter w(x, h) in orientation g is w(g^-1 x, g^-1 h): its pixels move, and so do its input's orientations.
    """
    pixels = torch.arange(size * size).view(size, size, 1)
    turned = torch.stack([symmetry(pixels, g).reshape(-1) for g in range(SYMMETRIES)])
    if orientations == 1:
        return turned
    inputs = _inverse_products() * size * size
    return (inputs[:, :, None] + turned[:, None, :]).flatten(1)


def _inverse_products() -> Tensor:
    """int64 (8, 8): the number of g^-1 h at row g and column h, found by turning a square without symmetries."""
    square = torch.arange(4).view(2, 2, 1)
    known = [symmetry(square, k).flatten().tolist() for k in range(SYMMETRIES)]
    table = torch.empty(SYMMETRIES, SYMMETRIES, dtype=torch.int64)
    for g in range(SYMMETRIES):
        for k in range(SYMMETRIES):
            # symmetry(symmetry(square, k), g) is g k applied to the square; so h = g k, and k = g^-1 h.
            table[g, known.index(symmetry(symmetry(square, k), g).flatten().tolist())] = k
    return table


class FieldNorm(nn.Module):
    """Batch normalisation that treats the eight orientations of a field alike.

    Args:
        fields: of the input (B, 8 fields, H, W).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, fields: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = nn.Parameter(torch.ones(fields)), nn.Parameter(torch.zeros(fields))
        self.register_buffer("running_mean", torch.zeros(fields))
        self.register_buffer("running_var", torch.ones(fields))

    def forward(self, x: Tensor) -> Tensor:
        tensors = (self.running_mean, self.running_var, self.weight, self.bias)
        mean, var, weight, bias = (tensor.repeat_interleave(SYMMETRIES) for tensor in tensors)
        x = functional.batch_norm(x, mean, var, weight, bias, self.training, self.momentum, self.eps)
        if self.training:
            with torch.no_grad():
                self.running_mean.copy_(mean.view(-1, SYMMETRIES).mean(1))
                self.running_var.copy_(var.view(-1, SYMMETRIES).mean(1))
        return x


class _Unit(nn.Module):
    """A convolution and its normalisation, as one step that a plain convolution can stand for."""

    def __init__(self, inputs: int, outputs: int, size: int, **options: Any) -> None:
        super().__init__()
        self.conv, self.norm = FieldConv(inputs, outputs, size, **options), FieldNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x))
        return out

    def as_convolutions(self) -> nn.Conv2d:
        """The same function in eval mode, as one convolution with the normalisation folded into it."""
        norm, filters = self.norm, self.conv.filters()
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        outputs, inputs, size, _ = filters.shape
        conv = nn.Conv2d(inputs, outputs, size, stride=self.conv.stride, padding=self.conv.padding)
        with torch.no_grad():
            conv.weight.copy_(filters * scale.repeat_interleave(SYMMETRIES).view(-1, 1, 1, 1))
            assert conv.bias is not None
            conv.bias.copy_(shift.repeat_interleave(SYMMETRIES))
        return conv


class _Block(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = _Unit(inputs, outputs, 3), _Unit(outputs, outputs, 3)
        nn.init.zeros_(self.second.norm.weight)
        self.shortcut: nn.Module = nn.Identity() if inputs == outputs else _Unit(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(functional.relu(self.first(x)))
        return functional.relu(y + self.shortcut(x))


class P4MResNet(nn.Module):
    """A residual network of group convolutions over the eight symmetries.

    ``forward`` takes normalised (B, 3, S, S), S a multiple of ``unit``, and returns features (B, 2 fields, S / 32,
    S / 32) that turn and mirror with the image: of each field the mean and the maximum over its orientations.

    Args:
        fields: of the stem and of each stage.
        depths: blocks of each stage.
    """

    output_fmt = "NCHW"
    unit = 32
    """What the side of an image must be a multiple of: it is halved five times, equivariant only while it is even."""

    def __init__(self, fields: Sequence[int] = (8, 8, 16, 32), depths: Sequence[int] = (2, 2, 2)) -> None:
        super().__init__()
        self.stem = nn.ModuleList([_Unit(3, fields[0], 6, image=True, stride=2), _Unit(fields[0], fields[0], 3)])
        self.stages = nn.ModuleList()
        for inputs, outputs, depth in zip(fields, fields[1:], depths, strict=False):
            blocks = [_Block(inputs if number == 0 else outputs, outputs) for number in range(depth)]
            self.stages.append(nn.Sequential(*blocks))
        self.num_features = 2 * fields[-1]

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.stem:
            x = functional.relu(unit(x))
        for number, stage in enumerate(self.stages):
            x = functional.max_pool2d(x, 2) if number == 0 else functional.avg_pool2d(x, 2)
            x = stage(x)
        x = functional.avg_pool2d(x, 2)
        # The batch is what is left over, so that an exported network takes batches of any size.
        orientations = x.reshape(-1, x.shape[1] // SYMMETRIES, SYMMETRIES, *x.shape[2:])
        return torch.cat([orientations.mean(2), orientations.amax(2)], 1)

    def as_convolutions(self) -> P4MResNet:
        """This network with every filter turned and every normalisation folded in, in place: the same function, faster.

        It can no longer be trained.
        """
        for module in list(self.modules()):
            for name, child in module.named_children():
                if isinstance(child, _Unit):
                    setattr(module, name, child.as_convolutions())
        return self


@register_model
def p4m_resnet(pretrained: bool = False, **options: Any) -> P4MResNet:
    """A small :class:`P4MResNet` under timm's registry, so that a recipe can name it."""
    if pretrained:
        raise RuntimeError("nobody has published ImageNet weights for p4m_resnet")
    return P4MResNet()
