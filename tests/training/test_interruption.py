"""A request to end reaches those who can save."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest

from sentinode.training import interruption
from sentinode.training.interruption import StopSignals, left_to_workers

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")


def test_a_request_sets_the_event_and_a_later_second_one_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    event = threading.Event()
    with StopSignals(event):
        os.kill(os.getpid(), signal.SIGTERM)
        assert event.is_set()
        os.kill(os.getpid(), signal.SIGTERM)  # the same request, from the system and from the parent
        monkeypatch.setattr(interruption, "ONE_REQUEST_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_the_parent_hands_the_systems_request_on_and_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as worker:
        monkeypatch.setattr(multiprocessing, "active_children", lambda: [worker])
        before = signal.getsignal(signal.SIGTERM)
        with left_to_workers(True):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            assert worker.wait(30) == -signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == before
