"""The viewer's server: what it shows, what it saves, and what it refuses."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from scanned_batch import COLUMNS, ROWS, SECOND, half_scanned, write_lesions
from slide_files import tissue_picture, write_tiff

from sentinode.locks import lock
from sentinode.model.slide_operating_point import GENERAL, ChosenOn
from sentinode.slides import review
from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.reading.slide import open_slide
from sentinode.slides.results.lesions import find_lesions
from sentinode.slides.results.outputs import GEOJSON, TOTALS
from sentinode.slides.scanning.manifest import MANIFEST, EngineRecord, Settings, write_batch
from sentinode.slides.scanning.probability_map import ARRAY, open_map, write_map
from sentinode.slides.scanning.scores import LOG, PLAN

pytest.importorskip("starlette", reason="the viewer is not installed: pip install 'sentinode[app]'")

from sentinode.app import library
from sentinode.app.library import Library
from sentinode.app.server import PAGES, PENDING, Viewer, make_app
from sentinode.app.serving import require_viewer
from sentinode.app.tiles import TILE, Tiles
from sentinode.errors import SlideError

try:
    require_viewer()
except SlideError as lack:
    pytest.skip(str(lack), allow_module_level=True)

TOKEN, HOST = "the-secret", "127.0.0.1:8765"
NOT_SERVED = range(400, 500)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Asks the application itself, with paths and headers as they are: no client tidies them."""

    def __init__(self, maps: Path, *, slides: list[Path] | None = None, framed: bool = False) -> None:
        self.viewer = Viewer(Library(maps, slides or []), Tiles(), reviewer="ada")
        self.app = make_app(self.viewer, token=TOKEN, hosts=frozenset({HOST}), framed=framed)

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", f"/{TOKEN}/{path}", headers)

    def post(self, path: str, content: object, **headers: str) -> Answer:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.ask("POST", f"/{TOKEN}/{path}", {"content-type": "application/json", **headers}, body)

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        return asyncio.run(self._ask(method, path, {"host": HOST, **headers}, body))

    async def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode("utf-8", "replace"), "query_string": b"", "root_path": "",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
            "server": ("127.0.0.1", 8765), "client": ("127.0.0.1", 5),
        }  # fmt: skip
        sent: list[dict[str, Any]] = []
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            return next(received, {"type": "http.disconnect"})

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        heads = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], heads, b"".join(message.get("body", b"") for message in sent[1:]))

    def slide(self, name: str = "painted") -> str:
        return next(row["id"] for row in self.get("api/slides").json()["slides"] if row["name"] == name)

    def details(self, name: str = "painted") -> Any:
        return self.get(f"api/slides/{self.slide(name)}").json()


@pytest.fixture
def client(maps: Path) -> Client:
    return Client(maps)


def judge(lesion: str, verdict: str) -> dict[str, Any]:
    return {"id": str(uuid4()), "kind": "judge", "lesion": lesion, "verdict": verdict}


def test_the_list_has_every_slide_with_what_it_came_to(client: Client) -> None:
    rows = {row["name"]: row for row in client.get("api/slides").json()["slides"]}
    assert rows.keys() == {"painted", "normal"}
    assert (rows["painted"]["lesions"], rows["painted"]["judged"], rows["painted"]["state"]) == (
        2,
        0,
        {"state": "done"},
    )
    assert rows["normal"]["category"] == "negative"


def test_a_slides_page_knows_its_map_lesions_and_tiles(client: Client) -> None:
    about = client.details()
    assert [lesion["name"] for lesion in about["lesions"]] == ["Lesion 1", "Lesion 2"]
    assert about["lesions"][0]["score"] == pytest.approx(0.99)
    assert about["map"]["stride"] == 32 and about["map"]["prior"] == 0.05
    assert about["problem"] is None and about["read_only"] is None and about["map"]["levels"] == 3


def test_lesions_come_by_their_own_score_where_the_scan_has_one(client: Client, maps: Path) -> None:
    path = maps / "painted" / GEOJSON
    content = json.loads(path.read_text("utf-8"))
    for feature, score in zip(content["features"], (0.2, 0.7), strict=True):
        feature["properties"]["measurements"]["P(lesion)"] = score
    path.write_text(json.dumps(content), encoding="utf-8")
    assert [lesion["name"] for lesion in client.details()["lesions"]] == ["Lesion 2", "Lesion 1"]


