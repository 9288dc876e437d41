"""Ctrl-C and the system's request to end: a run finishes its step, saves, and stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from sentinode.progress import console


class StopSignals:
    """While it is entered, SIGINT and SIGTERM set ``event`` instead of ending the process; a second one ends it.

    Only the main thread gets signals; in another one this does nothing.
    """

    def __init__(self, event: threading.Event) -> None:
        self.event = event
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.event.is_set():
            raise KeyboardInterrupt
        self.event.set()
        console.print("Saving after this step. Press Ctrl-C again to stop at once.")


@contextmanager
def left_to_workers(several: bool) -> Iterator[None]:
    """Ignore Ctrl-C in the parent of several workers: they save, and then the parent returns."""
    if not several or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
