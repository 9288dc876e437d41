"""Scan a cohort of small slides on a Ray cluster of this machine and in one process, and compare time and bytes.

    python benchmarks/cluster.py --data SHARED/data [--weights BUNDLE] [--slides 200] [--nodes 2] [--kill-every 5]
                                 [--large 600] [--work DIR]

The slides are cut from one tile of each of five hospitals. Four scans: in one process with as many threads as there
are nodes; in as many processes of one thread, each with its shard; on a cluster of nodes with one core each; and on the
same cluster while a node is killed with -9, again and again, and replaced by a new one. Seconds are of the whole
command, and from the first slide's start to the last one's end. Processor seconds are of all processes, Ray's own as
well. They say more on a machine on which other work runs.

With ``--large MB``, instead, one slide of so many megabytes is scanned on a cluster of one node, and on one of all
nodes, which divide it. There each node is kept to one core.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile
from PIL import Image

import sentinode.cluster as ray_cluster
from sentinode.slides.results.summary import write_summary
from sentinode.slides.scanning.manifest import DONE, MANIFEST, read_states

SIDE, MPP, TILE = 1024, 0.25, 256
"""Pixels, and microns per pixel, of a slide."""

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # both sides of the comparison with the same priority
    "RAY_worker_register_timeout_seconds": "300",
    "OMP_NUM_THREADS": "1",
}

SLOW_IMPORT = "rfc3987_syntax"
"""A package of Jupyter that jsonschema, and so each of Ray's processes, imports for two seconds and does without."""


