"""Where in the patch the evidence is: Grad-CAM beside the patch."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchcam.methods import GradCAM

from sentinode.atomic import whole_file
from sentinode.errors import BundleError, DataError, RecipeError, SentinodeError
from sentinode.model.bundle import Bundle
from sentinode.model.classifier import Classifier, as_map
from sentinode.model.hardware import choose_device
from sentinode.names import drawable, families, folder_name, printable, shortened
from sentinode.patches import LABEL_REGION, PATCH_SIZE
from sentinode.patches.unlabelled import Patch, read_patches, short_name
from sentinode.progress import bar, console
from sentinode.scoring import calibrated

TARGETS = ("called", "tumour", "normal")

COLOURS = "inferno"
"""Perceptually even, and as readable in grey: the colours of the evidence."""

NAME_WIDTH = 80
"""Columns of a patch's name above its picture, of letters as wide as a digit."""


@dataclass(frozen=True)
class Evidence:
    """What a model saw in one patch.

    Attributes:
        probability: P(tumour).
        target: the class that the evidence speaks for, ``tumour`` or ``normal``.
        cells: float32 (h, w), the map as the network has it, from 0 to 1 of its own strongest cell; all zero where
            nothing speaks for the class.
    """

    probability: float
    target: str
    cells: NDArray[np.float32]

    @property
    def pixels(self) -> NDArray[np.float32]:
        """The same, float32 (96, 96), interpolated."""
        cells = torch.from_numpy(self.cells)[None, None]
        grown = functional.interpolate(cells, (PATCH_SIZE, PATCH_SIZE), mode="bilinear", align_corners=False)
        pixels: NDArray[np.float32] = grown[0, 0].numpy()
        return pixels


@dataclass(frozen=True)
class Explained:
    """What :func:`explain` has done.

    Attributes:
        pictures: the files that it wrote.
        failures: (id, reason) for each image that could not be explained.
    """

    pictures: tuple[Path, ...]
    failures: tuple[tuple[str, str], ...] = field(default=())


