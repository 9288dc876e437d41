"""The viewer's server: pages, numbers, tiles and reviews of one folder of maps, to this machine alone.

Every address begins with a secret token. A request of another host or origin, or without the token, gets 404 and
nothing else. What a request names is looked up among known names; it never becomes a path.
"""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import threading
import zipfile
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sentinode.app.descriptions import (
    describe_lesions,
    described_point,
    not_judged_of,
    outline_rule,
    rings_of,
    verdict_of,
)
from sentinode.app.library import Item, Library
from sentinode.app.tiles import OVERLAP, TILE, Shape, Source, Tiles
from sentinode.errors import OutputError, SentinodeError
from sentinode.names import printable
from sentinode.slides.results.outputs import SMALL
from sentinode.slides.review import (
    LABELS,
    REVIEW,
    Review,
    add_operation,
    parse_operation,
    reason_not_writable,
)
from sentinode.slides.scanning.manifest import DONE, TISSUE
from sentinode.slides.scanning.probability_map import ProbabilityMap
from sentinode.slides.scanning.quality import Quality

PAGES = {
    "list.html": "text/html",
    "slide.html": "text/html",
    "style.css": "text/css",
    "list.js": "text/javascript",
    "slide.js": "text/javascript",
    "map.js": "text/javascript",
    "overlay.js": "text/javascript",
    "panel.js": "text/javascript",
    "drawing.js": "text/javascript",
    "editing.js": "text/javascript",
    "review.js": "text/javascript",
    "keys.js": "text/javascript",
    "theme.js": "text/javascript",
}
"""Our own files in ``pages``, and their types."""

VENDOR = {"openseadragon.min.js": "text/javascript"}
"""Files of other projects, which the build lays into ``vendor``."""

LONGEST_PATH, LARGEST_BODY = 300, 2 << 20

PENDING = 255
"""The code of a window that a scan on its way has not come to."""

NO_ANSWER = 404
EMPTY_STYLE = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
"""Of a style element with nothing in it: slide.html has one, so that OpenSeadragon adds none of its own."""

POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {EMPTY_STYLE}; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors "
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
FRAMES = "http://127.0.0.1:* http://localhost:*"
"""Who may show the viewer in a frame, where it was asked for by a notebook."""


class Guard:
    """Lets a request through if it comes from this machine's own pages and knows the token; else it is not found.

    The token is taken off the path, so that what lies behind sees none.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: frozenset[str], framed: bool) -> None:
        self._app, self._token, self._hosts = app, token.encode(), hosts
        self._policy = POLICY + (FRAMES if framed else "'none'")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        rest = self._allowed(scope)
        if rest is None:
            await Response(status_code=NO_ANSWER)(scope, receive, self._with_headers(send))
            return
        inner = {**scope, "path": rest, "raw_path": rest.encode("utf-8", "replace"), "root_path": ""}
        await self._app(inner, receive, self._with_headers(send))

    def _allowed(self, scope: Scope) -> str | None:
        """The path behind the token, or None where the request is refused."""
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host", "")
        if len(path) > LONGEST_PATH or host not in self._hosts or len(headers.getlist("host")) != 1:
            return None
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return None
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not self._is_frame(headers):
            return None
        token, slash, rest = path.removeprefix("/").partition("/")
        if not slash or not secrets.compare_digest(token.encode("utf-8", "replace"), self._token):
            return None
        return f"/{rest}"

    @staticmethod
    def _is_frame(headers: Headers) -> bool:
        """A person who follows a link from elsewhere, or a notebook's frame, comes from another site, to look only."""
        return headers.get("sec-fetch-mode") == "navigate"

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**HEADERS, "content-security-policy": self._policy}.items():
                    headers.setdefault(name, value)
            await send(message)

        return sending


