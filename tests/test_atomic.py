"""A file or folder appears whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from unittest import mock

import pytest

from sentinode.atomic import make_folder, whole_file, whole_folder, write_text
from sentinode.errors import OutputError


def full_disk(path: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    with whole_file(tmp_path / "deep" / "a.csv") as staged:
        staged.write_text("1")
        assert not (tmp_path / "deep" / "a.csv").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.csv"]


@pytest.mark.parametrize("name", ["x" * 251 + ".csv", "é" * 125 + ".csv"])
def test_a_name_as_long_as_the_disk_takes_leaves_room_for_the_temporary_one(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "1")
    with whole_folder(tmp_path / f"{name[:-4]}dir") as staged:
        (staged / "a").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, f"{name[:-4]}dir"]


def test_a_file_that_stood_there_survives_a_failure(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", "old")
    with pytest.raises(ValueError, match="half way"), whole_file(tmp_path / "a.csv") as staged:
        staged.write_text("new")
        raise ValueError("half way")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.csv", "old")]


def test_what_is_asked_last_decides_whether_the_file_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "state.json"

    def lost() -> None:
        assert [one.read_text() for one in tmp_path.glob(".*.part.json")] == ["new"]  # all of it is there by then
        raise KeyError("lost")

    file.write_text("old")
    with pytest.raises(KeyError):
        write_text(file, "new", last=lost)
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"] and file.read_text() == "old"
    write_text(file, "new", last=lambda: None)
    assert file.read_text() == "new"


def test_a_full_disk_is_said_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="disk is full"), whole_file(tmp_path / "a.csv") as staged:
        staged.write_text("half")
        full_disk(staged)
    assert not list(tmp_path.iterdir())


def test_a_folder_replaces_the_one_before_it_or_leaves_it_alone(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "out") as staged:
        (staged / "a").write_text("old")
    with pytest.raises(OutputError, match="disk is full"), whole_folder(tmp_path / "out") as staged:
        (staged / "a").write_text("half")
        full_disk(staged / "a")
    assert (tmp_path / "out" / "a").read_text() == "old"
    with whole_folder(tmp_path / "out") as staged:
        (staged / "b").write_text("new")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["out", "out/b"]


def test_a_missing_input_is_not_taken_for_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "out" / "a.csv"):
        (tmp_path / "elsewhere" / "input.csv").read_text()


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("I am a file")
    with pytest.raises(OutputError, match="there is a file where a folder is needed"):
        make_folder(tmp_path / "out")
    with pytest.raises(OutputError, match="there is a file where a folder is needed"):
        write_text(tmp_path / "out" / "a.csv", "x")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has a place that even root cannot write")
def test_a_place_that_nobody_can_write_is_refused() -> None:
    with pytest.raises(OutputError, match=r"cannot be written|folder is needed"):
        make_folder(Path("/proc/sentinode"))


@pytest.mark.parametrize("address", ["s3://bucket/maps", "https://host/maps", "gs://bucket"])
def test_an_address_is_no_folder_and_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(tmp_path)
    for begin in (lambda: make_folder(Path(address)), whole_folder(Path(address)).__enter__):
        with pytest.raises(OutputError, match="not to an address"):
            begin()
    with pytest.raises(OutputError, match="not to an address"):
        write_text(Path(address) / "table.csv", "")
    assert not any(tmp_path.iterdir())
    (tmp_path / "day:").mkdir()
    make_folder(Path("day:") / "maps")  # a folder that is there may be called as it likes


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path: Path) -> None:
    """``--out /dev/null`` as the administrator would put a file in the place of the device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for path in (pipe, tmp_path / "link"):
        with pytest.raises(OutputError, match="no regular file"):
            write_text(path, "1")
        with pytest.raises(OutputError, match="a file where a folder is needed"), whole_folder(path):
            pass
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_folder_is_not_taken_for_a_file_nor_a_file_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="a folder where a file is needed"):
        write_text(tmp_path, "1")
    write_text(tmp_path / "a.csv", "1")
    with pytest.raises(OutputError, match="a file where a folder is needed"), whole_folder(tmp_path / "a.csv"):
        pass
    assert (tmp_path / "a.csv").read_text() == "1"


def test_two_processes_of_one_id_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    """Two containers on a shared folder have the same process ids."""
    with mock.patch("os.getpid", return_value=7):
        with whole_file(tmp_path / "a") as one, whole_file(tmp_path / "a") as other:
            assert one != other
            one.write_text("one")
            other.write_text("other")
        with whole_folder(tmp_path / "b") as one, whole_folder(tmp_path / "b") as other:
            assert one != other


def test_a_place_whose_state_may_not_be_read_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a user who is not root, the parent folder may hide what stands there."""

    def forbidden(self: Path, **_: object) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    for name in ("exists", "is_dir", "is_file", "stat", "lstat"):
        monkeypatch.setattr(Path, name, forbidden)
    for write in (whole_file, whole_folder):
        with pytest.raises(OutputError, match="not writable"), write(tmp_path / "a.txt"):
            raise AssertionError("the block must not run")


def test_what_killed_processes_left_is_swept_after_a_day_and_nothing_else(tmp_path: Path) -> None:
    """The old version that a killed swap of folders has set aside may be the only one; it stays."""
    swept, kept = (
        [".a.0123abcd.part.csv", ".b.0123abcd.part"],
        [".b.0123abcd.old", ".a.part", "a.0123abcd.part", ".new"],
    )
    for name in (*swept, *kept):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / ".running.0123abcd.part").touch()
    folder = tmp_path / ".c.0123abcd.part"
    folder.mkdir()
    (folder / "half").touch()
    os.utime(folder, (1, 1))  # but the file in it is new
    write_text(tmp_path / "a.csv", "1")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*kept, ".running.0123abcd.part", folder.name, "a.csv"}


@pytest.mark.parametrize(
    "message",
    ["Error while serializing: I/O error: x (os error 28)", "unable to extend (errno = 28, error message = 'x')"],
)
def test_a_full_disk_is_also_known_from_the_errors_of_libraries(tmp_path: Path, message: str) -> None:
    with pytest.raises(OutputError, match="disk is full"), whole_file(tmp_path / "a"):
        raise RuntimeError(message)


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path) -> None:
    with mock.patch("os.fsync", side_effect=lambda _: names.append([path.name for path in tmp_path.iterdir()])):
        names: list[list[str]] = []
        write_text(tmp_path / "a", "1")
        with whole_folder(tmp_path / "b") as staged:
            (staged / "c").touch()
    assert len(names) == 2 and "a" not in names[0] and "b" not in names[1]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOLCK, "cannot be locked"), (errno.ENOSYS, "cannot be locked"), (errno.EFBIG, "not be so large")],
)
def test_locks_and_limits_have_their_own_words(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(OutputError, match=words), whole_file(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
