"""From a file to what it holds: its text is decoded, and the reader chosen by the content."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from sentinode.errors import AnnotationError
from sentinode.slides.reading.annotations.asap import ROOT, read_asap
from sentinode.slides.reading.annotations.drawing import Contents, Malformed, TooMuch
from sentinode.slides.reading.annotations.geojson import read_geojson
from sentinode.slides.reading.annotations.ncrf import LISTS, read_ncrf
from sentinode.slides.reading.annotations.other_programs import Program, program_of_json, program_of_xml

DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z][\w.:-]*)["']""")
MOST_BYTES = 1 << 27
"""Bytes of a file of annotations at most. All of it is in memory at once."""

MOST_VALUES = 10_000_000
"""Values of a JSON file at most: numbers, names, lists and objects. Each takes about 100 bytes once it is parsed."""

MOST_PARTS = 4_000_000
"""Elements and attributes of an XML file at most. Each takes twice as much as a value of JSON."""

PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def open_contents(path: Path) -> Contents:
    """Read a file of any format that is known, whatever its ending says.

    Raises:
        AnnotationError: the file is missing, malformed, of another program or of no known format.
    """
    try:
        with _no_search_for_cycles():
            return _read(path.suffix.lower(), _text(_bytes(path)))
    except Malformed as error:
        raise AnnotationError(str(error), where=path, hint=error.hint) from error
    except _OtherProgram as error:
        raise AnnotationError(
            f"is {error.what}: {error.program.name}'s, which Sentinode does not read"
            f"{error.program.remark and f' ({error.program.remark})'}.",
            where=path,
            hint="Draw the regions in ASAP, or open the slide in QuPath and export its annotations as GeoJSON.",
        ) from error


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Parsed text has no cycles, and looking for some among its million objects takes most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _OtherProgram(Exception):
    def __init__(self, what: str, program: Program) -> None:
        super().__init__(program.name)
        self.what, self.program = what, program


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise TooMuch(f"has more than {MOST_BYTES:,} bytes.")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise AnnotationError("does not exist.", where=path, hint="Check the path.") from error
    except OSError as error:
        why = "it is a folder" if path.is_dir() else error.strerror or "the system refused"
        raise AnnotationError(f"cannot be read ({why}).", where=path, hint="Name a file.") from error
    for magic, name in PACKED.items():
        if data.startswith(magic):
            raise AnnotationError(f"is compressed ({name}).", where=path, hint="Unpack it first.")
    return data


def _text(data: bytes) -> str:
    """The file as text, by its byte order mark, what its XML declares, or UTF-8; without what precedes it."""
    encoding: str = json.detect_encoding(data)
    declared = DECLARED.match(data) if encoding == "utf-8" else None
    # A declaration that can be read byte by byte is none of UTF-16's, though some programs write so.
    if declared and not declared[1].lower().startswith((b"utf-16", b"utf16", b"ucs", b"iso-10646", b"utf-32")):
        encoding = declared[1].decode("ascii")
    try:
        return data.decode(encoding).lstrip("\ufeff \t\r\n")
    except UnicodeDecodeError as error:
        raise Malformed(
            f"cannot be read as text: its byte {error.start} is not {encoding.upper()}"
            f"{', the encoding that it declares' if declared else ''}."
        ) from error
    except (LookupError, UnicodeError) as error:
        raise Malformed(f"cannot be read as text: it declares the unknown encoding '{encoding}'.") from error


def _read(ending: str, text: str) -> Contents:
    if text.startswith("<"):
        return _read_xml(text)
    if ending == ".xml":
        raise Malformed(
            "cannot be read as text: XML begins with '<'." if text else "is not well-formed XML (it is empty)."
        )
    return _read_json(text)


def _read_xml(text: str) -> Contents:
    # Without a document type there are no entities of the file's own, which could grow without end.
    if "<!DOCTYPE" in text:
        raise Malformed("declares a document type, which could contain harmful entities; annotations need none.")
    if sum(map(text.count, "<=")) > MOST_PARTS:
        raise TooMuch(f"has more than {MOST_PARTS:,} elements and attributes.")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise Malformed(f"is not well-formed XML ({error}).") from error
    if root.tag == ROOT:
        return read_asap(root)
    if program := program_of_xml(root):
        raise _OtherProgram(f"XML of another kind (<{root.tag}>)", program)
    raise Malformed(f"is XML of another kind (<{root.tag}>). ASAP writes <{ROOT}>; from QuPath, export GeoJSON.")


def _read_json(text: str) -> Contents:
    if sum(map(text.count, ",:[{")) > MOST_VALUES:  # one of these stands before each value but the first
        raise TooMuch(f"has more than {MOST_VALUES:,} numbers, names and lists.")
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise Malformed("is JSON that is nested too deeply to be annotations.") from error
    except json.JSONDecodeError as error:
        why = f"{error.msg}, line {error.lineno}, column {error.colno}" if text else "it is empty"
        raise Malformed(f"is not well-formed JSON ({why}).") from error
    except ValueError as error:
        raise Malformed("is not well-formed JSON (it contains a number of thousands of digits).") from error
    if isinstance(content, dict) and content.keys() & set(LISTS):
        return read_ncrf(content)
    if program := program_of_json(content):
        raise _OtherProgram("neither QuPath's GeoJSON nor NCRF's JSON", program)
    return read_geojson(content)
