"""Slides that lie in S3 or on a web server: found, copied while they are scanned, and nothing secret said."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from dicom_files import MPP, write_dicom
from local_s3 import SECRET, local_s3
from slide_files import tissue_picture, write_tiff
from stand_in import StandInBundle, StandInEngine

from sentinode.errors import SlideError
from sentinode.slides import batch
from sentinode.slides.reading import remote
from sentinode.slides.reading.addresses import without_credentials
from sentinode.slides.reading.fingerprint import fingerprint, size_of
from sentinode.slides.reading.remote import RemoteSlide, Stage, find_remote
from sentinode.slides.scanning.manifest import MANIFEST, SlideState
from sentinode.slides.scanning.probability_map import open_map


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    with local_s3("slides") as client:
        yield client


@pytest.fixture(scope="module")
def slides(bucket: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides, as files and in the bucket, with what is no slide or not read from there."""
    folder = tmp_path_factory.mktemp("slides")
    for i in range(2):
        write_tiff(folder / f"slide{i}.tif", tissue_picture(200 + 40 * i, 150, seed=i))
        bucket.upload_file(str(folder / f"slide{i}.tif"), "slides", f"lab/slide{i}.tif")
    others = (
        "lab/notes.txt",
        "lab/._slide0.tif",
        "lab/other.vms",
        "lab/other/notes.txt",
        "lab/lost.mrxs",
        "lab/a/probability.ome.tif",
    )
    for name in others:
        bucket.put_object(Bucket="slides", Key=name, Body=b"x")
    return folder


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> StandInEngine:
    engine = StandInEngine()
    monkeypatch.setattr(batch, "open_engine", lambda *_, **__: engine)
    return engine


def scan(address: str, out: Path, stage: Path | None, **options: object) -> list[SlideState]:
    options = {"make": None, "show": False, "stage": stage, **options}
    return batch.scan(StandInBundle(), [address], out, **options)  # type: ignore[arg-type]


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_slides_are_found_in_a_folder_and_by_themselves_and_those_that_cannot_be_copied_whole_are_named(
    slides: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = find_remote(["s3://slides/lab", "s3://slides/lab/slide0.tif"])
    assert [slide.shown for slide in found] == [f"s3://slides/lab/slide{i}.tif" for i in range(2)]
    assert [slide.size for slide in found] == [(slides / f"slide{i}.tif").stat().st_size for i in range(2)]
    assert "cannot be copied with all of their files: other.vms, lost.mrxs" in capsys.readouterr().err
    with pytest.raises(SlideError, match="several files"):
        find_remote(["s3://slides/lab/other.vms"])
    with pytest.raises(SlideError, match="the folder 'lost' is missing beside it"):
        find_remote(["s3://slides/lab/lost.mrxs"])


@pytest.fixture
def several(bucket: Any, tmp_path: Path) -> Path:
    """An MRXS, and a series of DICOM in a folder whose name holds dots, here and in the bucket."""
    folder = tmp_path / "several"
    files = {"one.mrxs": b"JPEG", "one/Slidedat.ini": b"[GENERAL]", "one/Data0000.dat": b"pixels"}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "1.2.84").mkdir()
    pixels = tissue_picture(400, 300, seed=2)
    for level in range(2):
        write_dicom(folder / "1.2.84" / f"level{level}.dcm", pixels[:: 2**level, :: 2**level], mpp=MPP * 2**level)
    for file in folder.rglob("*"):
        if file.is_file():
            bucket.upload_file(str(file), "slides", file.relative_to(tmp_path).as_posix())
    return folder


def test_slides_of_several_files_are_found_whole_by_their_folder_and_by_one_file(several: Path) -> None:
    dicom, mrxs = find_remote(["s3://slides/several"])
    assert [dicom.shown, mrxs.shown] == ["s3://slides/several/1.2.84", "s3://slides/several/one.mrxs"]
    assert (dicom.stem, mrxs.stem) == ("1.2.84", "one")
    assert [one.place for one in mrxs.files] == ["one.mrxs", "one/Data0000.dat", "one/Slidedat.ini"]
    assert mrxs.size == size_of(several / "one.mrxs") and dicom.size == size_of(several / "1.2.84" / "level0.dcm")
    assert find_remote(["s3://slides/several/one.mrxs"]) == [mrxs]
    assert find_remote(["s3://slides/several/1.2.84/level1.dcm"]) == [dicom]


def test_slides_of_several_files_are_copied_with_all_of_them(several: Path, tmp_path: Path) -> None:
    with Stage(tmp_path / "stage") as stage:
        for slide, file in zip(find_remote(["s3://slides/several"]), ("1.2.84/level0.dcm", "one.mrxs"), strict=True):
            with stage.copy(slide) as copy:
                assert copy.name == Path(file).name and fingerprint(copy) == fingerprint(several / file)
            assert not copy.exists()


