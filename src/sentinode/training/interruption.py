"""Ctrl-C and the system's request to end: a run finishes its step, saves, and stops."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from sentinode.progress import console

ONE_REQUEST_S = 1.0
"""Seconds within which a second signal is the same request to end."""


class StopSignals:
    """While it is entered, SIGINT and SIGTERM set ``event`` instead of ending the process; a second one ends it.

    Only the main thread gets signals; in another one this does nothing.
    """

    def __init__(self, event: threading.Event) -> None:
        self.event = event
        self._asked_at = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # A batch system asks all processes at once, and then the parent hands its own request on: that is one.
        if self.event.is_set() and time.monotonic() - self._asked_at > ONE_REQUEST_S:
            raise KeyboardInterrupt
        if self.event.is_set():
            return
        self.event.set()
        self._asked_at = time.monotonic()
        console.print("Saving after this step. Press Ctrl-C again to stop at once.")


@contextmanager
def left_to_workers(several: bool) -> Iterator[None]:
    """Leave it to several workers to save when they are asked to end; then their parent returns.

    Ctrl-C reaches them from the terminal. The system's request to end may reach the parent alone, which hands it on.
    """
    if not several or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, _hand_on),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hand_on(number: int, frame: FrameType | None) -> None:
    for worker in multiprocessing.active_children():
        if worker.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, number)
