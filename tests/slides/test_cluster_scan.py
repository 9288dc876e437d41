"""A batch on a Ray cluster leaves the same bytes as on one machine, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slide_files import tissue_picture, write_tiff
from stand_in import StandInBundle, StandInEngine

from sentinode.errors import OutputError
from sentinode.slides import batch, division
from sentinode.slides.division import Division, Item
from sentinode.slides.results.outputs import write_outputs
from sentinode.slides.results.summary import PAGE
from sentinode.slides.scanning.manifest import MANIFEST, SlideState, read_states
from sentinode.slides.scanning.scores import Scores

ray = pytest.importorskip("ray", reason="Ray (sentinode[cluster]) is not installed here")

HERE = Path(__file__).parent

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]


ONE_CORE = {"num_cpus": 1, "object_store_memory": 80_000_000}
"""What a node is started with."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with one core each, to which this process is connected."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_register_timeout_seconds", "300")  # a worker imports Sentinode first
        patch.setenv("RAY_worker_niceness", "0")  # its own 15 would wait behind all else on a busy machine
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (HERE / "quick_ray", HERE, HERE.parents[1] / "src"))))
        from ray.cluster_utils import Cluster

        nodes = Cluster()
        try:
            nodes.add_node(**ONE_CORE, include_dashboard=False)
            nodes.add_node(**ONE_CORE)
        except Exception as error:  # Ray raises no error of its own here
            nodes.shutdown()
            pytest.skip(f"Ray's nodes did not start within its 30 s on this machine ({error})")
        ray.init(
            nodes.address,
            runtime_env={"worker_process_setup_hook": "stand_in.use_in_batch"},
            logging_level="ERROR",
            log_to_driver=False,
        )
        yield nodes
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four slides."""
    folder = tmp_path_factory.mktemp("slides")
    for i in range(4):
        write_tiff(folder / f"slide{i}.tif", tissue_picture(260 + 60 * i, 250, seed=i))
    return folder


@pytest.fixture(scope="module")
def alone(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one machine makes of them."""
    out = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "open_engine", lambda *_, **__: StandInEngine())
        batch.scan(StandInBundle(), [slides], out, make=write_outputs, show=False)  # type: ignore[arg-type]
    return contents(out)


def scan(slides: Path, out: Path, **options: object) -> list[SlideState]:
    options = {"make": write_outputs, "show": False, "cluster": "auto", **options}
    return batch.scan(StandInBundle(), [slides], out, **options)  # type: ignore[arg-type]


def contents(out: Path) -> dict[str, bytes]:
    """Every file but the slides' manifests, which alone hold times, and the locks."""
    files = (path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files if ".locks" not in path.parts}


def when(happens: Callable[[], bool], act: Callable[[], object]) -> threading.Thread:
    """Do something as soon as something happens, beside the test."""

    def watch() -> None:
        end = time.monotonic() + 120
        while not happens() and time.monotonic() < end:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def running(out: Path) -> list[int]:
    return [state.process for state in read_states(out) if state.state == "running"]


def test_a_batch_on_two_nodes_of_which_a_worker_and_then_a_node_die_ends_in_the_same_bytes(
    cluster: Any, slides: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_one() -> bool:
        """Kill a worker that has a slide in hand, if there is one."""
        for process in running(tmp_path)[:1]:
            os.kill(process, signal.SIGKILL)
            killed.append(process)
        return bool(killed)

    killer = when(kill_one, lambda: None)

    stopper = when(
        lambda: any(state.state == "done" for state in read_states(tmp_path)),
        lambda: cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False),
    )
    states = scan(slides, tmp_path)
    killer.join()
    stopper.join()
    assert [(state.name, state.state) for state in states] == [(f"slide{i}", "done") for i in range(4)]
    assert contents(tmp_path) == alone
    assert killed and not {os.getpid(), *killed} & {state.process for state in states}
    # Once more, there is nothing to do.
    before = {state.name: state for state in read_states(tmp_path)}
    scan(slides, tmp_path)
    assert {state.name: state for state in read_states(tmp_path)} == before
    with pytest.raises(OutputError, match="stride 32, and you ask for 96"):
        scan(slides, tmp_path, stride=96)


def test_a_large_slide_is_scored_by_both_nodes_and_ends_in_the_same_bytes(
    cluster: Any, slides: Path, alone: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(division, "PART_BYTES", 1000)
    scored: list[int] = []
    gather = Division.gather

    def count(self: Division, part: Item, scores: Scores | None) -> Item | None:
        scored.append(0 if scores is None else len(scores.margins))
        return gather(self, part, scores)

    monkeypatch.setattr(Division, "gather", count)
    (state,) = scan(slides / "slide3.tif", tmp_path)
    assert state.state == "done" and len(scored) > 1 and all(scored) and sum(scored) == state.windows
    mine = {name: content for name, content in contents(tmp_path).items() if name.startswith("slide3/")}
    assert mine == {name: content for name, content in alone.items() if name.startswith("slide3/")}


def test_slides_that_fail_do_not_stop_the_others(cluster: Any, slides: Path, tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    (folder / "letter.svs").write_text("Dear colleague")
    (folder / "slide0.tif").write_bytes((slides / "slide0.tif").read_bytes())
    states = {state.name: state for state in scan(folder, tmp_path / "out", make=None)}
    assert "not a slide" in str(states["letter"].reason) and states["slide0"].state == "done"
    assert "slide0" in (tmp_path / "out" / PAGE).read_text()
