from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from sentinode.errors import DataError
from sentinode.patches.hdf5 import LARGEST_CHUNK, MORE, Rows, dataset, described, open_hdf5, own_names

VALUES = np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.h5"


def taken(path: Path) -> np.ndarray:
    with open_hdf5(path) as file:
        return Rows(dataset(file, "x", path)).read(0, 4)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as refused:
        taken(path)
    return str(refused.value)


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"chunks": (3, 8, 8, 3)},
        {"chunks": (2, 4, 8, 3), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (1, 8, 8, 3), "compression": "lzf"},
    ],
)
def test_values_of_its_own_are_read_however_they_lie(file, layout):
    with h5py.File(file, "w") as made:
        made.create_dataset("x", data=VALUES, **layout)
    np.testing.assert_array_equal(taken(file), VALUES)


@pytest.mark.parametrize(
    ("link", "message"),
    [
        (h5py.ExternalLink("other.h5", "x"), "'x' is a link to another file"),
        (h5py.SoftLink("/x"), "'x' is a link within the file"),
        (h5py.SoftLink("/nowhere"), "'x' is a link within the file"),
    ],
)
def test_links_are_refused_and_not_followed(file, tmp_path, link, message):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = VALUES
    with h5py.File(file, "w") as made:
        made["x"], made["y"] = link, VALUES
    assert message in refusal(file)
    with open_hdf5(file) as opened:
        assert own_names(opened, file) == ["y"]


def test_values_in_another_file_are_refused(file, tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"secret" * 200)
    with h5py.File(file, "w") as made:
        made.create_dataset("x", VALUES.shape, np.uint8, external=[(str(tmp_path / "secret.bin"), 0, VALUES.nbytes)])
    assert "the values of 'x' lie in another file" in refusal(file)


def test_a_virtual_dataset_is_refused(file, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = VALUES
    layout = h5py.VirtualLayout(VALUES.shape, np.uint8)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", VALUES.shape)
    with h5py.File(file, "w") as made:
        made.create_virtual_dataset("x", layout)
    assert "the values of 'x' lie in another file" in refusal(file)


@pytest.mark.parametrize("layout", [{}, {"chunks": (1, 8, 8, 3)}, {"chunks": (2, 8, 8, 3), "compression": "gzip"}])
def test_what_was_never_written_is_refused(file, layout):
    with h5py.File(file, "w") as made:
        made.create_dataset("x", VALUES.shape, np.uint8, **layout)
    assert "a part of 'x' was never written" in refusal(file)


def test_half_of_the_chunks_are_not_enough(file):
    with h5py.File(file, "w") as made:
        made.create_dataset("x", VALUES.shape, np.uint8, chunks=(1, 8, 8, 3))[:2] = VALUES[:2]
    assert "of 4 chunks that its shape (4, 8, 8, 3) needs, the file holds 2" in refusal(file)


def test_a_description_needs_no_values(file):
    with h5py.File(file, "w") as made:
        made.create_dataset("x", VALUES.shape, np.uint8, chunks=(1, 8, 8, 3))
    with open_hdf5(file) as opened:
        assert described(opened, "x", file).shape == VALUES.shape


def test_chunks_that_are_too_large_are_refused(file):
    rows = LARGEST_CHUNK // VALUES[0].nbytes + 1
    with h5py.File(file, "w") as made:
        made.create_dataset("x", VALUES.shape, np.uint8, maxshape=(None, 8, 8, 3), chunks=(rows, 8, 8, 3))
    assert "chunks of 67 MB" in refusal(file)


def test_a_chunk_that_unpacks_to_more_than_a_chunk_is_damaged(file):
    with h5py.File(file, "w") as made:
        x = made.create_dataset("x", (4, 256, 256, 3), np.uint8, chunks=(4, 256, 256, 3), compression="gzip")
        x.id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(300 << 20), 9))
    assert "damaged (the chunk at (0, 0, 0, 0) holds more than 786,432 bytes)" in _read_error(file)


def test_a_chunk_that_is_larger_in_the_file_than_unpacked_is_damaged(file):
    with h5py.File(file, "w") as made:
        x = made.create_dataset("x", VALUES.shape, np.uint8, chunks=VALUES.shape, compression="gzip")
        x.id.write_direct_chunk((0, 0, 0, 0), bytes(VALUES.nbytes + MORE + 1))
    assert "holds more than" in _read_error(file)


def test_two_compressions_over_each_other_are_refused(file):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk(VALUES.shape)
    plan.set_deflate(1)
    plan.set_deflate(1)
    with h5py.File(file, "w") as made:
        h5py.h5d.create(made.id, b"x", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple(VALUES.shape), plan)
    assert "compressed several times" in refusal(file)


@pytest.mark.parametrize("signature", [b"SNOD", b"TREE", b"HEAP"])
def test_names_that_are_damaged_are_refused(file, signature):
    with h5py.File(file, "w") as written:
        written["x"] = VALUES
    content = file.read_bytes()
    assert signature in content
    file.write_bytes(content.replace(signature, bytes(4)))
    assert "damaged" in refusal(file)
    with pytest.raises(DataError, match="damaged"), open_hdf5(file) as opened:
        own_names(opened, file)


def _read_error(path: Path) -> str:
    with open_hdf5(path) as file:
        rows = Rows(dataset(file, "x", path))
        with pytest.raises(OSError) as raised:
            rows.read(0, 4)
    return f"damaged ({raised.value})"
