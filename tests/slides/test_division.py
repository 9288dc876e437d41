"""A large slide on a cluster with more workers than slides: each scores a part, and the files are the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slide_files import tissue_picture, write_tiff
from stand_in import StandInBundle, StandInEngine
from stand_in_ray import StandInRay, install

from sentinode.errors import SlideError
from sentinode.slides import batch, division
from sentinode.slides.division import PART_BYTES, Division, Item
from sentinode.slides.reading.remote import RemoteSlide
from sentinode.slides.scanning.manifest import DONE, MANIFEST, SlideState
from sentinode.slides.scanning.scan import score_part
from sentinode.slides.scanning.scores import LOG, Scores

PARTS = 3


@pytest.fixture
def slides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A slide that is large enough for three parts, and a small one."""
    folder = tmp_path / "slides"
    folder.mkdir()
    write_tiff(folder / "large.tif", tissue_picture(1000, 760, seed=5))
    write_tiff(folder / "small.tif", tissue_picture(200, 150, seed=1))
    monkeypatch.setattr(division, "PART_BYTES", (folder / "large.tif").stat().st_size // PARTS)
    return folder


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[StandInEngine]:
    """The engines that have been opened."""
    opened: list[StandInEngine] = []

    def open_engine(*_: object, **__: object) -> StandInEngine:
        opened.append(StandInEngine())
        return opened[-1]

    monkeypatch.setattr(batch, "open_engine", open_engine)
    return opened


def use(monkeypatch: pytest.MonkeyPatch, nodes: int = 6, dies: Callable[[int], bool] = lambda _: False) -> StandInRay:
    return install(StandInRay([{"CPU": 1.0}] * nodes, dies=dies), monkeypatch)


def scan(slides: Path, out: Path, **options: object) -> list[SlideState]:
    return batch.scan(StandInBundle(), [slides], out, make=None, show=False, **options)  # type: ignore[arg-type]


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files if ".locks" not in path.parts}


@pytest.mark.parametrize("dies", [set(), {6}, {5, 7, 9}], ids=["nobody dies", "one dies", "three die"])
@pytest.mark.parametrize("reading", ["patch", "dense"])
def test_a_slide_in_parts_gives_the_same_bytes_whoever_dies(
    slides: Path,
    engines: list[StandInEngine],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dies: set[int],
    reading: str,
) -> None:
    scan(slides, tmp_path / "alone", reading=reading)
    windows = sum(engines.pop().sizes)
    asked: list[tuple[int, int]] = []

    def score(*arguments: Any, **options: Any) -> Scores:
        asked.append(arguments[-1])
        return score_part(*arguments, **options)

    monkeypatch.setattr(batch, "score_part", score)
    use(monkeypatch, dies=dies.__contains__)
    states = scan(slides, tmp_path / "shared", reading=reading, cluster="auto")
    assert [state.state for state in states] == [DONE, DONE]
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    assert len(asked) >= PARTS and set(asked) == {(number, PARTS) for number in range(PARTS)}
    if not dies:
        assert sum(bool(engine.sizes) for engine in engines) >= PARTS
        assert reading == "dense" or sum(sum(engine.sizes) for engine in engines) == windows


def test_with_one_worker_or_a_slide_for_each_nothing_is_divided(
    slides: Path, engines: list[StandInEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch._Work, "score", lambda *_: pytest.fail("it was divided"))
    for nodes in (1, 2):
        use(monkeypatch, nodes)
        assert all(state.state == DONE for state in scan(slides, tmp_path / str(nodes), cluster="auto"))


def test_a_slide_of_which_a_part_fails_fails_with_its_own_reason(
    slides: Path,
    engines: list[StandInEngine],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(monkeypatch)

    def broken(*_: object, **__: object) -> None:
        raise SlideError("the tile at (3, 4) cannot be decoded.")

    def buggy(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(batch, "score_part", buggy)
    assert all(state.state == DONE for state in scan(slides, tmp_path / "mended", cluster="auto"))
    assert "ZeroDivisionError" in capsys.readouterr().err  # a fault of ours is never silent
    monkeypatch.setattr(batch, "score_part", broken)
    monkeypatch.setattr(batch, "scan_slide", broken)
    large, small = scan(slides, tmp_path / "broken", cluster="auto")
    assert "the tile at (3, 4)" in str(large.reason) and "the tile at (3, 4)" in str(small.reason)


def test_what_is_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(division, "PART_BYTES", 10)
    division_of = Division(tmp_path, {"a": 45, "b": 60, "c": 19, "d": 100})
    a, b, c, d = (Item(name, tmp_path / f"{name}.tif") for name in "abcd")

    def parts(items: list[Item], workers: int) -> list[tuple[str, tuple[int, int] | None]]:
        return [(item.name, item.part) for item in division_of.divide(items, workers)]

    assert parts([a], 8) == [("a", (number, 4)) for number in range(4)]
    assert parts([a], 2) == [("a", (0, 2)), ("a", (1, 2))]
    assert parts([a, b, c], 7) == [
        *(("a", (number, 3)) for number in range(3)),
        *(("b", (number, 3)) for number in range(3)),
        ("c", None),
    ]
    assert parts([c], 8) == [("c", None)]
    part = replace(a, part=(0, 2))
    assert parts([part, d], 3) == [("a", (0, 2)), ("d", (0, 2)), ("d", (1, 2))]
    elsewhere = Item("a", RemoteSlide("s3://a/slide.tif", "s3://a/slide.tif", 45, "1"))
    assert division_of.divide([elsewhere], 8) == [elsewhere]


def test_a_slide_whose_scan_has_begun_or_ended_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(division, "PART_BYTES", 10)
    slide, divided = Item("slide", tmp_path / "slide.tif"), Division(tmp_path, {"slide": 45})
    (tmp_path / "slide").mkdir()
    (tmp_path / "slide" / LOG).write_bytes(b"begun")
    assert divided.divide([slide], 8) == [slide]
    (tmp_path / "slide" / LOG).unlink()
    assert len(divided.divide([slide], 8)) == 4
    state = {"name": "slide", "slide": str(slide.slide), "state": DONE}
    (tmp_path / "slide" / MANIFEST).write_text(json.dumps(state))
    assert divided.divide([slide], 8) == [slide]


def test_parts_make_a_whole_in_their_order_and_one_slide_of_the_bar(tmp_path: Path) -> None:
    divided, slide = Division(tmp_path, {"slide": 10 * PART_BYTES}), Item("slide", tmp_path / "slide.tif")

    def scores(value: float, identity: bytes = b"plan") -> Scores:
        return Scores(identity, np.full(2, value, np.float32), np.full(2, value, np.uint8))

    parts = [replace(slide, part=(number, 3)) for number in range(3)]
    assert divided.gather(parts[2], scores(2)) is None and divided.gather(parts[0], scores(0)) is None
    whole = divided.gather(parts[1], scores(1))
    assert (
        whole is not None and divided.divide([whole], 8) == [whole] and whole.part is None and whole.scores is not None
    )
    assert whole.scores.margins.tolist() == [0, 0, 1, 1, 2, 2] == whole.scores.quality.tolist()
    assert sum(map(divided.share, (*parts, whole))) == 1 and divided.share(Item("other", tmp_path)) == 1
    for bad in (None, scores(1, b"another")):  # a part failed, or the file was changed meanwhile
        other = Division(tmp_path, {"slide": 10 * PART_BYTES})
        other.gather(parts[0], scores(0))
        other.gather(parts[1], bad)
        whole = other.gather(parts[2], scores(2))
        assert whole is not None and whole.scores is None and other.divide([whole], 8) == [whole]
