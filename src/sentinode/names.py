"""Names of files where people meet them: on the screen, in pictures, and as names of folders.

A file may be called anything that its disk allows: a line break, ``$^$``, ``[red]``, 250 letters, or bytes that are
no text at all. What shows such a name, or makes a folder of it, asks here.
"""

from __future__ import annotations

import hashlib
import shutil
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

ELLIPSIS = "…"

NARROWEST, LAST = 16, 16
"""Columns that a table leaves at least for its names, and for its last column."""

LISTED = 60
"""Columns of a name in a list of them."""

LONGEST = 200
"""Bytes of a folder's name in UTF-8. Disks take 255, and some of the names derived from it are longer."""

_BREAKS = ("Cc", "Cs", "Zl", "Zp")  # controls, bytes that are no text, and breaks of lines and paragraphs
_REORDERS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FORBIDDEN = frozenset('<>:"/\\|?*')  # on Windows
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"]
)

FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "PingFang SC",
    "Hiragino Sans",
    "Arial Unicode MS",
    "Noto Sans",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Emoji",
    "Segoe UI Symbol",
    "Segoe UI Emoji",
    "Symbola",
)
"""Fonts that draw what matplotlib's own lacks, where a machine has them; none of them is a font of pictures."""


def as_text(name: str) -> str:
    """A file's name as text that every file takes: bytes of it that are no text become ``\\udcff`` and such."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def printable(text: str) -> str:
    """The text on one line, with ``?`` for each character that would break the line or cannot be written."""
    return "".join("?" if unicodedata.category(c) in _BREAKS or c in _REORDERS else c for c in text)


def shortened(text: str, width: int) -> str:
    """The text on one line of at most ``width`` columns of a terminal; its middle is left out where it is longer.

    A Chinese character or an emoji takes two columns.
    """
    from rich.cells import cell_len

    text = printable(text)
    if cell_len(text) <= width:
        return text
    head = _start(text, width // 2)
    tail = _start(text[::-1], width - 1 - cell_len(head))[::-1]
    return f"{head}{ELLIPSIS}{tail}" if width > 1 else ELLIPSIS[:width]


def listed(names: Sequence[str], most: int = 6) -> str:
    """Some names, each on one line and shortened, and how many more there are."""
    shown = ", ".join(shortened(name, LISTED) for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def _start(text: str, width: int) -> str:
    """As much of the text's start as ``width`` columns hold."""
    from rich.cells import cell_len

    end, used = 0, 0
    while end < len(text) and used + cell_len(text[end]) <= width:
        used += cell_len(text[end])
        end += 1
    return text[:end]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """The rows of a table in columns, two blanks apart; the last column is as long as it is.

    The first column holds names. Where they are longer than the terminal leaves room for, their middles are left out,
    so that the other columns can be read. Without a terminal a line has 80 columns.
    """
    from rich.cells import cell_len

    widths = [max(cell_len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    room = shutil.get_terminal_size().columns - sum(width + 2 for width in widths[1:]) - 2 - LAST
    widths[0] = min(widths[0], max(room, NARROWEST))
    lines = []
    for name, *others in rows:
        cells = [shortened(name, widths[0]), *others]
        padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=False)]
        lines.append("  ".join([*padded, cells[-1]]).rstrip())
    return "\n".join(lines)


def folder_name(name: str, *, own: Sequence[str] = ()) -> str:
    """A name for a folder that every disk takes, as near to ``name`` as can be.

    It holds no character that Windows forbids, is no device of Windows, does not begin with a dot, does not end with a
    dot or a blank, and has at most ``LONGEST`` bytes. A name that is too long keeps its start and gets a digest of the
    whole, so that two of them stay two.

    Args:
        name: of a file, with or without its ending.
        own: names that are taken for something else.
    """
    text = unicodedata.normalize("NFC", printable(name))
    text = "".join("_" if c in _FORBIDDEN else c for c in text).strip().rstrip(". ")
    if text.startswith("."):
        text = f"_{text[1:]}"
    if not text:
        return "_"
    if text.partition(".")[0].rstrip().lower() in _DEVICES or text.lower() in own:
        text = f"_{text}"
    if len(text.encode()) <= LONGEST:
        return text
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    head = text.encode()[: LONGEST - len(digest) - 1].decode("utf-8", "ignore").rstrip(". ")
    return f"{head}-{digest}"


def drawable(text: str, *, weight: str = "normal") -> str:
    """The text as matplotlib draws it, letter by letter, in the fonts of :func:`families`.

    A dollar sign begins no formula, and a letter that no font has becomes ``?``, in the picture alone.
    """
    fonts = _fonts(weight)
    known = (c if any(font.get_char_index(ord(c)) for font in fonts) else _stand_in(c) for c in printable(text))
    return "".join(known).replace("$", r"\$")


def _stand_in(letter: str) -> str:
    """Nothing for what only changes the letter before it."""
    return "" if unicodedata.category(letter) in ("Mn", "Me", "Cf") else "?"


@cache
def families() -> tuple[str, ...]:
    """The fonts that a name in a picture is drawn in: matplotlib's own, then those of ``FALLBACKS`` that are here."""
    from matplotlib.font_manager import fontManager

    here = {font.name for font in fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in FALLBACKS if name in here))


@cache
def _fonts(weight: str) -> tuple[FT2Font, ...]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return tuple(get_font(findfont(FontProperties(family=[name], weight=weight))) for name in families())
