"""Work on a cluster: every item is done once, whatever dies, and no worker has more than it can soon do.

A stand-in for Ray runs the workers in this process, one call at a time; tests/slides/test_cluster_scan.py uses Ray.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_in_ray import Call, StandInRay, install

from sentinode import cluster
from sentinode.cluster import QUEUED, TRIES, Lost
from sentinode.errors import DeviceError, OutputError


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[StandInRay], StandInRay]:
    return lambda ray: install(ray, monkeypatch)


def squares() -> Callable[[int], int]:
    return lambda item: item * item


def test_each_item_is_done_once_in_the_order_given_and_workers_have_one_in_hand_and_one_to_come(
    use: Callable[[StandInRay], StandInRay],
) -> None:
    ray = use(StandInRay([{"CPU": 8.0}, {"CPU": 4.0}]))
    notes: list[str] = []
    results = list(cluster.run("auto", squares, range(20), note=notes.append))
    assert sorted(results) == [(i, i * i) for i in range(20)]
    assert len(ray.actors) == 3 and not any(actor.alive for actor in ray.actors)
    assert {actor.resources["num_cpus"] for actor in ray.actors} == {4}
    assert ray.most <= QUEUED and notes[-1] == "3 workers"
    assert {item for item, _ in results[:6]} <= set(range(12))


def test_the_bar_counts_what_the_items_hold(
    use: Callable[[StandInRay], StandInRay], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(StandInRay([{"CPU": 1.0}]))
    monkeypatch.setattr("sentinode.progress.SILENT_S", 0)
    items = [range(0, 40), range(40, 70)]
    done = cluster.run_all("auto", lambda: len, items, "Scoring", name=str, unit="patches", units=len)
    assert list(done) == [(items[0], 40), (items[1], 30)]
    assert "Scoring: 40/70 patches" in capsys.readouterr().err


def test_there_are_no_more_workers_than_items(use: Callable[[StandInRay], StandInRay]) -> None:
    ray = use(StandInRay([{"CPU": 64.0}]))
    assert len(list(cluster.run("auto", squares, [1, 2]))) == 2
    assert len(ray.actors) <= 2


def test_near_the_end_no_item_waits_behind_another_while_a_worker_is_free(
    use: Callable[[StandInRay], StandInRay],
) -> None:
    ray = use(StandInRay([{"CPU": 1.0}] * 3))
    list(cluster.run("auto", squares, [1, 2, 3]))
    assert len(ray.actors) == 3 and ray.most == 1


def test_items_are_divided_where_workers_would_have_nothing_to_do(use: Callable[[StandInRay], StandInRay]) -> None:
    def divide(items: Sequence[int], workers: int) -> list[int]:
        assert len(items) < workers
        return [part for item in items for part in ([100] * (item // 100) if item > 100 else [item])]

    ray = use(StandInRay([{"CPU": 1.0}] * 6))
    assert list(cluster.run("auto", squares, [400], divide=divide)) == [(100, 10_000)] * 4
    assert len(ray.actors) == 4
    use(StandInRay([{"CPU": 1.0}] * 4))
    results = sorted(cluster.run("auto", squares, [1, 2, 3, 4, 5, 6, 7, 400], divide=divide))
    assert [item for item, _ in results] == [1, 2, 3, 4, 5, 6, 7, *[100] * 4]
    use(StandInRay([{"CPU": 1.0}]))
    assert list(cluster.run("auto", squares, [400], divide=divide)) == [(400, 160_000)]


def test_items_that_are_added_between_two_results_are_done(use: Callable[[StandInRay], StandInRay]) -> None:
    use(StandInRay([{"CPU": 1.0}]))
    queue = deque([1, 2])
    done = []
    for item, _ in cluster.run("auto", squares, queue):
        done.append(item)
        if item < 10:
            queue.appendleft(10 * item)
    assert sorted(done) == [1, 2, 10, 20]


def test_a_worker_prepares_what_comes_next_while_it_does_an_item_and_does_one_at_a_time() -> None:
    events: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    class Work:
        def prepare(self, item: int) -> None:
            events.append(f"prepare {item}")
            if item == 2:
                go_on.set()

        def __call__(self, item: int) -> int:
            events.append(f"do {item}")
            begun.set()
            assert go_on.wait(10)
            events.append(f"done {item}")
            return item

    worker = cluster._Worker[int, int]()
    worker.open(Work, True)
    with ThreadPoolExecutor(cluster.QUEUED) as threads:
        first = threads.submit(worker.do, 1)
        assert begun.wait(10)
        second = threads.submit(worker.do, 2)
        assert (first.result(), second.result()) == (1, 2)
    assert events[:5] == ["prepare 1", "do 1", "prepare 2", "done 1", "do 2"]


@settings(deadline=None)
@given(st.integers(0, 12), st.sets(st.integers(1, 40), max_size=12))
def test_whoever_dies_every_item_is_done_or_given_up(count: int, deaths: set[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        ray = install(StandInRay([{"CPU": 2.0}, {"CPU": 2.0}], dies=deaths.__contains__), patch)
        results = list(cluster.run("auto", squares, range(count)))
    assert sorted(item for item, _ in results) == list(range(count))
    assert all(answer == item * item or answer == Lost(TRIES) for item, answer in results)
    assert len(deaths) >= TRIES or not any(isinstance(answer, Lost) for _, answer in results)
    assert ray.most <= QUEUED


def test_an_item_that_kills_its_workers_is_given_up_and_the_others_are_done(
    use: Callable[[StandInRay], StandInRay],
) -> None:
    ray = use(StandInRay([{"CPU": 1.0}]))

    def deadly() -> Callable[[int], int]:
        def work(item: int) -> int:
            if item == 3:
                ray.dies = lambda _: True  # until somebody else is asked
                raise MemoryError
            return item

        return work

    run_call = ray._run

    def run(call: Call) -> None:
        ray.dies = lambda _: call.method == "do" and call.arguments == (3,)
        run_call(call)

    ray._run = run  # type: ignore[method-assign]
    results = dict(cluster.run("auto", deadly, [3, 1, 2]))
    assert results == {3: Lost(TRIES), 1: 1, 2: 2}


def test_workers_come_with_nodes_and_are_replaced_where_there_is_room(
    use: Callable[[StandInRay], StandInRay],
) -> None:
    ray = use(StandInRay([{"CPU": 4.0}]))
    for number, _ in enumerate(cluster.run("auto", squares, range(12))):
        if number == 2:
            ray.resources.append({"CPU": 4.0})
    assert len(ray.actors) == 2


def test_workers_suit_the_nodes_that_come_where_there_was_none(
    use: Callable[[StandInRay], StandInRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan that begins while the last node is dead asks for four cores, and nodes of one core come."""
    ray = use(StandInRay([]))
    looks: list[int] = []

    def nodes() -> list[dict[str, Any]]:
        looks.append(1)
        if len(looks) == 5:
            ray.resources.append({"CPU": 1.0})
        return ray.nodes()

    monkeypatch.setattr(sys.modules["ray"], "nodes", nodes)
    assert sorted(cluster.run("auto", squares, range(3))) == [(0, 0), (1, 1), (2, 4)]
    assert [actor.resources["num_cpus"] for actor in ray.actors] == [4, 1]