@dataclass
class Meter:
    """Processor seconds of some processes and their children, also of those that end meanwhile.

    Attributes:
        roots: gives the ids of the processes; the first is the command.
    """

    roots: Callable[[], list[int]]
    seconds: dict[str, dict[tuple[int, float], float]] = field(
        default_factory=lambda: {"command": {}, "workers": {}, "ray": {}}
    )
    began: dict[str, float] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Read the clocks of all processes that are there."""
        command, *others = self.roots()
        every = {one.pid: one for one in psutil.process_iter(["ppid", "name", "create_time", "cpu_times"])}
        for one in every.values():
            line = [one.pid]
            while (parent := every.get(line[-1])) is not None and line[-1] not in (command, *others):
                line.append(parent.info["ppid"])
            if line[-1] not in (command, *others):
                continue
            is_worker = one.info["name"].startswith("ray::_Worker")
            kind = "command" if line[-1] == command else "workers" if is_worker else "ray"
            key, times = (one.pid, one.info["create_time"]), one.info["cpu_times"]
            if is_worker:  # which is called ray::IDLE at first
                self.seconds["ray"].pop(key, None)
            self.seconds[kind][key] = times.user + times.system

    def __enter__(self) -> Meter:
        self.look()
        self.began = {kind: sum(self.seconds[kind].values()) for kind in self.seconds}
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.look()

    def _watch(self) -> None:
        while not self.done.wait(1.0):
            self.look()

    @property
    def spent(self) -> dict[str, float]:
        """Processor seconds since the beginning: of the command, of workers on a cluster, and of Ray itself."""
        return {kind: sum(self.seconds[kind].values()) - self.began[kind] for kind in self.seconds}


@dataclass(frozen=True)
class Scan:
    """What a scan took: seconds of the command and of the slides alone; processor seconds by :attr:`Meter.spent`."""

    out: Path
    seconds: float
    slides_seconds: float
    spent: dict[str, float]

    @property
    def processor(self) -> float:
        """Processor seconds of all processes."""
        return sum(self.spent.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds slides/camelyon17")
    parser.add_argument("--weights", type=Path, help="a bundle; default: the bundled model")
    parser.add_argument("--slides", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--kill-every", type=float, default=5.0, help="seconds from a new node to the next kill")
    parser.add_argument("--large", type=int, metavar="MB", help="scan one slide of this size instead")
    parser.add_argument("--work", type=Path, default=Path("runs/cluster"))
    arguments = parser.parse_args()
    work, source = arguments.work.absolute(), arguments.data / "slides" / "camelyon17"
    os.environ.update(ENVIRONMENT)
    bundle = [] if arguments.weights is None else [str(arguments.weights.absolute())]
    if arguments.large:
        one_large([*bundle, str(build_large(work / "large.tif", source, arguments.large))], work, arguments.nodes)
        return
    slides = build(work / "slides", source, arguments.slides)
    for name in ("warm", "alone", "shards", "cluster", "killed"):
        shutil.rmtree(work / name, ignore_errors=True)
    first = sorted(slides.iterdir())[0]
    scan([*bundle, str(first)], work / "warm", threads=1)  # compiles the network
    alone = scan([*bundle, str(slides)], work / "alone", threads=arguments.nodes)
    report("one process", alone, arguments.slides)
    sharded = shards([*bundle, str(slides)], work / "shards", arguments.nodes)
    report(f"{arguments.nodes} processes, a shard each", sharded, arguments.slides)
    began = time.process_time()
    write_summary(alone.out)
    print(f"pages and tables of the batch: {time.process_time() - began:.2f} processor seconds", flush=True)
    with cluster(arguments.nodes) as nodes:
        print(f"an item without work: {1000 * empty(nodes.address):.1f} ms", flush=True)
        shared = scan([*bundle, str(slides)], work / "cluster", address=nodes.address, roots=lambda: pids(nodes))
        report("cluster", shared, arguments.slides)
        for name, other in (("one process", alone), ("shards", sharded)):
            print(
                f"overhead over {name}: {shared.processor / other.processor - 1:+.1%} processor seconds, "
                f"{shared.slides_seconds / other.slides_seconds - 1:+.1%} seconds from the first slide to the last, "
                f"{shared.seconds / other.seconds - 1:+.1%} seconds of the command",
                flush=True,
            )
        compare(alone.out, shared.out, arguments.slides)
        what, where = [*bundle, str(slides)], work / "killed"
        killed, kills = while_killing(
            nodes,
            arguments.kill_every,
            lambda: scan(what, where, address=nodes.address, roots=lambda: pids(nodes)),
        )
        report(f"cluster, {kills} nodes killed", killed, arguments.slides)
        compare(alone.out, killed.out, arguments.slides)


def one_large(what: list[str], work: Path, count: int) -> None:
    """Scan one slide on a cluster of one node, and on one of more. Each node is kept to one core."""
    outs = []
    for number in (1, count):
        out = work / f"large-{number}"
        shutil.rmtree(out, ignore_errors=True)
        with cluster(number) as nodes:
            for core, node in enumerate(nodes.worker_nodes):
                keep(node, core)
            found = scan(what, out, address=nodes.address, roots=lambda: pids(nodes))
        report(f"one slide, {number} nodes", found, 1)
        outs.append(out)
    compare(*outs, 1)


def keep(node: Any, core: int) -> None:
    """Keep the processes of a node, and those that they will start, to one core."""
    for process in (one.process.pid for kind in node.all_processes.values() for one in kind):
        parent = psutil.Process(process)
        for one in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.cpu_affinity([core])


def build_large(file: Path, source: Path, megabytes: int) -> Path:
    """A slide full of tissue, not compressed, at half the resolution of the pictures that it repeats."""
    pictures = [np.asarray(Image.open(path).convert("RGB"))[:SIDE, :SIDE] for path in sorted(source.glob("*.jpeg"))]
    side = round((megabytes * 1e6 / 3 / 1.3) ** 0.5 / SIDE)
    rng = np.random.default_rng(0)
    rows = [np.concatenate([pictures[one] for one in rng.integers(0, len(pictures), side)], 1) for _ in range(side)]
    whole = np.concatenate(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(file) as tiff:
        for level in range(3):
            step = 2**level
            tiff.write(
                np.ascontiguousarray(whole[::step, ::step]),
                photometric="rgb",
                tile=(TILE, TILE),
                subfiletype=int(level > 0),
                resolution=(1e4 / (2 * MPP) / step, 1e4 / (2 * MPP) / step),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return file


def build(folder: Path, source: Path, count: int) -> Path:
    """Slides of one piece of tissue each, unless they are there."""
    if folder.exists() and len(list(folder.iterdir())) == count:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(source.glob("*.jpeg"))]
    rng = np.random.default_rng(0)
    for number in range(count):
        picture = pictures[number % len(pictures)]
        top, left = rng.integers(0, np.array(picture.shape[:2]) - SIDE + 1)
        piece = picture[top : top + SIDE, left : left + SIDE]
        with tifffile.TiffWriter(folder / f"slide{number:03}.tif") as tiff:
            for level in range(3):
                step = 2**level
                tiff.write(
                    piece.reshape(SIDE // step, step, SIDE // step, step, 3).mean((1, 3)).round().astype(np.uint8),
                    photometric="rgb",
                    tile=(TILE, TILE),
                    compression="jpeg",
                    subfiletype=int(level > 0),
                    resolution=(1e4 / MPP / step, 1e4 / MPP / step),
                    resolutionunit="CENTIMETER",
                    metadata=None,
                )
    return folder


def scan(
    what: list[str],
    out: Path,
    *,
    threads: int = 1,
    address: str | None = None,
    shard: str = "none",
    roots: Callable[[], list[int]] = list,
) -> Scan:
    """``sentinode scan`` as a user calls it."""
    command = [sys.executable, "-m", "sentinode", "scan", *what, "--out", str(out), "--device", "cpu", "--shard", shard]
    command += [] if address is None else ["--cluster", address]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    began = time.perf_counter()
    with (out.parent / f"{out.name}-{shard.replace('/', '-')}.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        with Meter(lambda: [process.pid, *roots()]) as meter:
            code = process.wait()
    seconds = time.perf_counter() - began
    if code:
        raise SystemExit(f"the scan ended with {code}: see {log.name}")
    return Scan(out, seconds, slides_seconds(out), meter.spent)


def slides_seconds(out: Path) -> float:
    """Seconds from the first slide's start to the last one's end."""
    states = read_states(out)
    begun = min(datetime.fromisoformat(str(state.started)) for state in states)
    ended = max(datetime.fromisoformat(str(state.finished)) for state in states)
    return (ended - begun).total_seconds()


def shards(what: list[str], out: Path, count: int) -> Scan:
    """Scan in as many processes of one thread each, at once."""
    began = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        parts = list(pool.map(lambda number: scan(what, out, shard=f"{number}/{count}"), range(count)))
    seconds = time.perf_counter() - began
    return Scan(out, seconds, slides_seconds(out), {"command": sum(part.processor for part in parts)})


@contextlib.contextmanager
def cluster(count: int) -> Iterator[Any]:
    """A head without cores, and nodes with one core each."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{SLOW_IMPORT}.py").write_text("raise ImportError\n")
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
        nodes = Cluster()
        try:
            nodes.add_node(**NODE | {"num_cpus": 0}, include_dashboard=False)
            for _ in range(count):
                nodes.add_node(**NODE)
            yield nodes
        finally:
            nodes.shutdown()


