"""A stand-in for Ray, which runs the workers in this process, one call at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from sentinode import cluster


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
        ready = [one for one in calls if one.actor.calls[0] is one or not one.actor.alive]
        call = next((one for one in ready if self._has_room(one.actor)), None)
        if call is None:
            return [], calls
        self._run(call)
        return [call], [one for one in calls if one is not call]

    def _has_room(self, actor: Actor) -> bool:
        needs = {"CPU": actor.resources["num_cpus"], "GPU": actor.resources["num_gpus"]}
        return any(all(node.get(name, 0) >= need for name, need in needs.items()) for node in self.resources)

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
