"""DICOM whole-slide images through pydicom: a series as a pyramid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sentinode.errors import SlideError
from sentinode.slides.reading.dicom_matrix import DicomMatrix
from sentinode.slides.reading.dicom_series import find_levels
from sentinode.slides.reading.pyramid import UNREADABLE, Pixels, Pyramid, levels_of

ROUNDED, EXACT = 0.02, 1e-4
"""By how much a ratio of spacings may be off, and may not if it is meant as it stands."""

APART = "Put the files of each picture into a folder of its own."

TURNED = 0.1
"""The distance of two orientations beyond which a picture is turned against the other."""

SAME = 1.05
"""Levels whose downsamples differ by less have one resolution."""


class DicomPyramid(Pyramid):
    """A DICOM series of whole-slide images: its VOLUME instances are the levels, whichever of its files is named.

    Pictures are given as they are stored. ImageOrientationSlide says how they lie on the glass, and does not turn them.
    """

    def __init__(self, path: Path) -> None:
        """Open a series.

        Raises:
            SlideError: it is not one slide, it is damaged, or its frames are of a kind that is not read.
        """
        self._matrices: list[DicomMatrix] = []
        try:
            for instances in find_levels(path):
                self._matrices.append(DicomMatrix(instances))
            axes = [_axes(self._matrices[0], matrix) for matrix in self._matrices]
            _require_one_slide(self._matrices, axes)
        except BaseException:
            self.close()
            raise
        self.levels = levels_of(
            [(x.size, y.size) for x, y in axes],
            [matrix.tile_size for matrix in self._matrices],
            [(x.downsample, y.downsample) for x, y in axes],
        )
        self.mpp, self.icc = self._matrices[0].spacing, self._matrices[0].icc

    def tile(self, level: int, column: int, row: int) -> Pixels:
        _, _, width, height = self.levels[level].tile_box(column, row)
        return self._matrices[level].tile(column, row)[:height, :width]

    def close(self) -> None:
        for matrix in self._matrices:
            matrix.close()


class _Axis(NamedTuple):
    """A level along x or y.

    Attributes:
        downsample: level-0 pixels per pixel.
        size: pixels that cover what level 0 covers.
        agrees: whether the level has about so many.
    """

    downsample: float
    size: int
    agrees: bool


def _axes(base: DicomMatrix, level: DicomMatrix) -> tuple[_Axis, _Axis]:
    x, y = (
        _axis(
            (base.size[i], base.tile_size[i]),
            (level.size[i], level.tile_size[i]),
            level.spacing[i] / base.spacing[i] if level.spacing and base.spacing else None,
        )
        for i in (0, 1)
    )
    return x, y


def _axis(base: tuple[int, int], level: tuple[int, int], stated: float | None) -> _Axis:
    """A level over level 0, both with their sizes and those of their tiles; ``stated`` is the ratio of their spacings.

    Sizes alone would give a wrong downsample where a scanner fills up the last tile and counts it. Spacings alone
    would give an inexact one, for files round them, or have them from sizes that were rounded. Most downsamples are
    whole numbers, so that is taken if it fits the sizes.
    """
    (base_size, base_tile), (size, tile) = base, level
    by_size = base_size / size
    if stated is None:
        return _Axis(by_size, size, True)
    whole = max(1, round(stated))
    likely = [whole, stated] if _differ(stated, whole) < ROUNDED else [stated]
    for downsample in likely:
        if abs(size - base_size / downsample) <= 1:
            return _Axis(downsample, size, True)
    if _differ(stated, by_size) < EXACT:
        return _Axis(by_size, size, True)
    for downsample in likely:
        surplus, spare = size - base_size / downsample, base_tile / downsample
        is_filled_up = size % tile == 0 and 0 < surplus < tile + 1
        is_under_one = base_size % base_tile == 0 and 0 < -surplus < spare + 1
        if is_filled_up or is_under_one:
            return _Axis(downsample, math.ceil(base_size / downsample), True)
    return _Axis(by_size, size, _differ(stated, by_size) < ROUNDED)


def _differ(one: float, other: float) -> float:
    return abs(one / other - 1)


def _require_one_slide(matrices: Sequence[DicomMatrix], axes: Sequence[tuple[_Axis, _Axis]]) -> None:
    """Refuse levels that cannot all show the same area, each at another resolution."""
    base = matrices[0]
    for number, (matrix, (x, y)) in enumerate(zip(matrices, axes, strict=True)):
        if number and x.downsample < SAME * axes[number - 1][0].downsample:
            raise SlideError(
                f"its series has several pictures of one resolution, {matrices[number - 1].path.name} with "
                f"{_size(matrices[number - 1])} pixels and {matrix.path.name} with {_size(matrix)}, "
                "and does not say which is the slide.",
                where=base.path,
                hint=APART,
            )
        if _lies_elsewhere(base, matrix):
            raise SlideError(
                f"its series shows several places of the glass: {matrix.path.name} lies elsewhere than "
                f"{base.path.name}, or is turned.",
                where=base.path,
                hint=APART,
            )
        if not (x.agrees and y.agrees):
            raise SlideError(
                f"the slide's levels disagree: by the spacing of its pixels, {matrix.path.name} with {_size(matrix)} "
                f"pixels is not a smaller picture of {base.path.name} with {_size(base)}.",
                where=base.path,
                hint=UNREADABLE,
            )


def _lies_elsewhere(base: DicomMatrix, level: DicomMatrix) -> bool:
    """Whether a picture is turned against level 0, or lies beside at least half of it."""
    if base.orientation and level.orientation and math.dist(base.orientation, level.orientation) > TURNED:
        return True
    if not (base.origin and level.origin and base.spacing):
        return False
    side = max(base.size[0] * base.spacing[0], base.size[1] * base.spacing[1]) / 1000
    return math.dist(base.origin, level.origin) > side / 2


def _size(matrix: DicomMatrix) -> str:
    return f"{matrix.size[0]} x {matrix.size[1]}"
