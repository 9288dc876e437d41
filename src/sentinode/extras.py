"""Which extra installs a package that is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sentinode.errors import SentinodeError

EXTRAS = {
    "train": ("lightning", "pyarrow", "tensorboard"),
    "slides": ("imagecodecs", "openslide", "pydicom", "shapely", "tifffile"),
    "app": ("starlette", "uvicorn"),
    "fast": ("openvino",),
    "quantise": ("nncf",),
    "export": ("onnx", "onnxruntime"),
    "probe": ("sklearn",),
    "tune": ("optuna",),
    "cluster": ("ray",),
    "remote": ("s3fs",),
}
"""The modules that each extra installs beside those of the extras that it includes."""

_EXTRA = {module: extra for extra, modules in EXTRAS.items() for module in modules}


@contextmanager
def naming_extras() -> Iterator[None]:
    """Turn an import that fails for the lack of an extra's package into a refusal that names the extra.

    Raises:
        SentinodeError: what is missing, and the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRA:
            raise
        raise SentinodeError(
            f"this needs {module}, which is not installed.",
            hint=f"Install it with: pip install 'sentinode[{_EXTRA[module]}]'",
        ) from error
