"""The evidence in a patch: what each cell of the last feature map adds to the prediction."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sentinode.atomic import whole_file
from sentinode.errors import BundleError, DataError, OutputError, RecipeError, SentinodeError
from sentinode.geometry import PCAM, PatchGeometry
from sentinode.model.bundle import Bundle, Card, images_as
from sentinode.model.classifier import Classifier, Head
from sentinode.model.engines.contract import check_size
from sentinode.model.hardware import choose_device
from sentinode.model.neighbours import Neighbour, TrainingPatches, disagreements
from sentinode.names import drawable, families, folder_name, printable, shortened
from sentinode.patches.unlabelled import Patch, read_patches, short_name
from sentinode.progress import bar, console
from sentinode.scoring import calibrated

CALLED = "called"
"""The target that means the predicted class of each patch."""

EXACT, FIRST_ORDER = "exact contributions", "gradient x activation"
"""How evidence was found: the contributions themselves where the head is linear, else their first-order estimate."""

COLOURS = "inferno"
"""Perceptually even, and as readable in grey: the colours of the evidence."""

ACROSS = 5
"""Neighbours in a row."""

NEIGHBOUR_WIDTH = 26
"""Columns of the name of a neighbour, or of its slide."""

NAME_WIDTH = 80
"""Columns of a patch's name above its picture, of letters as wide as a digit."""


@dataclass(frozen=True)
class Evidence:
    """The evidence in one patch.

    Attributes:
        probability: of the positive class.
        target: the class that the evidence is for, by its name.
        contributions: float64 (h, w), what each cell adds to the target's logit minus that of the other class; below 0
            for evidence against the target.
        method: ``EXACT``, where the contributions and the head's bias add up to that margin, or ``FIRST_ORDER``.
        size: side of the patch in pixels.
    """

    probability: float
    target: str
    contributions: NDArray[np.float64]
    method: str = FIRST_ORDER
    size: int = PCAM.size

    @property
    def cells(self) -> NDArray[np.float32]:
        """float32 (h, w), from 0 to 1: the evidence for the target, as a share of the strongest cell.

        All zero if there is no evidence for it.
        """
        supporting = self.contributions.clip(min=0)
        shares: NDArray[np.float64] = supporting / max(supporting.max(), np.finfo(np.float64).tiny)
        return shares.astype(np.float32)

    @property
    def pixels(self) -> NDArray[np.float32]:
        """The cells interpolated to pixels: float32 (size, size)."""
        cells = torch.from_numpy(self.cells)[None, None]
        grown = functional.interpolate(cells, (self.size, self.size), mode="bilinear", align_corners=False)
        pixels: NDArray[np.float32] = grown[0, 0].numpy()
        return pixels


@dataclass(frozen=True)
class Explained:
    """The result of :func:`explain`.

    Attributes:
        pictures: the files that it wrote.
        failures: (id, reason) for each image that could not be explained.
        method: how the evidence was found, ``EXACT`` or ``FIRST_ORDER``.
        neighbours: for each picture the nearest training patches, if they were asked for.
        disagreements: (id, sentence) for near-duplicates in train whose label disagrees.
    """

    pictures: tuple[Path, ...]
    failures: tuple[tuple[str, str], ...] = field(default=())
    method: str = FIRST_ORDER
    neighbours: tuple[tuple[Neighbour, ...], ...] = field(default=(), repr=False)
    disagreements: tuple[tuple[str, str], ...] = field(default=())


