"""Which library opens a file, and that one picture in every container is that picture or is refused by name."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from slide_files import tissue_picture, write_tiff

from sentinode.errors import SlideError
from sentinode.samples import turned
from sentinode.slides.reading.slide import open_slide

PICTURE = tissue_picture(300, 220)
APERIO = "Aperio Image Library v11.2.1\n300x220 [0,0 300x220] (64x64)|AppMag = 20|MPP = 0.4990"


def read(path: Path) -> np.ndarray:
    with open_slide(path, mpp=0.972) as slide:
        return slide.region(0, 0, slide.width, slide.height, 0.972)


# Damaged files


def pointed(path: Path, page: int, to: int) -> Path:
    """Let a page of a classic TIFF be followed by another place in the file."""
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[page].offset
    data = bytearray(path.read_bytes())
    (count,) = struct.unpack("<H", data[offset : offset + 2])
    data[offset + 2 + 12 * count : offset + 6 + 12 * count] = struct.pack("<I", to)
    path.write_bytes(data)
    return path


@pytest.mark.timeout(20)
@pytest.mark.parametrize("back_to", [0, 1])
def test_a_chain_of_pages_that_leads_back_is_refused_and_not_followed_for_ever(tmp_path: Path, back_to: int) -> None:
    path = write_tiff(tmp_path / "circle.tif", PICTURE, levels=2)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[back_to].offset
    with pytest.raises(SlideError, match="its pages point in a circle"):
        open_slide(pointed(path, 1, offset))


def test_a_page_beyond_the_end_of_the_file_is_damage_and_not_left_out(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "cut.tif", PICTURE, levels=2)
    with pytest.raises(SlideError, match=r"damaged: it ends after .* bytes, and a page of it lies at 99,999,999"):
        open_slide(pointed(path, 0, 99_999_999))


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_truncated_svs_is_called_damaged(tmp_path: Path, share: float, bigtiff: bool) -> None:
    path = tmp_path / "slide.svs"
    options = {"photometric": "rgb", "tile": (64, 64), "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as tiff:
        tiff.write(PICTURE, **options, description=APERIO)
        tiff.write(PICTURE[::4, ::4].copy(), photometric="rgb", description=APERIO, metadata=None)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SlideError, match=r"damaged") as refused:
        open_slide(path)
    assert "max()" not in str(refused.value)


@pytest.mark.real
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_real_svs_that_was_half_copied_is_called_damaged(shared: Path, tmp_path: Path, share: float) -> None:
    data = (shared / "slides" / "CMU-1-Small-Region.svs").read_bytes()
    (tmp_path / "half.svs").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SlideError, match="the file is damaged: it ends after"):
        open_slide(tmp_path / "half.svs")


def test_what_tifffile_finds_odd_does_not_reach_the_screen(tmp_path: Path) -> None:
    """In a process of its own, since the tests' runner catches what is logged."""
    path = tmp_path / "odd.ome.tif"
    tifffile.imwrite(path, PICTURE, photometric="rgb", tile=(64, 64), metadata={"axes": "YXS"})
    data = path.read_bytes().replace(b'SizeT="1"', b'SizeT="2"')
    path.write_bytes(data)
    script = f"from sentinode.slides.reading.slide import open_slide; open_slide({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "SlideError" in done.stderr and "2 planes" in done.stderr
    assert "TiffFile" not in done.stderr


# Scanners' TIFFs whose samples OpenSlide would show wrongly


@pytest.mark.parametrize("kind", ["turned", "deep"])
def test_an_svs_that_openslide_would_show_wrongly_is_read_rightly(tmp_path: Path, kind: str) -> None:
    samples = PICTURE.astype(np.uint16) * 257 if kind == "deep" else PICTURE
    tags = [(274, "H", 1, 3, True)] if kind == "turned" else []
    path = tmp_path / "slide.svs"
    tifffile.imwrite(path, samples, photometric="rgb", tile=(64, 64), metadata=None, description=APERIO, extratags=tags)
    np.testing.assert_array_equal(read(path), turned(PICTURE, 3) if kind == "turned" else PICTURE)
    assert open_slide(path).mpp == pytest.approx(0.499)