def test_a_scan_of_a_series_in_a_bucket_is_that_of_its_folder(several: Path, tmp_path: Path) -> None:
    (here,) = scan(str(several / "1.2.84"), tmp_path / "here", None)
    (there,) = scan("s3://slides/several/1.2.84", tmp_path / "there", tmp_path / "stage")
    assert (there.name, there.state, there.windows) == ("1.2.84", "done", here.windows)
    maps = [open_map(tmp_path / "here" / here.name), open_map(tmp_path / "there" / there.name)]
    assert maps[0].probability.tobytes() == maps[1].probability.tobytes()
    assert maps[0].slide.fingerprint == maps[1].slide.fingerprint


def test_a_slide_of_several_files_is_another_once_one_of_them_is(bucket: Any, several: Path, tmp_path: Path) -> None:
    before, _ = find_remote(["s3://slides/several"])
    bucket.put_object(Bucket="slides", Key="several/1.2.84/level1.dcm", Body=b"other")
    after, _ = find_remote(["s3://slides/several"])
    assert before.version != after.version
    with Stage(tmp_path / "stage") as stage, pytest.raises(SlideError, match="was changed"), stage.copy(before):
        pass


def test_a_folder_with_two_slides_of_dicom_fails_by_name(bucket: Any, several: Path, tmp_path: Path) -> None:
    write_dicom(tmp_path / "other.dcm", tissue_picture(300, 300, seed=3), series="1.2.3.99")
    for name in ("level0", "level1"):
        bucket.upload_file(str(several / "1.2.84" / f"{name}.dcm"), "slides", f"two/{name}.dcm")
    bucket.upload_file(str(tmp_path / "other.dcm"), "slides", "two/other.dcm")
    (state,) = scan("s3://slides/two", tmp_path / "out", tmp_path / "stage")
    assert state.state == "failed" and "holds 2 slides of DICOM" in str(state.reason)


def test_no_name_in_a_bucket_leads_out_of_the_folder_of_copies(
    bucket: Any, several: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.put_object(Bucket="slides", Key="evil/a.mrxs", Body=b"x")
    bucket.put_object(Bucket="slides", Key="evil/a/../../../evil.dat", Body=b"x")
    with pytest.raises(SlideError, match=r"with all of their files: a\.mrxs"):
        find_remote(["s3://slides/evil"])


def test_a_scan_of_a_bucket_leaves_what_a_scan_of_the_files_leaves_and_no_copies(
    slides: Path, tmp_path: Path, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan(str(slides), tmp_path / "files", None)
    states = scan("s3://slides/lab", tmp_path / "out", tmp_path / "stage")
    assert [(state.state, state.slide) for state in states] == [
        ("done", f"s3://slides/lab/slide{i}.tif") for i in range(2)
    ]
    assert contents(tmp_path / "out") == contents(tmp_path / "files")
    assert not list((tmp_path / "stage").iterdir())
    # Once more, nothing is copied.
    engine.sizes.clear()
    monkeypatch.setattr(Stage, "_copy", None)
    assert {state.state for state in scan("s3://slides/lab", tmp_path / "out", tmp_path / "stage")} == {"done"}
    assert not engine.sizes


def test_the_next_slide_is_copied_while_one_is_scanned_and_no_more_than_may_lie_there(
    slides: Path, tmp_path: Path
) -> None:
    first, second = find_remote(["s3://slides/lab"])
    with Stage(tmp_path) as stage:
        with stage.copy(first):
            stage.ahead(second)
            stage._copies[second].result()
            assert len(list(tmp_path.rglob("*.tif"))) == 2
        assert [file.name for file in tmp_path.rglob("*.tif")] == ["slide1.tif"]
    with Stage(tmp_path, limit=(second.size or 0) + 1) as stage, stage.copy(first):
        stage.ahead(second)
        assert second not in stage._copies
    with Stage(tmp_path, limit=10) as stage, pytest.raises(SlideError, match="--stage-limit"), stage.copy(first):
        pass
    assert not list(tmp_path.iterdir())


def test_a_slide_that_was_replaced_is_scanned_again_and_one_that_changes_while_it_is_copied_fails(
    bucket: Any, slides: Path, tmp_path: Path, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.upload_file(str(slides / "slide0.tif"), "slides", "one/a.tif")
    scan("s3://slides/one", tmp_path / "out", tmp_path / "stage")
    bucket.upload_file(str(slides / "slide1.tif"), "slides", "one/a.tif")
    engine.sizes.clear()
    assert scan("s3://slides/one", tmp_path / "out", tmp_path / "stage")[0].state == "done" and engine.sizes
    (slide,) = find_remote(["s3://slides/one"])
    bucket.upload_file(str(slides / "slide0.tif"), "slides", "one/a.tif")
    with Stage(tmp_path / "stage") as stage, pytest.raises(SlideError, match="was changed"), stage.copy(slide):
        pass


def test_another_slide_of_the_same_name_does_not_replace_the_first(bucket: Any, slides: Path, tmp_path: Path) -> None:
    for folder in ("two", "three"):
        bucket.upload_file(str(slides / "slide0.tif"), "slides", f"{folder}/a.tif")
    scan("s3://slides/two", tmp_path, tmp_path / "stage")
    (state,) = scan("s3://slides/three", tmp_path, tmp_path / "stage")
    assert state.state == "failed" and "results of another slide, s3://slides/two/a.tif" in str(state.reason)


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        mine = stage._folder
        mine.mkdir()
        left = tmp_path / mine.name.replace(f"-{os.getpid()}-", "-999999999-")
        left.mkdir()
        with Stage(tmp_path):
            assert mine.is_dir() and not left.exists()


def test_without_a_folder_for_copies_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="copied to a local disk") as caught:
        scan(f"https://user:{SECRET}@host/a.svs?token={SECRET}", tmp_path, None)
    assert "--stage" in str(caught.value) and SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("s3://slides/nowhere/a.tif", "no such slide"),
        ("s3://no-such-bucket/a.tif", "no such slide"),
        ("s3://slides/lab/other", "no slide was found"),
        ("ftp://host/a.tif", "not read from 'ftp://'"),
        (f"http://user:{SECRET}@127.0.0.1:9/a.tif?token={SECRET}", "the server does not give it"),
    ],
)
def test_what_cannot_be_read_is_refused_without_a_secret(slides: Path, address: str, says: str) -> None:
    with pytest.raises(SlideError, match=says) as caught:
        find_remote([address])
    assert SECRET not in str(caught.value) and caught.value.__cause__ is None