def test_verdict_uncertain_regions_and_what_cannot_be_judged_are_shown_where_the_scan_has_them(
    client: Client, maps: Path
) -> None:
    path = maps / "painted" / TOTALS
    region = {"number": 3, "score": 0.4, "diameter_um": 90.0, "centroid_x": 700.0, "centroid_y": 500.0}
    point = {"grow": 0.3, "scales_um": [24.0, 96.0]}
    record = json.loads(path.read_text("utf-8"))
    record |= {
        "verdict": {"sentence": "Two lesions."},
        "uncertain": [region | {"more": 1}, 5],
        "operating_point": point,
    }
    path.write_text(json.dumps(record), encoding="utf-8")
    codes = np.zeros((ROWS, COLUMNS), np.uint8)
    codes[5, 5] = 2
    write_map(maps / "painted", replace(open_map(maps / "painted"), quality=codes))
    about = client.details()
    assert (
        about["verdict"] == "Two lesions."
        and about["uncertain"] == [region | {"rings": []}]
        and about["reasons"][2] == "ink"
    )
    rule = {"on": "log-odds", "limit": 6.0, "sigma_um": 24.0, "reach": 3.0, "cut": pytest.approx(0.022059, abs=1e-6)}
    assert about["map"]["rule"] == rule
    answer = client.get(f"api/slides/{client.slide()}/quality")
    np.testing.assert_array_equal(np.frombuffer(answer.body, np.uint8).reshape(codes.shape), codes)


def test_the_map_is_sent_as_its_own_numbers(client: Client, maps: Path) -> None:
    answer = client.get(f"api/slides/{client.slide()}/map")
    found = open_map(maps / "painted").probability
    np.testing.assert_array_equal(np.frombuffer(answer.body, "<f4").reshape(found.shape), found)


def test_tiles_are_the_slides_own_pixels(client: Client, maps: Path) -> None:
    content = client.details()["tiles"]
    answer = client.get(f"api/slides/{client.slide()}/tiles/{content}/2/1/0")
    assert answer.headers["content-type"] == "image/jpeg"
    with open_slide(maps.parent / "slides" / "painted.tif") as slide:
        wanted = slide.region(TILE - 1, 0, TILE + 2, TILE + 1, slide.mpp)
    assert np.abs(np.asarray(Image.open(io.BytesIO(answer.body)), int) - wanted).mean() < 6


def test_a_verdict_is_saved_and_exported_as_annotations(client: Client, maps: Path) -> None:
    slide, lesions = client.slide(), client.details()["lesions"]
    for lesion in lesions:
        saved = client.post(f"api/slides/{slide}/review", judge(lesion["id"], "accepted"))
        assert saved.status == 200 and saved.json()["judged"][lesion["id"]]["who"] == "ada"
    exported = client.get(f"api/slides/{slide}/export")
    assert exported.headers["content-disposition"] == 'attachment; filename="painted.geojson"'
    path = maps.parent / "exported.geojson"
    path.write_bytes(exported.body)
    assert len(read_annotations(path).tumour) == 2
    assert next(row["judged"] for row in client.get("api/slides").json()["slides"] if row["name"] == "painted") == 2


def test_verdicts_on_lesions_of_an_earlier_scan_do_not_count_for_those_of_now(client: Client, maps: Path) -> None:
    for lesion in client.details()["lesions"]:
        client.post(f"api/slides/{client.slide()}/review", judge(lesion["id"], "accepted"))
    write_lesions(maps / "painted", open_map(maps / "painted"), [(5, 5, 8, 8), SECOND])
    painted = next(row for row in client.get("api/slides").json()["slides"] if row["name"] == "painted")
    assert painted["judged"] == 1, "one of the two lesions is the same"


