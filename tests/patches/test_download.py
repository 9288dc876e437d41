"""The download, against a server on this machine that misbehaves on request."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest

from sentinode.errors import DataError, DownloadError, OutputError
from sentinode.patches import download as module
from sentinode.patches import official, open_data
from sentinode.patches.download import TRIES, download

STEM = official.STEM
X, Y, META = (f"{STEM}test_{end}" for end in ("x.h5.gz", "y.h5.gz", "meta.csv"))


class Server:
    """Serves files from memory. ``faults`` maps a name to what goes wrong with it, in turn."""

    def __init__(self, files):
        self.files, self.faults, self.asked = files, {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/files"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request):
        name = request.path.split("?")[0].rsplit("/", 1)[-1]
        wanted = request.headers.get("Range")
        self.asked.append((name, wanted))
        faults = self.faults.get(name, [])
        fault = faults.pop(0) if faults else "none"
        body = self.files.get(name)
        kind = "application/octet-stream"
        if body is None or fault == "absent":
            return self.send(request, 404, b"nothing here", kind)
        if fault == "busy":
            return self.send(request, 503, b"later", kind)
        if fault == "forbidden":
            return self.send(request, 403, b"no", kind)
        if fault == "page":
            return self.send(request, 200, b"<!DOCTYPE html><html>Log in</html>", "text/html; charset=utf-8")
        if fault == "page in disguise":
            return self.send(request, 200, b"<!DOCTYPE html><html>Log in</html>", kind)
        if fault.startswith("to "):
            return self.send(request, 302, b"", kind, {"Location": fault.removeprefix("to ")})
        if fault == "odd length":
            request.close_connection = True
            return self.send(request, 200, body, kind, {"Content-Length": "many"})
        if fault == "drip":
            return self.drip(request, body)
        if fault in ("dripping headers", "dripping parts"):
            return self.drip_lines(request, fault)
        if fault == "wrong file":
            return self.send(request, 200, b"something else entirely" * 100, kind)
        begins = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and fault != "no ranges" else 0
        if begins >= len(body):
            return self.send(request, 416, b"", kind)
        extra = {"Content-Range": f"bytes {begins}-{len(body) - 1}/{len(body)}"} if begins else {}
        rest = body[begins:]
        cut = len(rest) // 2 if fault == "cut" else None
        return self.send(request, 206 if begins else 200, rest, kind, extra, cut)

    @staticmethod
    def drip(request, body):
        """A byte now and then, until the other side has had enough."""
        request.close_connection = True
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        with contextlib.suppress(OSError):
            for byte in body[:100]:
                request.wfile.write(bytes([byte]))
                request.wfile.flush()
                time.sleep(0.02)

    @staticmethod
    def drip_lines(request, fault):
        """A line of the headers, or the size of a part, that does not end."""
        request.close_connection = True
        request.send_response(200)
        if fault == "dripping parts":
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
        request.flush_headers()
        with contextlib.suppress(OSError):
            for _ in range(200):
                request.wfile.write(b"0")
                request.wfile.flush()
                time.sleep(0.02)

    @staticmethod
    def send(request, status, body, kind, extra=None, cut=None):
        request.send_response(status)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(extra or {})}.items():
            request.send_header(key, value)
        request.end_headers()
        request.wfile.write(body[:cut])
        if cut is not None:
            request.wfile.flush()
            request.close_connection = True


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The test split of a tiny PatchCamelyon, with its own published checksums."""
    source = tmp_path / "source"
    source.mkdir()
    rng = np.random.default_rng(0)
    with h5py.File(source / "x", "w") as file:
        file["x"] = rng.integers(0, 256, (6, 96, 96, 3), dtype=np.uint8)
    with h5py.File(source / "y", "w") as file:
        file["y"] = np.array([0, 1] * 3, np.uint8).reshape(-1, 1, 1, 1)
    unpacked = {f"{STEM}test_{name}.h5": (source / name).read_bytes() for name in "xy"}
    files = {f"{name}.gz": gzip.compress(content, 1) for name, content in unpacked.items()}
    rows = "0,0,False,True,camelyon16_test_001\n" * 6
    files[META] = f"coord_y,coord_x,tumor_patch,center_tumor_patch,wsi\n{rows}".encode()
    sums = {name: hashlib.md5(content).hexdigest() for name, content in {**files, **unpacked}.items()}
    monkeypatch.setattr(module, "PUBLISHED_MD5", sums)
    served = Server(files)
    yield served
    served.http.shutdown()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "pcam"


