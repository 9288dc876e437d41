"""Ctrl-C and the system's request to end.

Each test is a process of its own, because a signal that is not caught would end the tests.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

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


def run(script: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_a_request_sets_the_event_and_a_later_second_one_ends_at_once() -> None:
    code, out, err = run(ASKED_TWICE)
    assert (code, out) == (0, "ended\n"), err


def test_the_parent_hands_the_systems_request_on_and_lives() -> None:
    code, out, err = run(HANDED_ON)
    assert (code, out) == (0, "lives\n"), err