def test_another_window_sees_the_review(client: Client, maps: Path) -> None:
    other = Client(maps)
    slide, lesion = client.slide(), client.details()["lesions"][0]["id"]
    client.post(f"api/slides/{slide}/review", judge(lesion, "rejected"))
    assert other.get(f"api/slides/{slide}/review").json()["judged"][lesion]["verdict"] == "rejected"


def test_a_closed_folder_is_viewed_and_its_review_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    lesion = client.details()["lesions"][0]["id"]
    monkeypatch.setattr(review.tempfile, "TemporaryFile", closed)
    about = client.details()
    assert "not writable" in about["read_only"] and about["tiles"] is not None
    answer = client.post(f"api/slides/{client.slide()}/review", judge(lesion, "accepted"))
    assert answer.status == 403 and "cannot be saved" in answer.json()["refused"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[]", {}, 422),
        (b'{"kind": "judge"}', {}, 422),
        (b'{"id": 1e999, "kind": "look", "whole": true}', {}, 422),
        (b"x" * (3 << 20), {}, 413),
        (b"{}", {"content-type": "text/plain"}, 415),
    ],
)
def test_what_is_no_operation_is_refused(client: Client, body: bytes, headers: dict[str, str], status: int) -> None:
    assert client.post(f"api/slides/{client.slide()}/review", body, **headers).status == status


def test_a_slide_that_vanished_is_named_and_its_map_still_shown(client: Client, maps: Path) -> None:
    content = client.details()["tiles"]
    (maps.parent / "slides" / "painted.tif").unlink()
    about = client.details()
    assert "not there" in about["problem"] and about["tiles"] is None and len(about["lesions"]) == 2
    assert client.get(f"api/slides/{client.slide()}/map").status == 200
    assert client.get(f"api/slides/{client.slide()}/tiles/{content}/0/0/0").status == 422


def test_nothing_is_drawn_of_a_slide_that_was_replaced(client: Client, maps: Path) -> None:
    content = client.details()["tiles"]
    assert client.get(f"api/slides/{client.slide()}/tiles/{content}/0/0/0").status == 200
    write_tiff(maps.parent / "slides" / "painted.tif", tissue_picture(1600, 1216, seed=9), levels=1, tile=256)
    answer = client.get(f"api/slides/{client.slide()}/tiles/{content}/0/0/0")
    assert answer.status == 422 and "replaced or changed" in answer.json()["refused"]
    assert "replaced or changed" in client.details()["problem"]


def test_a_part_that_cannot_be_decoded_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    content = client.details()["tiles"]

    def damaged(*_: object) -> bytes:
        raise SlideError("the tile in column 1, row 0 of level 0 cannot be decoded (truncated).")

    monkeypatch.setattr(client.viewer._tiles, "jpeg", damaged)
    answer = client.get(f"api/slides/{client.slide()}/tiles/{content}/2/1/0")
    assert answer.status == 422 and "cannot be decoded" in answer.json()["refused"]
    about = client.details()
    assert "cannot be decoded" in about["damage"] and about["problem"] is None


def test_a_slide_that_moved_is_found_where_slides_says(maps: Path) -> None:
    moved = maps.parent / "elsewhere"
    shutil.move(maps.parent / "slides", moved)
    assert "--slides" in Client(maps).details()["problem"]
    assert Client(maps, slides=[moved]).details()["problem"] is None


def test_a_slide_of_the_same_name_and_other_content_is_not_taken_for_it(maps: Path) -> None:
    other = maps.parent / "other"
    other.mkdir()
    (maps.parent / "slides" / "painted.tif").unlink()
    write_tiff(other / "painted.tif", tissue_picture(1600, 1216, seed=7), tile=256)
    assert "not the file that was scanned" in Client(maps, slides=[other]).details()["problem"]


def test_a_damaged_map_is_named(client: Client, maps: Path) -> None:
    slide = client.slide()
    (maps / "painted" / ARRAY).write_bytes(b"nonsense")
    assert "not the one that the record describes" in client.details()["problem"]
    assert client.get(f"api/slides/{slide}/map").status == 422


