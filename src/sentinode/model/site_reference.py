"""What a bundle keeps of the patches it knows, so that patches of another hospital can be compared with them.

``reference.safetensors`` holds up to a thousand patches of valid, each as a few numbers: the network's features on
their main directions, the margin, the label, the look, and the slide where known. No pixel is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import BundleError, DataError
from sentinode.model.bundle import Bundle, with_file
from sentinode.model.bundle_files import optional
from sentinode.model.card import AGAIN, as_line
from sentinode.patches.appearance import APPEARANCE, appearance

if TYPE_CHECKING:
    from torch import Tensor

    from sentinode.patches import PatchSet

REFERENCE = "reference.safetensors"

KEPT = 1000
"""Patches of valid that are kept at most, spread evenly."""

FEWEST = 50
"""Patches below which nothing is compared."""

DIRECTIONS = 16
"""Main directions of the features that are kept."""

BATCH = 64

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """What a network made of patches, and what they look like.

    Attributes:
        features: float32 (N, D), what goes into the last layer of the head.
        margins: float32 (N,), before any calibration.
        appearance: float32 (N, 6), see :func:`~sentinode.patches.appearance.appearance`.
    """

    features: Floats
    margins: Floats
    appearance: Floats


@dataclass(frozen=True)
class Reference:
    """The patches that a bundle knows.

    Attributes:
        centre: float32 (D,), the mean of the features.
        directions: float32 (D, K), their main directions, each divided by the standard deviation along it.
        features: float32 (N, K), those of the patches, along the directions.
        margins: float32 (N,).
        labels: int64 (N,).
        appearance: float32 (N, 6).
        slides: int64 (N,), a number for each slide; None where the slide of a patch is unknown.
    """

    centre: Floats
    directions: Floats
    features: Floats
    margins: Floats
    labels: NDArray[np.int64]
    appearance: Floats
    slides: NDArray[np.int64] | None

    def along(self, features: Floats) -> Floats:
        """Features (M, D) along the main directions: float32 (M, K)."""
        return np.asarray((features - self.centre) @ self.directions, np.float32)


class FeatureReader:
    """A bundle's network, loaded once, for the features of patches.

    Args:
        bundle: the model, of Sentinode's own kind of network.
        device: where to compute, in float32.

    Raises:
        BundleError: the network is the user's own, and has no head that is known.
        DeviceError: no such device.
    """

    def __init__(self, bundle: Bundle, *, device: str = "cpu") -> None:
        from torch import nn

        from sentinode.model.classifier import Classifier
        from sentinode.model.hardware import choose_device

        self.device = choose_device(device)
        self.network = bundle.classifier().to(self.device)
        self.shape = bundle.card.geometry.shape
        if type(self.network) is not Classifier:
            raise BundleError("features need a network of Sentinode's own kind.", where=bundle.path)
        self._last = [module for module in self.network.head.modules() if isinstance(module, nn.Linear)][-1]

    def look(self, batches: Iterable[NDArray[np.uint8]]) -> Seen:
        """Pass patches through the network; ``batches`` are uint8 (B, S, S, 3) each."""
        import torch

        features: list[Floats] = []
        margins: list[Floats] = []
        looks: list[Floats] = []

        def keep(_module: object, given: tuple[Tensor, ...]) -> None:
            features.append(given[0].float().cpu().numpy())

        hook = self._last.register_forward_pre_hook(keep)
        try:
            with torch.inference_mode():
                for images in batches:
                    batch = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self.device)
                    logits = self.network(batch).float().cpu().numpy()
                    margins.append(logits[:, 1] - logits[:, 0])
                    looks.append(appearance(images))
        finally:
            hook.remove()
        if not margins:
            none = np.zeros((0, *self.shape), np.uint8)
            return Seen(np.zeros((0, self._last.in_features), np.float32), np.zeros(0, np.float32), appearance(none))
        return Seen(np.concatenate(features), np.concatenate(margins), np.concatenate(looks))


def look(bundle: Bundle, batches: Iterable[NDArray[np.uint8]], *, device: str = "cpu") -> Seen:
    """Pass patches, uint8 (B, S, S, 3) each batch, through a bundle's network; see :class:`FeatureReader`."""
    return FeatureReader(bundle, device=device).look(batches)