def empty(address: str, count: int = 500) -> float:
    """Seconds of the pool for each item that costs nothing, once the workers are open."""
    began = 0.0
    for _ in ray_cluster.run(address, nothing, range(count + 1), gpu=False):
        began = began or time.perf_counter()
    return (time.perf_counter() - began) / count


def nothing() -> Callable[[int], None]:
    """A worker that does nothing."""
    return lambda _: None


def pids(nodes: Any) -> list[int]:
    """The processes of a cluster's nodes; their workers are children of these."""
    every = [*nodes.worker_nodes, *([nodes.head_node] if nodes.head_node else [])]
    return [one.process.pid for node in every for kind in list(node.all_processes.values()) for one in kind]


def while_killing(nodes: Any, every: float, work: Callable[[], Scan]) -> tuple[Scan, int]:
    """Scan, and meanwhile kill the oldest node with -9 and start a new one, again and again; and how many were killed.

    Ray starts nodes in the main thread alone, so the scan is in another one.
    """
    there, kills = list(nodes.worker_nodes), 0
    count = len(there)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        while not wait([future], every).done:
            if len(there) == count:
                nodes.remove_node(there.pop(0), allow_graceful=False)
                kills += 1
            try:
                there.append(nodes.add_node(**NODE))
            except Exception as error:  # Ray's own; the next turn tries again
                print(f"  a node did not start: {error}", flush=True)
        return future.result(), kills


def compare(alone: Path, other: Path, count: int) -> None:
    """Print whether every slide is done, and whether the files are the same, byte by byte."""
    states = read_states(other)
    ours, theirs = contents(alone), contents(other)
    differ = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    done = sum(state.state == DONE for state in states)
    print(
        f"  {done} of {count} slides done, in {len({state.process for state in states})} processes; "
        f"{len(differ)} of {len(ours)} files differ {differ[:5] or ''}",
        flush=True,
    )


def contents(out: Path) -> dict[str, bytes]:
    """Every file but the manifests, which alone hold times, the locks and the list of shards."""
    hidden = {".locks", ".shards"}
    files = (path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST)
    files = (path for path in files if not hidden & set(path.parts))
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def report(name: str, scan: Scan, count: int) -> None:
    """Print what a scan took."""
    print(
        f"{name}: {scan.seconds:.1f} s, {count / scan.slides_seconds:.2f} slides a second from the first to the last, "
        f"{scan.processor:.1f} processor seconds: "
        + ", ".join(f"{kind} {seconds:.1f}" for kind, seconds in scan.spent.items()),
        flush=True,
    )


if __name__ == "__main__":
    main()
