"""How fast the viewer serves tiles, how much memory it takes, and what hostile requests get from it.

    python benchmarks/view.py --data SHARED/data [--work DIR] [--mosaic large] [--tiles 20000]

Builds the mosaic of benchmarks/mosaic.py and scans it with the bundled model unless that is done, starts ``sentinode
view`` on it, and asks for tiles as browsers do, at random places and levels. Prints a Markdown table. The clients run
on the same machine and take their share of it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from mosaic import MOSAICS, build

from sentinode.app.tiles import TILE, Shape

SEED = 0
ONE_VIEWER, VIEWERS, EACH = 300, 10, 100
CONNECTIONS = 6
"""What a browser opens to one server at once."""

REQUESTS = 10_000


def main() -> None:
    arguments = _parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    slide = build(arguments.mosaic, arguments.data, arguments.work)
    maps = arguments.work / f"{slide.stem}-view"
    if not (maps / "index.html").exists():
        scan = [sys.executable, "-m", "sentinode", "scan", slide, "--out", maps, "--stride", "96"]
        subprocess.run([str(word) for word in scan], check=True, stdout=sys.stderr)
    log = arguments.work / "view.log"
    with log.open("w+", encoding="utf-8") as output:
        command = [sys.executable, "-m", "sentinode", "view", str(maps), "--no-browser"]
        server = subprocess.Popen(command, stderr=output)
        try:
            print("| what | figure |\n|---|---|")
            _measure(Asker(_address(log)), psutil.Process(server.pid), arguments.tiles)
        finally:
            server.terminate()
            server.wait()
    print(f"| tracebacks in the server's log | {log.read_text(encoding='utf-8').count('Traceback')} |")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds pcam/ and slides/")
    parser.add_argument("--mosaic", choices=list(MOSAICS), default="large")
    parser.add_argument("--tiles", type=int, default=20_000, help="tiles after which the memory is measured")
    parser.add_argument("--work", type=Path, default=Path("runs/mosaic"), help="where mosaics and maps go")
    return parser.parse_args()


def _address(log: Path) -> str:
    """What the viewer printed, once it answers."""
    while not (found := re.search(r"http://\S+", log.read_text(encoding="utf-8"))):
        time.sleep(0.1)
    time.sleep(1)
    return found.group()


class Asker:
    """Asks the viewer; each thread has a connection of its own."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.host, self.root = parts.netloc, parts.path
        self._own = threading.local()

    def get(self, path: str, *, root: str | None = None, host: str | None = None) -> tuple[int, bytes, float]:
        """Status, body and seconds."""
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection(self.host, timeout=60)
        start = time.perf_counter()
        headers = {"Host": host} if host else {}
        address = (self.root if root is None else root) + path
        try:
            self._own.connection.request("GET", address, headers=headers)
            answer = self._own.connection.getresponse()
        except http.client.RemoteDisconnected:  # it was idle for longer than the server waits
            self._own.connection.request("GET", address, headers=headers)
            answer = self._own.connection.getresponse()
        return answer.status, answer.read(), time.perf_counter() - start


def _measure(asker: Asker, server: psutil.Process, count: int) -> None:
    slide = json.loads(asker.get("api/slides")[1])["slides"][0]["id"]
    before = server.memory_info().rss
    opening = time.perf_counter()
    asker.get(f"slides/{slide}")
    about = json.loads(asker.get(f"api/slides/{slide}")[1])
    shape = Shape(about["map"]["width"], about["map"]["height"])
    tiles = f"api/slides/{slide}/tiles/{about['tiles']}"
    status = asker.get(f"{tiles}/0/0/0")[0]
    assert status == 200, status
    print(f"| first tile after the page is asked for | {1000 * (time.perf_counter() - opening):.0f} ms |")
    rng = random.Random(SEED)

    def tile() -> str:
        level = rng.choice(range(shape.levels))
        width, height = shape.size(level)
        return f"{tiles}/{level}/{rng.randrange(-(-width // TILE))}/{rng.randrange(-(-height // TILE))}"

    begun = _processor_s(server)
    one, _ = _ask(asker, [tile() for _ in range(ONE_VIEWER)], threads=1)
    print(f"| processor time of the server for a tile | {1000 * (_processor_s(server) - begun) / len(one):.1f} ms |")
    print(f"| one tile at a time: median, 95th percentile | {_shares(one)} |")
    six, _ = _ask(asker, [tile() for _ in range(ONE_VIEWER)], threads=CONNECTIONS)
    print(f"| one viewer, {CONNECTIONS} tiles at a time: median, 95th percentile | {_shares(six)} |")
    _, seconds = _ask(asker, [tile() for _ in range(VIEWERS * EACH)], threads=VIEWERS)
    print(f"| {VIEWERS} viewers at once | {VIEWERS * EACH / seconds:.0f} tiles a second |")
    _ask(asker, [tile() for _ in range(count)], threads=VIEWERS)
    more = (server.memory_info().rss - before) / 2**20
    print(f"| memory above the start, after {count:,} tiles | {more:.0f} MiB |")
    print(f"| {REQUESTS:,} requests, half of them hostile | {_hostile(asker, tile, rng)} |")


def _processor_s(server: psutil.Process) -> float:
    times = server.cpu_times()
    return float(times.user + times.system)


def _ask(asker: Asker, paths: list[str], *, threads: int) -> tuple[list[float], float]:
    """The seconds that each path took, and those that all took; an answer other than 200 ends the run."""
    taken: list[float] = []
    faults: list[int] = []
    waiting = iter(paths)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                path = next(waiting, None)
            if path is None:
                return
            status, _, seconds = asker.get(path)
            taken.append(seconds)
            if status != 200:
                faults.append(status)

    start = time.perf_counter()
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if faults:
        raise SystemExit(f"{len(faults)} tiles failed: {faults[:5]}")
    return taken, time.perf_counter() - start


def _shares(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=20)
    return f"{1000 * statistics.median(seconds):.0f} ms, {1000 * cuts[-1]:.0f} ms"


def _hostile(asker: Asker, tile: Callable[[], str], rng: random.Random) -> str:
    """How many hostile requests were served, and how many of the others were not."""
    served, refused = 0, 0
    bad = ["..%2f..%2fetc%2fpasswd", "static/..%5c..%5cserver.py", "api/slides/%00/map", f"static/{'9' * 400}", ".env"]
    for number in range(REQUESTS // 2):
        refused += asker.get(tile())[0] != 200
        kind = rng.randrange(4)
        if kind == 0:
            status = asker.get(rng.choice(bad))[0]
        elif kind == 1:
            status = asker.get("api/slides", root=f"/{rng.randbytes(12).hex()}/")[0]
        elif kind == 2:
            status = asker.get("api/slides", host="evil.example")[0]
        else:
            path, _, _ = tile().rpartition("/")
            status = asker.get(f"{path}/{rng.randrange(10**6, 10**40)}")[0]
        served += status < 400
        assert status < 500, (number, status)
    return f"{served} hostile ones served, {refused} others refused"


if __name__ == "__main__":
    main()
