"""A sheet of examples: what each augmentation of a recipe does to real patches."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from sentinode.atomic import whole_file
from sentinode.augmentation.transforms import Augment
from sentinode.errors import DataError
from sentinode.geometry import PatchGeometry
from sentinode.names import drawable, families
from sentinode.patches import PatchSet

TOGETHER = 3
"""How often the whole augmentation is drawn."""

_TITLES = {
    "symmetries": "symmetries",
    "crop": "crop\nup to {crop:.0%} of the side",
    "shift": "shift\n\N{PLUS-MINUS SIGN}{shift} pixels",
    "scale": "zoom\n\N{PLUS-MINUS SIGN}{scale:.0%}",
    "blur": "blur, \N{GREEK SMALL LETTER SIGMA} to {blur_sigma:g}\n{blur:.0%} of patches",
    "stain": "stain ({stain_space})\n\N{PLUS-MINUS SIGN}{stain:g}",
    "brightness": "brightness\n\N{PLUS-MINUS SIGN}{brightness:.0%}",
    "contrast": "contrast\n\N{PLUS-MINUS SIGN}{contrast:.0%}",
    "saturation": "saturation\n\N{PLUS-MINUS SIGN}{saturation:.0%}",
    "hue": "hue\n\N{PLUS-MINUS SIGN}{hue:g} turns",
    "noise": "noise\n\N{GREEK SMALL LETTER SIGMA} to {noise:g} of 255",
    "jpeg": "JPEG {jpeg_quality[0]}\N{EN DASH}{jpeg_quality[1]}\n{jpeg:.0%} of patches",
    "mixup": "mixup\n\N{GREEK SMALL LETTER ALPHA} = {mixup:g}",
}
_ONLY_SOME = ("blur", "jpeg")  # these are probabilities; alone, they are shown on every patch
_MARGIN, _GAP, _HEAD, _ZOOM, _DPI = 18, 6, 44, 2, 100  # the first three in pixels of the patches
_SMALL = 128  # the largest patches in pixels that are enlarged


def singles(augment: Augment) -> dict[str, Augment]:
    """Each transform that ``augment`` switches on, alone and at the same strength, in their order."""
    off = {name: type(getattr(augment, name))(0) for name in _TITLES}
    strengths = {name: getattr(augment, name) for name in _TITLES}
    return {
        name: replace(augment, **{**off, name: 1.0 if name in _ONLY_SOME else strength})
        for name, strength in strengths.items()
        if strength
    }


def preview(patches: PatchSet, augment: Augment, out: Path, *, count: int = 6, seed: int = 0) -> Path:
    """Draw unchanged patches, then the patches under each transform alone, then under all transforms together.

    Args:
        patches: where the patches are taken from, half of them of the positive class if there are enough.
        augment: the augmentation; only the transforms that it switches on are shown.
        out: the image file to write; its ending, such as ``.png``, decides the format.
        count: number of patches, one row each.
        seed: random seed for the choice of patches and for the augmentation.

    Returns:
        ``out``.

    Raises:
        DataError: there are no patches.
        OutputError: ``out`` cannot be written.
    """
    rows = _choose(patches.labels, count, seed)
    if not len(rows):
        raise DataError(f"the {patches.split} split contains no patches.", where=patches.source)
    images = torch.from_numpy(np.ascontiguousarray(patches.images[rows]))
    generator = torch.Generator().manual_seed(seed)
    columns = {"original": images}
    for name, single in singles(augment).items():
        columns[_TITLES[name].format(**asdict(augment))] = _augmented(single, images, generator)
    for number in range(TOGETHER):
        columns[f"all together\n{number + 1}"] = _augmented(augment, images, generator)
    figure = _draw(columns, [patches.class_names[label] for label in patches.labels[rows]], patches.geometry)
    with whole_file(Path(out)) as staged:
        figure.savefig(staged, dpi=_DPI)
    return Path(out)


def _choose(labels: NDArray[np.uint8], count: int, seed: int) -> NDArray[np.int64]:
    """Row numbers, the positive class first, half of each class as far as there are enough."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    positive, negative = (shuffled[labels[shuffled] == label] for label in (1, 0))
    many = max(min(len(positive), (count + 1) // 2), count - len(negative))
    return np.concatenate((positive[:many], negative[: count - many]))


def _augmented(augment: Augment, images: Tensor, generator: torch.Generator) -> Tensor:
    mixed, _ = augment.mix(augment(images, generator), torch.zeros(len(images), 2), generator)
    return mixed


def _draw(columns: dict[str, Tensor], names: list[str], geometry: PatchGeometry) -> Figure:
    """All patches on one canvas, small ones enlarged, with titles above and classes beside them."""
    size, region = geometry.size, geometry.label_region
    zoom = _ZOOM if size <= _SMALL else 1
    edge, gap, head = (of_small * _ZOOM // zoom for of_small in (_MARGIN, _GAP, _HEAD))
    step = size + gap
    height, width = (head + len(names) * step, edge + len(columns) * step)
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = Figure(figsize=(width * zoom / _DPI, height * zoom / _DPI))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for column, (title, images) in enumerate(columns.items()):
        left = edge + column * step
        for row, image in enumerate(images.numpy()):
            top = head + row * step
            canvas[top : top + size, left : left + size] = image
        middle = left + size / 2
        axes.text(middle, head - 7 * _ZOOM / zoom, title, ha="center", va="bottom", fontsize=15, linespacing=1.3)
    inset = geometry.margin - 0.5  # a pixel is drawn around its number
    for row, name in enumerate(names):
        middle = head + row * step + size / 2
        fontsize = min(15, 1.3 * zoom * size / len(name))  # as long as the patch is high, at most
        font: dict[str, Any] = {"rotation": 90, "fontsize": fontsize, "family": list(families())}
        axes.text(edge / 2, middle, drawable(name), ha="center", va="center", **font)
        if not geometry.whole:
            corner = (edge + inset, middle - region / 2 - 0.5)
            axes.add_patch(Rectangle(corner, region, region, fill=False, color="yellow", linewidth=2))
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    return figure