def test_whatever_a_library_says_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, says in (
        (RuntimeError, "RuntimeError"),
        (PermissionError, "access is refused"),
        (ImportError, "remote"),
    ):

        def leak(_: str, error: type[Exception] = error) -> None:
            raise error(f"the signature of {SECRET} does not match")

        monkeypatch.setattr(remote, "open_address", leak)
        with pytest.raises(SlideError, match=says) as caught:
            find_remote(["s3://slides/a.tif"])
        assert SECRET not in str(caught.value)


def test_any_character_may_stand_in_a_name(bucket: Any, slides: Path, tmp_path: Path) -> None:
    names = "a #2.tif", "50% é.tif", "100%25.tif", "[x]*.tif", "what?.tif"
    for name in names:
        bucket.upload_file(str(slides / "slide0.tif"), "slides", f"names/{name}")
    assert {slide.shown for slide in find_remote(["s3://slides/names"])} == {
        f"s3://slides/names/{one}" for one in names
    }
    (alone,) = find_remote(["s3://slides/names/a #2.tif"])
    states = scan("s3://slides/names", tmp_path / "out", tmp_path / "stage")
    assert {state.state for state in states} == {"done"} and alone.shown in {state.slide for state in states}
    assert len(states) == len(names)


def test_a_slide_that_is_gone_when_it_is_copied_fails_alone(
    bucket: Any, slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(2):
        bucket.upload_file(str(slides / f"slide{i}.tif"), "slides", f"gone/slide{i}.tif")

    def find_and_lose(addresses: list[str]) -> list[RemoteSlide]:
        found = find_remote(addresses)
        bucket.delete_object(Bucket="slides", Key="gone/slide0.tif")
        return found

    monkeypatch.setattr(batch, "find_remote", find_and_lose)
    gone, other = scan("s3://slides/gone", tmp_path / "out", tmp_path / "stage")
    assert (gone.state, other.state) == ("failed", "done") and "no such slide or folder" in str(gone.reason)


def test_a_damaged_slide_is_named_by_its_address_not_by_its_copy(bucket: Any, tmp_path: Path) -> None:
    bucket.put_object(Bucket="slides", Key="damaged/a.tif", Body=b"II*\0 no slide")
    (state,) = scan("s3://slides/damaged", tmp_path / "out", tmp_path / "stage")
    assert state.state == "failed" and str(state.reason).startswith("s3://slides/damaged/a.tif: ")
    assert str(tmp_path) not in str(state.reason)


def test_a_secret_in_an_address_is_neither_printed_nor_written(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Silent, directory=str(slides))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/slide0.tif?token={SECRET}"
        (state,) = scan(address, tmp_path / "out", tmp_path / "stage")
        server.shutdown()
    assert state.state == "done" and state.slide == f"http://127.0.0.1:{server.server_port}/slide0.tif"
    assert all(SECRET.encode() not in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert SECRET not in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "slide0" / MANIFEST).read_text())["remote_version"]


def test_an_address_is_shown_without_user_query_and_fragment() -> None:
    assert without_credentials("https://me:secret@host:8/a/b.svs?key=1#x") == "https://host:8/a/b.svs"
    assert without_credentials("s3://bucket/a b #1.svs") == "s3://bucket/a b #1.svs"
    assert without_credentials("https://[no-address/a.svs") == "https://[no-address/a.svs"
    assert "secret" not in repr(RemoteSlide("https://me:secret@host/a.svs", "https://host/a.svs", 1, "1"))
