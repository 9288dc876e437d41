"""Claims that hold on a disk whose locks do not work: taken by one process, and given up by the dead."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import Timeout

from made_disks import ELSEWHERE, WITHOUT_LOCKS
from sentinode import leases
from sentinode.errors import OutputError
from sentinode.leases import MARK, WANTED, LeaseLost
from sentinode.locks import LOCKS, is_locked, lock

fcntl = pytest.importorskip("fcntl", reason="locks of this system do not depend on the disk")

HOLD = """
import pathlib, sys, time
from sentinode.locks import lock
with lock(pathlib.Path(sys.argv[1]), "slide") as hold:
    print("held", flush=True)
    sys.stdin.readline()
    try:
        hold.require()
    except leases.LeaseLost:
        print("lost", flush=True)
    else:
        print("kept", flush=True)
"""


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without locks, and leases that are quick."""

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    monkeypatch.setattr(leases, "LEASE_S", 1.5)
    monkeypatch.setattr(leases, "BEAT_S", 0.1)


class Other:
    """Another process, which holds the slide's lease."""

    def __init__(self, out: Path, disk: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", disk + HOLD, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None and self._process.stdout.readline() == "held\n"

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def suspend(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> str:
        """Go on, and let go: whether it still held the lease."""
        self._process.send_signal(signal.SIGCONT)
        return str(self._process.communicate("\n", timeout=60)[0]).strip()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Other]:
    process = Other(tmp_path, ELSEWHERE)
    yield process
    process.kill()


def test_a_lease_is_held_by_one_process_and_free_after(tmp_path: Path, other: Other) -> None:
    with pytest.raises(Timeout), lock(tmp_path, "slide", wait=False):
        pass
    assert is_locked(tmp_path, "slide") is True and is_locked(tmp_path, "another") is False
    assert other.wake() == "kept"
    assert is_locked(tmp_path, "slide") is False
    with lock(tmp_path, "slide", wait=False) as hold:
        hold.require()
    assert {file.name for file in (tmp_path / LOCKS).iterdir()} == {MARK, "slide.lock"}


def test_a_lease_whose_owner_lives_is_waited_for_however_long_that_takes(tmp_path: Path, other: Other) -> None:
    threading.Timer(2 * leases.LEASE_S, other.wake).start()
    began = time.monotonic()
    with lock(tmp_path, "slide"):
        assert time.monotonic() - began >= 2 * leases.LEASE_S


def test_a_lease_of_a_process_that_was_killed_on_another_machine_is_taken_over_after_a_while(
    tmp_path: Path, other: Other
) -> None:
    other.kill()
    began = time.monotonic()
    with pytest.raises(Timeout), lock(tmp_path, "slide", wait=False):
        pass
    with lock(tmp_path, "slide") as hold:
        assert time.monotonic() - began >= leases.LEASE_S / 2
        hold.require()
    # A lease that was left long ago is taken by whoever does not wait, too.
    again = Other(tmp_path, ELSEWHERE)
    again.kill()
    time.sleep(1.2 * leases.LEASE_S)
    assert is_locked(tmp_path, "slide") is False
    with lock(tmp_path, "slide", wait=False):
        pass


def test_a_lease_of_a_process_that_was_killed_on_this_machine_is_free_at_once(tmp_path: Path) -> None:
    Other(tmp_path, WITHOUT_LOCKS).kill()
    began = time.monotonic()
    with lock(tmp_path, "slide", wait=False):
        assert time.monotonic() - began < leases.LEASE_S


def test_an_owner_that_was_suspended_loses_its_lease_and_notices(tmp_path: Path, other: Other) -> None:
    other.suspend()
    with lock(tmp_path, "slide") as hold:
        assert other.wake() == "lost"
        time.sleep(3 * leases.BEAT_S)
        hold.require()  # and does not take ours along


def test_an_owner_notices_before_it_writes_that_its_file_is_gone(tmp_path: Path) -> None:
    with lock(tmp_path, "slide") as hold:
        (tmp_path / LOCKS / "slide.lease").unlink()
        with pytest.raises(LeaseLost):
            hold.require()


@pytest.mark.parametrize("shift", [-1e6, 1e6])
def test_a_clock_that_is_wrong_takes_no_lease_from_a_process_that_lives(
    tmp_path: Path, other: Other, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1e9 + shift)
    monkeypatch.setattr(leases, "is_fresh", lambda _: False)
    with pytest.raises(Timeout), lock(tmp_path, "slide", wait=False):
        pass
    assert other.wake() == "kept"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EIO, errno.EOPNOTSUPP])
def test_whatever_a_disk_says_that_has_no_locks_leases_take_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    with lock(tmp_path, "slide"):
        assert (tmp_path / LOCKS / "slide.lease").is_file()


def test_where_one_process_uses_leases_all_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock and a lease would not see each other."""
    with lock(tmp_path, "first"):
        monkeypatch.undo()
        with lock(tmp_path, "second"):
            assert (tmp_path / LOCKS / "second.lease").is_file()


def test_leases_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with lock(tmp_path, "slide") as hold:
        assert not (tmp_path / LOCKS / "slide.lease").exists()
        hold.require()
    monkeypatch.setenv(WANTED, "1")
    with lock(tmp_path, "slide"):
        assert (tmp_path / LOCKS / "slide.lease").is_file()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may write everywhere")
def test_a_folder_that_is_read_only_is_refused_and_cannot_be_told(tmp_path: Path, other: Other) -> None:
    (tmp_path / LOCKS).chmod(0o500)
    try:
        assert is_locked(tmp_path, "slide") is None
        with pytest.raises(OutputError), lock(tmp_path, "another"):
            pass
    finally:
        (tmp_path / LOCKS).chmod(0o700)


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(leases, "SoftFileLease", full)
    with pytest.raises(OutputError, match="disk is full"), lock(tmp_path, "slide"):
        pass
