"""Starting the viewer: ports, notebooks and what is missing."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import sentinode
from sentinode.app import serving
from sentinode.errors import DeviceError, SlideError
from sentinode.slides.results.outputs import HEATMAP

pytest.importorskip("uvicorn", reason="the viewer is not installed: pip install 'sentinode[app]'")


@pytest.fixture
def built() -> None:
    try:
        serving.require_viewer()
    except SlideError as lack:
        pytest.skip(str(lack))


def test_in_a_notebook_the_viewer_stands_in_a_frame_and_ends_when_closed(maps: Path, built: None) -> None:
    shown = sentinode.view(maps, still=False)
    assert shown.url is not None and f'<iframe src="{shown.url}"' in shown._repr_html_()
    with urllib.request.urlopen(shown.url) as answer:
        assert b"Slides" in answer.read()
    shown.close()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(shown.url)


def test_where_no_server_may_run_a_still_picture_is_shown(maps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (maps / "painted" / HEATMAP).write_bytes(b"png")
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
    shown = sentinode.view(maps)
    assert shown.url is None and 'alt="Heatmap of painted"' in shown._repr_html_()


def test_a_port_in_use_is_refused_by_name_and_left_alone_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind((serving.HERE, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DeviceError, match=f"port {port} .* cannot be used"):
            serving._listen(port)
        monkeypatch.setattr(serving, "PORT", port)
        with serving._listen(None) as listening:
            assert port < listening.getsockname()[1] <= port + serving.NEXT_PORTS


def test_it_listens_on_this_machine_alone() -> None:
    with serving._listen(None) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_a_checkout_without_the_built_files_says_how_to_build_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving.resources, "files", lambda _: tmp_path)
    with pytest.raises(SlideError, match=r"python web/build\.py"):
        serving.require_viewer()
