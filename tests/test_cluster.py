"""Work on a cluster: every item is done once, whatever dies, and no worker has more than it can soon do.

A stand-in for Ray runs the workers in this process, one call at a time; tests/slides/test_cluster_scan.py uses Ray.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinode import cluster
from sentinode.cluster import QUEUED, TRIES, Lost
from sentinode.errors import DeviceError, OutputError


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        self.cause = cause


@dataclass(eq=False)
class Call:
    """A call of an actor that has been asked for; it runs when it is waited for."""

    actor: Actor
    method: str
    arguments: tuple[Any, ...]
    answer: Any = None
    error: Exception | None = None
    ran: bool = False


@dataclass(eq=False)
class Actor:
    ray: StandInRay
    instance: Any
    resources: dict[str, Any]
    alive: bool = True
    calls: list[Call] = field(default_factory=list)

    def __getattr__(self, method: str) -> Any:
        return _Method(self, method)


@dataclass
class _Method:
    actor: Actor
    name: str

    def remote(self, *arguments: Any) -> Call:
        call = Call(self.actor, self.name, arguments)
        self.actor.calls.append(call)
        self.actor.ray.most = max(self.actor.ray.most, sum(not one.ran for one in self.actor.calls))
        return call


@dataclass
class StandInRay:
    """What the pool asks of Ray.

    Attributes:
        resources: of each node that is there.
        dies: whether an actor dies of a call, given its number.
        most: the most calls that an actor had to do at once.
    """

    resources: list[dict[str, float]]
    dies: Callable[[int], bool] = lambda _: False
    most: int = 0
    number: int = 0
    actors: list[Actor] = field(default_factory=list)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": one} for one in self.resources]

    def put(self, value: Any) -> Any:
        return value

    def remote(self, kind: type) -> Any:
        return _Class(self, kind)

    def wait(self, calls: list[Call], *, num_returns: int, timeout: float) -> tuple[list[Call], list[Call]]:
        assert calls and num_returns == 1 and timeout > 0
        call = next(one for one in calls if one.actor.calls[0] is one or not one.actor.alive)
        self._run(call)
        return [call], [one for one in calls if one is not call]

    def _run(self, call: Call) -> None:
        self.number += 1
        call.ran = True
        if call.actor.alive and self.dies(self.number):
            call.actor.alive = False
        if not call.actor.alive:
            call.error = RayError("the actor died")
            return
        call.actor.calls.remove(call)
        try:
            call.answer = getattr(call.actor.instance, call.method)(*call.arguments)
        except Exception as error:
            call.error = RayTaskError(error)

    def get(self, call: Call) -> Any:
        assert call.ran
        if call.error is not None:
            raise call.error
        return call.answer

    def kill(self, actor: Actor) -> None:
        actor.alive = False


@dataclass
class _Class:
    ray: StandInRay
    kind: type
    resources: dict[str, Any] = field(default_factory=dict)

    def options(self, **resources: Any) -> _Class:
        return _Class(self.ray, self.kind, resources)

    def remote(self) -> Actor:
        actor = Actor(self.ray, self.kind(), self.resources)
        self.ray.actors.append(actor)
        return actor


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[StandInRay], StandInRay]:
    return lambda ray: install(ray, monkeypatch)


def install(ray: StandInRay, patch: pytest.MonkeyPatch) -> StandInRay:
    module, exceptions = ModuleType("ray"), ModuleType("ray.exceptions")
    for name in ("nodes", "put", "remote", "wait", "get", "kill"):
        setattr(module, name, getattr(ray, name))
    exceptions.RayError, exceptions.RayTaskError = RayError, RayTaskError  # type: ignore[attr-defined]
    module.exceptions, module.is_initialized = exceptions, lambda: True  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "ray", module)
    patch.setitem(sys.modules, "ray.exceptions", exceptions)
    patch.setattr(cluster, "POLL_S", 1e-6)
    return ray


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


def test_there_are_no_more_workers_than_items(use: Callable[[StandInRay], StandInRay]) -> None:
    ray = use(StandInRay([{"CPU": 64.0}]))
    assert len(list(cluster.run("auto", squares, [1, 2]))) == 2
    assert len(ray.actors) <= 2


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
