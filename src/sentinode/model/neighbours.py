"""The training patches that a bundle's network takes for most alike, by its own features.

The features are what goes into the last layer of the head, and the distance is one minus their cosine. The features of
the train split are computed once and kept in the cache, under the fingerprints of the bundle and of the patches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sentinode.atomic import make_folder, whole_file
from sentinode.errors import DataError
from sentinode.model.bundle import Bundle
from sentinode.model.site_reference import BATCH, FeatureReader
from sentinode.patches import PatchSet, open_data
from sentinode.patches.cache import cache_folder
from sentinode.patches.near_duplicates import describe, near_pairs
from sentinode.progress import bar

SEARCHED = 50
"""Nearest patches among which near-duplicates are looked for."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Neighbour:
    """A training patch that is like another patch.

    Attributes:
        id: of the training patch.
        label: the name of its class.
        slide: its slide, empty where it is unknown.
        distance: one minus the cosine of the features, from 0 to 2.
        copy: whether it shows the same tissue: a near-duplicate, also turned or mirrored.
        pixels: uint8 (S, S, 3).
    """

    id: str
    label: str
    slide: str
    distance: float
    copy: bool
    pixels: NDArray[np.uint8] = field(repr=False)


class TrainingPatches:
    """The train split of some data, and its features under a bundle's network.

    Args:
        bundle: the model, of Sentinode's own kind of network.
        data: labelled patches of the bundle's geometry and classes, with a train split.
        slide_map: a CSV that names the slide of each patch.
        device: where to compute.
        cache: the folder for the features; see :func:`~sentinode.patches.cache.cache_folder`.
        show: whether to show progress on standard error.

    Raises:
        DataError: the patches cannot be read, differ from those of the bundle, or have no train split.
        BundleError: the network is the user's own.
        OutputError: the cache cannot be written.
        DeviceError: no such device.
    """

    def __init__(
        self,
        bundle: Bundle,
        data: str | Path,
        *,
        slide_map: Path | None = None,
        device: str = "auto",
        cache: Path | None = None,
        show: bool = True,
    ) -> None:
        opened = open_data(
            data,
            slide_map=slide_map,
            assignment=bundle.assignment(),
            expected=bundle.card.expected,
            cache=cache,
            show=show,
        )
        if "train" not in opened.splits:
            raise DataError(
                f"there is no train split here, only {', '.join(opened.splits)}.",
                where=data,
                hint="Neighbours are patches that a bundle was trained on: give the data that it was trained on.",
            )
        self._reader = FeatureReader(bundle, device=device)
        self.patches: PatchSet = opened["train"]
        if not len(self.patches):
            raise DataError("the train split here is empty.", where=data, hint="Give the data of the training.")
        self._features = _unit(self._kept(bundle.fingerprint, cache_folder(cache), show))

    def nearest(self, image: NDArray[np.uint8], count: int) -> tuple[Neighbour, ...]:
        """The ``count`` nearest training patches of a patch uint8 (S, S, 3), the nearest first.

        Near-duplicates among the 50 nearest come along, even if others are nearer.
        """
        own = _unit(self._reader.look([image[None]]).features)[0]
        distances = 1 - self._features @ own
        rows = np.argsort(distances, kind="stable")[: max(count, SEARCHED)]
        pixels = self.patches.images[rows]
        pairs = near_pairs(describe(np.concatenate([image[None], pixels])))
        copies = set((pairs[(pairs == 0).any(1)].max(1) - 1).tolist()) if len(pairs) else set()
        slides = self.patches.slides
        return tuple(
            Neighbour(
                str(self.patches.ids[row]),
                self.patches.class_names[int(self.patches.labels[row])],
                "" if slides is None else str(slides[row]),
                float(np.clip(distances[row], 0, 2)),
                at in copies,
                pixels[at],
            )
            for at, row in enumerate(rows)
            if at < count or at in copies
        )

    def _kept(self, fingerprint: str, cache: Path, show: bool) -> Floats:
        """The features of the train split, (N, D): from the cache, or computed and put there."""
        name = f"{fingerprint[:16]}-{self.patches.fingerprint()[:16]}.npy"
        path = make_folder(cache / "neighbours") / name
        try:
            features = np.load(path, allow_pickle=False)
            if features.ndim == 2 and len(features) == len(self.patches) and np.isfinite(features).all():
                return np.asarray(features, np.float32)
        except (OSError, ValueError, EOFError):
            pass  # not there, or damaged: it is made again
        with bar("Features of train", len(self.patches), show=show) as shown:

            def batches() -> Iterator[NDArray[np.uint8]]:
                for start in range(0, len(self.patches), BATCH):
                    yield self.patches.images[start : start + BATCH]
                    shown.advance(min(BATCH, len(self.patches) - start))

            features = self._reader.look(batches()).features
        with whole_file(path) as staged, staged.open("wb") as stream:
            np.save(stream, features)
        return features


def disagreements(called: str, neighbours: tuple[Neighbour, ...]) -> tuple[str, ...]:
    """Near-duplicates whose label is not the class that a patch was called, or that have both labels, as sentences."""
    copies = [one for one in neighbours if one.copy]
    found = [
        f"near-duplicate {one.id} of train has the label {one.label}, but this patch was called {called}."
        for one in copies
        if one.label != called
    ]
    if len({one.label for one in copies}) > 1:
        found.append(f"its near-duplicates in train have both labels: {', '.join(one.id for one in copies)}.")
    return tuple(found)


def _unit(features: Floats) -> Floats:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, 1e-12), np.float32)
