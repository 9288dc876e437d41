"""Ctrl-C and the system's request to end.

Each test is a process of its own, because a signal that is not caught would end the tests.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from warm_processes import Warm

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

HANDED_ON = """
import multiprocessing, os, signal, subprocess, sys
from sentinode.training.interruption import left_to_workers

with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as worker:
    multiprocessing.active_children = lambda: [worker]
    before = signal.getsignal(signal.SIGTERM)
    with left_to_workers(True):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert worker.wait(30) == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
print("lives")
"""


def test_a_request_sets_the_event_and_a_later_second_one_ends_at_once(tmp_path: Path) -> None:
    process = Warm(tmp_path, program=ASKED_TWICE)
    assert (process.wait(), process.stdout) == (0, "ended\n"), process.stderr


def test_the_parent_hands_the_systems_request_on_and_lives(tmp_path: Path) -> None:
    process = Warm(tmp_path, program=HANDED_ON)
    assert (process.wait(), process.stdout) == (0, "lives\n"), process.stderr
