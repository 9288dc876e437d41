"""The map as an image: a pyramidal OME-TIFF that lies over the slide."""

from __future__ import annotations

import hashlib
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from sentinode.atomic import whole_file
from sentinode.slides.scanning.probability_map import ProbabilityMap

TILE = 256


def write_ome_tiff(path: Path, probability_map: ProbabilityMap) -> None:
    """Write P(tumour) as float32, NaN where there is no tissue, with halved levels below.

    The physical pixel size is the windows' distance in microns, and the map's corner is the whole slide's. Programs
    that put the corners of pictures together, such as Fiji and QuPath, so lay the map over the slide. Those that put
    the centres of the first pixels together, such as napari, need the map moved by ``PositionX`` and ``PositionY``:
    the centre of the first window, in microns from the centre of the slide's first pixel.

    Raises:
        OutputError: the file cannot be written or the disk is full.
    """
    levels = list(_levels(probability_map.probability))
    step_um = probability_map.stride * probability_map.slide_mpp
    position_um = [(start - 0.5) * probability_map.slide_mpp for start in probability_map.origin]
    content = hashlib.sha256(probability_map.probability.tobytes()).hexdigest()
    metadata = {
        "axes": "YX",
        "Name": f"P(tumour), {probability_map.slide.name}",
        "PhysicalSizeX": step_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": step_um,
        "PhysicalSizeYUnit": "µm",
        "Plane": {
            "PositionX": [position_um[0]],
            "PositionXUnit": ["µm"],
            "PositionY": [position_um[1]],
            "PositionYUnit": ["µm"],
        },
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, f"sentinode/{probability_map.slide.fingerprint}/{content}")),
    }
    options: dict[str, Any] = {
        "tile": (TILE, TILE),
        "compression": "zlib",
        "predictor": True,
        "photometric": "minisblack",
        "resolutionunit": "CENTIMETER",
    }
    with whole_file(path) as staged, tifffile.TiffWriter(staged, ome=True, bigtiff=False) as tif:
        for i, level in enumerate(levels):
            tif.write(
                level,
                subifds=len(levels) - 1 if i == 0 else None,
                subfiletype=0 if i == 0 else 1,
                metadata=metadata if i == 0 else None,
                resolution=(1e4 / step_um / 2**i, 1e4 / step_um / 2**i),
                **options,
            )


def _levels(probability: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """The map, and means of 2 x 2 of it and so on, until one tile holds it."""
    level = probability
    yield level
    while max(level.shape) > TILE:
        rows, columns = (-(-side // 2) for side in level.shape)
        even = np.full((2 * rows, 2 * columns), np.nan, np.float32)
        even[: level.shape[0], : level.shape[1]] = level
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # four windows without tissue have no mean
            level = np.nanmean(even.reshape(rows, 2, columns, 2), axis=(1, 3)).astype(np.float32)
        yield level
