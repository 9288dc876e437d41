"""The files of a bundle's folder: whether they are what they should be, and whole; nothing is read without a limit.

A bundle may come from a stranger. A pipe would be waited for, a device read for ever, and a packed file may hold more
than the memory does. So a file is opened only if it is a regular one, and its size is known before it is read.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import re
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sentinode.errors import BundleError
from sentinode.model.card import AGAIN, as_line
from sentinode.patches.patch_set import SPLITS

WEIGHTS, CARD, CHECKSUMS, ASSIGNMENT = "weights.safetensors", "card.json", "SHA256SUMS", "split.csv.gz"

MOST_SUMS, MOST_FILES = 100_000, 200
"""Bytes of the checksums, and files that they name."""

MOST_BYTES = 16 * 2**30
"""Of all files of a bundle together. The weights of timm's largest networks have 5 billion bytes."""

MOST_OF_SPLIT = 100_000_000
"""Bytes of the split file when it is unpacked. The 220,025 patches of Kaggle's set take 11 million."""

_SUM = re.compile(r"([0-9a-f]{64})  ([^/\\:\x00-\x1f\x7f]{1,255})")


def is_bundle(folder: Path) -> bool:
    """Whether a card lies there, of whatever kind of file; :func:`regular` says what is wrong with it.

    Raises:
        BundleError: the folder may not be looked into.
    """
    try:
        (folder / CARD).lstat()
    except PermissionError as error:
        raise _unreadable(folder, CARD, error) from None
    except (OSError, ValueError):
        return False
    return True


def regular(folder: Path, name: str) -> Path:
    """The path of a file of the bundle, which is a regular one or leads to one.

    Raises:
        BundleError: it is missing, is something else, or cannot be reached.
    """
    file = folder / name
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        what = "is a link that leads nowhere" if os.path.lexists(file) else "is missing"
        raise BundleError(f"{name} {what}.", where=folder, hint="Copy the whole folder again.") from None
    except OSError as error:
        raise _unreadable(folder, name, error) from None
    if not stat.S_ISREG(mode):
        raise BundleError(f"{name} is no regular file.", where=folder, hint="Copy the whole folder again.")
    return file


def read(folder: Path, name: str, most: int) -> bytes:
    """What a file holds, or its first ``most + 1`` bytes.

    Raises:
        BundleError: it is missing, is no regular file, or cannot be read.
    """
    try:
        with regular(folder, name).open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise _unreadable(folder, name, error) from None


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 by the name of the file; the names are of files that lie in the folder itself.

    Raises:
        BundleError: they are missing, too long, or no checksums of files in this folder.
    """
    content = read(folder, CHECKSUMS, MOST_SUMS)
    lines = content.decode("utf-8", "replace").split("\n")
    found = [_SUM.fullmatch(line) for line in lines if line]
    sums = {match[2]: match[1] for match in found if match is not None and match[2] not in (".", "..")}
    if len(content) > MOST_SUMS or len(sums) != len(found) or len(sums) > MOST_FILES:
        raise BundleError("its SHA256SUMS are not those of the files in this folder.", where=folder, hint=AGAIN)
    return sums


def verify(folder: Path) -> None:
    """
    Raises:
        BundleError: a file is missing, is no regular one, or has changed; or they are larger than any network.
    """
    sums = checksums(folder)
    names = dict.fromkeys((CARD, WEIGHTS, *sums))
    if sum(regular(folder, name).stat().st_size for name in names) > MOST_BYTES:
        raise BundleError(f"its files have more than {MOST_BYTES // 2**30} GiB.", where=folder, hint=AGAIN)
    for name in names:
        try:
            digest = sha256(folder / name)
        except OSError as error:
            raise _unreadable(folder, name, error) from None
        if sums.get(name) != digest:
            raise BundleError(
                f"{name} has changed since the bundle was written, or was damaged in a copy.", where=folder, hint=AGAIN
            )


def optional(folder: Path, name: str) -> Path | None:
    """The path of a file that not every bundle has, or None.

    Raises:
        BundleError: it is no regular file, or the checksums, which were compared when the bundle was opened, lack it.
    """
    if not os.path.lexists(folder / name):
        return None
    if name not in checksums(folder):
        raise BundleError(f"{name} is not among its SHA256SUMS.", where=folder, hint=AGAIN)
    return regular(folder, name)


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of the weights by name. Their header alone is read, and no tensor is allocated.

    Raises:
        BundleError: the file is no safetensors, or its header does not fit its length.
    """
    try:
        with safe_open(regular(folder, WEIGHTS), framework="numpy") as held:
            return {name: tuple(held.get_slice(name).get_shape()) for name in held.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"{WEIGHTS} cannot be read ({_brief(error)}).", where=folder, hint=AGAIN) from None


def pack_assignment(assignment: Mapping[str, str]) -> bytes:
    """The split of each patch by id, as the bytes of a split file."""
    text = io.StringIO(newline="")
    # A carriage return, which ends a row for who reads it, is not quoted by itself.
    quoted = any("\r" in id for id in assignment)
    rows = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    rows.writerow(["id", "split"])
    rows.writerows(assignment.items())
    return gzip.compress(text.getvalue().encode("utf-8", "surrogatepass"), mtime=0)


def read_assignment(folder: Path) -> dict[str, str] | None:
    """The split of each patch by id, or None where the bundle has no split file.

    Raises:
        BundleError: it is damaged, too large, or no table of ids and splits.
    """
    file = optional(folder, ASSIGNMENT)
    if file is None:
        return None
    try:
        with gzip.open(file) as packed:
            content = packed.read(MOST_OF_SPLIT + 1)
        if len(content) > MOST_OF_SPLIT:
            raise ValueError(f"it has more than {MOST_OF_SPLIT // 1_000_000} MB")
        return _assignment(content.decode("utf-8", "surrogatepass"))
    except (OSError, EOFError, zlib.error, csv.Error, ValueError) as error:
        raise BundleError(f"{ASSIGNMENT} cannot be read ({_brief(error)}).", where=folder, hint=AGAIN) from None


def _assignment(text: str) -> dict[str, str]:
    rows = csv.reader(io.StringIO(text, newline=""))
    if next(rows, None) != ["id", "split"]:
        raise ValueError("its columns are not id and split")
    assignment: dict[str, str] = {}
    for row in rows:
        if len(row) != 2 or row[1] not in SPLITS:
            raise ValueError(f"line {rows.line_num} has no id and one of {', '.join(SPLITS)}")
        if row[0] in assignment:
            raise ValueError(f"line {rows.line_num} names a patch again")
        assignment[row[0]] = row[1]
    return assignment


def sha256(file: Path) -> str:
    """The digest of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _unreadable(folder: Path, name: str, error: OSError) -> BundleError:
    return BundleError(
        f"{name} cannot be read ({error.strerror or error}).", where=folder, hint="Copy the whole folder again."
    )


def _brief(error: Exception) -> str:
    return as_line(str(error) or type(error).__name__)[:200].rstrip(".")