def fetch(server, out, **options):
    return download(out, splits=["test"], url=server.url, show=False, pause=0.001, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


COMPLETE = [META, f"{STEM}test_x.h5", f"{STEM}test_y.h5"]


def test_files_arrive_checked_and_unpacked_and_can_be_opened(server, out):
    assert sorted(path.name for path in fetch(server, out)) == COMPLETE
    assert names(out) == COMPLETE
    assert open_data(out)["test"].labels.tolist() == [0, 1] * 3


def test_the_compressed_files_are_kept_on_request(server, out):
    fetch(server, out, keep_gz=True)
    assert names(out) == sorted([*COMPLETE, X, Y])


def test_what_is_there_is_checked_and_not_fetched_again(server, out):
    fetch(server, out)
    server.asked.clear()
    fetch(server, out)
    assert server.asked == []


def test_files_fetched_by_hand_are_checked_and_unpacked(server, out):
    out.mkdir()
    (out / X).write_bytes(server.files[X])
    fetch(server, out)
    assert X not in [name for name, _ in server.asked]
    assert names(out) == COMPLETE


def test_a_cut_line_is_resumed_from_where_it_broke(server, out):
    server.faults[X] = ["cut", "cut"]
    fetch(server, out)
    ranges = [wanted for name, wanted in server.asked if name == X]
    half = len(server.files[X]) // 2
    assert ranges[:2] == [None, f"bytes={half}-"]
    assert len(ranges) == 3
    assert names(out) == COMPLETE


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(server, out):
    server.faults[X] = ["cut"] + ["busy"] * 10
    with pytest.raises(DownloadError, match=r"could not be downloaded in 6 tries .*busy") as refused:
        fetch(server, out)
    for way_on in ("same command again", "--url", "by hand from https://zenodo.org/records/2546921"):
        assert way_on in refused.value.hint
    assert not (out / X).exists()
    server.faults.clear()
    server.asked.clear()
    fetch(server, out)
    assert server.asked == [(X, f"bytes={len(server.files[X]) // 2}-")]
    assert names(out) == COMPLETE


def test_a_server_that_ignores_ranges_is_heard_from_the_start(server, out):
    server.faults[X] = ["cut", "no ranges"]
    fetch(server, out)
    assert names(out) == COMPLETE


def test_a_busy_server_is_asked_again(server, out):
    server.faults[X] = ["busy", "busy"]
    fetch(server, out)
    assert names(out) == COMPLETE


def test_a_part_that_is_already_whole_is_taken(server, out):
    out.mkdir()
    (out / f".{X}.part").write_bytes(server.files[X])
    fetch(server, out)
    assert names(out) == COMPLETE


def test_a_part_that_does_not_fit_is_fetched_from_the_start(server, out):
    out.mkdir()
    (out / f".{X}.part").write_bytes(b"from another file")
    fetch(server, out)
    assert names(out) == COMPLETE


@pytest.mark.parametrize("page", ["page", "page in disguise"])
def test_a_web_page_in_place_of_a_file_is_refused(server, out, page):
    server.faults[X] = [page]
    with pytest.raises(DownloadError, match="a web page instead of"):
        fetch(server, out)
    assert not (out / X).exists()
    assert not (out / f".{X}.part").exists()


def test_a_wrong_file_is_refused_and_removed(server, out):
    server.faults[X] = ["wrong file"]
    with pytest.raises(DownloadError, match=r"the wrong file arrived .* its MD5 is [0-9a-f]{32}, the published"):
        fetch(server, out)
    assert f".{X}.part" not in names(out)


def test_a_mirror_that_exchanged_two_files_is_found_out(server, out):
    server.files[X] = server.files[Y]
    with pytest.raises(DownloadError, match=re.escape(f"it is the published {Y}")):
        fetch(server, out)


@pytest.mark.parametrize(
    ("fault", "message"), [("absent", "is not there .HTTP 404"), ("forbidden", "was refused .HTTP 403")]
)
def test_a_file_that_is_not_given_is_not_asked_for_again(server, out, fault, message):
    server.faults[META] = [fault]
    with pytest.raises(DownloadError, match=message):
        fetch(server, out)
    assert len(server.asked) == 1


def test_without_a_network_it_says_how_to_go_on(server, out):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(DownloadError, match="could not be downloaded") as refused:
        fetch(server, out)
    assert "--url" in refused.value.hint


def test_a_gzip_that_unpacks_to_something_else_is_refused(server, out, monkeypatch):
    sums = {**module.PUBLISHED_MD5, f"{STEM}test_x.h5": "0" * 32}
    monkeypatch.setattr(module, "PUBLISHED_MD5", sums)
    with pytest.raises(DownloadError, match="the unpacked file is not the published one"):
        fetch(server, out)
    assert f"{STEM}test_x.h5" not in names(out)


def test_another_file_of_that_name_is_left_alone(server, out):
    out.mkdir()
    (out / f"{STEM}test_x.h5").write_text("mine")
    with pytest.raises(DownloadError, match="already a file of this name"):
        fetch(server, out)
    assert (out / f"{STEM}test_x.h5").read_text() == "mine"


def test_the_disk_is_looked_at_first(server, out, monkeypatch):
    usage = type(shutil.disk_usage("/"))(10**10, 9 * 10**9, 10**9)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"test need 1\.7 GB .* 1\.0 GB free"):
        fetch(server, out)
    assert server.asked == []


