"""Results at an address: those of a folder, whatever happens to the machines that make them.

Most tests write to a store in memory, because each request to the local S3 takes longer than the scan of these slides.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from local_s3 import SECRET, local_s3
from slide_files import tissue_picture, write_tiff
from stand_in import StandInBundle, StandInEngine

from sentinode.errors import DeviceError, OutputError
from sentinode.slides import batch
from sentinode.slides.reading import remote as reading_remote
from sentinode.slides.reading.addresses import KINDS, open_address
from sentinode.slides.results import remote
from sentinode.slides.results.outputs import OME_TIFF, write_outputs
from sentinode.slides.results.remote import RemoteBatch
from sentinode.slides.scanning.manifest import MANIFEST, TISSUE, SlideState
from sentinode.slides.scanning.probability_map import ARRAY, QUALITY, RECORD

pytest.importorskip("s3fs", reason="s3fs (sentinode[remote]) is not installed here")

MAP = {MANIFEST, TISSUE, ARRAY, QUALITY, RECORD}
"""The files of a slide of which nothing is made but the map."""


class Place:
    """What lies at an address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._files, self._root = open_address(address, use_listings_cache=False)

    def read(self) -> dict[str, bytes]:
        """The content of every file by its name."""
        paths = self._files.find(self._root)
        return {path.removeprefix(f"{self._root}/"): self._files.cat_file(path) for path in paths}

    def without_manifests(self) -> dict[str, bytes]:
        return {name: content for name, content in self.read().items() if not name.endswith(MANIFEST)}

    def state(self, name: str) -> str:
        return str(json.loads(self.read()[f"{name}/{MANIFEST}"])["state"])

    def write(self, name: str, content: bytes) -> None:
        self._files.pipe_file(f"{self._root}/{name}", content)

    def remove(self, begin: str = "") -> None:
        for name in self.read():
            if name.startswith(begin):
                self._files.rm_file(f"{self._root}/{name}")


@pytest.fixture
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place in memory of a test's own."""
    for module in (remote, reading_remote):
        monkeypatch.setattr(module, "KINDS", (*KINDS, "memory"))
    return Place(f"memory://{request.node.name}")


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with local_s3("maps") as client:
        yield client


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for i in range(2):
        write_tiff(folder / f"slide{i}.tif", tissue_picture(200 + 40 * i, 150, seed=i))
    return folder


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> StandInEngine:
    engine = StandInEngine()
    monkeypatch.setattr(batch, "open_engine", lambda *_, **__: engine)
    monkeypatch.setattr(remote, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(remote, "WRITERS", 1)  # so that a kill is at the same file each time
    monkeypatch.setattr(batch.random, "sample", lambda items, _: items)
    return engine


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the slides that are scanned, one by one."""
    names: list[str] = []
    scan_one = batch._Work._scan

    def noting(work: Any, name: str, *others: Any) -> None:
        names.append(name)
        scan_one(work, name, *others)

    monkeypatch.setattr(batch._Work, "_scan", noting)
    return names


def scan(slides: Path, out: str | Path, stage: Path | None, **options: object) -> list[SlideState]:
    options = {"make": None, "show": False, "stage": stage, **options}
    return batch.scan(StandInBundle(), [slides], out, **options)  # type: ignore[arg-type]


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST)
    found = {path.relative_to(out).as_posix(): path.read_bytes() for path in files}
    return {name: content for name, content in found.items() if not name.startswith(".")}


@pytest.fixture(scope="module")
def of_a_folder(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a scan into a folder leaves, without manifests."""
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "open_engine", lambda *_, **__: StandInEngine())
        scan(slides, out, None)
    return contents(out)


