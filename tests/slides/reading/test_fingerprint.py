"""A slide is known by its content: not by its path, its name or its time, and by all of its files."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from dicom_files import write_dicom
from slide_files import tissue_picture

from sentinode.errors import SlideError
from sentinode.slides.reading.fingerprint import fingerprint

MIB = 1 << 20


def test_it_is_a_digest_of_the_size_and_64_pieces(tmp_path: Path) -> None:
    content = os.urandom(9 * MIB + 12_345)
    (tmp_path / "a.svs").write_bytes(content)
    last = len(content) - (1 << 16)
    pieces = (content[last * i // 63 : last * i // 63 + (1 << 16)] for i in range(64))
    assert fingerprint(tmp_path / "a.svs") == hashlib.sha256(str(len(content)).encode() + b"".join(pieces)).hexdigest()


def test_neither_name_nor_place_nor_time_counts(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"slide")
    (tmp_path / "below").mkdir()
    copy = Path(shutil.copy(tmp_path / "a.svs", tmp_path / "below" / "b.tif"))
    os.utime(copy, (0, 0))
    assert fingerprint(copy) == fingerprint(tmp_path / "a.svs")


@pytest.mark.parametrize("at", [0, 1, 70_000, 2 * MIB, 4 * MIB - 1])
def test_a_byte_anywhere_in_a_file_of_4_mib_counts(tmp_path: Path, at: int) -> None:
    content = bytearray(4 * MIB)
    (tmp_path / "a.svs").write_bytes(content)
    before = fingerprint(tmp_path / "a.svs")
    content[at] = 1
    (tmp_path / "a.svs").write_bytes(content)
    assert fingerprint(tmp_path / "a.svs") != before


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"gone\.svs: the slide cannot be read \(No such file"):
        fingerprint(tmp_path / "gone.svs")


# Slides in several files


def write_mrxs(path: Path, pixels: bytes) -> Path:
    """The files of an MRXS as 3DHISTECH's scanners lay them; their content does not matter here."""
    folder = path.with_suffix("")
    folder.mkdir(parents=True)
    path.write_bytes(b"a small picture")
    (folder / "Slidedat.ini").write_text("[GENERAL]\nSLIDE_ID = 1\n")
    (folder / "Index.dat").write_bytes(b"01.02")
    for number in range(3):
        (folder / f"Data000{number}.dat").write_bytes(pixels * (number + 1))
    return path


def test_the_pixels_of_an_mrxs_lie_in_the_folder_beside_it_and_count(tmp_path: Path) -> None:
    one, two = (write_mrxs(tmp_path / name / f"{name}.mrxs", pixels) for name, pixels in (("a", b"1"), ("b", b"2")))
    assert fingerprint(one) != fingerprint(two)
    copy = write_mrxs(tmp_path / "elsewhere" / "c.mrxs", b"1")
    assert fingerprint(copy) == fingerprint(one)
    (copy.with_suffix("") / "Thumbs.db").write_bytes(b"left by a viewer")
    assert fingerprint(copy) == fingerprint(one)
    (copy.with_suffix("") / "Slidedat.ini").write_text("[GENERAL]\nSLIDE_ID = 2\n")
    assert fingerprint(copy) != fingerprint(one)


def test_two_data_files_of_an_mrxs_that_were_exchanged_count(tmp_path: Path) -> None:
    path = write_mrxs(tmp_path / "a.mrxs", b"1")
    before, folder = fingerprint(path), path.with_suffix("")
    (folder / "Data0000.dat").rename(folder / "kept")
    (folder / "Data0001.dat").rename(folder / "Data0000.dat")
    (folder / "kept").rename(folder / "Data0001.dat")
    assert fingerprint(path) != before


@pytest.mark.parametrize("ending", ["vms", "vmu"])
def test_the_files_that_a_hamamatsu_slide_lists_count(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_text("[Virtual Microscope Specimen]\nNoLayers=1\nImageFile=a-level1.jpg\nMapFile=gone.jpg\nPath=/\n")
    (tmp_path / "a-level1.jpg").write_bytes(b"one")
    before = fingerprint(path)
    (tmp_path / "unlisted.jpg").write_bytes(b"another slide's")
    assert fingerprint(path) == before
    (tmp_path / "a-level1.jpg").write_bytes(b"two")
    assert fingerprint(path) != before


def write_instance(path: Path, *, series: str, side: int, seed: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    spacing = 0.972 * 64 / side
    return write_dicom(
        path, tissue_picture(side, side, seed=seed), tile=32, mpp=spacing, series=series, uid=f"{series}.{side}"
    )


@pytest.mark.parametrize("ending", [".dcm", ".DCM", "", ".1234"])
def test_all_levels_of_a_dicom_series_count_and_whichever_is_named_stands_for_it(tmp_path: Path, ending: str) -> None:
    first = write_instance(tmp_path / "s" / f"one{ending}", series="1.2", side=64, seed=1)
    alone = fingerprint(first)
    second = write_instance(tmp_path / "s" / f"two{ending}", series="1.2", side=32, seed=2)
    assert fingerprint(first) == fingerprint(second) != alone
    before = fingerprint(first)
    write_instance(tmp_path / "s" / f"other{ending}", series="1.3", side=64, seed=3)
    assert fingerprint(first) == before
    # A copy under other names, in another order.
    for path, name in ((first, "z"), (second, "a")):
        (tmp_path / "copy").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "copy" / f"{name}{ending}")
    assert fingerprint(tmp_path / "copy" / f"z{ending}") == before
    write_instance(second, series="1.2", side=32, seed=4)
    assert fingerprint(first) != before