class Explainer:
    """Grad-CAM (Selvaraju et al. 2017) at the last feature map of a bundle's network.

    The score whose gradient is taken is the margin between the two logits, since a softmax over two classes
    knows nothing else. Works for every timm backbone, transformers included, and for a network of one's own
    that has a feature map with a height and a width.

    Args:
        bundle: the model.
        device: where to compute; see :func:`sentinode.model.hardware.choose_device`.

    Raises:
        BundleError: the network has no feature map to look at.
        DeviceError: no such device.
    """

    def __init__(self, bundle: Bundle, *, device: str = "auto") -> None:
        self.device = choose_device(device)
        self.network = bundle.classifier().to(self.device)
        self.temperature, self.threshold = bundle.card.temperature, bundle.card.threshold
        self.path = bundle.path
        self._layer = self._last_feature_map()

    def evidence(self, images: NDArray[np.uint8], target: str = "called") -> list[Evidence]:
        """Look at uint8 (B, 96, 96, 3).

        Args:
            images: RGB patches.
            target: the class whose evidence is wanted; ``called`` for the class that each patch was given at
                the bundle's threshold.
        """
        batch = torch.from_numpy(np.array(images)).to(self.device)
        camera = GradCAM(self.network, self._layer, reshape_transform=self._as_map)
        with torch.enable_grad(), camera:
            logits = self.network(batch)
            margins = (logits[:, 1] - logits[:, 0]).detach().float().cpu().numpy()
            said = calibrated(margins, self.temperature)
            names = [self._name(float(p), target) for p in said]
            try:
                (maps,) = camera(scores=logits, normalized=False, targets=[_MARGIN[name] for name in names])
            except RuntimeError as error:
                raise BundleError(
                    f"Grad-CAM cannot follow its network ({error}).",
                    where=self.path,
                    hint="Its forward must lead from the feature map to the logits with gradients.",
                ) from error
        strongest = maps.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
        cells: NDArray[np.float32] = (maps / strongest).float().cpu().numpy()
        return [Evidence(float(p), name, cell) for p, name, cell in zip(said, names, cells, strict=True)]

    def _name(self, probability: float, target: str) -> str:
        if target != "called":
            return target
        return "tumour" if probability >= self.threshold else "normal"

    def _as_map(self, features: Tensor) -> Tensor:
        if isinstance(self.network, Classifier):
            return as_map(features, self.network.backbone)
        return features

    def _last_feature_map(self) -> nn.Module:
        if isinstance(self.network, Classifier):
            return self.network.backbone
        found: list[nn.Module] = []

        def remember(module: nn.Module, _: object, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
                found.append(module)

        hooks = [module.register_forward_hook(remember) for module in self.network.modules()]
        try:
            with torch.inference_mode():
                blank = torch.zeros(1, PATCH_SIZE, PATCH_SIZE, 3, dtype=torch.uint8, device=self.device)
                self.network(blank)
        finally:
            for hook in hooks:
                hook.remove()
        if not found:
            raise BundleError(
                "no layer of its network answers with a feature map (B, C, h, w) for Grad-CAM to look at.",
                where=self.path,
                hint="Predicting and evaluating work all the same.",
            )
        return found[-1]


# What the gradient is taken of: one patch's logits (2,) to the margin for a class.
_MARGIN: dict[str, Callable[[Tensor], Tensor]] = {
    "tumour": lambda logits: logits[1] - logits[0],
    "normal": lambda logits: logits[0] - logits[1],
}


def explain(
    bundle: Bundle,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    target: str = "called",
    mpp: float | None = None,
    device: str = "auto",
    show: bool = True,
) -> Explained:
    """Write a picture for each image: the patch, and the evidence over it.

    Args:
        bundle: the model.
        paths: images, folders, HDF5 or Parquet files; see :func:`sentinode.patches.unlabelled.read_patches`.
        out: the folder for the pictures; each is named after its image.
        target: ``called``, ``tumour`` or ``normal``: the class whose evidence is wanted.
        mpp: microns per pixel of the images, for others than 96 x 96 at the bundle's resolution.
        device: where to compute.
        show: whether to show progress on standard error.

    Raises:
        RecipeError: no such target.
        BundleError: the network has no feature map.
        DataError: no image could be explained; nothing is written.
        OutputError: the folder cannot be written.
    """
    if target not in TARGETS:
        raise RecipeError(f"{target!r} is no target.", hint=f"Choose one of {', '.join(TARGETS)}.")
    explainer = Explainer(bundle, device=device)
    pictures: list[Path] = []
    failures: list[tuple[str, str]] = []
    taken: set[str] = set()
    with bar("Explaining", unit="images", show=show) as shown:
        for patch in read_patches(paths, mpp=mpp, bundle_mpp=bundle.card.mpp):
            drawn = _explained(explainer, patch, target)
            if isinstance(drawn, str):
                failures.append((patch.id, drawn))
                console.print(f"{printable(patch.id)}: {drawn}", markup=False)
            else:
                picture = _free_path(Path(out), short_name(patch.id), taken)
                with whole_file(picture) as staged:
                    staged.write_bytes(drawn)
                pictures.append(picture)
            shown.advance()
    if failures and not pictures:
        raise DataError(
            f"none of the {len(failures)} images could be explained; the first: {failures[0][1]}",
            where=failures[0][0],
        )
    return Explained(tuple(pictures), tuple(failures))


def _explained(explainer: Explainer, patch: Patch, target: str) -> bytes | str:
    """The picture of a patch as a PNG, or why there is none."""
    if isinstance(patch.pixels, DataError):
        return patch.pixels.what
    try:
        (evidence,) = explainer.evidence(patch.pixels[None], target)
        return draw(patch, evidence, explainer.threshold)
    except SentinodeError:
        raise
    # A fault of ours on one image must not cost the others.
    except Exception as error:
        return f"a fault of Sentinode's: {type(error).__name__}: {error}"


def draw(patch: Patch, evidence: Evidence, threshold: float) -> bytes:
    """A PNG: the patch, and the evidence over it, each with the centre square that the label speaks of."""
    figure = Figure(figsize=(7.2, 3.9), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.imshow(patch.pixels, interpolation="nearest")
        corner = (PATCH_SIZE - LABEL_REGION) / 2 - 0.5
        square = Rectangle((corner, corner), LABEL_REGION, LABEL_REGION, fill=False, ec="white", lw=1.6)
        square.set_path_effects([Stroke(linewidth=3, foreground="black"), Normal()])
        axes.add_patch(square)
        axes.set_axis_off()
    over = right.imshow(evidence.pixels, cmap=COLOURS, vmin=0, vmax=1, alpha=0.15 + 0.4 * evidence.pixels)
    rows, columns = evidence.cells.shape
    left.set_title("patch; the square is what the label speaks of", fontsize=8)
    right.set_title(f"evidence for {evidence.target}, {rows} x {columns} cells", fontsize=8)
    bar_of_colours = figure.colorbar(ScalarMappable(over.norm, over.cmap), ax=right, shrink=0.8, pad=0.02)
    bar_of_colours.set_label("share of the strongest cell", fontsize=8)
    bar_of_colours.ax.tick_params(labelsize=7)
    called = "tumour" if evidence.probability >= threshold else "normal"
    said = f"P(tumour) {evidence.probability:.3f}, threshold {threshold:.3f}: called {called}"
    name = drawable(shortened(PurePath(patch.id).name, NAME_WIDTH))
    figure.suptitle(f"{name}\n{said}", fontsize=10, family=list(families()))
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _free_path(folder: Path, name: str, taken: set[str]) -> Path:
    """Where a picture goes; images of one name from several folders are numbered."""
    stem = folder_name(name.replace("#", "_row"))
    path, number = folder / f"{stem}.png", 1
    while path.name.casefold() in taken:  # many disks know no upper and lower case
        number += 1
        path = folder / f"{stem}-{number}.png"
    taken.add(path.name.casefold())
    return path
