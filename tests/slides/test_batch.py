"""A folder of slides overnight: nothing is lost, done twice, or stopped by one bad slide."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import shapely
from slide_files import tissue_picture, write_scn, write_tiff
from stand_in import StandInBundle, StandInEngine

from sentinode.errors import DeviceError, OutputError, SentinodeError, SlideError
from sentinode.slides import batch
from sentinode.slides.reading.folder import find_slides, name_slides
from sentinode.slides.results.outputs import GEOJSON, write_outputs
from sentinode.slides.scanning.manifest import SlideState, read_states
from sentinode.slides.scanning.probability_map import open_map

WORKER = """
import pathlib, sys, time
sys.path.insert(0, {tests!r})
from stand_in import StandInBundle, StandInEngine
from sentinode.slides import batch
batch.open_engine = lambda *_, **__: StandInEngine(pause=0.03)
print("ready", flush=True)
sys.stdin.readline()
batch.scan(StandInBundle(), [{slides!r}], {out!r}, show=False)
"""


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four slides."""
    folder = tmp_path_factory.mktemp("slides")
    for i in range(4):
        write_tiff(folder / f"slide{i}.tif", tissue_picture(500 + 60 * i, 400, seed=i))
    return folder


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> StandInEngine:
    engine = StandInEngine()
    monkeypatch.setattr(batch, "open_engine", lambda *_, **__: engine)
    return engine


def scan(slides: Path, out: Path, **options: object) -> list[SlideState]:
    """Scan with the stand-in, for the maps alone unless told otherwise."""
    options = {"make": None, "show": False, **options}
    return batch.scan(StandInBundle(), [slides], out, **options)  # type: ignore[arg-type]


