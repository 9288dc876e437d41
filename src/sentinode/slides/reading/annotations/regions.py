"""The annotated regions of one slide: what is tumour, whether they belong to the slide, and as a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from sentinode.errors import AnnotationError
from sentinode.slides.reading.annotations.drawing import Bounds, listed
from sentinode.slides.reading.annotations.raster import Edges, edges_of, fill
from sentinode.slides.reading.annotations.shapes import multipolygon, union

BAND = 1024
"""Rows of a raster that are held in memory at once."""


@dataclass(frozen=True)
class Region:
    """One region as it was drawn.

    Attributes:
        name: what its author called it.
        group: its ASAP group, QuPath class or NCRF list; ``unclassified`` where it has none.
        shape: its valid geometry in level-0 pixels.
    """

    name: str
    group: str
    shape: Polygon | MultiPolygon


@dataclass(frozen=True)
class Annotations:
    """The annotated regions of one slide.

    Attributes:
        path: the file that they were read from.
        tumour: regions of tumour; none for a slide that was looked at and found free of it.
        excluded: regions that are not tumour although they lie within one.
        warnings: what was repaired or left out, one sentence each.
        cropped: whether coordinates count from the corner of the slide's bounds, as QuPath's do, and not from the
            slide's own. :meth:`on` moves them.
        bounds: the bounds that the file itself states, where it does.
    """

    path: Path
    tumour: tuple[Region, ...]
    excluded: tuple[Region, ...] = ()
    warnings: tuple[str, ...] = ()
    cropped: bool = False
    bounds: Bounds | None = None

    @cached_property
    def area(self) -> MultiPolygon:
        """What is tumour: all tumour regions together, without the exclusions; valid, in level-0 pixels."""
        tumour, excluded = (union([region.shape for region in some]) for some in (self.tumour, self.excluded))
        if excluded.is_empty:
            return tumour
        shapely.prepare(excluded)
        parts = shapely.get_parts(tumour)
        cut = shapely.intersects(parts, excluded)
        rest = MultiPolygon(parts[cut].tolist()).difference(excluded)
        return MultiPolygon([*parts[~cut], *multipolygon(rest).geoms])

    @cached_property
    def edges(self) -> Edges:
        """The border of :attr:`area`, for drawing it piece by piece."""
        return edges_of(self.area)

    def on(self, width: int, height: int, bounds: Bounds | None = None) -> Annotations:
        """The same annotations in the slide's own coordinates, checked against the slide.

        Args:
            width, height: the slide's size in level-0 pixels.
            bounds: left, top, width and height of the part that the scanner filled, where the slide states it.

        Raises:
            AnnotationError: a region lies wholly outside the slide or its bounds, or the bounds that the file
                states are not the slide's.
        """
        if self.cropped:
            bounds = self._the_bounds(bounds)
            if bounds is not None:
                return self._moved(bounds).on(width, height)
        outside, across = self._beyond(width, height)
        if outside:
            raise AnnotationError(
                f"{_lie(outside)} outside the slide of {width} x {height} pixels.",
                where=self.path,
                hint="They may belong to another slide or another level. Give --scale for another level, such as "
                "--scale 0.03125 for level-0 coordinates on an image of level 5.",
            )
        if not across:
            return self
        message = f"{_lie(across)} across the slide's border; what is beyond it does not count."
        return replace(self, warnings=(*self.warnings, message))

    def mask(self, width: int, height: int, downsample: float = 1.0) -> NDArray[np.uint8]:
        """The whole slide as an image of tumour.

        Args:
            width, height: the slide's size in level-0 pixels.
            downsample: level-0 pixels per pixel of the mask, such as 8.

        Returns:
            uint8 (rows, columns), 1 where the pixel's centre lies in tumour. :meth:`bands` yields the same
            without holding it all.
        """
        return np.concatenate(list(self.bands(width, height, downsample)))

    def bands(self, width: int, height: int, downsample: float = 1.0) -> Iterator[NDArray[np.uint8]]:
        """The rows of :meth:`mask` from the top, at most 1,024 at a time."""
        rows, columns = (max(1, round(side / downsample)) for side in (height, width))
        for top in range(0, rows, BAND):
            size = (min(BAND, rows - top), columns)
            yield fill(self.edges, size, downsample, origin=(0.0, top * downsample))

    def _beyond(self, width: int, height: int) -> tuple[list[str], list[str]]:
        """The names of the regions that lie wholly outside a picture, and of those across its border."""
        regions = self.tumour + self.excluded
        sides = shapely.bounds([region.shape for region in regions]).reshape(-1, 4)
        held = (sides[:, :2] >= 0).all(axis=1) & (sides[:, 2:] <= (width, height)).all(axis=1)
        beyond = [regions[i] for i in np.flatnonzero(~held)]
        picture = shapely.box(0, 0, width, height)
        # What only touches the border has no area on the picture.
        on = shapely.relate_pattern([region.shape for region in beyond], picture, "T********")
        outside = [region.name for region, is_on in zip(beyond, on, strict=True) if not is_on]
        return outside, [region.name for region, is_on in zip(beyond, on, strict=True) if is_on]

    def _the_bounds(self, of_slide: Bounds | None) -> Bounds | None:
        """From whose corner the coordinates count: what the file states, or else what the slide states."""
        if self.bounds is not None and of_slide is not None and self.bounds != of_slide:
            raise AnnotationError(
                f"it was written for a slide with the bounds {self.bounds}, and this one has {of_slide}.",
                where=self.path,
                hint="Is it another slide's?",
            )
        return self.bounds or of_slide

    def _moved(self, bounds: Bounds) -> Annotations:
        """In the slide's own coordinates; what lies outside the bounds was not drawn on a picture cropped to them."""
        left, top, width, height = bounds
        outside, _ = self._beyond(width, height)
        if outside:
            raise AnnotationError(
                f"{_lie(outside)} outside the {width} x {height} pixels of the slide's bounds, to which QuPath crops.",
                where=self.path,
                hint="If their program does not crop slides, give --whole-slide-coordinates.",
            )
        whole = replace(self, cropped=False, bounds=None)
        if not (left or top):
            return whole
        why, otherwise = ("as the file states", "")
        if self.bounds is None:
            why, otherwise = "as QuPath's do", " (--whole-slide-coordinates for a program that does not crop)"
        message = (
            f"coordinates were taken to count from the corner of the slide's bounds, {why}, and moved by "
            f"{left}, {top} pixels{otherwise}."
        )
        return replace(
            whole,
            tumour=_shifted(self.tumour, left, top),
            excluded=_shifted(self.excluded, left, top),
            warnings=(*self.warnings, message),
        )


def _shifted(regions: Sequence[Region], x: float, y: float) -> tuple[Region, ...]:
    if not regions:
        return ()
    shapes = shapely.transform([region.shape for region in regions], lambda points: points + np.array([x, y]))
    return tuple(replace(region, shape=shape) for region, shape in zip(regions, shapes, strict=True))


def _lie(names: list[str]) -> str:
    return f"region {listed(names)} lies" if len(names) == 1 else f"{len(names)} regions ({listed(names)}) lie"
