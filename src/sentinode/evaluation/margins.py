"""The margins of labelled patches: what a bundle's network says of each, in this process or on a Ray cluster."""

from __future__ import annotations

import contextlib
import copy
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import sentinode.cluster as ray_cluster
from sentinode.ahead import read_ahead
from sentinode.errors import BundleError, DataError, DeviceError, SentinodeError
from sentinode.model.bundle import Bundle, load
from sentinode.model.engines import Engine, open_engine
from sentinode.patches import PatchData, PatchSet, Reopening
from sentinode.progress import bar

PATCHES = 1024
"""Patches that a worker of a cluster scores at a time: whole batches of every engine, so that each batch holds the same
patches as in one process."""


class Scored(NamedTuple):
    """What an engine says of some patches.

    Attributes:
        engine: its name.
        margins: float32 (N,), the logit of label 1 minus that of label 0.
    """

    engine: str
    margins: NDArray[np.float32]


def open_scorer(
    bundle: Bundle, data: PatchData, patches: PatchSet, *, device: str, precision: str, tta: bool, cluster: str | None
) -> Callable[[str, bool], Scored]:
    """What scores patches, given the title of the bar and whether to show it.

    Args:
        bundle: the model.
        data: labelled patches, opened for the bundle.
        patches: those of one of its splits.
        device: where to compute.
        precision: as for :func:`open_engine`.
        tta: average the logits over the eight symmetries of the square.
        cluster: the address of a Ray cluster whose workers score, with the bundle and the data at the same paths on
            all of its machines; None for this process.

    Raises:
        DeviceError: no such device or precision. With a cluster, calling what is returned raises it, also if there is
            no such cluster, it was lost, or its machines offer several engines.
    """
    if cluster is None:
        engine = open_engine(bundle, device=device, precision=precision, tta=tta)
        return lambda title, show: Scored(engine.name, margins_of(engine, patches, title, show))
    device = device.partition(":")[0]  # a worker sees its own GPU only
    anywhere = copy.copy(bundle)
    anywhere.path = bundle.path.absolute()
    opening = _Opening(
        bundle=anywhere,
        weights=bundle.fingerprint,
        data=Reopening.of(data).anywhere(),
        split=patches.split,
        patches=patches.fingerprint(),
        device=device,
        precision=precision,
        tta=tta,
    )
    return partial(_score_on, cluster, opening, len(patches))


def margins_of(engine: Engine, patches: PatchSet, title: str, show: bool) -> NDArray[np.float32]:
    """The logit margin of each patch, float32 (N,): the logit of label 1 minus that of label 0."""

    def batches() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(patches), engine.batch):
            yield patches.images[start : start + engine.batch]

    margins = []
    with bar(title, len(patches), show=show) as shown:
        for images in read_ahead(batches()):
            margins.append(engine.margins(images))
            shown.advance(len(images))
    return np.concatenate(margins) if margins else np.zeros(0, np.float32)


def _score_on(address: str, opening: _Opening, count: int, title: str, show: bool) -> Scored:
    """Score the ``count`` patches of a split on a cluster."""
    items = [range(start, min(start + PATCHES, count)) for start in range(0, max(count, 1), PATCHES)]
    gpu = None if opening.device == "auto" else opening.device == "cuda"
    engine = ""
    margins = np.empty(count, np.float32)
    results = ray_cluster.run_all(
        address, opening, items, title, name=_named, unit="patches", units=len, gpu=gpu, show=show
    )
    with contextlib.closing(results):
        for rows, scored in results:
            engine = engine or scored.engine
            if scored.engine != engine:
                raise DeviceError(
                    f"some machines of the cluster compute with '{engine}', others with '{scored.engine}', and all "
                    "metrics must come from one engine.",
                    where=address,
                    hint="State what all of them have, such as --device cpu --precision float32.",
                )
            margins[rows.start : rows.stop] = scored.margins
    return Scored(engine, margins)


def _named(rows: range) -> str:
    return f"patches {rows.start:,} to {rows.stop - 1:,}"


@dataclass(frozen=True)
class _Opening:
    """What a worker needs to score patches of a split. Calling it opens the engine and the patches there.

    Attributes:
        bundle: the model.
        weights: its fingerprint.
        data: the labelled patches.
        split: the split that is scored.
        patches: its fingerprint.
        device: where to compute.
        precision: of the network.
        tta: average the logits over the eight symmetries of the square.
    """

    bundle: Bundle
    weights: str
    data: Reopening
    split: str
    patches: str
    device: str
    precision: str
    tta: bool

    def __call__(self) -> Callable[[range], Scored]:
        """
        Raises:
            DeviceError: this machine has another bundle or other patches at these paths, or none, or cannot compute
                like this. The pool leaves it out.
        """
        try:
            if load(self.bundle.path).fingerprint != self.weights:
                raise BundleError("this is another bundle than the one to evaluate.", where=self.bundle.path)
            patches = self.data.open()[self.split]
            if patches.fingerprint() != self.patches:
                raise DataError("these are other patches than those to score.", where=self.data.path)
            engine = open_engine(self.bundle, device=self.device, precision=self.precision, tta=self.tta)
        except SentinodeError as error:
            place = socket.gethostname()
            raise DeviceError(
                error.what,
                where=place if error.where is None else f"{place}: {error.where}",
                hint="All machines must see the same bundle and patches at the same paths, and have the device and the "
                "precision.",
            ) from error
        return lambda rows: Scored(engine.name, margins_of(engine, patches.subset(rows), "Scoring", show=False))
