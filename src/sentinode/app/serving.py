"""Starting and stopping the viewer, from the command line and from a notebook."""

from __future__ import annotations

import base64
import contextlib
import getpass
import html
import os
import secrets
import socket
import threading
import time
import webbrowser
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from sentinode.errors import DeviceError, SlideError
from sentinode.progress import console
from sentinode.slides.results.outputs import HEATMAP

if TYPE_CHECKING:
    import uvicorn

    from sentinode.app.server import Viewer

HERE = "127.0.0.1"
PORT = 8765
"""Where the viewer listens if nothing else is asked for; it takes one of the next ports where that is in use."""

NEXT_PORTS = 50
START_S = 10.0
REMOTE = ("JUPYTERHUB_SERVICE_PREFIX", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", "BINDER_SERVICE_HOST")
"""Set where a notebook's kernel runs on another machine than the browser, which cannot reach our server then."""


class View:
    """A viewer that runs beside a notebook, or a still picture where none may run.

    Attributes:
        url: where it is, or None for a still picture.
    """

    def __init__(self, url: str | None, *, still: Path | None = None, height: int = 720) -> None:
        self.url, self._still, self._height = url, still, height
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """Stop the viewer."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(START_S)
        self._server = self._thread = None

    def _repr_html_(self) -> str:
        if self.url is not None:
            address = html.escape(self.url, quote=True)
            return (
                f'<iframe src="{address}" width="100%" height="{self._height}" style="border:0"></iframe>'
                "<p>The frame shows slides as long as this kernel runs. For research, not for diagnosis. "
                f'<a href="{address}" target="_blank">Open it in a window of its own</a></p>'
            )
        if self._still is None:
            return "<p>There is no picture of these maps. For research, not for diagnosis.</p>"
        picture = base64.b64encode(self._still.read_bytes()).decode()
        name = html.escape(self._still.parent.name, quote=True)
        return (
            f'<figure><img style="max-width:100%" alt="Heatmap of {name}" src="data:image/png;base64,{picture}">'
            f"<figcaption>{name}. For research, not for diagnosis.</figcaption></figure>"
        )


def view(
    maps: str | Path,
    *,
    slides: Iterable[str | Path] = (),
    icc: bool = False,
    reviewer: str | None = None,
    still: bool | None = None,
    height: int = 720,
) -> View:
    """Show slides with their maps in a notebook: the viewer of ``sentinode view``, or a still picture.

    The server listens on this machine alone and ends with the notebook's kernel or with ``close()``.

    Args:
        maps: the ``--out`` folder of a scan, or the folder of one slide in it.
        slides: folders and files to look for the slides in, beside the paths that the scan noted.
        icc: convert colours to sRGB by the slides' ICC profiles.
        reviewer: who reviews; None for the user's name.
        still: True for a picture, False for the viewer, None for what this notebook can show: a kernel on another
            machine gets a picture.
        height: of the frame in pixels.

    Returns:
        An object that a notebook shows; its ``url`` opens in a browser, too.

    Raises:
        SlideError: there is no scanned slide, or the viewer is not installed.
        DeviceError: no port is free.
    """
    maps = Path(maps)
    if still is None:
        still = any(os.environ.get(name) for name in REMOTE)
    if still:
        return View(None, still=_picture(maps), height=height)
    viewer = _viewer(maps, map(Path, slides), icc=icc, reviewer=reviewer)
    listening = _listen(None)
    server, url = _server(viewer, listening, framed=True)
    shown = View(url, height=height)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True, name="sentinode-view")
    thread.start()
    _wait(server)
    shown._server, shown._thread = server, thread
    return shown


def serve(
    maps: Path,
    *,
    slides: Iterable[Path] = (),
    port: int | None = None,
    browser: bool = True,
    icc: bool = False,
    reviewer: str | None = None,
) -> None:
    """Serve a folder of maps until Ctrl-C.

    Args:
        maps: the ``--out`` folder of a scan, or the folder of one slide in it.
        slides: folders and files to look for the slides in, beside the paths that the scan noted.
        port: to listen on; None for 8765, or the next free one.
        browser: whether to open the browser.
        icc: convert colours to sRGB by the slides' ICC profiles.
        reviewer: who reviews; None for the user's name.

    Raises:
        SlideError: there is no scanned slide, or the viewer is not installed.
        DeviceError: the port is in use.
    """
    viewer = _viewer(maps, slides, icc=icc, reviewer=reviewer)
    listening = _listen(port)
    server, url = _server(viewer, listening, framed=False)
    console.print("The slides are at the address below. Ctrl-C stops the viewer.", markup=False)
    console.print(url, markup=False, soft_wrap=True)
    if browser:
        threading.Thread(target=_open_browser, args=(server, url), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


def require_viewer() -> None:
    """Refuse where the viewer's packages are not installed, or its files were not built.

    Raises:
        SlideError: what is missing.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise SlideError(
            f"viewing needs {error.name}, which is not installed.",
            hint="Install it with: pip install 'sentinode[app]'",
        ) from error
    if not resources.files("sentinode.app").joinpath("vendor", "openseadragon.min.js").is_file():
        raise SlideError(
            "the viewer's files could not be fetched from npm when Sentinode was installed.",
            hint="Install it again where npm's registry can be reached, or in a checkout: python web/build.py",
        )


def _viewer(maps: Path, slides: Iterable[Path], *, icc: bool, reviewer: str | None) -> Viewer:
    require_viewer()
    from sentinode.app.library import Library
    from sentinode.app.server import Viewer
    from sentinode.app.tiles import Tiles

    return Viewer(Library(maps, slides), Tiles(icc=icc), reviewer=reviewer or _user())


def _server(viewer: Viewer, listening: socket.socket, *, framed: bool) -> tuple[uvicorn.Server, str]:
    import uvicorn

    from sentinode.app.server import make_app

    token, port = secrets.token_urlsafe(24), listening.getsockname()[1]
    hosts = frozenset({f"{HERE}:{port}", f"localhost:{port}"})
    app = make_app(viewer, token=token, hosts=hosts, framed=framed)
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
        ws="none",
        http="h11",
        loop="asyncio",
    )
    return uvicorn.Server(config), f"http://{HERE}:{port}/{token}/"


def _listen(port: int | None) -> socket.socket:
    """A socket that listens on this machine alone.

    Raises:
        DeviceError: the port, or each one that was tried, is in use.
    """
    wanted = range(PORT, PORT + NEXT_PORTS) if port is None else range(port, port + 1)
    reason = ""
    for number in wanted:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name != "nt":  # there it would let two programs share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HERE, number))
            listening.listen(128)
        except OSError as error:
            listening.close()
            reason = error.strerror or str(error)
            continue
        return listening
    raise DeviceError(
        f"port {wanted.start} of this machine cannot be used ({reason}).",
        hint="Leave out --port, and the next free one is taken." if port is not None else "Name another with --port.",
    )


def _wait(server: uvicorn.Server) -> None:
    until = time.monotonic() + START_S
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)


def _open_browser(server: uvicorn.Server, url: str) -> None:
    _wait(server)
    webbrowser.open(url)


def _picture(maps: Path) -> Path | None:
    """The heatmap of a slide's folder, or of the first slide of a batch."""
    own = maps / HEATMAP
    return own if own.is_file() else next(iter(sorted(maps.glob(f"*/{HEATMAP}"))), None)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
