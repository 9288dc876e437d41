"""A bundle and an engine that need no training: the darker the centre of a window, the higher its score."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from made_maps import made_point
from numpy.typing import NDArray

from sentinode.geometry import PCAM, PatchGeometry
from sentinode.model.bundle import Architecture, Card, Threshold


@dataclass
class StandInBundle:
    """What a scan asks of a bundle."""

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
    pause: float = 0.0
    geometry: PatchGeometry = PCAM
    sizes: list[int] = field(default_factory=list)

    def margins(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(self.pause)
        self.sizes.append(len(images))
        third = images.shape[1] // 3
        centre = slice(third, 2 * third)
        return (4 - images[:, centre, centre].mean((1, 2, 3)) / 32).astype(np.float32)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return 1 / (1 + np.exp(-self.margins(images) / 1.5))
