from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentinode.errors import DataError, OutputError
from sentinode.leases import MARK
from sentinode.patches import cache, open_data

LABELS = [0, 1] * 10


@pytest.fixture
def store(tmp_path):
    return tmp_path / "cache"


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def opened(disk, store):
    return open_data(disk.folder, cache=store, show=False)["test"].images


def test_patches_are_unpacked_once(disk, store, monkeypatch):
    images = disk.patches(20)
    disk.parquet("test.parquet", images, LABELS)
    np.testing.assert_array_equal(opened(disk, store)[:], images)
    assert files_in(store) == ["about.json", "pixels.bin", "unpacking.lock"]
    monkeypatch.setattr("sentinode.patches.parquet.decode", lambda *_: pytest.fail("decoded again"))
    np.testing.assert_array_equal(opened(disk, store)[:], images)


def test_changed_files_are_unpacked_again(disk, store):
    disk.parquet("test.parquet", disk.patches(20), LABELS)
    opened(disk, store)
    changed = disk.patches(20, seed=1)
    disk.parquet("test.parquet", changed, LABELS)
    np.testing.assert_array_equal(opened(disk, store)[:], changed)
    assert len(list(store.rglob("pixels.bin"))) == 1


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "without its description", "of a newer version"])
def test_a_damaged_entry_is_made_again(disk, store, damage):
    images = disk.patches(20)
    disk.parquet("test.parquet", images, LABELS)
    opened(disk, store)
    (pixels,) = store.rglob("pixels.bin")
    about = pixels.with_name("about.json")
    if damage == "truncated":
        os.truncate(pixels, 1000)
    elif damage == "overwritten":
        pixels.write_bytes(bytes(pixels.stat().st_size))
    elif damage == "without its description":
        about.unlink()
    else:
        about.write_text(json.dumps({**json.loads(about.read_text()), "version": 99}))
    np.testing.assert_array_equal(opened(disk, store)[:], images)


def test_the_environment_names_the_cache(disk, tmp_path, monkeypatch):
    disk.parquet("test.parquet", disk.patches(20), LABELS)
    monkeypatch.setenv("SENTINODE_CACHE", str(tmp_path / "named"))
    open_data(disk.folder)["test"]
    assert "pixels.bin" in files_in(tmp_path / "named")


def test_a_disk_with_too_little_room_is_refused_before_anything_is_written(disk, store, monkeypatch):
    disk.parquet("test.parquet", disk.patches(20), LABELS)
    usage = type(shutil.disk_usage("/"))(10**9, 10**9, 1000)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"needs 0\.00 GB") as refused:
        opened(disk, store)
    assert "SENTINODE_CACHE" in refused.value.hint
    assert files_in(store) == ["unpacking.lock"]


def test_a_place_that_cannot_be_written_is_refused(disk, tmp_path):
    disk.parquet("test.parquet", disk.patches(20), LABELS)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="there is a file where a folder is needed"):
        opened(disk, tmp_path / "file" / "cache")


def test_unreadable_patches_leave_nothing_behind(disk, store):
    disk.classes(disk.patches(20), LABELS, ("normal", "tumour"), below="test")
    (disk.folder / "test" / "normal" / "0.png").write_text("text")
    with pytest.raises(DataError):
        opened(disk, store)
    assert files_in(store) == ["unpacking.lock"]


def _open(folder, store, started):
    started.wait()
    images = open_data(folder, cache=store, show=False)["test"].images
    assert images[:].shape == (100, 96, 96, 3)


def test_two_processes_at_once_share_one_entry(disk, store):
    disk.parquet("test.parquet", disk.patches(100), [0, 1] * 50)
    spawn = multiprocessing.get_context("spawn")
    started = spawn.Barrier(2)
    workers = [spawn.Process(target=_open, args=(disk.folder, store, started)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert files_in(store) == ["about.json", "pixels.bin", "unpacking.lock"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_while_unpacking_it_starts_afresh_and_clears_what_was_left(disk, store):
    images = disk.patches(20)
    disk.parquet("test.parquet", images, LABELS)
    slow = (
        "import sys, time; from sentinode.patches import open_data, pixels\n"
        "wait = pixels.decode\n"
        "import sentinode.patches.parquet as p\n"
        "p.decode = lambda *a: (time.sleep(0.2), wait(*a))[1]\n"
        "open_data(sys.argv[1], cache=__import__('pathlib').Path(sys.argv[2]))['test']"
    )
    worker = subprocess.Popen([sys.executable, "-c", slow, str(disk.folder), str(store)])
    until = time.monotonic() + 60
    while not list(store.rglob("*.part.bin")) and time.monotonic() < until:
        time.sleep(0.02)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert list(store.rglob("*.part.bin"))
    np.testing.assert_array_equal(opened(disk, store)[:], images)
    assert files_in(store) == ["about.json", "pixels.bin", "unpacking.lock"]


@pytest.mark.skipif(sys.platform == "win32", reason="locks of Windows do not depend on the disk")
@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.ENOSYS, errno.EIO])
def test_on_a_disk_without_locks_a_lease_is_held_that_does_not_outlive_its_process(disk, store, monkeypatch, reason):
    def refused(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr("fcntl.flock", refused)
    images = disk.patches(20)
    disk.parquet("test.parquet", images, LABELS)
    np.testing.assert_array_equal(opened(disk, store)[:], images)
    assert MARK in files_in(store) and not list(store.rglob("*.lease"))
    next(store.rglob("pixels.bin")).unlink()
    np.testing.assert_array_equal(opened(disk, store)[:], images)


MEASURED = """
import resource, sys
from pathlib import Path
import numpy as np
from sentinode.patches import open_data

def held():  # kB that no file backs, and that the system therefore cannot drop
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0])

warm = open_data(sys.argv[1], cache=Path(sys.argv[3]), show=False)["test"].images[:8]
before, peak = held(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images = open_data(sys.argv[2], cache=Path(sys.argv[3]), show=False)["train"].images
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
total = 0
for start in range(0, len(images), 64):
    total += int(images[start : start + 64].sum())
for rows in np.array_split(np.random.default_rng(0).permutation(len(images)), 50):
    total += int(images[rows].sum())
print(held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured by Linux's /proc")
@pytest.mark.parametrize("kind", ["parquet", "gzip", "contiguous"])
def test_memory_stays_far_below_the_size_of_the_data(disk, tmp_path, store, kind):
    few, labels = disk.patches(64), np.arange(64) % 2
    type(disk)(tmp_path / "small").parquet("test.parquet", few, labels)
    many, repeats = np.tile(few, (40, 1, 1, 1)), 40  # 71 MB
    if kind == "parquet":
        disk.parquet("train-0.parquet", few, labels)
        shard = pq.read_table(disk.folder / "train-0.parquet")
        pq.write_table(pa.concat_tables([shard] * repeats), disk.folder / "train-0.parquet", row_group_size=256)
    else:
        disk.official("train", many, np.tile(labels, repeats), packed=kind == "gzip")
    command = [sys.executable, "-c", MEASURED, tmp_path / "small", disk.folder, store]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    unpacking, reading = (int(line) / 1000 for line in done.stdout.split())
    assert unpacking < 35, f"unpacking 71 MB of patches took {unpacking:.0f} MB of memory"
    assert reading < 20, f"reading 71 MB of patches took {reading:.0f} MB of memory"
