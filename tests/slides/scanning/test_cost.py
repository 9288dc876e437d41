"""What a scan costs, counted and not timed: pixels that the network gets, tiles decoded, tiles held.

Counts are the same on every machine and under any load. Seconds are measured by the scripts in benchmarks/.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slide_files import tissue_picture, write_tiff
from stand_in import StandInBundle, StandInEngine

from sentinode.model.bundle import Reading
from sentinode.model.engines.contract import BLOCK
from sentinode.model.engines.contract import TILE as TILE_SIDE
from sentinode.slides.reading.slide import Slide, _TileStore, open_slide
from sentinode.slides.results.outputs import write_outputs
from sentinode.slides.scanning import scan as scanning
from sentinode.slides.scanning.probability_map import ProbabilityMap
from sentinode.slides.scanning.scan import scan_slide
from sentinode.slides.scanning.tissue import Tissue, find_tissue

READINGS = ["patch", "dense"]
TILE = 64


@dataclass
class CountingEngine(StandInEngine):
    """Counts the pixels that it gets, and answers nothing of sense."""

    tile: int = TILE_SIDE
    block: int = BLOCK
    pixels: int = 0

    def margins(self, images: np.ndarray) -> np.ndarray:
        self.pixels += images[..., 0].size
        return np.zeros(len(images), np.float32)

    def features(self, region: np.ndarray) -> np.ndarray:
        self.pixels += region[..., 0].size
        return super().features(region)

    def pooled(self, features: np.ndarray, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
        return np.zeros((len(tops), len(lefts)), np.float32)


def all_tissue(width: int, height: int) -> tuple[np.ndarray, Tissue]:
    """A picture, and the statement that all of it is tissue."""
    picture = np.tile(np.array([200, 120, 180], np.uint8), (height, width, 1))
    return picture, Tissue(np.ones((height // 8, width // 8), bool), 8.0, 8 * 0.972, picture[::8, ::8])


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int, int]]:
    """How often each tile is decoded, by level, column and row."""
    counts: Counter[tuple[int, int, int]] = Counter()
    decode = _TileStore._decode

    def counted(store: _TileStore, number: int, column: int, row: int) -> np.ndarray:
        counts[number, column, row] += 1
        return decode(store, number, column, row)

    monkeypatch.setattr(_TileStore, "_decode", counted)
    return counts


def scan(slide: Slide, tissue: Tissue, engine: StandInEngine, reading: str, **options: object) -> ProbabilityMap:
    bundle = StandInBundle()
    readings = {"dense": Reading(temperature=1.5, threshold=0.4, halo=60)}  # the bundled model's halo
    card = bundle.card.model_copy(update={"readings": readings})
    return scan_slide(slide, tissue, StandInBundle(card=card), engine, reading=reading, show=False, **options)  # type: ignore[arg-type]


def test_dense_reading_gives_the_network_a_fifth_of_the_pixels(tmp_path: Path) -> None:
    picture, tissue = all_tissue(2560, 2560)
    pixels = {}
    with open_slide(write_tiff(tmp_path / "slide.tif", picture, tile=512)) as slide:
        for reading in READINGS:
            engine = CountingEngine()
            found = scan(slide, tissue, engine, reading, stride=32)
            pixels[reading] = engine.pixels
    assert pixels["patch"] == found.tissue.sum() * 96**2
    assert 5 * pixels["dense"] < pixels["patch"]


@pytest.mark.parametrize("reading", READINGS)
def test_the_pixels_that_the_network_gets_grow_in_a_straight_line_with_the_tissue(tmp_path: Path, reading: str) -> None:
    pixels = []
    for times in (1, 4):
        picture, tissue = all_tissue(1024, 1024 * times)
        with open_slide(write_tiff(tmp_path / f"{times}.tif", picture, tile=512)) as slide:
            engine = CountingEngine()
            scan(slide, tissue, engine, reading, stride=32)
            pixels.append(engine.pixels)
    assert pixels[1] <= 4.2 * pixels[0]


@pytest.mark.parametrize("reading", READINGS)
def test_a_scan_decodes_each_tile_once_and_holds_no_more_of_them_on_a_taller_slide(
    tmp_path: Path, decoded: Counter[tuple[int, int, int]], monkeypatch: pytest.MonkeyPatch, reading: str
) -> None:
    held: list[int] = []
    admit = _TileStore._admit

    def watched(store: _TileStore, size: int) -> None:
        admit(store, size)
        held.append(store._held)

    monkeypatch.setattr(_TileStore, "_admit", watched)
    monkeypatch.setattr(scanning, "READERS", 1)
    monkeypatch.setattr(scanning, "BLOCK", 256)
    most = []
    for times in (2, 8):
        picture, tissue = all_tissue(768, 512 * times)
        decoded.clear()
        held.clear()
        with open_slide(write_tiff(tmp_path / f"{times}.tif", picture, tile=TILE)) as slide:
            scan(slide, tissue, CountingEngine(block=400), reading, stride=32)
            level = slide.levels[0]
        assert len(decoded) == level.columns * level.rows and set(decoded.values()) == {1}
        most.append(max(held))
    assert most[1] <= 1.1 * most[0]
    assert most[1] < 0.3 * 768 * 4096 * 3


def test_writing_the_files_of_a_slide_decodes_none_of_its_tiles(
    tmp_path: Path, decoded: Counter[tuple[int, int, int]]
) -> None:
    picture = tissue_picture(5760, 1440, seed=5)
    with open_slide(write_tiff(tmp_path / "slide.tif", picture, tile=512)) as slide:
        tissue = find_tissue(slide)
        found = scan(slide, tissue, StandInEngine(), "patch", stride=96)
        decoded.clear()
        write_outputs(tmp_path, slide, found, tissue)
    assert not decoded


# The same map, whatever the blocks


class Killed(StandInEngine):
    """Is stopped after so many batches, as by a power cut."""

    left: int = 0

    def margins(self, images: np.ndarray) -> np.ndarray:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().margins(images)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Slide, Tissue]]:
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    with open_slide(write_tiff(path, tissue_picture(700, 520, seed=5), levels=2)) as opened:
        yield opened, find_tissue(opened)


@pytest.mark.parametrize("reading", READINGS)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    block=st.integers(100, 1200),
    readers=st.integers(1, 4),
    killed=st.integers(0, 12),
    torn=st.integers(0, 120),
    stride=st.sampled_from([32, 48, 33]),
)
def test_a_map_is_the_same_whatever_the_blocks_the_threads_and_where_a_kill_fell(
    slide: tuple[Slide, Tissue],
    monkeypatch: pytest.MonkeyPatch,
    reading: str,
    block: int,
    readers: int,
    killed: int,
    torn: int,
    stride: int,
) -> None:
    """Byte for byte, in both readings."""
    with monkeypatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        whole = scan(*slide, StandInEngine(), reading, stride=stride)
        log = Path(folder) / "scores.part"
        patch.setattr(scanning, "BLOCK", block)
        patch.setattr(scanning, "READERS", readers)
        stopped = Killed(block=block)
        stopped.left = killed
        try:
            scan(*slide, stopped, reading, stride=stride, log=log)
        except KeyboardInterrupt:
            log.write_bytes(log.read_bytes()[: -torn or None])
        resumed = scan(*slide, StandInEngine(block=block), reading, stride=stride, log=log)
    assert resumed.probability.tobytes() == whole.probability.tobytes()
    assert resumed.quality is not None and whole.quality is not None
    assert resumed.quality.tobytes() == whole.quality.tobytes()