def test_a_damaged_review_is_named_and_never_overwritten(client: Client, maps: Path) -> None:
    log = maps / "painted" / review.LOG
    log.write_text("no json\n", encoding="utf-8")
    about = client.details()
    assert "line 1" in about["read_only"] and about["problem"] is None and about["tiles"] is not None
    lesion = str(review.read_lesions(maps / "painted")[0]["id"])
    assert client.post(f"api/slides/{client.slide()}/review", judge(lesion, "accepted")).status == 422
    assert log.read_text("utf-8") == "no json\n"


def test_damaged_lesions_are_named_and_slide_and_map_still_shown(client: Client, maps: Path) -> None:
    (maps / "painted" / GEOJSON).write_text("{", encoding="utf-8")
    about = client.details()
    assert "lesions cannot be read" in about["problem"] and about["tiles"] is not None and about["lesions"] == []


def test_all_reviews_come_as_a_folder_of_annotations(client: Client, maps: Path, tmp_path: Path) -> None:
    lesion = client.details()["lesions"][0]["id"]
    client.post(f"api/slides/{client.slide()}/review", judge(lesion, "accepted"))
    answer = client.get("api/export")
    assert answer.headers["content-disposition"] == 'attachment; filename="maps-reviews.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.namelist() == ["painted.geojson"]
        archive.extractall(tmp_path / "annotations")
    assert len(read_annotations(tmp_path / "annotations" / "painted.geojson").tumour) == 1


def test_a_path_that_is_no_text_is_no_fault(client: Client, maps: Path) -> None:
    manifest = maps / "painted" / MANIFEST
    state = json.loads(manifest.read_text("utf-8"))
    manifest.write_text(json.dumps(state | {"slide": "/nowhere/\udcff\n.tif"}), encoding="utf-8")
    (maps.parent / "slides" / "painted.tif").unlink()
    assert "not there" in client.details()["problem"]


def test_a_slide_that_is_being_scanned_shows_its_progress_and_its_map_so_far(client: Client, maps: Path) -> None:
    slide = client.slide()
    whole = half_scanned(maps / "painted")
    with lock(maps, "painted"):
        scan = client.details()["scan"]
        assert scan["state"] == "running" and 0 < scan["windows"] < scan["planned"] == whole.tissue.sum()
        assert client.get(f"api/slides/{slide}/progress").json() == scan
        about = client.details()
        row = next(row for row in client.get("api/slides").json()["slides"] if row["name"] == "painted")
    assert row["state"] == scan
    assert about["map"]["rows"] == ROWS and about["tiles"] is not None and about["lesions"] == []
    assert "has not ended" in about["read_only"]
    so_far = np.frombuffer(client.get(f"api/slides/{slide}/map").body, "<f4").reshape(ROWS, COLUMNS)
    codes = np.frombuffer(client.get(f"api/slides/{slide}/quality").body, np.uint8).reshape(ROWS, COLUMNS)
    there = ~np.isnan(so_far)
    assert there.sum() == scan["windows"]
    np.testing.assert_allclose(so_far[there], whole.probability[there], atol=1e-6)
    np.testing.assert_array_equal(codes == PENDING, whole.tissue & ~there)
    assert client.get(f"api/slides/{slide}/tiles/{about['tiles']}/0/0/0").status == 200
    answer = client.post(f"api/slides/{slide}/review", judge("x", "accepted"))
    assert answer.status == 422


def test_a_scan_that_died_is_stopped_and_says_how_to_resume_it(client: Client, maps: Path) -> None:
    half_scanned(maps / "painted")
    about = client.details()
    assert about["scan"]["state"] == "stopped" and about["map"] is not None
    assert f"--out {maps}" in about["scan"]["resume"] and "painted.tif" in about["scan"]["resume"]


def test_the_command_to_resume_has_the_batchs_settings(client: Client, maps: Path) -> None:
    half_scanned(maps / "painted")
    settings = Settings("of my own", 1.0, 0.5, stride=48, prior=0.02, mpp=0.5, icc=True)
    engine = EngineRecord("torch", "cpu", "float32", tta=True)
    write_batch(maps / MANIFEST, settings, engine, begun="", class_names=("benign", "malignant"))
    about = client.details()
    assert about["scan"]["resume"].startswith("sentinode scan BUNDLE ")
    assert about["scan"]["resume"].endswith("--stride 48 --prior 0.02 --mpp 0.5 --icc --tta")
    assert about["classes"] == ["benign", "malignant"]


