"""What the samples of a picture mean: from any colours, alpha, depth and orientation to 8-bit RGB, in one place.

Patches and slides both come through here. A wrong colour looks like another stain, so what a file leaves open, and
what cannot show haematoxylin and eosin, is refused by name.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from sentinode.errors import PictureError

if TYPE_CHECKING:
    from tifffile import TiffPage

Pixels = NDArray[np.uint8]
Samples = NDArray[Any]
"""uint8 or uint16 (h, w, channels), as a file has them."""

WHITE = 255
EXPORT = "Save the picture as 8-bit RGB."
REDUCED, MASK = 1, 4
"""Bits of a TIFF page's NewSubfileType: a smaller copy of another page, and a mask of one."""

FEW_GREYS = 8

Tag = Callable[[int], Any]
"""The value of a TIFF page's tag by its number, or None; rationals are floats."""


# Pages of a TIFF, by their tags


def tags_of(page: TiffPage) -> Tag:
    """A page's tags by number, with rationals as floats."""

    def value(number: int) -> Any:
        tag = page.tags.get(number)
        if tag is None or int(tag.dtype) not in (5, 10):
            return None if tag is None else tag.value
        parts = np.array(tag.value, float).reshape(-1, 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            return tuple((parts[:, 0] / parts[:, 1]).tolist())

    return value


RGB, YCBCR, CMYK, LAB, PALETTE = "RGB", "YCbCr", "CMYK", "LAB", "P"
ASSOCIATED, UNASSOCIATED, UNSTATED = "associated", "unassociated", "unstated"

COLOURS = {2: RGB, 3: PALETTE, 5: CMYK, 6: YCBCR, 8: LAB, 9: LAB}
"""Pillow's mode for each PhotometricInterpretation that holds colours."""

CHANNELS = {RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
GREY = {0: "grey, with white as 0", 1: "grey", 4: "a transparency mask"}
GIVES_RGB = frozenset({7, 34892, 33007, 34933, 34934, 50001, 50002, 52546})
"""Compressions whose decoders give RGB: JPEG, PNG, JPEG XR, WebP and JPEG XL."""

JPEG_2000 = frozenset({33004, 33005, 34712})
OLD_JPEG, APERIO_YCBCR = 6, 33003
FULL_RANGE = (0, 255, 128, 255, 128, 255)
REC_601 = (0.299, 0.587, 0.114)


@dataclass(frozen=True, eq=False)
class TiffSamples:
    """What the samples of a TIFF's page mean (TIFF 6.0, and its technical notes), and how they become RGB.

    Attributes:
        colours: RGB, YCbCr, CMYK, LAB or P: Pillow's names.
        white: what a full sample is: 255, 65535, or less where fewer bits count.
        alpha: whether colours are multiplied by it: ``associated``, ``unassociated`` or ``unstated``; None for none.
        is_icclab: whether a* and b* are shifted by 128.
        palette: uint8 (n, 3), for P.
        profile: an ICC profile that says what the inks look like, for CMYK.
    """

    colours: str
    white: int
    alpha: str | None = None
    is_icclab: bool = False
    palette: Pixels | None = None
    profile: bytes | None = None

    @classmethod
    def of(cls, tag: Tag, significant_bits: int | None = None) -> TiffSamples:
        """The meaning of a page's samples.

        Args:
            tag: its tags.
            significant_bits: how many bits of a sample count, where something beside the tags states it.

        Raises:
            PictureError: they are no colours, or it is not stated which.
        """
        photometric, channels = _number(tag(262), -1), _number(tag(277), 1)
        if photometric in GREY:
            raise grey(f"its samples are {GREY[photometric]}")
        if photometric not in COLOURS:
            stated = "none" if photometric < 0 else photometric
            raise PictureError(
                f"its samples are colours that are not read (PhotometricInterpretation {stated}).",
                hint=EXPORT,
            )
        colours = _colours(tag, COLOURS[photometric])
        if colours == PALETTE:
            white, palette = WHITE, _palette(tag)
        else:
            white, palette = _white(tag, significant_bits), None
        if colours != RGB and white != WHITE:
            raise PictureError(f"its {colours} samples have more than 8 bits.", hint=EXPORT)
        alpha = _alpha(tag, channels - CHANNELS[colours])
        if alpha == ASSOCIATED and colours != RGB:
            raise PictureError(f"its {colours} samples are multiplied by an alpha.", hint=EXPORT)
        profile = tag(34675) if colours == CMYK else None
        return cls(colours, white, alpha, photometric == 9, palette, bytes(profile) if profile else None)

    @property
    def is_deep(self) -> bool:
        """Whether samples have 16 bits and nothing says how many of them count."""
        return self.white == 65535

    def rgb(self, samples: Samples) -> Pixels:
        """uint8 (h, w, 3) RGB of samples (h, w, channels).

        Raises:
            PictureError: a further sample is not opaque, and it is not stated what it means.
        """
        channels = CHANNELS[self.colours]
        if self.colours == RGB and self.alpha is None and self.white == WHITE:
            return cast(Pixels, samples)
        eight = self._eight_bits(samples)
        pixels = self._to_rgb(np.ascontiguousarray(eight[..., :channels]))
        if self.alpha is None:
            return pixels
        alpha = eight[..., channels]
        if self.alpha == UNSTATED:
            _require_opaque(alpha)
            return pixels
        if self.alpha == ASSOCIATED:
            return np.minimum(pixels, alpha[..., None]) + (WHITE - alpha)[..., None]
        return on_white(Image.fromarray(np.dstack([pixels, alpha])))

    def _eight_bits(self, samples: Samples) -> Pixels:
        if samples.dtype == np.uint8:
            return cast(Pixels, samples)
        full = np.minimum(samples, self.white).astype(np.uint32)
        return ((full * WHITE + self.white // 2) // self.white).astype(np.uint8)

    def _to_rgb(self, colours: Pixels) -> Pixels:
        if self.colours == RGB:
            return colours
        if self.palette is not None:
            return self.palette[np.minimum(colours[..., 0], len(self.palette) - 1)]
        if self.is_icclab:
            colours = colours ^ np.array([0, 128, 128], np.uint8)
        height, width = colours.shape[:2]
        return rgb_of(Image.frombytes(self.colours, (width, height), colours.tobytes()), self.profile)

    def require_known(self, parts: Iterable[Samples]) -> None:
        """Look at samples (h, w, channels) of some parts of the picture for what its tags leave open.

        Raises:
            PictureError: 16-bit samples are so dark that fewer bits must count, or alpha is not opaque and unstated.
        """
        if not self.is_deep and self.alpha != UNSTATED:
            return
        brightest = 0
        for samples in parts:
            colours = samples[..., : CHANNELS[self.colours]]
            brightest = max(brightest, int(colours.max(initial=0)))
            if self.alpha == UNSTATED:
                _require_opaque(self._eight_bits(samples)[..., -1])
        if self.is_deep:
            require_bright(brightest, limit=self.white)


def _colours(tag: Tag, colours: str) -> str:
    """What the decoded colours are, once everything that this reader takes for granted is made sure of."""
    compression = _number(tag(259), 1)
    by_pixel = _number(tag(284), 1) == 1
    if colours == CMYK and _number(tag(332), 1) != 1:
        raise PictureError("its inks are not cyan, magenta, yellow and black.", hint=EXPORT)
    if compression in (OLD_JPEG, APERIO_YCBCR):
        kind = "the JPEG of TIFF before version 6" if compression == OLD_JPEG else "Aperio's JPEG 2000 in YCbCr"
        raise PictureError(f"it is compressed as {kind}, which Sentinode does not read.", hint=EXPORT)
    if colours != YCBCR:
        return colours
    if compression in GIVES_RGB and by_pixel:
        return RGB
    if compression in JPEG_2000:
        raise PictureError("it contains YCbCr in JPEG 2000, which readers interpret in different ways.", hint=EXPORT)
    subsampling = _floats(tag(530)) or (2, 2)
    if subsampling != (1, 1):
        raise PictureError("its YCbCr samples have fewer colours than pixels, and are not JPEG.", hint=EXPORT)
    coefficients, levels = _floats(tag(529)) or REC_601, _floats(tag(532)) or FULL_RANGE
    if not np.allclose(coefficients, REC_601, atol=2e-3) or not np.allclose(levels, FULL_RANGE, atol=1):
        raise PictureError("its YCbCr samples are not of the full range of Rec. 601.", hint=EXPORT)
    return colours


def _white(tag: Tag, significant_bits: int | None) -> int:
    """The value of a full sample."""
    bits = set(_floats(tag(258)) or (1,))
    kinds = set(_floats(tag(339)) or (1,))
    if not kinds <= {1, 4}:
        named = {2: "signed integers", 3: "floating-point numbers"}.get(int(max(kinds)), "not unsigned integers")
        raise PictureError(f"its samples are {named}.", hint=EXPORT)
    if len(bits) > 1 or not 8 <= max(bits) <= 16:
        raise PictureError(
            f"its samples have {' and '.join(f'{b:g}' for b in sorted(bits))} bits; 8 to 16 can be read.",
            hint=EXPORT,
        )
    full = (1 << int(max(bits))) - 1
    if full == 65535:
        # Cameras of 12 bits may say how far their samples reach. That all 16 count is written without looking.
        reach = {int(value) for number in (281, 341) for value in _floats(tag(number))} or {
            (1 << (significant_bits or 16)) - 1
        }
        if len(reach) == 1 and reach <= {(1 << n) - 1 for n in range(9, 16)}:
            return reach.pop()
    return full


def _alpha(tag: Tag, further: int) -> str | None:
    if further == 0:
        return None
    if further != 1:
        raise PictureError(f"it has {further:+d} samples a pixel more than its colours.", hint=EXPORT)
    return {1: ASSOCIATED, 2: UNASSOCIATED, 999: UNASSOCIATED}.get(_number(tag(338), 0), UNSTATED)


def _palette(tag: Tag) -> Pixels:
    entries = np.array(_floats(tag(320)) or (0,), np.int64)
    if _number(tag(258), 1) > 8 or len(entries) % 3:
        raise PictureError("its colour map is not one of at most 256 colours.", hint=EXPORT)
    # Entries have 16 bits; some writers fill 8 of them only.
    palette = (entries if entries.max() <= WHITE else entries >> 8).astype(np.uint8).reshape(3, -1).T
    require_coloured(palette)
    return palette


def _number(value: Any, default: int) -> int:
    return int(_floats(value)[0]) if _floats(value) else default


def _floats(value: Any) -> tuple[float, ...]:
    """A tag's value or values as numbers; nothing for None."""
    return () if value is None else tuple(np.asarray(value, float).ravel().tolist())


# What both share


def on_white(rgba: Image.Image) -> Pixels:
    """uint8 (h, w, 3): transparent pixels, which the scanner left out, become white."""
    if rgba.getchannel("A").getextrema() != (WHITE, WHITE):
        rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(rgba.convert("RGB"))


def rgb_of(picture: Image.Image, profile: bytes | None) -> Pixels:
    """A picture of mode RGB, P, YCbCr, CMYK or LAB as RGB; inks by their ICC profile where there is one."""
    if picture.mode == CMYK and profile:
        return np.asarray(ImageCms.applyTransform(picture, _inks(profile)))
    if picture.mode == LAB:
        return np.asarray(ImageCms.applyTransform(picture, _lab()))
    return np.asarray(picture.convert("RGB"))


@functools.lru_cache(maxsize=4)
def _inks(profile: bytes) -> ImageCms.ImageCmsTransform:
    return _transform(ImageCms.ImageCmsProfile(io.BytesIO(profile)), "CMYK")


@functools.cache
def _lab() -> ImageCms.ImageCmsTransform:
    return _transform(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB")


def _transform(profile: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    """A transform to sRGB that threads can share."""
    try:
        return ImageCms.buildTransform(
            profile, ImageCms.createProfile("sRGB"), mode, "RGB", flags=ImageCms.Flags.NOCACHE
        )
    except (ImageCms.PyCMSError, OSError) as error:
        raise PictureError(f"its ICC profile cannot be applied ({error}).", hint=EXPORT) from error


def grey(how: str) -> PictureError:
    return PictureError(
        f"not an 8-bit RGB image but a grey one ({how}); haematoxylin and eosin are told apart by colour.",
        hint="Export the picture in colour, as 8-bit RGB.",
    )


def require_coloured(palette: Pixels) -> None:
    """Refuse a palette (n, 3) of greys; a few greys are those of an empty picture."""
    if len(np.unique(palette[:, 0])) > FEW_GREYS and (palette == palette[:, :1]).all():
        raise grey("its palette contains only greys")


def _require_opaque(alpha: NDArray[np.uint8] | None) -> None:
    if alpha is None or (alpha != WHITE).any():
        raise PictureError(
            "it has a fourth sample a pixel, and does not state whether that is transparency.",
            hint="Save it as RGB, or with ExtraSamples of 1 or 2 where it is.",
        )


def require_bright(brightest: int, limit: int) -> None:
    """Refuse 16-bit samples of which none reaches half of the range: fewer bits count, and nothing says how many.

    Glass fills the range, and the red or the blue of tissue fills more than half of it.
    """
    if brightest <= limit // 2:
        raise PictureError(
            "its samples have 16 bits, the upper ones are empty, and it does not state how many are used.", hint=EXPORT
        )


# Orientation, by Exif and TIFF: 1 is upright, 3 is upside down, 6 is turned left


def orientation_of(tag: Tag) -> int:
    """How a TIFF's page is stored; upright where that is not stated, or is none of the eight."""
    stated = _number(tag(274), 1)
    return stated if 1 <= stated <= 8 else 1


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Pixels (h, w, 3) as they are stored, turned as they are to be shown."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    return pixels[:: -1 if _is_flipped(orientation) else 1, :: -1 if _is_mirrored(orientation) else 1]


def stored_box(box: tuple[int, int, int, int], size: tuple[int, int], orientation: int) -> tuple[int, int, int, int]:
    """Where a box (left, top, width, height) of a picture of ``size`` as shown lies in the picture as stored."""
    left, top, width, height = box
    if _is_mirrored(orientation):
        left = size[0] - left - width
    if _is_flipped(orientation):
        top = size[1] - top - height
    return (top, left, height, width) if orientation >= 5 else (left, top, width, height)


def _is_mirrored(orientation: int) -> bool:
    return orientation in (2, 3, 6, 7)


def _is_flipped(orientation: int) -> bool:
    return orientation in (3, 4, 7, 8)