class Viewer:
    """What answers the requests.

    Args:
        library: the maps and slides.
        tiles: makes the tiles.
        reviewer: who reviews, for the records.
    """

    def __init__(self, library: Library, tiles: Tiles, *, reviewer: str) -> None:
        self._library, self._tiles, self._reviewer = library, tiles, reviewer
        self._pages = _own_pages()
        self._damage: dict[str, str] = {}
        self._damage_lock = threading.Lock()

    def routes(self) -> list[Route]:
        """The addresses behind the token."""

        def of_slide(answer: Callable[[Request, Item], Response]) -> Callable[[Request], Response]:
            def endpoint(request: Request) -> Response:
                item = self._library.item(request.path_params["slide"])
                return Response(status_code=NO_ANSWER) if item is None else answer(request, item)

            return endpoint

        slide = "/slides/{slide}"
        return [
            Route("/", self._list_page),
            Route("/static/{name}", self._static),
            Route("/api/slides", self._rows),
            Route("/api/export", self._export_all),
            Route(slide, of_slide(self._slide_page)),
            Route(f"/api{slide}", of_slide(self._details)),
            Route(f"/api{slide}/progress", of_slide(self._progress)),
            Route(f"/api{slide}/map", of_slide(self._map)),
            Route(f"/api{slide}/quality", of_slide(self._quality)),
            Route(f"/api{slide}/small", of_slide(self._small)),
            Route(f"/api{slide}/tiles/{{content}}/{{level:int}}/{{column:int}}/{{row:int}}", of_slide(self._tile)),
            Route(f"/api{slide}/review", of_slide(self._review)),
            Route(f"/api{slide}/review", self._add, methods=["POST"]),
            Route(f"/api{slide}/export", of_slide(self._export)),
        ]

    def _list_page(self, request: Request) -> Response:
        if self._library.single:
            (only,) = self._library.items()
            return Response(status_code=307, headers={"location": f"slides/{only.id}"})
        return self._page("list.html")

    def _slide_page(self, request: Request, item: Item) -> Response:
        return self._page("slide.html")

    def _page(self, name: str) -> Response:
        return Response(self._pages[name], media_type=PAGES[name])

    def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._pages or name.endswith(".html"):
            return Response(status_code=NO_ANSWER)
        return Response(self._pages[name], media_type=(PAGES | VENDOR)[name], headers={"cache-control": "no-cache"})

    def _rows(self, request: Request) -> Response:
        single = self._library.single
        return Json({"slides": self._library.rows(), "single": single, "folder": self._library.maps.name})

    def _details(self, request: Request, item: Item) -> Response:
        library = self._library
        totals = library.totals(item)
        about: dict[str, Any] = {
            "id": item.id,
            "name": printable(item.name),
            "scan": library.progress(item, library.state(item)),
            "classes": [printable(name) for name in library.class_names(item)],
            "verdict": verdict_of(totals),
            "not_judged": not_judged_of(totals),
            "category": totals.get("category"),
            "score": totals.get("score"),
            "point": described_point(totals),
            "labels": list(LABELS),
            "reviewer": self._reviewer,
            "problem": None,
            "notes": [],
            "map": None,
            "tiles": None,
            "lesions": [],
            "uncertain": [],
            "reasons": None,
            "review": described_review(Review()),
            "read_only": "the scan of this slide has not ended.",
        }
        is_done = about["scan"]["state"] == DONE
        if not is_done and library.partial_map(item) is None:
            return Json(about)
        try:
            found = library.probability_map(item)
            about["map"] = _described(found, outline_rule(library.point(item), totals, found))
            about["reasons"] = None if found.quality is None else [quality.label for quality in Quality]
            if is_done:
                about["lesions"] = describe_lesions(library.lesions(item))
                about["uncertain"] = library.uncertain(item)
        except SentinodeError as error:
            about["problem"] = str(error)
            if about["map"] is None:
                return Json(about)
        about |= self._shown(item, found, about["problem"]) | (self._reviewed(item) if is_done else {})
        return Json(about)

    def _progress(self, request: Request, item: Item) -> Response:
        """How far the scan is: small, to be asked for again and again."""
        return Json(self._library.progress(item, self._library.state(item)))

    def _reviewed(self, item: Item) -> dict[str, Any]:
        """The review, and why none can be saved where that is so."""
        try:
            review, reason = self._library.review(item), reason_not_writable(item.folder)
        except SentinodeError as error:
            review, reason = Review(), str(error)
        return {"review": described_review(review), "read_only": reason}

    def _shown(self, item: Item, found: ProbabilityMap, problem: str | None) -> dict[str, Any]:
        """How to show the slide, or why it cannot be."""
        try:
            source = self._source(item, found)
            notes = self._tiles.notes(source)
        except SentinodeError as error:
            return {"problem": str(error)}  # the reason that hides the slide comes first
        with self._damage_lock:
            damage = self._damage.get(item.id)
        return {"tiles": source.content[:16], "notes": list(notes), "damage": damage, "problem": problem}

    def _source(self, item: Item, found: ProbabilityMap) -> Source:
        path = self._library.locate(item, found.slide)
        return Source(path, found.slide_mpp, found.slide.fingerprint)

    def _map(self, request: Request, item: Item) -> Response:
        """The probabilities, float32 in little endian, row by row; NaN where there is no tissue."""
        try:
            found = self._library.probability_map(item)
        except SentinodeError as error:
            return _refused(error)
        return Response(found.probability.astype("<f4").tobytes(), media_type="application/octet-stream")

    def _quality(self, request: Request, item: Item) -> Response:
        """Why each window cannot be judged: a code, uint8 row by row, 0 where it can, 255 where it was not read yet."""
        try:
            found = self._library.probability_map(item)
        except SentinodeError as error:
            return _refused(error)
        codes, partial = found.quality, self._library.partial_map(item)
        if codes is None:
            return Response(status_code=NO_ANSWER)
        if partial is not None and partial.probability_map is found:
            codes = np.where(partial.pending, np.uint8(PENDING), codes)
        return Response(codes.tobytes(), media_type="application/octet-stream")

    def _small(self, request: Request, item: Item) -> Response:
        """A picture for the list: the heatmap, or the tissue as long as there is none."""
        for name in (SMALL, TISSUE):
            with contextlib.suppress(OSError):
                picture = (item.folder / name).read_bytes()
                return Response(picture, media_type="image/png", headers={"cache-control": "private, max-age=10"})
        return Response(status_code=NO_ANSWER)

    def _tile(self, request: Request, item: Item) -> Response:
        place = request.path_params
        try:
            found = self._library.probability_map(item)
            shape = Shape(found.slide.width, found.slide.height)
            if place["content"] != found.slide.fingerprint[:16] or not shape.has(
                place["level"], place["column"], place["row"]
            ):
                return Response(status_code=NO_ANSWER)
            source = self._source(item, found)
            picture = self._tiles.jpeg(source, place["level"], place["column"], place["row"])
        except SentinodeError as error:
            with self._damage_lock:
                self._damage[item.id] = str(error)
            return _refused(error)
        except ValueError:
            return Response(status_code=NO_ANSWER)
        return Response(picture, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600, immutable"})

    def _review(self, request: Request, item: Item) -> Response:
        try:
            return Json(described_review(self._library.review(item)))
        except SentinodeError as error:
            return _refused(error)

    async def _add(self, request: Request) -> Response:
        item = await run_in_threadpool(self._library.item, request.path_params["slide"])
        if item is None:
            return Response(status_code=NO_ANSWER)
        if request.headers.get("content-type") != "application/json":
            return Json({"refused": "an operation is sent as application/json."}, status_code=415)
        body = await _body(request)
        if body is None:
            return Json({"refused": "the operation is too large."}, status_code=413)
        return await run_in_threadpool(self._added, item, body)

    def _added(self, item: Item, body: bytes) -> Response:
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return Json({"refused": "this is no JSON."}, status_code=400)
        try:
            found = self._library.probability_map(item)
            review = add_operation(
                item.folder, parse_operation(content), who=self._reviewer, slide=found.slide, bundle=found.bundle
            )
        except SentinodeError as error:
            return _refused(error)
        return Json(described_review(review))

    def _export(self, request: Request, item: Item) -> Response:
        """``review.geojson`` under the slide's name, as annotations are called."""
        try:
            content = (item.folder / REVIEW).read_bytes()
        except OSError:
            return Response(status_code=NO_ANSWER)
        headers = {"content-disposition": f'attachment; filename="{_ascii(item.name)}.geojson"'}
        return Response(content, media_type="application/geo+json", headers=headers)

    def _export_all(self, request: Request) -> Response:
        """Every ``review.geojson`` under its slide's name, in an archive: a folder of annotations."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for item in self._library.items():
                with contextlib.suppress(OSError):
                    archive.writestr(f"{printable(item.name)}.geojson", (item.folder / REVIEW).read_bytes())
        name = f"{_ascii(self._library.maps.name)}-reviews.zip"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(buffer.getvalue(), media_type="application/zip", headers=headers)


class Json(JSONResponse):
    """JSON in ASCII, because a path may hold bytes that are no text."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode("ascii")


def make_app(viewer: Viewer, *, token: str, hosts: frozenset[str], framed: bool = False) -> ASGIApp:
    """The whole server as an ASGI application.

    Args:
        viewer: what answers.
        token: the secret that every address begins with.
        hosts: what may stand in a request's Host, such as ``127.0.0.1:8765``.
        framed: whether pages of this machine, such as a notebook, may show it in a frame.
    """
    inner = Starlette(routes=viewer.routes(), exception_handlers={404: _not_found, 405: _not_found})
    inner.router.redirect_slashes = False
    return Guard(inner, token=token, hosts=hosts, framed=framed)


def described_review(review: Review) -> dict[str, Any]:
    """A review as the page shows it."""
    return {
        "revision": review.revision,
        "whole": review.whole,
        "judged": {
            identifier: {
                "verdict": one.verdict,
                "label": one.label,
                "comment": one.comment,
                "who": one.who,
                "time": one.time,
            }
            for identifier, one in review.judged.items()
        },
        "drawings": [
            {
                "id": one.id,
                "meaning": one.meaning,
                "label": one.label,
                "comment": one.comment,
                "who": one.who,
                "time": one.time,
                "rings": rings_of(one.geometry),
            }
            for one in review.drawings.values()
        ],
    }


def _described(found: ProbabilityMap, rule: dict[str, Any]) -> dict[str, Any]:
    rows, columns = found.probability.shape
    return {
        "rows": rows,
        "columns": columns,
        "stride": found.stride,
        "origin": list(found.origin),
        "prior": found.prior,
        "rule": rule,
        "engine": found.engine,
        "bundle": found.bundle[:12],
        "width": found.slide.width,
        "height": found.slide.height,
        "padded": list(Shape(found.slide.width, found.slide.height).padded),
        "levels": Shape(found.slide.width, found.slide.height).levels,
        "tile": TILE,
        "overlap": OVERLAP,
        "mpp": found.slide_mpp,
        "slide": printable(found.slide.name),
    }


def _ascii(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)


def _refused(error: SentinodeError) -> Response:
    status = 403 if isinstance(error, OutputError) else 422
    return Json({"refused": str(error)}, status_code=status)


async def _not_found(request: Request, error: Exception) -> Response:
    return Response(status_code=NO_ANSWER)


async def _body(request: Request) -> bytes | None:
    """The body of a request, or None where it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            return None
    return bytes(body)


def _own_pages() -> dict[str, bytes]:
    """Every file that the pages consist of, by its name."""
    own = resources.files("sentinode.app").joinpath("pages")
    vendor = resources.files("sentinode.app").joinpath("vendor")
    files = {name: own.joinpath(name).read_bytes() for name in PAGES}
    return files | {name: vendor.joinpath(name).read_bytes() for name in VENDOR}