def test_without_a_lock_to_try_a_scan_counts_as_stopped_once_it_is_quiet(
    client: Client, maps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_scanned(maps / "painted")
    monkeypatch.setattr(library, "is_locked", lambda *_: None)
    assert client.details()["scan"]["state"] == "running"
    for name in (LOG, PLAN, MANIFEST):
        os.utime(maps / "painted" / name, (1e9, 1e9))
    assert client.details()["scan"]["state"] == "stopped"


def test_a_scan_before_its_first_window_has_no_map_yet(client: Client, maps: Path) -> None:
    half_scanned(maps / "painted")
    (maps / "painted" / PLAN).unlink()
    about = client.details()
    assert about["scan"]["windows"] == 0 and about["map"] is None


def test_a_batch_without_a_slide_yet_opens_and_fills_in(tmp_path: Path, maps: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / MANIFEST).write_text("{}", encoding="utf-8")
    client = Client(begun)
    assert client.get("api/slides").json()["slides"] == []
    shutil.copytree(maps / "painted", begun / "painted")
    assert client.details()["map"] is not None


def test_maps_that_the_operating_point_was_not_chosen_on_are_cautioned(client: Client, maps: Path) -> None:
    path = maps / "painted" / TOTALS
    chosen_on = ChosenOn(description="built slides", slides=9, positive=4, negative=5, lesions=7, window_um=31.104)
    point = GENERAL.point.model_copy(update={"chosen_on": chosen_on}).model_dump(mode="json")
    record = json.loads(path.read_text("utf-8"))
    record |= {"operating_point": {"name": "balanced", **point}, "window_um": 93.3, "engine": "torch cpu float32 dense"}
    path.write_text(json.dumps(record), encoding="utf-8")
    described = client.details()["point"]
    assert described["name"] == "balanced" and described["caution"] == chosen_on.caution(93.3, "dense")
    assert "this map has one every 93.3" in described["caution"] and "this map was read densely" in described["caution"]
    cautions = [row["caution"] for row in client.get("api/slides").json()["slides"]]
    assert sorted(cautions) == ["", described["caution"]]


def test_uncertain_regions_come_with_their_outlines(client: Client, maps: Path) -> None:
    folder = maps / "painted"
    score = find_lesions(open_map(folder)).found[0].score
    odds = 1.2 * score / (1 - score)
    point = GENERAL.point.model_copy(update={"reach": odds / (1 + odds)})
    region = find_lesions(open_map(folder), point=point).uncertain[0]
    x, y = (round(value, 1) for value in region.centroid)
    record = {"number": region.number, "score": region.score, "diameter_um": 1.0, "centroid_x": x, "centroid_y": y}
    totals = json.loads((folder / TOTALS).read_text("utf-8"))
    totals |= {"uncertain": [record], "operating_point": {"name": "balanced", **point.model_dump(mode="json")}}
    (folder / TOTALS).write_text(json.dumps(totals), encoding="utf-8")
    (found,) = client.details()["uncertain"]
    outline = next(
        area for one, area in find_lesions(open_map(folder), point=point).uncertain_outlines() if one == region
    )
    assert found["rings"] == [[list(corner) for corner in outline.geoms[0].exterior.coords]]


def test_a_slide_that_appears_while_the_viewer_runs_is_shown(client: Client, maps: Path) -> None:
    shutil.copytree(maps / "painted", maps / "later")
    assert client.details("later")["map"] is not None


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/wrong/", {}),
        (f"/{TOKEN}", {}),
        (f"//{TOKEN}/", {}),
        (f"/{TOKEN}x/", {}),
        (f"/{TOKEN}/", {"host": "evil.example"}),
        (f"/{TOKEN}/", {"host": "127.0.0.1:9999"}),
        (f"/{TOKEN}/", {"host": ""}),
        (f"/{TOKEN}/api/slides", {"origin": "http://evil.example"}),
        (f"/{TOKEN}/api/slides", {"origin": "null"}),
        (f"/{TOKEN}/api/slides", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}),
        (f"/{TOKEN}/api/slides", {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}),
    ],
)
def test_who_does_not_know_the_token_or_comes_from_elsewhere_finds_nothing(
    client: Client, path: str, headers: dict[str, str]
) -> None:
    answer = client.ask("GET", path, headers)
    assert (answer.status, answer.body) == (404, b"")


