"""A request to end reaches those who can save."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from sentinode.training.interruption import left_to_workers

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")


ASKED_TWICE = """
import os, signal, threading
from sentinode.training import interruption

event = threading.Event()
with interruption.StopSignals(event):
    os.kill(os.getpid(), signal.SIGTERM)
    assert event.is_set()
    os.kill(os.getpid(), signal.SIGTERM)  # the same request, from the system and from the parent
    interruption.ONE_REQUEST_S = -1.0
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        print("ended")
"""


def test_a_request_sets_the_event_and_a_later_second_one_ends_at_once() -> None:
    """In a process of its own, because a signal that is not caught would end the tests."""
    done = subprocess.run([sys.executable, "-c", ASKED_TWICE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


def test_the_parent_hands_the_systems_request_on_and_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as worker:
        monkeypatch.setattr(multiprocessing, "active_children", lambda: [worker])
        before = signal.getsignal(signal.SIGTERM)
        with left_to_workers(True):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            assert worker.wait(30) == -signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == before
