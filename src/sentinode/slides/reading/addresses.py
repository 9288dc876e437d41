"""Addresses such as ``s3://bucket/folder``, from which slides are copied, and to which results are written.

fsspec and its file systems do the work. They look for credentials where they always do. What may hold a credential,
which is an address with a user or a query and every message of theirs, is never printed or written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sentinode.errors import OutputError, SentinodeError, SlideError

KINDS = ("s3", "gs", "gcs", "az", "abfs", "https", "http")
"""What an address may begin with."""

WEB = ("https", "http")
"""Those that can only be read."""


def is_remote(path: str | Path) -> bool:
    """Whether a path is an address."""
    return "://" in str(path)


def kind_of(url: str) -> str:
    """What an address begins with, such as ``s3``."""
    return url.partition("://")[0].lower()


def without_credentials(url: str) -> str:
    """An address without user, password and query; a web server's also without fragment, which in a bucket is a part
    of the name.
    """
    kind, rest = kind_of(url), url.partition("://")[2].partition("?")[0]
    if kind in WEB:
        rest = rest.partition("#")[0]
    host, slash, path = rest.partition("/")
    return f"{kind}://{host.rpartition('@')[2]}{slash}{path}"


def open_address(url: str, **options: Any) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    from fsspec.core import url_to_fs

    files, path = url_to_fs(url, **options)
    return files, str(path)


@contextlib.contextmanager
def reaching(shown: str, *, writing: bool = False) -> Iterator[None]:
    """Turn whatever a file system raises into words of ours, for its own may hold credentials.

    Args:
        shown: the address, without what may be a credential.
        writing: whether results are written there, or a slide is read.

    Raises:
        SlideError: the slide cannot be read.
        OutputError: the results cannot be written.
    """
    error_of = OutputError if writing else SlideError
    try:
        yield
    except SentinodeError:
        raise
    except ImportError:
        raise error_of(
            f"what reaches '{kind_of(shown)}://' is not installed.",
            where=shown,
            hint="Install it: pip install 'sentinode[remote]' for s3:// and https://, pip install gcsfs for gs://, pip "
            "install adlfs for az://.",
        ) from None
    except FileNotFoundError:  # fsspec says this of every web server that does not answer with the file
        is_web = kind_of(shown) in WEB
        what = "bucket" if writing else "slide, or the server does not give it" if is_web else "slide or folder"
        raise error_of(
            f"there is no such {what}.",
            where=shown,
            hint="Check the address"
            + (", or create the bucket." if writing else ", the network and the credentials." if is_web else "."),
        ) from None
    except PermissionError:
        raise error_of(
            "access is refused.",
            where=shown,
            hint="Give credentials where its library looks for them, such as AWS_PROFILE or ~/.aws/credentials."
            + (" They must allow to list, read, write and delete there." if writing else ""),
        ) from None
    except Exception as error:
        raise error_of(
            f"it cannot be reached ({type(error).__name__}).",
            where=shown,
            hint="Check the network, the address and the credentials, and run the same command again.",
        ) from None
