"""Work shared by the machines of a Ray cluster.

Each GPU, or each few cores, has a worker: a Ray actor that is opened once and then does one item after the other. Nodes
may come and go. A worker that dies is replaced where there is room, and its items are done by others. Ray is imported
only here, and only when a cluster is asked for.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sentinode.errors import DeviceError
from sentinode.progress import bar, console

T = TypeVar("T")
R = TypeVar("R")

LOCAL = "local"

CORES = 4
"""Cores of a worker without a GPU, or all of the smallest node if it has fewer."""

QUEUED = 2
"""Items that a worker has at most: the one that it does, and the next. Near the end it has one, and none waits behind
another while a worker is free."""

TRIES = 5
"""Times that an item is begun whose worker dies."""

POLL_S = 1.0
"""Seconds between two looks at which nodes there are."""

STORE_BYTES = 100_000_000
"""Size of the object store of a local cluster; hardly anything passes through it."""


@dataclass(frozen=True)
class Lost:
    """What came of an item whose workers died, ``tries`` times."""

    tries: int


def run(
    address: str,
    open_worker: Callable[[], Callable[[T], R]],
    items: Iterable[T],
    *,
    gpu: bool | None = None,
    divide: Callable[[Sequence[T], int], Sequence[T]] | None = None,
    prepare: bool = False,
    note: Callable[[str], object] = lambda _: None,
) -> Generator[tuple[T, R | Lost], None, None]:
    """Do items on a cluster, and yield each with its result as it is done.

    Args:
        address: ``auto`` for the cluster of this machine, ``ray://host:port`` or ``host:port`` for another, ``local``
            for one that is started here and ends with the work.
        open_worker: called once in each worker; returns what does an item there. Both are sent by pickle.
        items: what to do, in the order in which it is begun. Items may be added to a deque between two results.
        gpu: whether a worker has a GPU; None if any node has one.
        divide: given the items that wait where they are fewer than the workers, and the number of these, returns what
            is done in their place, such as parts of some.
        prepare: what does an item also has a method ``prepare``, which a worker calls with its next item, in another
            thread, while it does one.
        note: called with the number of workers, in words, when it changes.

    Raises:
        DeviceError: there is no such cluster, it was lost, or no worker can be opened.
        Exception: what an item or the opening of a worker raised.
    """
    queue = items if isinstance(items, deque) else deque(items)
    with _connected(address) as ray:
        pool: _Pool[T, R] = _Pool(ray, open_worker, queue, gpu, divide, prepare, note)
        try:
            yield from pool.results()
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise DeviceError(
                f"the connection to the Ray cluster was lost ({type(error).__name__}).",
                where=address,
                hint="Look at the cluster with 'ray status', and run the same command again; what is done stays done.",
            ) from error
        finally:
            pool.close()


def run_all(
    address: str,
    open_worker: Callable[[], Callable[[T], R]],
    items: Sequence[T],
    title: str,
    *,
    name: Callable[[T], str],
    unit: str,
    units: Callable[[T], int] = lambda _: 1,
    gpu: bool | None = None,
    show: bool = True,
) -> Generator[tuple[T, R], None, None]:
    """As :func:`run`, with a bar called ``title``, for work of which no item may be missing.

    The bar counts ``unit``, in the plural, of which an item has ``units``.

    Raises:
        DeviceError: also if an item's workers died too often; ``name`` says which item it was.
    """
    with (
        bar(title, sum(map(units, items)), unit=unit, show=show) as shown,
        contextlib.closing(run(address, open_worker, items, gpu=gpu, note=shown.note)) as results,
    ):
        for item, result in results:
            if isinstance(result, Lost):
                raise DeviceError(
                    f"{result.tries} workers ended at this item, perhaps because memory ran out.",
                    where=name(item),
                    hint="Give workers more memory, or leave the item out.",
                )
            shown.advance(units(item))
            yield item, result


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, connected. A connection that this process has already stays as it is.

    Raises:
        DeviceError: Ray is missing, or there is no such cluster.
    """
    if not re.fullmatch(r"auto|local|(ray://)?[^\s/@]+:[0-9]+", address):
        raise DeviceError(
            "this is no address of a Ray cluster.", where=address, hint="Give auto, local, or ray://HOST:10001."
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning about the next version
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise DeviceError("Ray is not installed.", hint="Install it: pip install 'sentinode[cluster]'.") from error
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"address": address, "logging_level": "ERROR"}
    if address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise DeviceError(
            f"there is no Ray cluster to be reached ({type(error).__name__}).",
            where=address,
            hint="Start one with 'ray start --head', and join it from the other machines with 'ray start --address "
            "HOST:6379'. All need the same versions of Python and Ray.",
        ) from error
    try:
        yield ray
    finally:
        with contextlib.suppress(Exception):  # the cluster may be gone
            ray.shutdown()


