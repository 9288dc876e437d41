"""The arithmetic of the simulation of many machines: what it says where the answer is known."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def _load() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "cluster_simulation.py"
    specification = importlib.util.spec_from_file_location("cluster_simulation", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["cluster_simulation"] = module  # where dataclasses look for their module
    specification.loader.exec_module(module)
    return module


simulation = _load()
FAST = 1e12
"""Megabytes a second of a network that bounds nothing."""


def lasts(
    seconds: Sequence[float], megabytes: Sequence[float], nodes: int, drive: float = FAST, staged: bool = False
) -> float:
    arrays = np.array(seconds, float), np.array(megabytes, float)
    return float(simulation.run(*arrays, nodes=nodes, drive=drive, node=FAST, staged=staged))


def test_one_machine_takes_the_sum() -> None:
    assert lasts([3, 1, 2], [0, 0, 0], 1) == pytest.approx(6)
    assert lasts([3, 1, 2], [10, 10, 10], 1, drive=5) == pytest.approx(3 + 2 + 2)  # reading and computing at once
    assert lasts([3, 1, 2], [10, 10, 10], 1, drive=5, staged=True) == pytest.approx(6 + 6)


@pytest.mark.parametrize("nodes", [1, 4, 20])
def test_equal_slides_without_a_limit_are_done_as_many_times_faster_as_there_are_machines(nodes: int) -> None:
    assert lasts([5.0] * 40, [1.0] * 40, nodes) == pytest.approx(200 / nodes)


def test_transfers_divide_the_drive() -> None:
    assert lasts([0, 0], [10, 10], 2, drive=5) == pytest.approx(4)
    assert lasts([0, 0], [10, 30], 2, drive=5) == pytest.approx(8)  # 4 s at half, then alone
    assert lasts([1] * 100, [10] * 100, 50, drive=10) == pytest.approx(100, rel=0.05)


def test_largest_first_spares_the_tail_and_a_split_halves_it() -> None:
    assert lasts([1, 1, 1, 1, 4], [0] * 5, 2) == pytest.approx(6)
    assert lasts([4, 1, 1, 1, 1], [0] * 5, 2) == pytest.approx(4)
    whole = simulation.Inputs(
        slides=20, large_share=1.0, seconds_slide=0.0, seconds_start=0.0, seconds_end=0.0, split=1
    )
    split = simulation.Inputs(**{**vars(whole), "split": 2})
    times = [simulation.simulate(inputs, 1000).seconds for inputs in (whole, split)]
    assert times[1] == pytest.approx(times[0] / 2, rel=1e-3)


def test_slides_are_divided_where_fewer_wait_than_there_are_machines_into_parts_of_some_size() -> None:
    inputs = simulation.Inputs(file_mb=1.0, part_mb=250.0)
    tissue = np.array([2000.0, 2000.0, 2000.0, 400.0])
    assert simulation.divided(inputs, tissue, 8).tolist() == [2, 2, 2, 1]
    assert simulation.divided(inputs, tissue, 100).tolist() == [8, 8, 8, 1]
    assert simulation.divided(inputs, tissue[:3], 3).tolist() == [1, 2, 2]
    assert simulation.divided(inputs, tissue, 1).tolist() == [1, 1, 1, 1]
    assert simulation.divided(simulation.Inputs(file_mb=1.0, staged=True), tissue, 8).tolist() == [1, 1, 1, 1]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0.1, 50), st.floats(0, 50)), min_size=1, max_size=20),
    st.integers(1, 8),
    st.floats(0.5, 50),
    st.booleans(),
)
def test_no_result_beats_its_bounds_or_misses_that_of_a_greedy_order(
    slides: list[tuple[float, float]], nodes: int, drive: float, staged: bool
) -> None:
    seconds, megabytes = zip(*slides, strict=True)
    found = lasts(seconds, megabytes, nodes, drive, staged)
    least = max(sum(seconds) / nodes, sum(megabytes) / drive, max(seconds))
    assert found >= least * (1 - 1e-6)
    assert found <= sum(seconds) + sum(megabytes) / drive + 1e-6
    assert lasts(seconds, [0] * len(seconds), nodes) <= sum(seconds) / nodes + max(seconds) + 1e-6


def test_what_bounds_a_batch_is_named() -> None:
    slow = simulation.Inputs(slides=200, drive=10.0, staged=True)
    assert simulation.simulate(slow, 50).bound_by == "network drive"
    assert simulation.simulate(simulation.Inputs(slides=200), 2).bound_by == "computing"
    few = simulation.Inputs(slides=20, large_share=0.1, seed=1)
    assert simulation.simulate(few, 200).bound_by == "largest slide"
    assert "| 2 |" in simulation.table({2: simulation.simulate(few, 2)}, simulation.simulate(few, 1).seconds)
