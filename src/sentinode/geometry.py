"""The geometry of a patch: its size, its resolution, and the part of it that the label covers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sentinode.errors import DataError

SMALLEST, LARGEST = 16, 4096
"""Sides of a patch in pixels."""

FINEST, COARSEST = 0.05, 50.0
"""Microns per pixel. A number outside this range most likely has another unit."""

SAME_MPP = 0.005
"""How far two resolutions may differ and still count as the same: pixels are then copied, not interpolated."""

AGREES = 0.02
"""How far what is stated may differ from what is known: scanners of one magnification differ by less."""


def check_mpp(mpp: float | None) -> float | None:
    """Microns per pixel as given.

    Raises:
        DataError: it is not in the range of microscopes.
    """
    if mpp is not None and not (math.isfinite(mpp) and FINEST <= mpp <= COARSEST):
        raise DataError(
            f"{mpp:g} microns per pixel is outside the range of microscopes, {FINEST:g} to {COARSEST:g}.",
            hint="Give a pixel's side in microns, such as 0.25.",
        )
    return mpp


@dataclass(frozen=True)
class PatchGeometry:
    """The size and resolution of a patch, and the region that its label covers.

    Attributes:
        size: side of the square patch in pixels.
        mpp: microns per pixel, or None if unknown.
        label_region: side in pixels of the centre square that the label covers; ``size`` if it covers the whole
            patch.

    Raises:
        DataError: a number is out of its range, or the region is larger than the patch.
    """

    size: int
    mpp: float | None
    label_region: int

    def __post_init__(self) -> None:
        if not SMALLEST <= self.size <= LARGEST:
            raise DataError(
                f"patches of {self.size} x {self.size} pixels cannot be used: the side must be {SMALLEST} to {LARGEST} "
                "pixels."
            )
        if not 1 <= self.label_region <= self.size:
            raise DataError(
                f"a label cannot cover the centre {self.label_region} x {self.label_region} of a patch of "
                f"{self.size} x {self.size} pixels.",
                hint=f"Give --label-region 1 to {self.size}; {self.size} is the whole patch.",
            )
        check_mpp(self.mpp)

    @property
    def whole(self) -> bool:
        """Whether the label covers the whole patch."""
        return self.label_region == self.size

    @property
    def max_shift(self) -> int:
        """Pixels by which a patch may be shifted: half the region of the label. Beyond, the label may be wrong."""
        return self.label_region // 2

    @property
    def margin(self) -> float:
        """Pixels from the border of the patch to the region of the label."""
        return (self.size - self.label_region) / 2

    @property
    def stride(self) -> int:
        """Pixels between the windows of a scan, unless told otherwise.

        The side of the label's region, so that every point of the tissue is in one; half the patch where the label
        covers it all, so that windows overlap.
        """
        return max(1, self.size // 2) if self.whole else self.label_region

    @property
    def patch_bytes(self) -> int:
        """Bytes of a patch, three to a pixel."""
        return self.size * self.size * 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a patch: (size, size, 3)."""
        return self.size, self.size, 3

    def __str__(self) -> str:
        mpp = "unknown microns per pixel" if self.mpp is None else f"{self.mpp:g} um per pixel"
        label = "the whole patch" if self.whole else f"the centre {self.label_region} x {self.label_region}"
        return f"{self.size} x {self.size} pixels, {mpp}, label of {label}"


PCAM = PatchGeometry(96, 0.972, 32)
"""PatchCamelyon's: level 2 of Camelyon16's slides, 4 x 0.243 um; tumour in the centre 32 x 32 makes the label 1."""


def agree(first: float, second: float) -> bool:
    """Whether two resolutions are one up to what differs between scanners of one magnification."""
    return abs(first - second) <= AGREES * max(first, second)


def difference(wanted: PatchGeometry, given: PatchGeometry) -> str | None:
    """How patches differ from what is wanted, in a few words, or None; an unknown resolution contradicts nothing."""
    if given.size != wanted.size:
        return f"are {given.size} x {given.size} pixels, not {wanted.size} x {wanted.size}"
    if given.mpp is not None and wanted.mpp is not None and not agree(given.mpp, wanted.mpp):
        return f"have {given.mpp:g} microns per pixel, not {wanted.mpp:g}"
    if given.label_region != wanted.label_region:
        regions = (f"{side.label_region} x {side.label_region}" for side in (given, wanted))
        return "have labels of the centre {}, not {}".format(*regions)
    return None
