"""A bundle and an engine that need no training: the darker the centre of a window, the higher its score."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from made_maps import made_point
from numpy.typing import NDArray

from sentinode.geometry import PCAM, PatchGeometry
from sentinode.model.bundle import DENSE, PATCH, Architecture, Card, Reading, Threshold
from sentinode.model.lattice import Features, Lattice, check_region


@dataclass
class StandInBundle:
    """What a scan asks of a bundle. By itself it is read patch by patch."""

    path: Path = Path("stand-in")
    fingerprint: str = "5" * 64
    card: Card = field(
        default_factory=lambda: Card(
            name="stand-in",
            created="",
            versions={},
            architecture=Architecture(),
            temperature=1.5,
            thresholds={"half": Threshold(value=0.4, rule="half", chosen_on="valid", n=1)},
            threshold_rule="half",
            readings={
                PATCH: Reading(temperature=1.5, threshold=0.4, auc=0.9),
                DENSE: Reading(temperature=1.5, threshold=0.4, auc=0.8, halo=24),
            },
            slide_operating_points={
                "sensitive": made_point(scales_um=(32.0,), grow=0.4, reach=0.3),
                "balanced": made_point(scales_um=(32.0,), grow=0.4, reach=0.4),
                "specific": made_point(scales_um=(32.0,), grow=0.4, reach=0.9),
            },
        )
    )


@dataclass
class StandInEngine:
    """What a scan asks of an engine; ``pause`` seconds a batch make it slow enough to be killed."""

    name: str = "stand-in cpu float32"
    batch: int = 16
    streams: int = 1
    tile: int = 200
    block: int = 400
    pause: float = 0.0
    geometry: PatchGeometry = PCAM
    sizes: list[int] = field(default_factory=list)
    graph: str | None = None
    regions: list[tuple[int, int]] = field(default_factory=list)

    def margins(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(self.pause)
        self.sizes.append(len(images))
        third = images.shape[1] // 3
        centre = slice(third, 2 * third)
        return (4 - images[:, centre, centre].mean((1, 2, 3)) / 32).astype(np.float32)

    @property
    def lattice(self) -> Lattice:
        """Each pixel is a cell, so that windows are cut from the feature map as from the slide."""
        return Lattice(self.geometry.size, self.geometry.size)

    def features(self, region: NDArray[np.uint8]) -> Features:
        check_region(region, self.lattice)
        self.regions.append(region.shape[:2])
        return region.transpose(2, 0, 1)[None]

    def pooled(self, features: Features, tops: NDArray[np.float64], lefts: NDArray[np.float64]) -> NDArray[np.float32]:
        pixels, side = features[0].transpose(1, 2, 0), self.geometry.size
        corners = [(round(top), round(left)) for top in tops for left in lefts]
        windows = np.stack([pixels[top : top + side, left : left + side] for top, left in corners])
        return self.margins(windows).reshape(len(tops), len(lefts))

    def dense(
        self, region: NDArray[np.uint8], tops: NDArray[np.float64], lefts: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        return self.pooled(self.features(region), tops, lefts)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return 1 / (1 + np.exp(-self.margins(images) / 1.5))


def use_in_batch() -> None:
    """Let the batches of this process scan with the stand-in, slowly enough to be killed: for Ray's workers."""
    from sentinode.slides import batch

    batch.open_engine = lambda *_, **__: StandInEngine(pause=0.03)
