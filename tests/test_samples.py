"""What samples mean: one picture in every kind of samples is that picture, or is refused by name.

Each kind is read as a patch (through Pillow) and, as a TIFF in tiles and in strips, as a slide (through tifffile).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from sentinode import pictures
from sentinode.errors import DataError, PictureError, SlideError
from sentinode.patches.pixels import decode_any_size
from sentinode.samples import stored_box, turned
from sentinode.slides.reading.slide import open_slide

Array = NDArray[Any]


def stained(height: int = 96, width: int = 112) -> NDArray[np.uint8]:
    """A smooth picture in the colours of the stains, with white at its edges."""
    y, x = np.mgrid[:height, :width]
    purple, pink = np.array([120, 70, 150]), np.array([225, 165, 205])
    share = (0.5 + 0.5 * np.sin(x / 9.0) * np.cos(y / 7.0))[..., None]
    picture = (share * purple + (1 - share) * pink).round().astype(np.uint8)
    picture[:8], picture[-8:], picture[:, :8], picture[:, -8:] = 255, 255, 255, 255
    return picture


STAINED = stained()
INSIDE = np.zeros(STAINED.shape[:2], np.uint8)
INSIDE[8:-8, 8:-8] = 255
TWELVE = (STAINED.astype(np.uint32) * 4095 // 255).astype(np.uint16)
SRGB, LAB = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
BLACK_OUTSIDE = np.where(INSIDE[..., None] > 0, STAINED, 0).astype(np.uint8)


def converted(mode: str) -> Array:
    return np.asarray(Image.fromarray(STAINED).convert(mode))


def lab() -> Array:
    """CIELAB as TIFF stores it, with signed a* and b*."""
    transform = ImageCms.buildTransform(SRGB, LAB, "RGB", "LAB")
    held = io.BytesIO()
    ImageCms.applyTransform(Image.fromarray(STAINED), transform).save(held, "TIFF")
    return tifffile.imread(io.BytesIO(held.getvalue()))


def shifted(samples: Array) -> Array:
    return np.dstack([samples[..., 0], samples[..., 1:] ^ 128])


def with_alpha(pixels: Array, alpha: Array) -> Array:
    return np.dstack([pixels, alpha.astype(pixels.dtype)])


def number(tag: int, *values: int) -> tuple[int, str, int, Any, bool]:
    return tag, "H", len(values), values if len(values) > 1 else values[0], True


def write(path: Path, samples: Array, *, tiled: bool, **options: Any) -> Path:
    """A TIFF of one page at 0.972 microns per pixel, in tiles or in strips."""
    options = {"photometric": "rgb", "metadata": None, **options}
    if tiled:
        options["tile"] = (64, 64)
    else:
        options["rowsperstrip"] = 32
    tags = options.pop("overwrite", {})
    resolution = {"resolution": (1e4 / 0.972, 1e4 / 0.972), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, samples, **(resolution | options))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for tag, value in tags.items():
            tiff.pages.first.tags[tag].overwrite(value)
    return path


def as_slide(path: Path) -> NDArray[np.uint8]:
    with open_slide(path, mpp=0.972) as slide:
        return slide.region(0, 0, slide.width, slide.height, 0.972)


def as_patch(path: Path) -> NDArray[np.uint8]:
    pixels = decode_any_size(path, path)
    if isinstance(pixels, DataError):
        raise pixels
    return pixels


READERS = [as_slide, as_patch]

# Kinds of samples, and by how much the pixels may differ after a conversion of colours

KINDS: dict[str, tuple[Array, dict[str, Any], int]] = {
    "rgb": (STAINED, {}, 0),
    "rgb, zlib": (STAINED, {"compression": "zlib", "predictor": True}, 0),
    "rgb in planes": (STAINED.transpose(2, 0, 1), {"planarconfig": "separate"}, 0),
    "jpeg": (STAINED, {"compression": "jpeg", "compressionargs": {"level": 98}, "subsampling": (1, 1)}, 6),
    "jpeg of ycbcr": (converted("YCbCr"), {"photometric": "ycbcr", "compression": "jpeg", "subsampling": (1, 1)}, 12),
    "ycbcr": (converted("YCbCr"), {"photometric": "ycbcr"}, 3),
    "ycbcr, zlib": (converted("YCbCr"), {"photometric": "ycbcr", "compression": "zlib"}, 3),
    "cmyk": (converted("CMYK"), {"photometric": "separated"}, 1),
    "cmyk, lzw": (converted("CMYK"), {"photometric": "separated", "compression": "lzw"}, 1),
    "cielab": (lab(), {"photometric": "cielab"}, 6),
    "16 bits": (STAINED.astype(np.uint16) * 257, {}, 0),
    "16 bits, big-endian": (STAINED.astype(np.uint16) * 257, {"byteorder": ">"}, 0),
    "16 bits in planes": (STAINED.transpose(2, 0, 1).astype(np.uint16) * 257, {"planarconfig": "separate"}, 0),
    "12 bits": (((STAINED.astype(np.uint32) * 4095 + 127) // 255).astype(np.uint16), {"bitspersample": 12}, 0),
    "12 of 16 bits, stated": (TWELVE, {"extratags": [number(341, 4095, 4095, 4095)]}, 0),
    "icclab": (shifted(lab()), {"photometric": "icclab"}, 6),
    "cmyk in planes": (
        converted("CMYK").transpose(2, 0, 1),
        {"photometric": "separated", "planarconfig": "separate"},
        1,
    ),
    "fourth sample, always full": (
        with_alpha(STAINED, np.full_like(INSIDE, 255)),
        {"extrasamples": ["unspecified"]},
        0,
    ),
    "alpha in planes": (
        with_alpha(BLACK_OUTSIDE, INSIDE).transpose(2, 0, 1),
        {"extrasamples": ["unassalpha"], "planarconfig": "separate"},
        0,
    ),
    "alpha": (with_alpha(BLACK_OUTSIDE, INSIDE), {"extrasamples": ["unassalpha"]}, 0),
    "alpha, multiplied": (with_alpha(BLACK_OUTSIDE, INSIDE), {"extrasamples": ["assocalpha"]}, 0),
    "alpha, 16 bits": (with_alpha(BLACK_OUTSIDE, INSIDE).astype(np.uint16) * 257, {"extrasamples": ["unassalpha"]}, 0),
}


@pytest.mark.parametrize("tiled", [True, False], ids=["tiles", "strips"])
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_picture_in_every_kind_of_samples_is_that_picture(
    tmp_path: Path, kind: str, read: Callable[[Path], Array], tiled: bool
) -> None:
    samples, options, tolerance = KINDS[kind]
    pixels = read(write(tmp_path / "picture.tif", samples, tiled=tiled, **options))
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.astype(int), STAINED, atol=tolerance)


REFUSED: dict[str, tuple[Array, dict[str, Any], str]] = {
    "grey": (converted("L"), {"photometric": "minisblack"}, "a grey one"),
    "grey, white as 0": (255 - converted("L"), {"photometric": "miniswhite"}, "a grey one"),
    "grey with alpha": (converted("LA"), {"photometric": "minisblack", "extrasamples": ["unassalpha"]}, "a grey one"),
    "grey, 16 bits": (converted("L").astype(np.uint16) * 257, {"photometric": "minisblack"}, "a grey one"),
    "bilevel": (converted("L") > 128, {"photometric": "minisblack"}, "a grey one"),
    "a palette of greys": (
        converted("L"), {"photometric": "palette", "colormap": np.tile(np.arange(256) * 257, (3, 1)).astype(np.uint16)},
        "only greys",
    ),
    "three channels of no colour": (STAINED, {"photometric": "minisblack", "planarconfig": "contig"}, "a grey one"),
    "12 of 16 bits": (TWELVE, {}, "the upper ones are empty"),
    "10 of 16 bits": (TWELVE // 4, {}, "the upper ones are empty"),
    "14 of 16 bits": (TWELVE * 4, {}, "the upper ones are empty"),
    "float": (STAINED.astype(np.float32) / 255, {}, "floating-point"),
    "signed": ((STAINED // 2).astype(np.int8), {}, "signed"),
    "32 bits": (STAINED.astype(np.uint32), {}, "32 bits"),
    "a fourth sample of no meaning": (with_alpha(STAINED, INSIDE), {"extrasamples": ["unspecified"]}, "fourth sample"),
    "five samples": (
        np.dstack([STAINED, INSIDE, INSIDE]), {"extrasamples": ["unspecified"] * 2}, r"\+2 samples a pixel",
    ),
    "other inks": (converted("CMYK"), {"photometric": "separated", "extratags": [number(332, 2)]}, "inks are not cyan"),
    "16-bit cmyk": (converted("CMYK").astype(np.uint16) * 257, {"photometric": "separated"}, "CMYK samples have more"),
    "video levels": (
        converted("YCbCr"),
        {"photometric": "ycbcr", "overwrite": {532: (15, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)}},
        "not of the full range",
    ),
    "subsampled ycbcr, not jpeg": (
        converted("YCbCr"), {"photometric": "ycbcr", "overwrite": {530: (2, 2)}}, "fewer colours than pixels",
    ),
    "ycbcr in jpeg 2000": (
        converted("YCbCr"), {"photometric": "ycbcr", "compression": "jpeg2000"}, "JPEG 2000",
    ),
    "logluv": (STAINED, {"photometric": "logluv"}, "colours that are not read"),
}  # fmt: skip


@pytest.mark.parametrize("tiled", [True, False], ids=["tiles", "strips"])
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_colour_or_leaves_open_which_is_refused_by_name(
    tmp_path: Path, kind: str, read: Callable[[Path], Array], tiled: bool
) -> None:
    samples, options, reason = REFUSED[kind]
    path = write(tmp_path / "picture.tif", samples, tiled=tiled, **options)
    with pytest.raises((SlideError, DataError), match=reason) as refused:
        read(path)
    assert refused.value.where == path
    assert refused.value.hint


# Palettes


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("read", READERS)
def test_a_palette_gives_its_colours_whether_its_entries_have_8_or_16_bits(
    tmp_path: Path, read: Callable[[Path], Array], depth: int
) -> None:
    quantised = Image.fromarray(STAINED).quantize(200, dither=Image.Dither.NONE)
    palette = np.zeros((3, 256), np.uint16)
    colours = np.array(quantised.getpalette("RGB"), np.uint16).reshape(-1, 3).T
    palette[:, : colours.shape[1]] = colours * 257
    path = write(tmp_path / "p.tif", np.asarray(quantised), tiled=False, photometric="palette", colormap=palette)
    if depth == 8:
        with tifffile.TiffFile(path, mode="r+") as tiff:
            tiff.pages.first.tags[320].overwrite((palette >> 8).ravel().tolist())
    np.testing.assert_array_equal(read(path), np.asarray(quantised.convert("RGB")))


def test_what_is_transparent_in_a_palette_is_white(tmp_path: Path) -> None:
    quantised = Image.fromarray(STAINED).quantize(200, dither=Image.Dither.NONE)
    indices = np.asarray(quantised).copy()
    indices[INSIDE == 0] = 255
    picture = Image.fromarray(indices, "P")
    picture.putpalette([*quantised.getpalette("RGB")[:600], *[0] * 165, 255, 0, 255])
    picture.save(tmp_path / "p.png", transparency=255)
    for read in READERS:
        pixels = read(tmp_path / "p.png")
        assert (pixels[INSIDE == 0] == 255).all()
        np.testing.assert_array_equal(pixels[INSIDE > 0], np.asarray(quantised.convert("RGB"))[INSIDE > 0])


# Alpha


@given(st.integers(0, 255), st.integers(0, 255))
def test_half_transparent_pixels_are_laid_on_white_multiplied_or_not(colour: int, alpha: int) -> None:
    on_white = colour * alpha / 255 + 255 - alpha
    opaque = np.full((4, 4, 3), colour, np.uint8)
    multiplied = np.full((4, 4, 3), round(colour * alpha / 255), np.uint8)
    for pixels, kind in ((opaque, "unassalpha"), (multiplied, "assocalpha")):
        held = io.BytesIO()
        samples = with_alpha(pixels, np.full((4, 4), alpha, np.uint8))
        tifffile.imwrite(held, samples, photometric="rgb", extrasamples=[kind])
        assert abs(pictures.read(held.getvalue()).astype(int) - on_white).max() <= 1


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("tiled", [True, False], ids=["tiles", "strips"])
@pytest.mark.parametrize("read", READERS)
def test_a_turned_tiff_is_read_upright(
    tmp_path: Path, orientation: int, tiled: bool, read: Callable[[Path], Array]
) -> None:
    stored = STAINED[:90, :101]  # no multiple of its tiles
    path = write(tmp_path / "turned.tif", stored, tiled=tiled, extratags=[number(274, orientation)])
    np.testing.assert_array_equal(read(path), turned(stored, orientation))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_read_as_viewers_show_it(tmp_path: Path, orientation: int, ending: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"turned.{ending}"
    lossless = {"lossless": True} if ending == "webp" else {"quality": 98, "subsampling": 0} if ending == "jpg" else {}
    Image.fromarray(STAINED).save(path, exif=exif, **lossless)
    for read in READERS:
        np.testing.assert_allclose(read(path).astype(int), turned(STAINED, orientation), atol=6)


def test_the_eight_orientations_are_those_of_exif() -> None:
    stored = np.arange(6).reshape(2, 3, 1)
    shown = {orientation: turned(stored, orientation)[..., 0].tolist() for orientation in range(1, 9)}
    assert shown == {
        1: [[0, 1, 2], [3, 4, 5]],
        2: [[2, 1, 0], [5, 4, 3]],
        3: [[5, 4, 3], [2, 1, 0]],
        4: [[3, 4, 5], [0, 1, 2]],
        5: [[0, 3], [1, 4], [2, 5]],
        6: [[3, 0], [4, 1], [5, 2]],
        7: [[5, 2], [4, 1], [3, 0]],
        8: [[2, 5], [1, 4], [0, 3]],
    }


@given(st.integers(1, 8), st.integers(1, 9), st.integers(1, 9), st.data())
def test_a_box_of_the_turned_picture_is_the_turned_box(orientation: int, height: int, width: int, data: Any) -> None:
    stored = np.arange(height * width).reshape(height, width, 1)
    shown = turned(stored, orientation)
    left, top = (data.draw(st.integers(0, side - 1)) for side in (shown.shape[1], shown.shape[0]))
    w, h = data.draw(st.integers(1, shown.shape[1] - left)), data.draw(st.integers(1, shown.shape[0] - top))
    x, y, across, down = stored_box((left, top, w, h), (shown.shape[1], shown.shape[0]), orientation)
    np.testing.assert_array_equal(
        turned(stored[y : y + down, x : x + across], orientation), shown[top : top + h, left : left + w]
    )


# PNG, JPEG and other flat pictures


@pytest.mark.parametrize(
    ("ending", "options", "tolerance"),
    [
        ("png", {}, 0),
        ("bmp", {}, 0),
        ("webp", {"lossless": True}, 0),
        ("jp2", {"irreversible": False}, 0),
        ("ppm", {}, 0),
        ("jpg", {"quality": 98, "subsampling": 0}, 6),
        ("gif", {}, 40),
    ],
)
def test_every_flat_format_gives_the_picture(
    tmp_path: Path, ending: str, options: dict[str, Any], tolerance: int
) -> None:
    path = tmp_path / f"picture.{ending}"
    Image.fromarray(STAINED).save(path, **options)
    for read in READERS:
        np.testing.assert_allclose(read(path).astype(int), STAINED, atol=tolerance)


def test_a_jpeg_of_inks_is_read_by_its_profile_or_without(tmp_path: Path) -> None:
    Image.fromarray(converted("CMYK"), "CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    for read in READERS:
        np.testing.assert_allclose(read(tmp_path / "cmyk.jpg").astype(int), STAINED, atol=8)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16"])
def test_a_flat_grey_picture_is_refused(tmp_path: Path, mode: str) -> None:
    picture = Image.new(mode, (96, 96))
    picture.save(tmp_path / "grey.png")
    for read in READERS:
        with pytest.raises((SlideError, DataError), match="not an 8-bit RGB image but a grey one"):
            read(tmp_path / "grey.png")


def png_of_16_bits(samples: NDArray[np.uint16]) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_png_of_16_bits_is_read_where_they_all_count_and_refused_where_12_do(tmp_path: Path) -> None:
    full, dark = tmp_path / "full.png", tmp_path / "dark.png"
    full.write_bytes(png_of_16_bits(STAINED.astype(np.uint16) * 257))
    dark.write_bytes(png_of_16_bits(TWELVE))
    for read in READERS:
        np.testing.assert_array_equal(read(full), STAINED)
        with pytest.raises((SlideError, DataError), match="the upper ones are empty"):
            read(dark)


def test_flat_pictures_that_pillow_would_show_wrongly_are_refused(tmp_path: Path) -> None:
    alpha = Image.fromarray(with_alpha(BLACK_OUTSIDE, INSIDE))
    alpha.save(tmp_path / "alpha.bmp")
    deep = imagecodecs.jpeg2k_encode(STAINED.astype(np.uint16) * 257, level=0, codecformat="jp2")
    (tmp_path / "deep.jp2").write_bytes(deep)
    (tmp_path / "dark.ppm").write_bytes(b"P6\n112 96\n65535\n" + TWELVE.astype(">u2").tobytes())
    reasons = {"alpha.bmp": "a BMP of 32 bits", "deep.jp2": "JPEG 2000 of more than 8 bits", "dark.ppm": "16 bits"}
    for name, reason in reasons.items():
        for read in READERS:
            with pytest.raises((SlideError, DataError), match=reason):
                read(tmp_path / name)


def test_a_colour_that_stands_for_transparency_is_white(tmp_path: Path) -> None:
    keyed = np.where(INSIDE[..., None] > 0, STAINED, (1, 2, 3)).astype(np.uint8)
    Image.fromarray(keyed).save(tmp_path / "keyed.png", transparency=(1, 2, 3))
    for read in READERS:
        np.testing.assert_array_equal(read(tmp_path / "keyed.png"), STAINED)


# Files that are more than one picture, or none


@pytest.mark.parametrize("kind", ["tiff", "gif", "webp", "apng"])
def test_several_pictures_in_a_file_are_not_taken_for_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"several.{kind.removeprefix('a')}"
    one, other = Image.fromarray(STAINED), Image.fromarray(STAINED[::-1].copy())
    one.save(path, save_all=True, append_images=[other, one])
    with pytest.raises(DataError, match="it contains 3 pictures"):
        as_patch(path)
    with pytest.raises(SlideError, match="contains 3 pictures"):
        as_slide(path)


@pytest.mark.parametrize("kind", ["smaller copy", "mask"])
def test_a_patch_with_a_smaller_copy_or_a_mask_of_itself_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "patch.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(STAINED, photometric="rgb", metadata=None)
        if kind == "mask":
            tiff.write(INSIDE > 0, photometric="minisblack", subfiletype=4, metadata=None)
        else:
            tiff.write(STAINED[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    np.testing.assert_array_equal(as_patch(path), STAINED)


@pytest.mark.parametrize("name", ["picture.png", "picture.tif", "picture.jpg"])
def test_postscript_is_not_run_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", run)
    path = tmp_path / name
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 96\n%%EndComments\nshowpage\n%%EOF\n")
    for read in READERS:
        with pytest.raises((SlideError, DataError)):
            read(path)


def test_a_patch_whose_pages_point_in_a_circle_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "circle.tif", with_alpha(STAINED, INSIDE), tiled=False, extrasamples=["unassalpha"])
    data = bytearray(path.read_bytes())
    (offset,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[offset : offset + 2])
    data[offset + 2 + 12 * count : offset + 6 + 12 * count] = data[4:8]
    path.write_bytes(data)
    with pytest.raises(DataError, match="point in a circle"):
        as_patch(path)


def test_a_picture_too_large_to_decode_at_once_is_refused_before_it_is() -> None:
    held = io.BytesIO()
    Image.fromarray(STAINED).save(held, "PNG")
    with pytest.raises(PictureError, match="10,752 pixels in one piece"):
        pictures.open_picture(held.getvalue(), most=10_000)
