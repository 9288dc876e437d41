"""What a run leaves to read, and what happens where it cannot be written."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest
from tensorboard.summary.writer.record_writer import RecordWriter

from sentinode.errors import OutputError
from sentinode.training.logbook import CURVE, EVENTS, LOG, Logbook

ENTRY = {"epoch": 1.0, "step": 10.0, "train_loss": 0.5, "valid_nll": 0.4, "valid_auc": 0.9}


def test_an_epoch_is_in_the_table_the_picture_and_the_events(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path, [ENTRY])
    logbook.step(1, {"loss": 0.7})
    logbook.epoch()
    logbook.close()
    assert (tmp_path / LOG).read_text().splitlines()[0] == ",".join(ENTRY)
    assert (tmp_path / CURVE).stat().st_size > 0
    assert any(file.stat().st_size for file in (tmp_path / EVENTS).iterdir())


@pytest.mark.parametrize(("reason", "says"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "cannot be written")])
def test_events_that_cannot_be_written_are_an_error_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int, says: str
) -> None:
    """TensorBoard writes in a thread of its own, and raises what befell it in a later call."""
    printed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    logbook = Logbook(tmp_path, [ENTRY])

    def refused(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(RecordWriter, "write", refused)
    with pytest.raises(OutputError, match=says) as told:
        for step in range(100):
            logbook.step(step, {"loss": 0.7})
            time.sleep(0.01)
    assert EVENTS in str(told.value)
    with pytest.raises(OutputError, match=says):
        logbook.epoch()
    with pytest.raises(OutputError, match=says):
        logbook.close()
    assert not printed, "no traceback of that thread"
    assert threading.excepthook == printed.append


def test_other_threads_still_print_what_befell_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    logbook = Logbook(tmp_path, [ENTRY])
    other = threading.Thread(target=(tmp_path / "none").read_text)
    other.start()
    other.join()
    logbook.close()
    assert len(printed) == 1


def test_a_place_where_no_events_can_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / EVENTS).write_text("a file")
    with pytest.raises(OutputError, match="there is a file where a folder is needed"):
        Logbook(tmp_path, [])
