"""A folder of slides overnight: nothing is lost, done twice, or stopped by one bad slide."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import shapely
from made_disks import ELSEWHERE
from slide_files import tissue_picture, write_scn, write_tiff
from stand_in import StandInBundle, StandInEngine
from warm_processes import Warm

from sentinode import atomic, leases
from sentinode.errors import DeviceError, OutputError, SentinodeError, SlideError
from sentinode.locks import LOCKS
from sentinode.model.bundle import DENSE, PATCH
from sentinode.slides import batch
from sentinode.slides.batch import RESULTS
from sentinode.slides.reading.fingerprint import fingerprint
from sentinode.slides.reading.slide import Slide, open_slide
from sentinode.slides.results.findings import write_findings
from sentinode.slides.results.outputs import GEOJSON, write_outputs
from sentinode.slides.results.summary import PAGE
from sentinode.slides.scanning.manifest import MANIFEST, TISSUE, SlideState, read_states
from sentinode.slides.scanning.probability_map import open_map

WORKER = """
import pathlib, sys, time
sys.path.insert(0, {tests!r})
from stand_in import StandInBundle, StandInEngine
from sentinode.slides import batch
batch.open_engine = lambda *_, **__: StandInEngine(pause=0.03)
print("ready", flush=True)
batch.scan(StandInBundle(), [{slides!r}], {out!r}, reading={reading!r}, show=False)
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
    """Every file but the manifests, which alone hold times, and the locks, which are empty."""
    files = (path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST and LOCKS not in path.parts)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_each_slide_gets_a_folder_with_its_map_its_tissue_and_its_state(
    slides: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    states = scan(slides, tmp_path)
    assert [(state.name, state.state) for state in states] == [(f"slide{i}", "done") for i in range(4)]
    for state in states:
        folder = tmp_path / state.name
        assert {file.name for file in folder.iterdir()} == {
            "manifest.json",
            "map.json",
            "map.npy",
            "quality.npy",
            "tissue.png",
        }
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
    assert states["slide2"].reason == "a bug in Sentinode: ZeroDivisionError: by zero"
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


# A map belongs to a slide's content


def replace_slide(path: Path, seed: int) -> Path:
    return write_tiff(path, tissue_picture(500, 400, seed=seed))


@pytest.fixture
def copied(slides: Path, tmp_path: Path) -> Path:
    """Two slides of this test alone."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("slide0.tif", "slide1.tif"):
        shutil.copy(slides / name, folder / name)
    return folder


def test_a_slide_replaced_under_its_path_is_scanned_again_and_said(
    copied: Path, tmp_path: Path, engine: StandInEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    scan(copied, out, make=write_outputs)
    untouched = contents(out / "slide0")
    (out / "slide1" / "note.txt").write_text("a colleague's")
    replace_slide(copied / "slide1.tif", seed=11)
    assert {state.state for state in scan(copied, out, make=write_outputs)} == {"done"}
    printed = " ".join(capsys.readouterr().err.split())
    assert "slide1.tif: not the file that was scanned before" in printed and "slide0" not in printed
    assert open_map(out / "slide1").slide.fingerprint == fingerprint(copied / "slide1.tif")
    assert contents(out / "slide0") == untouched
    # Nothing of the old slide is left: all is as if it had never been there, but what others put beside it.
    scan(copied, tmp_path / "anew", make=write_outputs)
    (out / "slide1" / "note.txt").unlink()
    assert contents(out) == contents(tmp_path / "anew")


def test_the_same_content_is_the_same_slide_whatever_its_time(
    copied: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    scan(copied, tmp_path / "out")
    engine.sizes.clear()
    for path in copied.iterdir():
        path.write_bytes(path.read_bytes())
        os.utime(path, (0, 0))
    assert {state.state for state in scan(copied, tmp_path / "out")} == {"done"}
    assert not engine.sizes


def test_slides_whose_names_were_exchanged_are_both_scanned_again(
    copied: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    out = tmp_path / "out"
    scan(copied, out)
    (copied / "slide0.tif").rename(copied / "kept")
    (copied / "slide1.tif").rename(copied / "slide0.tif")
    (copied / "kept").rename(copied / "slide1.tif")
    scan(copied, out)
    for name in ("slide0", "slide1"):
        assert open_map(out / name).slide.fingerprint == fingerprint(copied / f"{name}.tif")


def test_of_a_slide_that_was_replaced_by_a_broken_file_no_result_is_left(
    copied: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    out = tmp_path / "out"
    scan(copied, out, make=write_outputs)
    (copied / "slide1.tif").write_bytes((copied / "slide1.tif").read_bytes()[:20_000])
    states = {state.name: state for state in scan(copied, out, make=write_outputs)}
    assert "damaged" in str(states["slide1"].reason)
    assert {file.name for file in (out / "slide1").iterdir()} == {"manifest.json"}
    page = (out / PAGE).read_text()
    assert "damaged" in page and "slide1/small.png" not in page


def test_a_slide_that_changes_while_it_is_scanned_fails_and_leaves_no_map(
    copied: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    def changed(folder: Path, slide: Slide, *rest: object) -> None:
        if slide.path.stem == "slide1":
            replace_slide(slide.path, seed=12)

    states = {state.name: state for state in scan(copied, tmp_path / "out", make=changed)}
    assert "changed while it was scanned" in str(states["slide1"].reason)
    assert states["slide0"].state == "done"
    assert {file.name for file in (tmp_path / "out" / "slide1").iterdir()} == {"manifest.json", "tissue.png"}


def test_a_slide_that_was_replaced_after_it_was_opened_fails_too(
    copied: Path, tmp_path: Path, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The open file still shows the old picture, while the path names the new one."""

    def opened(path: Path, **options: object) -> Slide:
        slide = open_slide(path, **options)  # type: ignore[arg-type]
        if path.stem == "slide1":
            write_tiff(path.with_name("new"), tissue_picture(560, 400, seed=12)).replace(path)
        return slide

    monkeypatch.setattr(batch, "open_slide", opened)
    states = {state.name: state for state in scan(copied, tmp_path / "out")}
    assert "changed while it was scanned" in str(states["slide1"].reason)


def test_a_slide_that_moved_keeps_its_map_and_its_new_place_is_noted(
    copied: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    scan(copied, tmp_path / "out")
    engine.sizes.clear()
    moved = copied.rename(tmp_path / "moved")
    states = scan(moved, tmp_path / "out")
    assert not engine.sizes
    assert [state.slide for state in states] == [str(moved / f"slide{i}.tif") for i in range(2)]


def test_another_slide_of_the_same_name_does_not_replace_the_first(
    copied: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    scan(copied, out, make=write_outputs)
    before = contents(out)
    replace_slide(other / "slide1.tif", seed=13)
    (state,) = scan(other, out, make=write_outputs)
    assert state.state == "failed" and state.slide == str(other / "slide1.tif")
    assert f"holds the results of another slide, {copied / 'slide1.tif'}" in str(state.reason)
    assert contents(out) == before
    # Where the first is gone, the second takes its place.
    (copied / "slide1.tif").unlink()
    (state,) = scan(other, out, make=write_outputs)
    assert state.state == "done"
    assert open_map(out / "slide1").slide.fingerprint == fingerprint(other / "slide1.tif")


def test_a_slide_that_cannot_be_read_any_more_keeps_its_map_and_fails(
    copied: Path, tmp_path: Path, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    scan(copied, out, make=write_outputs)
    before = contents(out)

    def refused(path: Path) -> str:
        if path.stem == "slide1":
            raise SlideError("the slide cannot be read (Permission denied).", where=path)
        return fingerprint(path)

    monkeypatch.setattr(batch, "fingerprint", refused)
    states = {state.name: state for state in scan(copied, out, make=write_outputs)}
    assert "Permission denied" in str(states["slide1"].reason)
    assert states["slide0"].state == "done"
    assert contents(out) == before


def test_a_map_that_was_damaged_is_made_again(
    copied: Path, tmp_path: Path, engine: StandInEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    scan(copied, out)
    before = contents(out)
    for name, content in (("map.npy", "half"), ("map.json", '{"format": 1, "sha256": "'), ("map.json", "[]")):
        (out / "slide0" / name).write_text(content)
        scan(copied, out)
        assert contents(out) == before
    assert capsys.readouterr().err.count("It is scanned again.") == 3


def test_a_slide_that_is_named_otherwise_than_before_is_said(
    copied: Path, tmp_path: Path, engine: StandInEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    scan(copied, tmp_path / "out")
    shutil.copy(copied / "slide1.tif", copied / "slide0.svs")
    assert [state.name for state in scan(copied, tmp_path / "out")][:2] == ["slide0-svs", "slide0-tif"]
    assert "'slide0' was made of the file that is now called 'slide0-tif'" in " ".join(capsys.readouterr().err.split())


def test_a_copy_is_scanned_once_and_said(
    copied: Path, tmp_path: Path, engine: StandInEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "again").mkdir()
    shutil.copy(copied / "slide0.tif", copied / "again" / "slide0.tif")
    assert len(scan(copied, tmp_path / "out")) == 2
    printed = capsys.readouterr().err
    assert "slide0.tif: a copy of a slide of the same name, scanned once." in printed and printed.count("a copy") == 1


# What a batch leaves


def test_the_verb_of_python_writes_the_pages_and_all_that_it_leaves_is_known_to_it(
    copied: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    """So that all of it is removed where another slide takes its place."""
    out = tmp_path / "out"
    scan(copied, out, make=write_outputs)
    assert all(f"slide{i}/index.html" in (out / PAGE).read_text() for i in range(2))
    assert {file.name for file in (out / "slide0").iterdir()} == {MANIFEST, TISSUE, *RESULTS}


def test_the_engine_is_recorded_by_its_parts(slides: Path, tmp_path: Path, engine: StandInEngine) -> None:
    engine.name = "stand-in cuda bfloat16 tta"
    scan(slides, tmp_path, tta=True)
    record = json.loads((tmp_path / MANIFEST).read_text())
    assert record["engine"] == {"kind": "stand-in", "device": "cuda", "precision": "bfloat16", "tta": True}
    # Another GPU of the machine is another place, and not another engine.
    scan(slides, tmp_path, tta=True, device="cuda:1", precision="bfloat16")
    for options in ({"tta": False}, {"tta": True, "device": "cpu"}, {"tta": True, "precision": "float32"}):
        with pytest.raises(DeviceError, match="begun on 'stand-in cuda bfloat16 tta'"):
            scan(slides, tmp_path, **options)


def test_a_batch_begun_by_an_earlier_version_goes_on(slides: Path, tmp_path: Path, engine: StandInEngine) -> None:
    scan(slides, tmp_path)
    engine.sizes.clear()
    manifest = tmp_path / MANIFEST
    record = json.loads(manifest.read_text()) | {"format": 1, "engine": "stand-in cpu float32"}
    manifest.write_text(json.dumps(record))
    assert {state.state for state in scan(slides, tmp_path)} == {"done"}
    assert not engine.sizes
    with pytest.raises(DeviceError, match="begun on 'stand-in cpu float32'"):
        scan(slides, tmp_path, precision="bfloat16")


def as_good() -> StandInBundle:
    """A bundle whose card says that dense reading is as good."""
    card = StandInBundle().card
    readings = {PATCH: card.readings[PATCH], DENSE: card.readings[DENSE].model_copy(update={"auc": 0.9})}
    return StandInBundle(card=card.model_copy(update={"readings": readings}))


def reading_of(out: Path) -> object:
    return json.loads((out / MANIFEST).read_text())["reading"]


def test_a_batch_keeps_the_reading_that_it_was_begun_with(slides: Path, tmp_path: Path, engine: StandInEngine) -> None:
    options = {"make": None, "show": False}
    batch.scan(as_good(), [slides], tmp_path / "dense", **options)  # type: ignore[arg-type]
    batch.scan(as_good(), [slides], tmp_path / "patch", reading="patch", **options)  # type: ignore[arg-type]
    assert (reading_of(tmp_path / "dense"), reading_of(tmp_path / "patch")) == (DENSE, PATCH)
    one, other = (open_map(tmp_path / name / "slide0") for name in ("dense", "patch"))
    assert (one.engine, other.engine) == ("stand-in cpu float32 dense", "stand-in cpu float32")
    np.testing.assert_array_equal(one.probability, other.probability)
    engine.sizes.clear()
    batch.scan(as_good(), [slides], tmp_path / "patch", **options)  # type: ignore[arg-type]
    assert not engine.sizes and reading_of(tmp_path / "patch") == PATCH
    with pytest.raises(OutputError, match="a batch with reading dense, and you ask for patch"):
        batch.scan(as_good(), [slides], tmp_path / "dense", reading="patch", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("reading", "cautions"), [("patch", 0), ("dense", 1)])
def test_an_operating_point_that_was_chosen_on_the_other_reading_is_cautioned_once(
    slides: Path, tmp_path: Path, engine: StandInEngine, capsys: pytest.CaptureFixture[str], reading: str, cautions: int
) -> None:
    bundle = as_good()
    points = {
        name: point.model_copy(update={"chosen_on": point.chosen_on.model_copy(update={"slides": 20})})
        for name, point in bundle.card.slide_operating_points.items()
    }
    bundle.card = bundle.card.model_copy(update={"slide_operating_points": points})
    batch.scan(bundle, [slides], tmp_path, reading=reading, make=None, show=False)  # type: ignore[arg-type]
    printed = " ".join(capsys.readouterr().err.split())
    assert (
        printed.count("was chosen on maps that were read patch by patch, and these maps are read densely") == cautions
    )


def test_a_batch_of_an_older_version_was_read_patch_by_patch(
    slides: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    scan(slides, tmp_path)
    record = json.loads((tmp_path / MANIFEST).read_text())
    del record["reading"]
    (tmp_path / MANIFEST).write_text(json.dumps(record))
    engine.sizes.clear()
    states = batch.scan(as_good(), [slides], tmp_path, make=None, show=False)  # type: ignore[arg-type]
    assert {state.state for state in states} == {"done"} and not engine.sizes


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 3}', '{"format": 2, "engine": {}}'])
def test_a_manifest_that_cannot_be_read_is_refused(
    slides: Path, tmp_path: Path, engine: StandInEngine, content: str
) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(OutputError, match="the manifest of this batch"):
        scan(slides, tmp_path)


ODD = (
    b"CON.tif", b"...tif", b"a\nb.tif", b"[red]a.tif", b"a$^$b.tif", b"\xff.tif", b"back\\slash.tif",
    b"index.html.tif", b".locks.tif", b"batch.tif", b"x" * 251 + b".tif", "スライド👩‍🔬.tif".encode(),
)  # fmt: skip


@pytest.mark.slow
def test_a_slide_of_any_name_is_scanned_and_nothing_is_written_outside(
    slides: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ODD:
        # Some disks do not take some of these names, so that none can be met there.
        with contextlib.suppress(OSError):
            shutil.copy(slides / "slide0.tif", os.path.join(os.fsencode(folder), name))  # noqa: PTH118
    paths = list(folder.iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        states = batch.scan(StandInBundle(), paths, tmp_path / "out", show=True)  # type: ignore[arg-type]
    assert [state.reason for state in states] == [None] * len(paths)
    assert {path.name for path in tmp_path.iterdir()} == {"slides", "out"}
    assert all((tmp_path / "out" / state.name / PAGE).is_file() for state in states)
    assert write_findings(tmp_path / "out", show=False).failed == {}


# Killed, and in company


def start(folder: Path, slides: Path, out: Path, reading: str = "auto", disk: str = "") -> Warm:
    """A process that begins to scan now; ``folder`` is for what it prints."""
    code = disk + WORKER.format(tests=str(Path(__file__).parent), slides=str(slides), out=str(out), reading=reading)
    process = Warm(folder, program=code)
    while process.stdout.strip() != "ready":
        assert process.poll() is None, process.stderr
        time.sleep(0.01)
    return process


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


def test_a_batch_begun_with_an_int8_network_goes_on_with_that_one_alone(
    slides: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    engine.name, engine.graph = "openvino cpu int8", "one"
    scan(slides, tmp_path / "maps")
    scan(slides, tmp_path / "maps")
    engine.graph = "another"
    with pytest.raises(DeviceError, match="another int8 network"):
        scan(slides, tmp_path / "maps")


@pytest.mark.slow
@pytest.mark.parametrize("reading", [PATCH, DENSE])
def test_a_batch_killed_at_three_random_moments_ends_in_the_same_bytes(
    slides: Path, tmp_path: Path, engine: StandInEngine, reading: str
) -> None:
    scan(slides, tmp_path / "whole", reading=reading, make=write_outputs)
    out, chance = tmp_path / "killed", random.Random()
    for _ in range(3):
        process = start(tmp_path, slides, out, reading)
        time.sleep(chance.uniform(0.2, 1.5))
        process.kill()
    assert {state.state for state in scan(slides, out, reading=reading, make=write_outputs)} == {"done"}
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_batch_killed_while_it_replaces_old_results_leaves_none_of_them(
    copied: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    out, chance = tmp_path / "out", random.Random()
    scan(copied, out, make=write_outputs)
    for path in copied.iterdir():
        replace_slide(path, seed=14)
    scan(copied, tmp_path / "anew", make=write_outputs)
    for _ in range(2):
        process = start(tmp_path, copied, out)
        time.sleep(chance.uniform(0.1, 1.5))
        process.kill()
        # At any moment a folder holds the results of one slide: none of the old beside any of the new.
        for name in ("slide0", "slide1"):
            left, made = contents(out / name), contents(tmp_path / "anew" / name)
            if left.get("map.json") == made["map.json"]:
                assert all(left[file] == made[file] for file in left.keys() & made.keys())
    assert {state.state for state in scan(copied, out, make=write_outputs)} == {"done"}
    assert contents(out) == contents(tmp_path / "anew")


@pytest.mark.slow
def test_two_processes_share_a_batch_without_doing_a_slide_twice(
    slides: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    scan(slides, tmp_path / "alone", make=write_outputs)
    out = tmp_path / "shared"
    other = start(tmp_path, slides, out)
    engine.pause = 0.03
    states = scan(slides, out, make=write_outputs)
    assert other.wait() == 0, other.stderr
    assert contents(out) == contents(tmp_path / "alone")
    assert {state.process for state in states} == {os.getpid(), other.pid}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="locks of this system do not depend on the disk")
def test_processes_share_a_batch_on_a_disk_without_locks_while_one_is_killed_and_one_is_suspended(
    slides: Path, tmp_path: Path, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan(slides, tmp_path / "alone", make=write_outputs)
    out = tmp_path / "shared"
    killed = start(tmp_path, slides, out, disk=ELSEWHERE)
    while not list(out.glob("*/scores.part")):
        time.sleep(0.05)
    killed.kill()
    suspended = start(tmp_path, slides, out, disk=ELSEWHERE)
    while not list(out.glob(f"*/{MANIFEST}")) or str(suspended.pid) not in running(out):
        time.sleep(0.05)
    os.kill(suspended.pid, signal.SIGSTOP)
    monkeypatch.setattr(leases, "LEASE_S", 1.5)
    monkeypatch.setattr(leases, "BEAT_S", 0.1)
    engine.pause = 0.03
    assert {state.state for state in scan(slides, out, make=write_outputs)} == {"done"}
    before = {state.name: state for state in read_states(out)}
    os.kill(suspended.pid, signal.SIGCONT)
    assert suspended.wait() == 0, suspended.stderr
    assert {state.name: state for state in read_states(out)} == before  # it wrote nothing over the other's
    assert contents(out) == contents(tmp_path / "alone")


def test_a_slide_that_is_lost_while_its_state_is_written_stays_with_the_other_process(
    slides: Path, tmp_path: Path, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write to a slow drive takes a while, and a process may be suspended in the middle of it."""
    monkeypatch.setenv(leases.WANTED, "1")
    settle = atomic._settle

    def slow(file: Path) -> None:
        settle(file)
        if "manifest" in file.name and '"done"' in file.read_text():
            for lease in (tmp_path / ".locks").glob("slide*"):
                lease.write_text("of another process")

    monkeypatch.setattr(atomic, "_settle", slow)
    scan(slides / "slide0.tif", tmp_path)
    assert [(state.name, state.state) for state in read_states(tmp_path)] == [("slide0", "running")]


def running(out: Path) -> set[str]:
    return {str(state.process) for state in read_states(out) if state.state == "running"}


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
    printed = [json.loads((tmp_path / "out" / name / GEOJSON).read_text())["sentinode"] for name in ("one", "two")]
    assert printed == [{"coordinates": "slide"}] * 2
    with pytest.raises(OutputError, match="count from the corner of the whole slide, and you ask for the other"):
        scan(glass, tmp_path / "out", make=write_outputs, whole_slide_coordinates=False)


@pytest.mark.parametrize("asked", [None, False])
def test_a_batch_begun_without_the_choice_is_not_changed_half_way(
    glass: Path, tmp_path: Path, engine: StandInEngine, asked: bool | None
) -> None:
    scan(glass, tmp_path / "out", make=write_outputs, whole_slide_coordinates=asked)
    with pytest.raises(OutputError, match="the part that the scanner filled, and you ask for the other"):
        scan(glass, tmp_path / "out", make=write_outputs, whole_slide_coordinates=True)


def points_of(out: Path) -> dict[str, tuple[str, float]]:
    """The name and the reach of the point by which each slide's lesions were found."""
    records = {file.parent.name: json.loads(file.read_text())["operating_point"] for file in out.glob("*/lesions.json")}
    return {name: (record["name"], record["reach"]) for name, record in records.items()}


def test_a_batch_keeps_to_its_operating_point(glass: Path, tmp_path: Path, engine: StandInEngine) -> None:
    scan(glass, tmp_path / "out", make=write_outputs, operating_point="specific")
    write_scn(glass / "two.scn", tissue_picture(700, 520, seed=4), corner=(480, 288), glass=(1300, 900))
    scan(glass, tmp_path / "out", make=write_outputs)
    assert points_of(tmp_path / "out") == {"one": ("specific", 0.9), "two": ("specific", 0.9)}
    with pytest.raises(OutputError, match=r"operating point 'specific', and you ask(.|\n)*--operating-point balanced"):
        scan(glass, tmp_path / "out", make=write_outputs, operating_point="balanced")
    write_findings(tmp_path / "out", operating_point="balanced", show=False)
    assert points_of(tmp_path / "out") == {"one": ("balanced", 0.4), "two": ("balanced", 0.4)}
    scan(glass, tmp_path / "out", make=write_outputs)


def test_a_bundle_with_new_operating_points_does_not_change_a_batch_half_way(
    glass: Path, tmp_path: Path, engine: StandInEngine
) -> None:
    scan(glass, tmp_path / "out", make=write_outputs)
    bundle = StandInBundle()
    points = {"balanced": bundle.card.slide_operating_points["specific"]}
    bundle.card = bundle.card.model_copy(update={"slide_operating_points": points})
    with pytest.raises(OutputError, match=r"another bundle or version(.|\n)*--bundle BUNDLE"):
        batch.scan(bundle, [glass], tmp_path / "out", show=False)  # type: ignore[arg-type]
    write_findings(tmp_path / "out", bundle=bundle, show=False)  # type: ignore[arg-type]
    assert points_of(tmp_path / "out") == {"one": ("balanced", 0.9)}
    batch.scan(bundle, [glass], tmp_path / "out", show=False)  # type: ignore[arg-type]


def test_without_operating_points_the_general_one_is_used_and_that_is_printed(
    glass: Path, tmp_path: Path, engine: StandInEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = StandInBundle()
    bundle.card = bundle.card.model_copy(update={"slide_operating_points": {}})
    batch.scan(bundle, [glass], tmp_path / "out", show=False)  # type: ignore[arg-type]
    assert points_of(tmp_path / "out") == {"one": ("balanced", 0.5)}
    assert "the general one is used. Choose one on annotated slides with 'sentinode operate'" in " ".join(
        capsys.readouterr().err.split()
    )
