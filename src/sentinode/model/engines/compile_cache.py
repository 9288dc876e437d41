"""Networks as OpenVINO compiled them, kept in the user's cache folder so that the next start is quick.

An entry's name is the digest of all that it depends on: the weights, the architecture, the code, the versions, the
processor and the settings. It is written whole or not at all, and holds its own digest, so that two processes may start
at once and a damaged file is compiled anew. Whatever goes wrong with the cache costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentinode.atomic import make_folder, whole_file
from sentinode.errors import OutputError
from sentinode.patches.cache import cache_folder

KEPT = 24
"""Entries that are kept; those that were not used for the longest time go first."""

ENDING = ".compiled"
DIGEST, LENGTH = 32, 8
"""Bytes of an entry's digest, and of the length of what it holds beside the network."""

LEFT_S = 3600.0
"""Seconds after which a half-written entry counts as left by a process that was killed."""


@dataclass(frozen=True)
class Exported:
    """A compiled network as the bytes of an entry, and as it is made of them."""

    data: bytes
    network: Any


@dataclass(frozen=True)
class Entry:
    """A compiled network of the cache.

    Attributes:
        network: OpenVINO's compiled model.
        about: the bytes that were kept with it.
    """

    network: Any
    about: bytes


def folder() -> Path:
    """Where the entries lie."""
    return cache_folder() / "openvino"


def key_of(*parts: object) -> str:
    """The name of what depends on ``parts`` alone."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def load(key: str, settings: Mapping[str, Any]) -> Entry | None:
    """The entry of a key, or None where there is none that can be used."""
    path = folder() / f"{key}{ENDING}"
    try:
        data = path.read_bytes()
        if hashlib.sha256(data[DIGEST:]).digest() != data[:DIGEST]:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        begin = DIGEST + LENGTH
        end = begin + int.from_bytes(data[DIGEST:begin], "little")
        return Entry(_imported(data[end:], settings), data[begin:end])
    except (OSError, RuntimeError):  # OpenVINO raises RuntimeErrors for what it cannot import
        return None


def exported(compiled: Any, settings: Mapping[str, Any]) -> Exported | None:
    """A compiled network as bytes, and as OpenVINO makes it of them; None where it cannot do so."""
    try:
        data = compiled.export_model()
        data = data.getvalue() if hasattr(data, "getvalue") else bytes(data)
        return Exported(data, _imported(data, settings))
    except RuntimeError:
        return None


def keep(key: str, data: bytes, about: bytes = b"") -> None:
    """Write an exported network and what is to be known about it, and remove the oldest entries beyond ``KEPT``."""
    with contextlib.suppress(OSError, OutputError):
        content = len(about).to_bytes(LENGTH, "little") + about + data
        make_folder(folder())
        with whole_file(folder() / f"{key}{ENDING}") as staged:
            staged.write_bytes(hashlib.sha256(content).digest() + content)
        _tidy()


def _imported(data: bytes, settings: Mapping[str, Any]) -> Any:
    import openvino

    return openvino.Core().import_model(data, "CPU", dict(settings))


def _tidy() -> None:
    """Remove the oldest entries, and what killed processes left half-written."""
    entries = sorted(folder().glob(f"[!.]*{ENDING}"), key=lambda entry: entry.stat().st_mtime)
    left = [each for each in folder().glob(f".*{ENDING}") if time.time() - each.stat().st_mtime > LEFT_S]
    for entry in entries[:-KEPT] + left:
        entry.unlink(missing_ok=True)
