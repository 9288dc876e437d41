"""The record of one trial of a search; it needs no Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

State = Literal["finished", "pruned", "failed", "running"]


@dataclass(frozen=True)
class TunedTrial:
    """One trial.

    Attributes:
        number: from 0, and the name of its folder.
        state: ``finished``, ``pruned``, ``failed`` or ``running``.
        value: the best valid score of its epochs; None unless it is finished.
        settings: the value of each key that is searched.
        scores: the valid score after each epoch.
        seconds: from its begin to its end; None while it runs.
        base: whether it is the recipe that the search began with.
        why: why it failed.
    """

    number: int
    state: State
    value: float | None
    settings: Mapping[str, str]
    scores: Mapping[int, float]
    seconds: float | None
    base: bool = False
    why: str = ""

    @property
    def overrides(self) -> list[str]:
        """``KEY=VALUE`` of each key."""
        return [f"{key}={value}" for key, value in self.settings.items()]