class _Worker(Generic[T, R]):
    """What an actor is made of. It has one thread, or one for each item that it may have."""

    def open(self, open_worker: Callable[[], Callable[[T], R]], prepare: bool) -> None:
        self._work, self._prepare, self._one_at_a_time = open_worker(), prepare, threading.Lock()

    def do(self, item: T) -> R:
        if self._prepare:
            self._work.prepare(item)  # type: ignore[attr-defined]
        with self._one_at_a_time:
            return self._work(item)


@dataclass
class _Task(Generic[T]):
    """An item, and how often it has been begun."""

    item: T
    tries: int = 0


@dataclass(eq=False)
class _Handle(Generic[T]):
    """A worker as the driver sees it.

    Attributes:
        tasks: what it has to do, by Ray's references, the oldest first.
    """

    actor: Any
    is_open: bool = False
    tasks: dict[Any, _Task[T]] = field(default_factory=dict)


class _Pool(Generic[T, R]):
    """The workers, and what they have to do."""

    def __init__(
        self,
        ray: Any,
        open_worker: Callable[[], Callable[[T], R]],
        items: deque[T],
        gpu: bool | None,
        divide: Callable[[Sequence[T], int], Sequence[T]] | None,
        prepare: bool,
        note: Callable[[str], object],
    ) -> None:
        self._ray, self._divide, self._prepare, self._note = ray, divide, prepare, note
        self._open_worker = ray.put(open_worker)
        self._actors = ray.remote(_Worker)
        self._items = items
        self._again: deque[_Task[T]] = deque()  # whose workers died; they come first
        self._workers: list[_Handle[T]] = []
        self._opening: dict[Any, _Handle[T]] = {}
        self._gpu = gpu
        self._needs = _needs(ray.nodes(), gpu)
        self._refused: list[DeviceError] = []
        self._looked = -POLL_S

    def results(self) -> Iterator[tuple[T, R | Lost]]:
        while self._waiting or any(worker.tasks for worker in self._workers):
            self._hire()
            self._hand_out()
            references = [*self._opening, *(one for worker in self._workers for one in worker.tasks)]
            done, _ = self._ray.wait(references, num_returns=1, timeout=POLL_S) if references else ([], [])
            if not references:
                time.sleep(POLL_S)
            for reference in done:
                yield from self._settle(reference)

    @property
    def _waiting(self) -> int:
        return len(self._again) + len(self._items)

    def close(self) -> None:
        """Let the workers go."""
        for worker in self._workers:
            with contextlib.suppress(Exception):  # the cluster may be gone
                self._ray.kill(worker.actor)

    def _hire(self) -> None:
        """Have as many workers as fit on the nodes, and no more than there are items, or parts of them."""
        if time.monotonic() - self._looked < POLL_S:
            return
        self._looked = time.monotonic()
        nodes = self._ray.nodes()
        self._suit(_needs(nodes, self._gpu))
        alive = [node["Resources"] for node in nodes if node["Alive"]]
        room = sum(int(min(node.get(name, 0) / need for name, need in self._needs.items())) for node in alive)
        if len(self._refused) >= max(room, 1) and not self._workers:
            raise self._refused[0]
        # One worker is asked for even where there is no room, so that clusters that grow by themselves do.
        most = max(room - len(self._refused), 1)
        for _ in range(min(most, self._left(most)) - len(self._workers)):
            options = {"num_cpus": self._needs["CPU"], "num_gpus": self._needs.get("GPU", 0), "max_restarts": 0}
            options |= {"max_concurrency": QUEUED if self._prepare else 1}
            worker = _Handle[T](self._actors.options(**options).remote())
            self._workers.append(worker)
            self._opening[worker.actor.open.remote(self._open_worker, self._prepare)] = worker

    def _left(self, workers: int) -> int:
        """Items that are not done, where those that would be divided among so many workers count as their parts."""
        left = self._waiting + sum(len(worker.tasks) for worker in self._workers)
        if self._divide is not None and 0 < left < workers:
            left += len(self._divide(list(self._items), workers)) - len(self._items)
        return left

    def _suit(self, needs: dict[str, float]) -> None:
        """Ask for what suits the nodes that are there now, as long as no worker is open: those that were there at the
        beginning, if any, may have been larger, and no worker would find room on these."""
        if needs == self._needs or any(worker.is_open for worker in self._workers):
            return
        self._needs = needs
        for worker in list(self._workers):
            self._dismiss(worker)

    def _hand_out(self) -> None:
        """Give the items that wait to the workers with the fewest."""
        ready = [worker for worker in self._workers if worker.is_open]
        while self._waiting and ready:
            worker = min(ready, key=lambda one: len(one.tasks))
            if len(worker.tasks) >= (QUEUED if self._waiting > len(self._workers) else 1):
                return
            task = self._next()
            worker.tasks[worker.actor.do.remote(task.item)] = task

    def _next(self) -> _Task[T]:
        """Take what is to be done next."""
        if self._again:
            return self._again.popleft()
        if self._divide is not None and self._waiting < len(self._workers):
            items = self._divide(list(self._items), len(self._workers))
            self._items.clear()
            self._items.extend(items)
        return _Task(self._items.popleft())

    def _settle(self, reference: Any) -> Iterator[tuple[T, R | Lost]]:
        """What came of a reference: a worker that is open, an item that is done, or a worker that is gone."""
        worker = self._opening.pop(reference, None) or next(
            (one for one in self._workers if reference in one.tasks), None
        )
        if worker is None:  # of a worker that is gone already
            return
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if worker.is_open or not isinstance(error.cause, DeviceError):
                raise error.cause from None
            self._refused.append(error.cause)
            console.print(f"A worker is left out: {error.cause}", markup=False)
            self._dismiss(worker)
        except self._ray.exceptions.RayError:
            yield from self._bury(worker)
        else:
            if worker.is_open:
                yield worker.tasks.pop(reference).item, result
            else:
                worker.is_open = True
                self._count()

    def _bury(self, worker: _Handle[T]) -> Iterator[tuple[T, R | Lost]]:
        """Take back what a dead worker had; it died of the oldest item, if of any."""
        self._dismiss(worker)
        tasks = list(worker.tasks.values())
        worker.tasks.clear()
        self._again.extendleft(reversed(tasks[1:]))
        for task in tasks[:1]:
            task.tries += 1
            if task.tries < TRIES:
                self._again.appendleft(task)
            else:
                yield task.item, Lost(task.tries)

    def _dismiss(self, worker: _Handle[T]) -> None:
        self._workers.remove(worker)
        self._opening = {reference: one for reference, one in self._opening.items() if one is not worker}
        with contextlib.suppress(Exception):  # it may be gone
            self._ray.kill(worker.actor)
        self._count()

    def _count(self) -> None:
        number = sum(worker.is_open for worker in self._workers)
        self._note(f"{number} worker{'' if number == 1 else 's'}")


def _needs(nodes: Sequence[dict[str, Any]], gpu: bool | None) -> dict[str, float]:
    """The resources of a worker, by Ray's names."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    if gpu is None:
        gpu = any(node.get("GPU", 0) >= 1 for node in alive)
    if gpu:
        return {"CPU": 1, "GPU": 1}
    return {"CPU": min([CORES, *(int(node["CPU"]) for node in alive if node.get("CPU", 0) >= 1)])}