def test_s3_holds_what_a_folder_would(s3: Any, slides: Path, tmp_path: Path, scanned: list[str]) -> None:
    bucket, one, options = Place("s3://maps/whole"), slides / "slide0.tif", {"make": write_outputs}
    scan(one, tmp_path / "out", None, **options)
    states = scan(one, bucket.address, tmp_path / "stage", **options)
    assert [(state.name, state.state) for state in states] == [("slide0", "done")]
    assert bucket.without_manifests() == contents(tmp_path / "out")
    before = bucket.read()
    of_batch, begun = (json.loads(text) for text in (before[MANIFEST], (tmp_path / "out" / MANIFEST).read_text()))
    assert {**of_batch, "begun": ""} == {**begun, "begun": ""} and bucket.state("slide0") == "done"
    # Of what lies there, the disk keeps no more than the page needs.
    kept = {file.name for file in (tmp_path / "stage").rglob("*") if file.is_file() and file.parent.name == "slide0"}
    assert kept == {MANIFEST, RECORD, "lesions.json"}
    # On a new machine nothing is scanned, and the page is the same.
    scanned.clear()
    assert scan(one, bucket.address, tmp_path / "new", **options) == states
    assert not scanned and bucket.read() == before


def test_in_s3_one_of_two_machines_that_begin_at_once_decides_the_engine(
    s3: Any, slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Place("s3://maps/race")

    def begin_first(*_: object, **__: object) -> StandInEngine:
        """Another machine begins while this one opens its engine."""
        monkeypatch.setattr(batch, "open_engine", lambda *_, **__: StandInEngine("stand-in cuda float32"))
        scan(slides / "slide0.tif", bucket.address, tmp_path / "first")
        monkeypatch.setattr(batch, "open_engine", lambda *_, **__: StandInEngine("stand-in cpu float32"))
        return StandInEngine("stand-in cpu float32")

    monkeypatch.setattr(batch, "open_engine", begin_first)
    with pytest.raises(DeviceError, match="begun on 'stand-in cuda float32', and this machine offers") as caught:
        scan(slides, bucket.address, tmp_path / "second")
    assert caught.value.where == bucket.address
    assert json.loads(bucket.read()[MANIFEST])["engine"]["device"] == "cuda" and bucket.state("slide0") == "done"


def test_in_s3_names_may_hold_any_character(s3: Any, slides: Path, tmp_path: Path) -> None:
    bucket, folder = Place("s3://maps/a b/50% é #1"), tmp_path / "slides"
    folder.mkdir()
    names = {"50%25 [é] #2.tif": "50%25 [é] #2", "broken.tif": "broken"}
    shutil.copy(slides / "slide0.tif", folder / "50%25 [é] #2.tif")
    (folder / "broken.tif").write_bytes(b"II*\0 no slide")
    states = scan(folder, f"{bucket.address}//", tmp_path / "stage")
    assert [state.state for state in states] == ["done", "failed"]
    assert {name.partition("/")[0] for name in bucket.read()} == {*names.values(), MANIFEST, "index.html"}
    assert [RemoteBatch(bucket.address, tmp_path / "stage", show=False).folder] == [*(tmp_path / "stage").glob("res*")]


def test_a_new_machine_scans_what_is_not_done_there(
    slides: Path, tmp_path: Path, bucket: Place, scanned: list[str], of_a_folder: dict[str, bytes]
) -> None:
    scan(slides / "slide0.tif", bucket.address, tmp_path / "lost")
    scan(slides, bucket.address, tmp_path / "new")
    assert scanned == ["slide0", "slide1"] and bucket.without_manifests() == of_a_folder


@pytest.mark.parametrize("kill_at", [1, 4, 6, 9, 11])
def test_a_kill_while_files_are_written_loses_nothing(
    slides: Path,
    tmp_path: Path,
    bucket: Place,
    scanned: list[str],
    of_a_folder: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    kill_at: int,
) -> None:
    """The batch's manifest, five files of each slide and the page make twelve."""
    put, count = RemoteBatch._put, 0

    def killed(self: RemoteBatch, *args: Any, **options: Any) -> None:
        nonlocal count
        count += 1
        if count > kill_at:
            raise KeyboardInterrupt
        put(self, *args, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RemoteBatch, "_put", killed)
        scan(slides, bucket.address, tmp_path / "lost")
    before = bucket.read()
    whole = [name for name in ("slide0", "slide1") if f"{name}/{MANIFEST}" in before]
    assert all({f"{name}/{file}" for file in MAP} <= before.keys() for name in whole)
    assert len(whole) == (kill_at - 1) // len(MAP)
    # The same machine scans nothing twice, and a new one nothing that is done there.
    first = set(scanned)
    again = tmp_path / ("lost" if kill_at % 2 else "new")
    scanned.clear()
    scan(slides, bucket.address, again)
    assert set(scanned) == {"slide0", "slide1"} - (first if kill_at % 2 else {*whole})
    assert bucket.without_manifests() == of_a_folder


def test_two_machines_that_begin_at_once_share_the_batch(
    slides: Path, tmp_path: Path, bucket: Place, of_a_folder: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin_first(*_: object, **__: object) -> StandInEngine:
        monkeypatch.setattr(batch, "open_engine", lambda *_, **__: StandInEngine())
        scan(slides / "slide0.tif", bucket.address, tmp_path / "first")
        return StandInEngine()

    monkeypatch.setattr(batch, "open_engine", begin_first)
    scan(slides, bucket.address, tmp_path / "second")
    assert bucket.without_manifests() == of_a_folder


@pytest.mark.parametrize(
    ("new", "machine", "first"), [("slide1", "old", 7), ("slide1", "new", 11), ("broken", "old", 6)]
)
def test_a_kill_while_old_results_are_replaced_leaves_no_mixture(
    slides: Path, tmp_path: Path, bucket: Place, new: str, machine: str, first: int
) -> None:
    mine, replaced = tmp_path / "slides", tmp_path / "slides" / "slide0.tif"
    shutil.copytree(slides, mine)
    scan(mine, bucket.address, tmp_path / "whole")
    before = bucket.read()
    replaced.write_bytes(b"II*\0 no slide" if new == "broken" else (slides / f"{new}.tif").read_bytes())
    scan(mine, tmp_path / "out", None)
    for left in range(first, first + 7):
        bucket.remove()
        for name, content in before.items():
            bucket.write(name, content)
        stage = tmp_path / f"{left}"
        if machine == "old":
            shutil.copytree(tmp_path / "whole", stage)
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            kill_after(left, patch)
            scan(mine, bucket.address, stage)
        files = bucket.read()
        if f"slide0/{MANIFEST}" in files and bucket.state("slide0") == "done":
            assert {f"slide0/{file}" for file in MAP} <= files.keys()
            array = hashlib.sha256(files[f"slide0/{ARRAY}"]).hexdigest()
            assert json.loads(files[f"slide0/{RECORD}"])["sha256"] == array
        scan(mine, bucket.address, stage)
        assert bucket.without_manifests() == contents(tmp_path / "out")


def kill_after(left: int, patch: pytest.MonkeyPatch) -> None:
    """Kill a machine at one of its next operations at the address, and let it do none after that."""

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def killed(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return operation(*args, **options)

        return killed

    for name in ("_read", "_put", "_remove", "_listed"):
        patch.setattr(RemoteBatch, name, counted(getattr(RemoteBatch, name)))


@pytest.mark.parametrize("stages", [("one", "two"), ("one", "one")], ids=["two machines", "one machine"])
def test_two_processes_at_once_leave_one_whole_batch(
    slides: Path,
    tmp_path: Path,
    bucket: Place,
    scanned: list[str],
    of_a_folder: dict[str, bytes],
    stages: tuple[str, str],
) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [*pool.map(lambda stage: scan(slides, bucket.address, tmp_path / stage), stages)]
    assert [[state.state for state in states] for states in both] == [["done", "done"]] * 2
    assert bucket.without_manifests() == of_a_folder and bucket.state("slide0") == bucket.state("slide1") == "done"
    assert len(scanned) == 2 or stages == ("one", "two")


def test_a_slide_that_another_machine_finishes_meanwhile_is_taken_from_there(
    slides: Path, tmp_path: Path, bucket: Place, scanned: list[str], of_a_folder: dict[str, bytes]
) -> None:
    left: list[dict[str, bytes]] = []

    def scan_elsewhere(*_: object) -> None:
        """Another machine scans everything while this one is at its first slide."""
        scan(slides, bucket.address, tmp_path / "other")
        left.append(bucket.read())

    states = scan(slides, bucket.address, tmp_path / "here", make=scan_elsewhere)
    assert len(scanned) == 3 and {state.state for state in states} == {"done"}
    assert [bucket.read()] == left and bucket.without_manifests() == of_a_folder


def test_a_failed_slide_leaves_no_old_results_at_the_address(
    slides: Path, tmp_path: Path, bucket: Place, scanned: list[str]
) -> None:
    mine = tmp_path / "slides"
    shutil.copytree(slides, mine)
    scan(mine, bucket.address, tmp_path / "stage")
    bucket.write("slide0/notes.txt", b"mine")
    (mine / "slide0.tif").write_bytes(b"II*\0 no slide")
    for stage in ("stage", "new"):
        states = scan(mine, bucket.address, tmp_path / stage)
        assert [state.state for state in states] == ["failed", "done"] and bucket.state("slide0") == "failed"
    files = {name.partition("/")[2] for name in bucket.read() if name.startswith("slide0/")}
    assert files == {MANIFEST, "notes.txt"} and b"slide0" in bucket.read()["index.html"]
    shutil.copy(slides / "slide0.tif", mine)
    assert [state.state for state in scan(mine, bucket.address, tmp_path / "new")] == ["done", "done"]
    assert {f"slide0/{file}" for file in MAP} <= bucket.read().keys()
    assert scanned.count("slide1") == 1


def test_a_slide_that_moved_keeps_its_map(slides: Path, tmp_path: Path, bucket: Place, scanned: list[str]) -> None:
    shutil.copytree(slides, tmp_path / "before")
    scan(tmp_path / "before", bucket.address, tmp_path / "stage")
    (tmp_path / "before").rename(tmp_path / "after")
    maps = bucket.without_manifests()
    scan(tmp_path / "after", bucket.address, tmp_path / "new")
    assert len(scanned) == 2 and bucket.without_manifests() == maps
    assert "after" in json.loads(bucket.read()[f"slide1/{MANIFEST}"])["slide"]


def test_what_was_removed_at_the_address_is_scanned_again(
    slides: Path, tmp_path: Path, bucket: Place, scanned: list[str], of_a_folder: dict[str, bytes]
) -> None:
    scan(slides, bucket.address, tmp_path)
    bucket.remove("slide1/")
    scan(slides, bucket.address, tmp_path)
    assert scanned.count("slide0") == 1 and scanned.count("slide1") == 2
    assert bucket.without_manifests() == of_a_folder


def test_what_is_left_here_of_another_batch_is_not_mixed_with_that_of_the_address(
    slides: Path, tmp_path: Path, bucket: Place, scanned: list[str]
) -> None:
    scan(slides, bucket.address, tmp_path / "old", stride=64)
    bucket.remove()
    with pytest.raises(OutputError, match="stride 64, and you ask for 32") as caught:
        scan(slides, bucket.address, tmp_path / "old")
    assert caught.value.where == bucket.address and "emptied that address, remove" in str(caught.value)
    scan(slides / "slide0.tif", bucket.address, tmp_path / "new")
    scanned.clear()
    scan(slides, bucket.address, tmp_path / "old")
    assert scanned == ["slide1"] and len(bucket.read()) == 2 * len(MAP) + 2


def test_a_batch_of_other_settings_is_refused_as_in_a_folder(slides: Path, tmp_path: Path, bucket: Place) -> None:
    scan(slides / "slide0.tif", bucket.address, tmp_path / "first")
    before = bucket.read()
    with pytest.raises(OutputError, match="stride 32, and you ask for 64") as caught:
        scan(slides, bucket.address, tmp_path / "second", stride=64)
    assert caught.value.where == bucket.address and "emptied" not in str(caught.value) and bucket.read() == before
    bucket.write(MANIFEST, b"[]")
    with pytest.raises(OutputError, match="cannot be read") as caught:
        scan(slides, bucket.address, tmp_path / "third")
    assert caught.value.where == bucket.address


def test_a_short_failure_of_the_network_does_not_end_the_scan_and_a_long_one_loses_nothing(
    slides: Path,
    tmp_path: Path,
    bucket: Place,
    scanned: list[str],
    of_a_folder: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put, failures = RemoteBatch._put, 0

    def failing(self: RemoteBatch, *args: Any, **options: Any) -> None:
        nonlocal failures
        if args[-1] == ARRAY and failures:
            failures -= 1
            raise OSError(f"the signature of {SECRET} does not match")
        put(self, *args, **options)

    monkeypatch.setattr(RemoteBatch, "_put", failing)
    failures = 3
    with pytest.raises(OutputError, match=r"cannot be reached \(OSError\)") as caught:
        scan(slides, bucket.address, tmp_path)
    assert len(scanned) == 1
    failures = 2
    scan(slides, bucket.address, tmp_path)
    assert sorted(scanned) == ["slide0", "slide1"] and bucket.without_manifests() == of_a_folder
    assert SECRET not in f"{caught.value}{capsys.readouterr().err}"


def test_results_below_the_slides_are_no_slides(slides: Path, tmp_path: Path, bucket: Place) -> None:
    bucket.write("slide0.tif", (slides / "slide0.tif").read_bytes())
    out, options = f"{bucket.address}/maps", {"stage": tmp_path, "show": False}
    for _ in range(2):
        (state,) = batch.scan(
            StandInBundle(),
            [bucket.address],
            out,
            make=lambda folder, *_: (folder / OME_TIFF).write_bytes(b"map"),
            **options,
        )
        assert state.state == "done"


@pytest.mark.parametrize(
    ("out", "options", "says"),
    [
        (f"https://me:{SECRET}@host/maps?token={SECRET}", {}, "cannot be written to a web server"),
        ("ftp://host/maps", {}, "not written to 'ftp://'"),
        ("s3://maps/out", {"stage": None}, "--stage"),
        (f"s3://maps/out?token={SECRET}", {}, "no '?'"),
        (f"s3://me:{SECRET}@maps/out", {}, "no password"),
        ("s3://maps::out", {}, "no '::'"),
        ("s3://", {}, "names no bucket"),
        ("s3://no-such-bucket/maps", {}, "no such bucket"),
        ("s3://maps/out", {"cluster": "local"}, "without --cluster"),
        ("s3://maps/out", {"shard": "0/2"}, "--shard none"),
    ],
)
def test_where_results_cannot_be_written_nothing_is_scanned(
    slides: Path, tmp_path: Path, s3: Any, scanned: list[str], out: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(OutputError, match=says.replace("?", r"\?")) as caught:
        scan(slides, out, **{"stage": tmp_path, **options})
    assert SECRET not in str(caught.value) and not scanned


def test_without_permission_to_write_nothing_is_scanned(
    slides: Path, tmp_path: Path, bucket: Place, scanned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(f"{SECRET} may not")

    scan(slides / "slide0.tif", bucket.address, tmp_path / "before")  # a batch that is there can be read
    scanned.clear()
    monkeypatch.setattr(RemoteBatch, "_put", refused)
    for out in (bucket.address, f"{bucket.address}-new"):
        with pytest.raises(OutputError, match="access is refused") as caught:
            scan(slides, out, tmp_path / "stage")
        assert "list, read, write and delete" in str(caught.value) and SECRET not in str(caught.value)
    assert not scanned