def test_what_an_item_raises_is_raised_here_as_it_was(use: Callable[[StandInRay], StandInRay]) -> None:
    ray = use(StandInRay([{"CPU": 1.0}]))
    fault = OutputError("the disk is full.", where="maps", hint="Free some space.")

    def full() -> Callable[[int], int]:
        def work(_: int) -> int:
            raise fault

        return work

    with pytest.raises(OutputError) as caught:
        list(cluster.run("auto", full, [1]))
    assert caught.value is fault and not any(actor.alive for actor in ray.actors)


def test_a_machine_that_cannot_open_a_worker_is_left_out_and_its_reason_said(
    use: Callable[[StandInRay], StandInRay], capsys: pytest.CaptureFixture[str]
) -> None:
    use(StandInRay([{"CPU": 4.0}, {"CPU": 4.0}]))
    opened: list[int] = []

    def open_worker() -> Callable[[int], int]:
        opened.append(1)
        if len(opened) == 1:
            raise DeviceError("this machine offers another engine.")
        return squares()

    assert len(list(cluster.run("auto", open_worker, range(5)))) == 5
    assert "A worker is left out: this machine offers another engine." in capsys.readouterr().err

    def refused() -> Callable[[int], int]:
        raise DeviceError("this machine offers another engine.")

    with pytest.raises(DeviceError, match="another engine"):
        list(cluster.run("auto", refused, range(5)))


def test_a_cluster_that_is_lost_is_named_and_what_is_done_stays_done(
    use: Callable[[StandInRay], StandInRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = use(StandInRay([{"CPU": 1.0}]))
    results = cluster.run("ray://head:10001", squares, range(5))
    next(results)

    def lost(*_: object, **__: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(sys.modules["ray"], "wait", lost)
    with pytest.raises(DeviceError, match="connection to the Ray cluster was lost") as caught:
        list(results)
    assert caught.value.where == "ray://head:10001" and ray.actors


def test_a_worker_has_a_gpu_where_there_is_one_and_else_some_cores() -> None:
    def node(alive: bool = True, **resources: float) -> dict[str, Any]:
        return {"Alive": alive, "Resources": resources}

    gpus = [node(CPU=8.0), node(CPU=16.0, GPU=4.0)]
    assert cluster._needs(gpus, None) == {"CPU": 1, "GPU": 1}
    assert cluster._needs(gpus, False) == {"CPU": 4}
    assert cluster._needs([node(CPU=8.0), node(CPU=2.0), node(CPU=1.0, alive=False)], None) == {"CPU": 2}
    assert cluster._needs([node()], True) == {"CPU": 1, "GPU": 1}


@pytest.mark.parametrize("address", ["", "here", "http://host:1", "ray://host", "ray://user:secret@host:1", "a b:1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(DeviceError, match="no address of a Ray cluster"):
        list(cluster.run(address, squares, [1]))


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DeviceError, match="not installed") as caught:
        list(cluster.run("auto", squares, [1]))
    assert "sentinode[cluster]" in str(caught.value.hint)
