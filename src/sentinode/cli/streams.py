"""What all commands need of their arguments and of standard output."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence

from sentinode.errors import DataError, OutputError


def take_any_text() -> None:
    """Let standard output take any name: what its encoding lacks is written as ``\\xff`` or ``\\u2026``.

    A file may be called anything, and a terminal or a batch job may know only ASCII. Standard error does so already.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def refuse_empty(arguments: Sequence[str]) -> None:
    """
    Raises:
        DataError: an argument is empty. As a path it would mean the current folder.
    """
    for number, argument in enumerate(arguments):
        if argument == "" or re.fullmatch(r"--[a-z-]+=", argument):
            before = f" after {arguments[number - 1]}" if argument == "" and number else ""
            raise DataError(
                f"an argument is empty{before}{f' ({argument})' if argument else ''}.",
                hint="Perhaps a variable of the shell is not set. Write . for the current folder.",
            )


def flush_output() -> None:
    """Write what is left of what was printed; the interpreter would say in its own way that it could not.

    Raises:
        OutputError: standard output cannot be written.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
        raise OutputError(
            f"standard output cannot be written ({error.strerror}).", hint="Free some space, or name a file with --out."
        ) from error
