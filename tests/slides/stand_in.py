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
from sentinode.model.dense import Lattice, check_region


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
    block: int = 400
    pause: float = 0.0
    geometry: PatchGeometry = PCAM
    sizes: list[int] = field(default_factory=list)
    graph: str | None = None

    def margins(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(self.pause)
        self.sizes.append(len(images))
        third = images.shape[1] // 3
        centre = slice(third, 2 * third)
        return (4 - images[:, centre, centre].mean((1, 2, 3)) / 32).astype(np.float32)

    @property
    def lattice(self) -> Lattice:
        return Lattice(self.geometry.size, self.geometry.size // 12)

    def dense(
        self, region: NDArray[np.uint8], tops: NDArray[np.int64], lefts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        check_region(region, self.lattice)
        side = self.geometry.size
        windows = np.stack([region[top : top + side, left : left + side] for top in tops for left in lefts])
        return self.margins(windows).reshape(len(tops), len(lefts))

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return 1 / (1 + np.exp(-self.margins(images) / 1.5))
