"""The pool of warm workers, and the fixture that runs a case in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from harness import Case, Hostile, Outcome, Pool, check


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Two warm workers; one where pytest-xdist already runs a process for each core."""
    if not sys.platform.startswith("linux"):
        pytest.skip("hostile inputs are tried on Linux alone: the frame needs fork, /proc and audit of children")
    opened = Pool(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def begun(request: pytest.FixtureRequest, pool: Pool) -> None:
    """Start all selected cases of the file at once where there are two workers."""
    if pool.size > 1:
        tests = [item for item in request.session.items if item.path == request.path]
        cases = [item.callspec.params.get("case") for item in tests if hasattr(item, "callspec")]
        pool.begin(case for case in cases if isinstance(case, Case))


@pytest.fixture
def hostile(pool: Pool, begun: None) -> Hostile:
    """Run a case and check all that is promised; returns the outcome for further checks."""

    def run_and_check(case: Case) -> Outcome:
        outcome = pool.outcome(case)
        check(case, outcome)
        return outcome

    return run_and_check