class Explainer:
    """The evidence in each cell of the last feature map of a bundle's network: its gradient times its activation.

    This is HiResCAM (Draelos and Carin 2020, https://arxiv.org/abs/2011.08891). The gradient is that of the margin
    between the two logits, because a softmax over two classes depends only on it. If the head is linear in the feature
    map, the products are exactly what each cell adds to the margin. Grad-CAM (Selvaraju et al. 2017) averages the
    gradients over the map before it multiplies, and so loses the weight that a pooling such as ``avgcentre`` gives to
    the centre.

    It works for every timm backbone, including transformers, and for your own network if it has a feature map with a
    height and a width.

    Args:
        bundle: the model.
        device: where to compute; see :func:`sentinode.model.hardware.choose_device`.

    Attributes:
        method: ``EXACT`` for a linear head, ``FIRST_ORDER`` for any other head and for your own network.

    Raises:
        BundleError: the network has no feature map.
        DeviceError: no such device.
    """

    def __init__(self, bundle: Bundle, *, device: str = "auto") -> None:
        self.device = choose_device(device)
        self.network = bundle.classifier().to(self.device)
        self.card, self.geometry = bundle.card, bundle.card.geometry
        self.temperature, self.threshold = bundle.card.temperature, bundle.card.threshold
        self.path = bundle.path
        # A class derived from ours may have another forward: it is looked into like any other network.
        self._ours = self.network if type(self.network) is Classifier else None
        linear = self._ours is not None and isinstance(self._ours.head, Head) and self._ours.head.linear
        self.method = EXACT if linear else FIRST_ORDER
        self._layer = self._last_feature_map() if self._ours is None else None

    def evidence(self, images: NDArray[np.uint8], target: str = "called") -> list[Evidence]:
        """Compute the evidence in uint8 (B, S, S, 3).

        Args:
            images: RGB patches.
            target: the class whose evidence is wanted; ``called`` for the predicted class of each patch at
                the bundle's threshold.

        Raises:
            RecipeError: no such target.
            BundleError: the gradient from the logits to the feature map cannot be computed.
            DataError: the patches are not of the bundle's size.
        """
        _check_target(target, self.card)
        check_size(images, self.geometry)
        features, margins = self._look(torch.from_numpy(np.array(images)).to(self.device))
        contributions = self._contributions(features, margins).numpy()
        probabilities = calibrated(margins.detach().float().cpu().numpy(), self.temperature)
        found = []
        for probability, cells in zip(probabilities.tolist(), contributions, strict=True):
            name = self.card.called(probability) if target == CALLED else target
            towards = cells if name == self.card.positive_class else -cells
            found.append(Evidence(probability, name, towards, self.method, self.geometry.size))
        return found

    @torch.enable_grad()
    def _look(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The feature map (B, C, h, w), and the margins (B,) of the positive class that follow from it."""
        if self._ours is not None:
            with torch.no_grad():
                features = self._ours.features(batch)
            logits = self._ours.head(features.requires_grad_()).float()
        else:
            features, logits = self._look_into(batch)
        return features, logits[:, 1] - logits[:, 0]

    def _look_into(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The feature map and the logits of the user's own network."""
        seen: list[Tensor] = []

        def cut(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            seen.append(output.detach().requires_grad_())
            return seen[-1].clone()  # what follows may work in place

        assert self._layer is not None
        hook = self._layer.register_forward_hook(cut)
        try:
            logits = self.network(batch)
        finally:
            hook.remove()
        return seen[-1], logits

    def _contributions(self, features: Tensor, margins: Tensor) -> Tensor:
        """float64 (B, h, w): what each cell adds to its patch's margin."""
        try:
            (gradient,) = torch.autograd.grad(margins.sum(), features)
        except RuntimeError as error:
            raise BundleError(
                f"the gradient of its network cannot be computed ({error}).",
                where=self.path,
                hint="Its forward must lead from the feature map to the logits with gradients.",
            ) from error
        return (features.detach().cpu().double() * gradient.cpu().double()).sum(1)

    def _last_feature_map(self) -> nn.Module:
        """The last layer of the user's own network that returns a map of several cells."""
        found: list[nn.Module] = []

        def remember(module: nn.Module, _: object, output: object) -> None:
            if not isinstance(output, Tensor) or not output.is_floating_point():
                return
            if output.dim() == 4 and min(output.shape[2:]) > 1:
                found.append(module)

        hooks = [module.register_forward_hook(remember) for module in self.network.modules()]
        try:
            with torch.inference_mode():
                blank = torch.zeros(1, *self.geometry.shape, dtype=torch.uint8, device=self.device)
                self.network(blank)
        finally:
            for hook in hooks:
                hook.remove()
        if not found:
            raise BundleError(
                "no layer of its network returns a feature map (B, C, h, w), which the evidence needs.",
                where=self.path,
                hint="Predicting and evaluating still work.",
            )
        return found[-1]


def _check_target(target: str, card: Card) -> None:
    targets = (CALLED, *reversed(card.class_names))
    if target not in targets:
        raise RecipeError(f"there is no target {target!r}.", hint=f"Choose one of {', '.join(targets)}.")


def explain(
    bundle: Bundle,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    target: str = "called",
    mpp: float | None = None,
    neighbours: int = 0,
    data: str | Path | None = None,
    slide_map: Path | None = None,
    device: str = "auto",
    show: bool = True,
) -> Explained:
    """Write a picture for each image: the patch, and the evidence over it.

    Args:
        bundle: the model.
        paths: images, folders, HDF5 or Parquet files; see :func:`sentinode.patches.unlabelled.read_patches`.
        out: the folder for the pictures; each is named after its image.
        target: ``called``, or the name of one of the bundle's classes: the class whose evidence is wanted.
        mpp: microns per pixel of the images, if they are not patches of the bundle's size and resolution.
        neighbours: nearest training patches to show under each patch.
        data: the labelled patches that the bundle was trained on, for the neighbours.
        slide_map: a CSV that names the slide of each patch of ``data``.
        device: where to compute.
        show: whether to show progress on standard error.

    Raises:
        RecipeError: no such target; neighbours without data, or data without neighbours.
        BundleError: the network has no feature map, or ``mpp`` is given and the bundle's own is unknown.
        DataError: no image could be explained, or ``data`` cannot be read, is not of the bundle's geometry and classes,
            or has no train split; nothing is written.
        OutputError: the folder cannot be written, or the pictures would lie among the images.
    """
    _check_target(target, bundle.card)
    if bool(neighbours) != (data is not None) or neighbours < 0:
        raise RecipeError(
            "neighbours need their number and the data that the bundle was trained on.",
            hint="For example --neighbours 5 --data pcam",
        )
    out = Path(out)
    _refuse_among_images(out, paths)
    explainer = Explainer(bundle, device=device)
    known = None
    if data is not None:
        known = TrainingPatches(bundle, data, slide_map=slide_map, device=device, show=show)
    alike: list[tuple[Neighbour, ...]] = []
    disagreeing: list[tuple[str, str]] = []
    pictures: list[Path] = []
    failures: list[tuple[str, str]] = []
    taken: set[str] = set()
    with bar("Explaining", unit="images", show=show) as shown:
        for patch in read_patches(paths, geometry=images_as(bundle, mpp), mpp=mpp):
            near = known.nearest(patch.pixels, neighbours) if known and not isinstance(patch.pixels, DataError) else ()
            result = _explained(explainer, patch, target, near)
            if isinstance(result, str):
                failures.append((patch.id, result))
                console.print(f"{printable(patch.id)}: {result}", markup=False)
            else:
                png, called = result
                picture = _free_path(out, short_name(patch.id), taken)
                with whole_file(picture) as staged:
                    staged.write_bytes(png)
                pictures.append(picture)
                alike.append(near)
                for sentence in disagreements(called, near):
                    disagreeing.append((patch.id, sentence))
                    console.print(f"{printable(patch.id)}: {sentence}", markup=False)
            shown.advance()
    if failures and not pictures:
        raise DataError(
            f"none of the {len(failures)} images could be explained; the first: {failures[0][1]}",
            where=failures[0][0],
        )
    return Explained(
        tuple(pictures), tuple(failures), explainer.method, tuple(alike) if known else (), tuple(disagreeing)
    )


def _explained(
    explainer: Explainer, patch: Patch, target: str, near: tuple[Neighbour, ...] = ()
) -> tuple[bytes, str] | str:
    """The picture of a patch as a PNG and what it was called, or why there is none."""
    if isinstance(patch.pixels, DataError):
        return patch.pixels.what
    try:
        (evidence,) = explainer.evidence(patch.pixels[None], target)
        called = explainer.card.called(evidence.probability)
        return (draw(patch, evidence, explainer.card, near) if near else draw(patch, evidence, explainer.card)), called
    except SentinodeError:
        raise
    # A bug that one image triggers must not stop the others.
    except Exception as error:
        return f"a bug in Sentinode: {type(error).__name__}: {error}"


def draw(patch: Patch, evidence: Evidence, card: Card, near: tuple[Neighbour, ...] = ()) -> bytes:
    """A PNG: the patch, and the evidence over it, each with the centre square that the label covers, if it does.

    Below them lie the nearest training patches, if there are any.
    """
    rows_below = -(-len(near) // ACROSS)
    figure = Figure(figsize=(7.2, 3.9 + 2.1 * rows_below), dpi=120, layout="constrained")
    if near:
        parts = figure.subfigures(2, 1, height_ratios=(3.9, 2.1 * rows_below), squeeze=False)[:, 0]
        left, right = parts[0].subplots(1, 2)
        _draw_neighbours(parts[1], near, card)
    else:
        left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.imshow(patch.pixels, interpolation="nearest")
        if not card.geometry.whole:
            axes.add_patch(_label_square(card.geometry))
        axes.set_axis_off()
    over = right.imshow(evidence.pixels, cmap=COLOURS, vmin=0, vmax=1, alpha=0.15 + 0.4 * evidence.pixels)
    rows, columns = evidence.cells.shape
    left.set_title("patch" if card.geometry.whole else "patch; the label covers the square", fontsize=8)
    title = drawable(f"evidence for {evidence.target}, {rows} x {columns} cells:")
    right.set_title(f"{title}\n{evidence.method}", fontsize=8, family=list(families()))
    bar_of_colours = figure.colorbar(ScalarMappable(over.norm, over.cmap), ax=right, shrink=0.8, pad=0.02)
    bar_of_colours.set_label("share of the strongest cell", fontsize=8)
    bar_of_colours.ax.tick_params(labelsize=7)
    probability, called = evidence.probability, card.called(evidence.probability)
    line = f"P({card.positive_class}) {probability:.3f}, threshold {card.threshold:.3f}: called {called}"
    name = drawable(shortened(PurePath(patch.id).name, NAME_WIDTH))
    figure.suptitle(f"{name}\n{drawable(line)}", fontsize=10, family=list(families()))
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _draw_neighbours(figure: SubFigure, near: tuple[Neighbour, ...], card: Card) -> None:
    """Each with its label, its distance and its slide."""
    panels = figure.subplots(-(-len(near) // ACROSS), ACROSS, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, one in zip(panels.flat, near, strict=False):
        axes.imshow(one.pixels, interpolation="nearest")
        if not card.geometry.whole:
            axes.add_patch(_label_square(card.geometry))
        lines = [f"{one.label}, {one.distance:.3f}", shortened(one.id, NEIGHBOUR_WIDTH)]
        lines += [shortened(one.slide, NEIGHBOUR_WIDTH)] if one.slide else []
        lines += ["near-duplicate"] if one.copy else []
        axes.set_title("\n".join(map(drawable, lines)), fontsize=6.5, family=list(families()))
    figure.suptitle("nearest training patches: label, distance (1 - cosine), id, slide", fontsize=8)


def _label_square(geometry: PatchGeometry) -> Rectangle:
    corner, side = geometry.margin - 0.5, geometry.label_region
    square = Rectangle((corner, corner), side, side, fill=False, ec="white", lw=1.6)
    square.set_path_effects([Stroke(linewidth=3, foreground="black"), Normal()])
    return square


def _refuse_among_images(out: Path, paths: Sequence[str | Path]) -> None:
    """Refuse a folder in which a picture could replace an image, which often has the same name.

    Raises:
        OutputError: an image or its folder was given that is or lies in this folder.
    """
    place = out.resolve()
    for path in (Path(path).resolve() for path in paths):
        if place in (path, path.parent):
            raise OutputError(
                "the pictures would lie among the images that they explain.",
                where=out,
                hint="Choose a folder of its own with --out.",
            )


def _free_path(folder: Path, name: str, taken: set[str]) -> Path:
    """Where a picture goes; images of one name from several folders are numbered."""
    stem = folder_name(name.replace("#", "_row"))
    path, number = folder / f"{stem}.png", 1
    while path.name.casefold() in taken:  # many disks know no upper and lower case
        number += 1
        path = folder / f"{stem}-{number}.png"
    taken.add(path.name.casefold())
    return path