def test_a_link_that_is_followed_from_elsewhere_opens(client: Client) -> None:
    assert client.get("", sec_fetch_site="cross-site", sec_fetch_mode="navigate").status == 200


HUGE = "9" * 250
HOSTILE = [
    "../" * 8 + "etc/passwd", "static/../server.py", "static/..%2f..%2fserver.py", "static/%2e%2e/__init__.py",
    "static/slide.html", "static/", "static//etc/passwd", "static/style.css/../../server.py", "slides/..", "slides/",
    "slides/painted", "api/slides/../../etc/passwd", "api/slides/..%5c..", "api/slides/painted/map", "api/slides//map",
    "api/slides/{id}/map/..", "api/slides/{id}/small/../map.json", "api/slides/{id}/export/../../manifest.json",
    "api/slides/{id}/tiles/{content}/-1/0/0", f"api/slides/{{id}}/tiles/{{content}}/{HUGE}/0/0",
    "api/slides/{id}/tiles/{content}/0/99999999999999999999/0", "api/slides/{id}/tiles/{content}/2/4/0",
    "api/slides/{id}/tiles/{content}/2/0/3", "api/slides/{id}/tiles/{content}/3/0/0",
    "api/slides/{id}/tiles/{content}/1e3/0/0", "api/slides/{id}/tiles/0000000000000000/0/0/0",
    "api/slides/{id}/tiles/{content}/0/0/0/../../../../../map.npy", "api/slides/{id}/quality", "api/slides/{id}/export",
    "x" * 5000, "\x00", "api/slides/\x00/map", "api/slides/\ud800/map", "openapi.json", ".env", "..", "//",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_hostile_requests_get_nothing_and_leave_no_fault(client: Client, method: str) -> None:
    known = {"id": client.slide(), "content": client.details()["tiles"]}
    for path in HOSTILE:
        for name, value in known.items():
            path = path.replace(f"{{{name}}}", value)
        answer = client.ask(method, f"/{TOKEN}/{path}", {})
        assert answer.status in NOT_SERVED and b"root:" not in answer.body, path


def test_other_methods_than_expected_get_nothing(client: Client) -> None:
    for path in ("", "api/slides", f"slides/{client.slide()}", "static/style.css"):
        for method in ("POST", "PUT", "DELETE"):
            assert client.ask(method, f"/{TOKEN}/{path}", {}).status in NOT_SERVED


def test_no_page_may_fetch_from_elsewhere(client: Client) -> None:
    policy = client.get("").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "http" not in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    for name in PAGES:
        text = client.viewer._pages[name].decode()
        assert not re.findall(r"https?://", text), name


def test_only_a_viewer_for_a_notebook_may_stand_in_a_frame(maps: Path) -> None:
    policy = Client(maps, framed=True).get("").headers["content-security-policy"]
    assert "frame-ancestors http://127.0.0.1:* http://localhost:*" in policy


def test_every_module_that_the_pages_import_is_served(client: Client) -> None:
    for name in PAGES:
        text = client.viewer._pages[name].decode()
        for wanted in re.findall(r'from "\./([\w.]+)"', text) + re.findall(r'static/([\w.]+)"', text):
            assert client.get(f"static/{wanted}").status == 200, f"{name} needs {wanted}"


def test_one_slides_folder_opens_its_page(maps: Path) -> None:
    answer = Client(maps / "painted").get("")
    assert answer.status == 307
    assert Client(maps / "painted").get(answer.headers["location"]).status == 200


def test_a_folder_without_a_scan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="no scanned slides"):
        Library(tmp_path)
    with pytest.raises(SlideError, match="not from an address"):
        Library(Path("s3://bucket/maps"))