def contents(out: Path) -> dict[str, bytes]:
    """Every file but the manifests, which alone hold times."""
    files = (path for path in out.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_each_slide_gets_a_folder_with_its_map_its_tissue_and_its_state(
    slides: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    states = scan(slides, tmp_path)
    assert [(state.name, state.state) for state in states] == [(f"slide{i}", "done") for i in range(4)]
    for state in states:
        folder = tmp_path / state.name
        assert {file.name for file in folder.iterdir()} == {"manifest.json", "map.json", "map.npy", "tissue.png"}
        assert open_map(folder).tissue.sum() == state.windows


def test_a_batch_that_is_done_does_nothing_more(slides: Path, tmp_path: Path, engine: StandInEngine) -> None:
    scan(slides, tmp_path)
    engine.sizes.clear()
    before = (tmp_path / "slide0" / "manifest.json").read_bytes()
    assert {state.state for state in scan(slides, tmp_path)} == {"done"}
    assert not engine.sizes
    assert (tmp_path / "slide0" / "manifest.json").read_bytes() == before


def test_a_failed_slide_does_not_stop_the_others_and_says_why(
    slides: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    folder = tmp_path / "slides"
    shutil.copytree(slides, folder)
    (folder / "a_letter.svs").write_text("Dear colleague")
    (folder / "slide1.tif").write_bytes((folder / "slide1.tif").read_bytes()[:20_000])
    write_tiff(folder / "bare.tif", tissue_picture(300, 300), mpp=None)
    states = {state.name: state for state in scan(folder, tmp_path / "out")}
    assert {name for name, state in states.items() if state.state == "done"} == {"slide0", "slide2", "slide3"}
    assert "not a slide" in str(states["a_letter"].reason)
    assert "damaged" in str(states["slide1"].reason)
    assert "--mpp" in str(states["bare"].reason)


def test_a_fault_of_ours_on_one_slide_leaves_the_others_alone(
    slides: Path, tmp_path: Path, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = batch.find_tissue

    def faulty(slide: batch.Slide) -> batch.Tissue:
        if slide.path.stem == "slide2":
            raise ZeroDivisionError("by zero")
        return find(slide)

    monkeypatch.setattr(batch, "find_tissue", faulty)
    states = {state.name: state for state in scan(slides, tmp_path)}
    assert states["slide2"].reason == "a fault of Sentinode's: ZeroDivisionError: by zero"
    assert sum(state.state == "done" for state in states.values()) == 3


def test_a_failed_slide_is_tried_again_by_the_next_call(tmp_path: Path, slides: Path, engine: StandInEngine) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    path = folder / "slide0.tif"
    path.write_text("not yet copied")
    assert scan(folder, tmp_path / "out")[0].state == "failed"
    time.sleep(1.1)  # states carry whole seconds
    shutil.copy(slides / "slide0.tif", path)
    assert scan(folder, tmp_path / "out")[0].state == "done"


def test_a_full_disk_stops_the_batch_and_freeing_it_lets_it_go_on(
    slides: Path, tmp_path: Path, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, *_: object) -> None:
        raise OutputError("the disk is full; nothing half-written was left behind.", where=folder)

    with pytest.raises(OutputError, match="disk is full"):
        scan(slides, tmp_path, make=full)
    assert [state.state for state in read_states(tmp_path)] == ["running"]
    engine.sizes.clear()
    assert {state.state for state in scan(slides, tmp_path)} == {"done"}
    scored = sum(int(state.windows or 0) for state in read_states(tmp_path))
    assert sum(engine.sizes) < scored - 16  # the first slide's scores were kept


def test_settings_that_differ_are_refused_before_anything_is_done(
    slides: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    scan(slides, tmp_path, stride=96)
    with pytest.raises(OutputError, match="stride 96, and you ask for 32"):
        scan(slides, tmp_path, stride=32)


def test_a_batch_stays_with_its_engine(slides: Path, tmp_path: Path, engine: StandInEngine) -> None:
    scan(slides, tmp_path)
    with pytest.raises(DeviceError, match="begun on 'stand-in cpu float32'"):
        scan(slides, tmp_path, device="cuda")
    engine.name = "stand-in cpu bfloat16"
    with pytest.raises(DeviceError, match="this machine offers 'stand-in cpu bfloat16'"):
        scan(slides, tmp_path)


@pytest.mark.parametrize(("option", "value"), [("prior", 0.0), ("prior", 1.5), ("stride", 0)])
def test_settings_without_sense_are_refused(slides: Path, tmp_path: Path, option: str, value: float) -> None:
    with pytest.raises(SentinodeError, match=option):
        scan(slides, tmp_path, **{option: value})


# Which slides there are, and what their folders are called


def test_slides_are_found_in_folders_and_the_output_is_not_searched(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("b.svs", "patient/a.TIF", "notes.txt", "photo.png", "out/lesions.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_slides([tmp_path], exclude=out)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["b.svs", "patient/a.TIF"]
    # A flat picture counts when it is named.
    assert find_slides([tmp_path / "photo.png"]) == [tmp_path / "photo.png"]


def test_no_slide_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="no slide was found"):
        find_slides([tmp_path])
    with pytest.raises(SlideError, match="no such slide"):
        find_slides([tmp_path / "gone.svs"])


def test_slides_that_share_a_stem_get_names_from_their_content(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one/x.svs", "two/X.tif", "three/y.svs", "copy/x.svs")]
    for path, content in zip(paths, ("first", "second", "third", "first"), strict=True):
        path.parent.mkdir()
        path.write_text(content)
    names = name_slides(paths)
    assert names["y"] == paths[2]
    assert len(names) == 3  # a copy is the same slide
    assert names.keys() == name_slides(paths[::-1]).keys()
    assert all(name.lower().startswith("x-") for name, path in names.items() if path != paths[2])


# Killed, and in company


def start(slides: Path, out: Path) -> subprocess.Popen[bytes]:
    """A process with everything imported, which scans once it is told to."""
    code = WORKER.format(tests=str(Path(__file__).parent), slides=str(slides), out=str(out))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None and process.stdout.readline().strip() == b"ready"
    return process


def go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def test_a_batch_goes_on_with_the_engine_that_it_was_begun_with(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def open_engine(*_: object, kind: str, **__: object) -> StandInEngine:
        asked.append(kind)
        return StandInEngine()

    monkeypatch.setattr(batch, "open_engine", open_engine)
    scan(slides, tmp_path / "maps")
    scan(slides, tmp_path / "maps")
    assert asked == ["fastest", StandInEngine().name.split()[0]]


@pytest.mark.slow
def test_a_batch_killed_at_three_random_moments_ends_in_the_same_bytes(
    slides: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    scan(slides, tmp_path / "whole", make=write_outputs)
    out, chance = tmp_path / "killed", random.Random()
    for _ in range(3):
        process = start(slides, out)
        go(process)
        time.sleep(chance.uniform(0.2, 1.5))
        process.kill()
        process.communicate()
    assert {state.state for state in scan(slides, out, make=write_outputs)} == {"done"}
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_share_a_batch_without_doing_a_slide_twice(
    slides: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    scan(slides, tmp_path / "alone", make=write_outputs)
    out = tmp_path / "shared"
    other = start(slides, out)
    go(other)
    engine.pause = 0.03
    states = scan(slides, out, make=write_outputs)
    other.communicate(timeout=120)
    assert other.returncode == 0
    assert contents(out) == contents(tmp_path / "alone")
    assert {state.process for state in states} == {os.getpid(), other.pid}


def test_what_a_killed_process_left_half_written_is_removed(
    slides: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    folder = tmp_path / "slide0"
    folder.mkdir()
    (folder / ".map.123.part.npy").write_bytes(b"half")
    scan(slides, tmp_path)
    assert not list(folder.glob(".*"))


def test_manifests_alone_hold_times(slides: Path, tmp_path: Path, engine: StandInEngine) -> None:
    for name in ("first", "second"):
        scan(slides, tmp_path / name)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    manifest = json.loads((tmp_path / "first" / "slide0" / "manifest.json").read_text())
    assert manifest["state"] == "done" and manifest["started"] <= manifest["finished"]


# Slides of which the scanner filled a part


@pytest.fixture
def glass(tmp_path: Path) -> Path:
    """A folder with one slide that states bounds."""
    (tmp_path / "glass").mkdir()
    picture = tissue_picture(700, 520, seed=3)
    dark = np.where(picture[..., 1:2] < 200, picture // 2, picture)  # the stand-in takes what is dark for tumour
    write_scn(tmp_path / "glass" / "one.scn", dark, corner=(480, 288), glass=(1300, 900))
    return tmp_path / "glass"


def lesions_of(out: Path) -> tuple[str, tuple[float, ...]]:
    """From where the lesions of a batch's only slide count, and the box around them."""
    content = json.loads((out / "one" / GEOJSON).read_text())
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in content["features"]]
    return content["sentinode"]["coordinates"], tuple(shapely.total_bounds(shapes))


def test_lesions_lie_where_qupath_shows_the_tissue(glass: Path, tmp_path: Path, engine: StandInEngine) -> None:
    scan(glass, tmp_path / "cropped", make=write_outputs)
    scan(glass, tmp_path / "whole", make=write_outputs, whole_slide_coordinates=True)
    assert open_map(tmp_path / "cropped" / "one").slide.bounds == (480, 288, 700, 520)
    (kind, box), (other_kind, other) = (lesions_of(tmp_path / name) for name in ("cropped", "whole"))
    assert (kind, other_kind) == ("bounds", "slide")
    assert tuple(np.subtract(other, box)) == (480, 288, 480, 288)
    assert -64 < box[0] < 700 and -64 < box[1] < 520


def test_a_batch_keeps_to_where_its_lesions_count_from(glass: Path, tmp_path: Path, engine: StandInEngine) -> None:
    scan(glass, tmp_path / "out", make=write_outputs, whole_slide_coordinates=True)
    write_scn(glass / "two.scn", tissue_picture(700, 520, seed=4), corner=(480, 288), glass=(1300, 900))
    scan(glass, tmp_path / "out", make=write_outputs)
    said = [json.loads((tmp_path / "out" / name / GEOJSON).read_text())["sentinode"] for name in ("one", "two")]
    assert said == [{"coordinates": "slide"}] * 2
    with pytest.raises(OutputError, match="count from the corner of the whole slide, and you ask for the other"):
        scan(glass, tmp_path / "out", make=write_outputs, whole_slide_coordinates=False)


@pytest.mark.parametrize("asked", [None, False])
def test_a_batch_begun_without_the_choice_is_not_changed_half_way(
    glass: Path, tmp_path: Path, engine: StandInEngine, asked: bool | None
) -> None:
    scan(glass, tmp_path / "out", make=write_outputs, whole_slide_coordinates=asked)
    with pytest.raises(OutputError, match="the part that the scanner filled, and you ask for the other"):
        scan(glass, tmp_path / "out", make=write_outputs, whole_slide_coordinates=True)