def write_reference(bundle: Bundle, patches: PatchSet, *, device: str = "cpu") -> Bundle:
    """Keep patches of valid in a bundle, for site checks; an earlier reference is replaced.

    Args:
        bundle: the model. Its weights and its card stay as they are.
        patches: labelled patches that it was not trained on, of its geometry.
        device: where to compute.

    Raises:
        DataError: there are fewer than 50 patches, or they are of one class only.
        BundleError: the network is the user's own.
        OutputError: the bundle cannot be written.
    """
    from safetensors.numpy import save

    if len(patches) < FEWEST or len(np.unique(patches.labels)) < 2:
        raise DataError(
            f"a site check compares with at least {FEWEST} patches of both classes; here are {len(patches):,}.",
            where=patches.source,
        )
    rows = np.unique(np.linspace(0, len(patches) - 1, min(len(patches), KEPT)).astype(np.int64))
    seen = look(bundle, (patches.images[rows[at : at + BATCH]] for at in range(0, len(rows), BATCH)), device=device)
    reference = make_reference(seen, patches.labels[rows], None if patches.slides is None else patches.slides[rows])
    tensors = {key: value for key, value in vars(reference).items() if value is not None}
    return with_file(bundle, REFERENCE, save({key: np.ascontiguousarray(value) for key, value in tensors.items()}))


def make_reference(seen: Seen, labels: NDArray[np.uint8], slides: NDArray[np.str_] | None) -> Reference:
    """The main directions of the features, and the patches along them.

    Args:
        seen: of N patches.
        labels: (N,).
        slides: the slide of each, or None. Where one is unknown, none is kept.
    """
    centre = seen.features.mean(0)
    _, sizes, axes = np.linalg.svd(seen.features - centre, full_matrices=False)
    deviations = sizes / np.sqrt(max(len(seen.features) - 1, 1))
    kept = min(DIRECTIONS, int((deviations > 1e-6 * max(float(deviations[0]), 1e-12)).sum()))
    directions = np.asarray(axes[:kept].T / deviations[:kept], np.float32)
    known = slides is not None and bool((slides != "").all()) and len(np.unique(slides)) > 1
    return Reference(
        centre,
        directions,
        np.asarray((seen.features - centre) @ directions, np.float32),
        seen.margins,
        labels.astype(np.int64),
        seen.appearance,
        np.unique(slides, return_inverse=True)[1].astype(np.int64) if known and slides is not None else None,
    )


def read_reference(bundle: Bundle) -> Reference:
    """What a bundle keeps of the patches it knows.

    Raises:
        BundleError: it keeps none, or what it keeps does not fit together.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = optional(bundle.path, REFERENCE)
    if path is None:
        raise BundleError(
            "this bundle keeps nothing of its valid patches to compare others with.",
            where=bundle.path,
            hint="Add it once from the data that it was trained on: sentinode check BUNDLE DATA",
        )
    try:
        tensors = load_file(path)
        _require_fit(tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{REFERENCE} cannot be read ({as_line(str(error))}).", where=bundle.path, hint=AGAIN
        ) from None
    return Reference(
        tensors["centre"],
        tensors["directions"],
        tensors["features"],
        tensors["margins"],
        tensors["labels"],
        tensors["appearance"],
        tensors.get("slides"),
    )


def _require_fit(tensors: Mapping[str, NDArray[np.generic]]) -> None:
    """
    Raises:
        ValueError: a tensor is of another kind or size than the others ask for, or holds what is no number.
    """
    size, kept = tensors["centre"].size, tensors["features"].shape[-1]
    n = tensors["margins"].size
    floats = {"centre": (size,), "directions": (size, kept), "features": (n, kept), "margins": (n,)}
    whole = {"labels": (n,)} | ({"slides": (n,)} if "slides" in tensors else {})
    wanted = {**dict.fromkeys(floats, np.float32), "appearance": np.float32, **dict.fromkeys(whole, np.int64)}
    for name, shape in {**floats, "appearance": (n, len(APPEARANCE)), **whole}.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype != wanted[name] or not np.isfinite(tensor).all():
            raise ValueError(f"{name} is not {np.dtype(wanted[name]).name} {shape}, or holds what is no number")
    if not FEWEST <= n <= KEPT or not np.isin(tensors["labels"], (0, 1)).all():
        raise ValueError(f"it keeps {n} patches, or labels that are none")