def test_a_plain_svs_is_read_by_openslide(tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    tifffile.imwrite(path, PICTURE, photometric="rgb", tile=(64, 64), metadata=None, description=APERIO)
    slide = open_slide(path)
    assert type(slide._pyramid).__name__ == "OpenSlidePyramid"
    np.testing.assert_array_equal(read(path), PICTURE)


# The real containers of one picture


@pytest.mark.real
@pytest.mark.parametrize(("codec", "mean"), [("jp2", 1), ("jpeg", 5), ("webp", 6)])
def test_the_containers_of_a_slide_show_what_the_slide_shows(shared: Path, codec: str, mean: float) -> None:
    slides = shared / "slides"
    with (
        open_slide(slides / "CMU-1-Small-Region.svs") as original,
        open_slide(slides / "containers" / f"CMU-1-Small-Region.{codec}.tiff", mpp=0.499) as other,
    ):
        expected = original.region(0, 0, original.width, original.height, original.mpp)
        found = other.region(0, 0, other.width, other.height, 0.499)
    assert np.abs(found.astype(int) - expected).mean() < mean


# The picture of the shared cases: 8 x 10 cells at 0.972 microns, in every container that the generators write

REFUSED = {
    "grey": "a grey one",
    "rgb12in16": "the upper ones are empty",
    "two_unlike.scn": "2 main images",
    "bomb.png": "too many to decode at once",
    **dict.fromkeys(["trunc", "zero", "text", "html"], "not a slide that can be read, or it is damaged"),
}
TOLERANCE = {
    **{"c_jpeg_strip": 40, "c_jpeg_tiled": 40, ".jpg": 45, ".avif": 45, "cmyk.jpg": 12},
    **{".gif": 60, "palette": 60, "p_transparent": 60},  # 256 colours
    **{"lab": 10, "ycbcr": 4, "cmyk": 1},
}


@pytest.fixture(scope="module")
def containers(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the generators of the shared cases write."""
    make, folder = shared.parent / "cases" / "make", tmp_path_factory.mktemp("containers")
    if not make.is_dir():
        pytest.skip("the shared cases are not beside this checkout (../shared/cases)")
    for name in ("base.py", "tiffs.py", "flat.py", "scn.py"):
        subprocess.run([sys.executable, make / name], cwd=folder, check=True, capture_output=True)
    return folder / "work"


@pytest.mark.real
@pytest.mark.slow
def test_one_picture_in_every_container_is_that_picture_or_is_refused_by_name(containers: Path) -> None:
    base = np.load(containers / "base.npy").astype(int)
    files = sorted(file for file in (containers / "in").rglob("*") if file.is_file())
    assert len(files) > 80
    wrong = {}
    for file in files:
        if file.name.startswith("c_jpeg_ycc"):
            continue  # the generator stores red, green and blue in them as if they were Y, Cb and Cr
        reason = next((reason for part, reason in REFUSED.items() if part in file.name), None)
        try:
            found = read(file).astype(int)
        except SlideError as error:
            if reason is None or reason not in error.what:
                wrong[file.name] = str(error)
            continue
        if reason is not None:
            wrong[file.name] = "was read"
            continue
        tolerance = next((off for part, off in TOLERANCE.items() if part in file.name), 0)
        expected = _expected(file.name, base)
        if found.shape != expected.shape or np.abs(found - expected).max() > tolerance:
            wrong[file.name] = "another picture"
    assert wrong == {}


def _expected(name: str, base: np.ndarray) -> np.ndarray:
    """What viewers show of a file."""
    if name.startswith("orient"):
        return turned(base, int(name[6]))
    if name == "tiny.png":
        return base[:90, :90]
    if name.endswith(".scn"):
        height, width = base.shape[:2]
        glass = np.full((1344, 1920, 3), 255)
        if name == "bounds.scn":
            glass[288 : 288 + height, 480 : 480 + width] = base
        else:
            glass[96 : 96 + height, 96 : 96 + width // 2] = base[:, : width // 2]
            glass[480 : 480 + height, 1200 : 1200 + width // 2] = base[:, width // 2 :]
        return glass
    return base


def test_pages_in_a_circle_are_seen_under_the_name_of_ndpi_whose_pointers_are_longer(tmp_path: Path) -> None:
    path = tmp_path / "a.ndpi"
    # One page with one tag; the pointers before and behind it have 64 bits.
    page = struct.pack("<HHHI4s", 1, 256, 4, 1, b"\1\0\0\0")
    path.write_bytes(b"II*\0" + struct.pack("<Q", 16) + bytes(4) + page + struct.pack("<Q", 16))
    with pytest.raises(SlideError, match="its pages point in a circle"):
        open_slide(path)
