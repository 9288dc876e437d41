"""Make the next items in threads while the last one is used, so that reading and computing overlap."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4
"""How many items wait at most."""


def read_ahead(items: Iterable[T], depth: int = AHEAD) -> Iterator[T]:
    """Yield ``items`` in order while a thread makes the next ones.

    An error of the thread is raised here, in its place among the items. A caller that stops early stops the thread.

    Args:
        items: the items to make; only the thread uses this iterable.
        depth: how many items wait at most.
    """
    ready: queue.Queue[Future[T] | None] = queue.Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(target=_make, args=(items, ready, stop), name="read-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            yield item.result()
    finally:
        stop.set()
        thread.join()


def in_order(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Yield each item with what ``function`` makes of it, in order, while ``workers`` threads compute the next ones.

    An error of ``function`` is raised here, in its place among the items.
    """
    if workers == 1:
        for item in items:
            yield item, function(item)
        return
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="compute") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > workers:
                    done, result = waiting.popleft()
                    yield done, result.result()
            while waiting:
                done, result = waiting.popleft()
                yield done, result.result()
        finally:
            for _, result in waiting:
                result.cancel()


def _make(items: Iterable[T], ready: queue.Queue[Future[T] | None], stop: threading.Event) -> None:
    """Put each item into ``ready``, or the error in its place, and None after the last."""
    try:
        for item in items:
            made: Future[T] = Future()
            made.set_result(item)
            if not _put(made, ready, stop):
                return
        _put(None, ready, stop)
    except BaseException as error:
        failed: Future[T] = Future()
        failed.set_exception(error)
        _put(failed, ready, stop)


def _put(item: Future[T] | None, ready: queue.Queue[Future[T] | None], stop: threading.Event) -> bool:
    """Wait for room. Return whether the item was added; it is not added if nobody wants more items."""
    while not stop.is_set():
        with suppress(queue.Full):
            ready.put(item, timeout=0.1)
            return True
    return False