def test_an_unknown_split_and_a_strange_address_are_refused(out):
    with pytest.raises(DataError, match="no split 'dev'"):
        download(out, splits=["dev"])
    with pytest.raises(DownloadError, match="must begin with http"):
        download(out, url="file:///etc")


def test_a_length_that_is_no_number_is_left_out_of_account(server, out):
    server.faults[X] = ["odd length"]
    fetch(server, out)
    assert names(out) == COMPLETE


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "http://[", "http://", "x" * 9000])
def test_a_redirection_to_no_address_of_the_web_is_refused(server, out, target):
    server.faults[META] = [f"to {target}"] * TRIES
    with pytest.raises(DownloadError) as refused:
        fetch(server, out)
    assert "hostname" not in "".join(names(out)) and refused.value.where


@pytest.mark.parametrize("url", ["http://", "http://[", "http://a:b/", "http://a:99999/", "https:///x", "", "a b"])
def test_an_odd_address_is_refused(out, url):
    with pytest.raises(DownloadError, match="must begin with http"):
        download(out, splits=["test"], url=url, show=False)
    assert not out.exists()


def test_a_line_that_drips_is_given_up(server, out, monkeypatch):
    for name, few in (("WATCHED_S", 0.05), ("TRIES", 2)):
        monkeypatch.setattr(module, name, few)
    server.faults[X] = ["drip"] * 2
    with pytest.raises(DownloadError, match="bytes a second arrived"):
        fetch(server, out)


@pytest.mark.parametrize("fault", ["dripping headers", "dripping parts"])
def test_an_answer_that_never_comes_to_its_end_is_given_up(server, out, monkeypatch, fault):
    monkeypatch.setattr(module, "ANSWERED_S", 0.2)
    server.faults[X] = [fault] * 2
    began = time.monotonic()
    fetch(server, out)
    assert time.monotonic() - began < 10 and len(server.faults[X]) == 0
    assert open_data(out)["test"]


def test_what_another_download_left_is_removed_after_a_day_and_what_is_asked_for_is_resumed(server, out):
    out.mkdir()
    parts = {name: out / f".{name}.part" for name in (X, META, f"{STEM}train_x.h5.gz", f"{STEM}valid_x.h5.gz")}
    for name, part in parts.items():
        part.write_bytes(server.files[name][:10] if name in server.files else b"train")
        if "valid" not in name:
            os.utime(part, (1, 1))
    (out / f".{STEM}mine.part").touch()
    os.utime(out / f".{STEM}mine.part", (1, 1))
    fetch(server, out)
    assert (X, "bytes=10-") in server.asked
    assert {part.name for part in out.glob(".*.part")} == {f".{STEM}valid_x.h5.gz.part", f".{STEM}mine.part"}
    (out / f".{X}.part").touch()
    fetch(server, out)
    assert not (out / f".{X}.part").exists(), "of a file that is there already"


def test_a_server_that_does_not_end_cannot_fill_the_disk(server, out, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_TABLE", 10)
    with pytest.raises(DownloadError, match="the server sent more than"):
        fetch(server, out)
    assert names(out) == []
