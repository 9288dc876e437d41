"""How long ten thousand slides take on 1 to 200 machines, and what bounds it: a simulation, with what was measured.

    python benchmarks/cluster_simulation.py [--slides 10000] [--nodes 1 10 100 200] [--order arrival] [--split 8]
                                            [--staged] [--drive 1000] [--seconds-mm2 0.33] ...

Each machine scans one slide at a time. A scan reads and computes at once; a staged one first copies the whole file. All
machines share one network drive, whose throughput the transfers under way divide equally. Every input is an option.

Where the defaults come from. Measured: tissue of a slide (``tissue_mask`` on 25 overviews of Camelyon16); seconds for
each square millimetre, on two cores (benchmarks/growth.py); seconds for each slide beside these, the same without the
start; megabytes (CMU-1-Small-Region.svs has 0.29 bytes a pixel; a scan reads pixels of 0.972 um, and a whole file has
those of 0.243 um and a third more for its smaller levels); seconds at the end (benchmarks/cluster.py). Assumed: the
network, the start of a machine, and that 1 slide in 500 holds ten times the tissue.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

TISSUE_MM2 = (
    27.6, 45.4, 46.4, 49.3, 54.3, 68.0, 80.2, 87.7, 94.2, 102.0, 104.5, 116.6, 122.0, 128.2, 154.6, 156.4, 158.2, 158.3,
    160.4, 165.7, 181.1, 200.7, 204.8, 207.9, 209.4,
)  # fmt: skip
"""Tissue of 25 slides of Camelyon16, found by ``tissue_mask`` on their overviews."""


@dataclass(frozen=True)
class Inputs:
    """What the simulation takes for given.

    Attributes:
        slides: how many there are.
        seconds_mm2: of computing for each square millimetre of tissue.
        seconds_slide: of computing for each slide, whatever its size.
        seconds_start: of a machine before its first slide.
        seconds_end: after the last slide, on one machine, for each slide.
        read_mb_mm2: megabytes that a scan reads for each square millimetre of tissue.
        read_mb_slide: megabytes that it reads of each slide, whatever its size.
        file_mb: megabytes of a whole file, for each square millimetre of tissue.
        drive: megabytes a second of the network drive, for all machines together.
        node: megabytes a second of one machine's network.
        large_share: share of slides that are larger.
        large_times: how many times larger these are.
        staged: copy each whole file before it is scanned.
        order: the order in which slides are begun: ``largest`` first, or ``arrival``.
        split: most parts of a slide, which machines scan together where fewer slides wait than there are machines; 1
            for none.
        part_mb: megabytes of the file that a part has at least.
        seed: of the draw of sizes.
    """

    slides: int = 10_000
    seconds_mm2: float = 0.33
    seconds_slide: float = 0.7
    seconds_start: float = 10.0
    seconds_end: float = 0.002
    read_mb_mm2: float = 0.31
    read_mb_slide: float = 5.0
    file_mb: float = 6.6
    drive: float = 1000.0
    node: float = 1000.0
    large_share: float = 0.002
    large_times: float = 10.0
    staged: bool = False
    order: str = "largest"
    split: int = 1000
    part_mb: float = 250.0
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """What came of it.

    Attributes:
        seconds: from the first start to the last file.
        bounds: by its name, the least seconds that each limit alone allows.
    """

    seconds: float
    bounds: dict[str, float]

    @property
    def bound_by(self) -> str:
        """The limit that allows the least."""
        return max(self.bounds, key=lambda name: self.bounds[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", nargs="+", type=int, default=[1, 2, 5, 10, 20, 50, 100, 200])
    for one in fields(Inputs):
        name = f"--{one.name.replace('_', '-')}"
        if isinstance(one.default, bool):
            parser.add_argument(name, action="store_true")
        else:
            parser.add_argument(name, type=type(one.default), default=one.default)
    arguments = vars(parser.parse_args())
    nodes = arguments.pop("nodes")
    inputs = Inputs(**arguments)
    print(table({count: simulate(inputs, count) for count in nodes}, simulate(inputs, 1).seconds))


def sizes(inputs: Inputs) -> Values:
    """float64 (slides,): square millimetres of tissue of each slide, drawn from the measured ones."""
    rng = np.random.default_rng(inputs.seed)
    tissue = rng.choice(TISSUE_MM2, inputs.slides)
    return np.where(rng.random(inputs.slides) < inputs.large_share, inputs.large_times, 1.0) * tissue


def simulate(inputs: Inputs, nodes: int) -> Result:
    """Scan all slides on some machines."""
    tissue = sizes(inputs)
    if inputs.order == "largest":
        tissue = -np.sort(-tissue)
    parts = divided(inputs, tissue, nodes)
    seconds = np.repeat(inputs.seconds_slide + inputs.seconds_mm2 * tissue / parts, parts)
    read = inputs.file_mb * tissue if inputs.staged else inputs.read_mb_slide + inputs.read_mb_mm2 * tissue
    megabytes = np.repeat(read / parts, parts)
    end = inputs.seconds_end * inputs.slides
    lasted = run(seconds, megabytes, nodes, inputs.drive, inputs.node, inputs.staged)
    alone = megabytes / min(inputs.node, inputs.drive)
    each = seconds + alone if inputs.staged else np.maximum(seconds, alone)
    bounds = {
        "computing": float(each.sum()) / nodes,
        "network drive": float(megabytes.sum()) / inputs.drive,
        "largest slide": float(each.max()),
        "start and end": inputs.seconds_start + end,
    }
    return Result(inputs.seconds_start + lasted + end, bounds)


def divided(inputs: Inputs, tissue: Values, nodes: int) -> NDArray[np.int64]:
    """int64 (slides,): parts of each slide, by the rule of ``sentinode scan --cluster``. Copied files stay whole."""
    parts = np.ones(len(tissue), np.int64)
    last = tissue[max(0, len(tissue) - nodes + 1) :]  # once fewer slides wait than there are machines
    if len(last) and not inputs.staged:
        most = np.minimum(np.round(nodes * last / last.sum()), inputs.file_mb * last // inputs.part_mb)
        parts[-len(last) :] = np.clip(most.astype(np.int64), 1, inputs.split)
    return parts


def run(seconds: Values, megabytes: Values, nodes: int, drive: float, node: float, staged: bool) -> float:
    """Seconds until the last item is done.

    Args:
        seconds: (n,) of computing of each item, in the order in which they are begun.
        megabytes: (n,) of transfer of each.
        nodes: machines, each with one item at a time.
        drive: megabytes a second for all transfers together, which they divide equally.
        node: megabytes a second of one machine at most.
        staged: computing begins when the transfer ends; otherwise both go on at once.
    """
    tiny = 1e-9
    nodes = min(nodes, len(seconds))
    to_compute, to_read = seconds[:nodes].copy(), megabytes[:nodes].copy()
    busy = np.ones(nodes, bool)
    begun, now = nodes, 0.0
    while busy.any():
        reads = busy & (to_read > tiny)
        computes = busy & (to_compute > tiny) & ~(reads if staged else np.zeros(nodes, bool))
        rate = min(drive / max(int(reads.sum()), 1), node)
        waits = np.concatenate([to_read[reads] / rate, to_compute[computes]])
        step = float(waits.min()) if len(waits) else 0.0
        now += step
        to_read[reads] -= step * rate
        to_compute[computes] -= step
        for machine in np.flatnonzero(busy & (to_read <= tiny) & (to_compute <= tiny)):
            if begun < len(seconds):
                to_compute[machine], to_read[machine] = seconds[begun], megabytes[begun]
                begun += 1
            else:
                busy[machine] = False
    return now


def table(results: dict[int, Result], alone: float) -> str:
    """A line for each number of machines, in Markdown."""
    lines = ["| machines | hours | times faster | of ideal | bound by | its bound, hours |", "|" + "---|" * 6]
    for nodes, result in results.items():
        faster = alone / result.seconds
        lines.append(
            f"| {nodes} | {result.seconds / 3600:.2f} | {faster:.1f} | {faster / nodes:.0%} | {result.bound_by} "
            f"| {result.bounds[result.bound_by] / 3600:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
