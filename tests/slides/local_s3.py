"""A local S3, with credentials in the environment, where their library looks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCY"


@contextlib.contextmanager
def local_s3(*buckets: str) -> Iterator[Any]:
    """boto3's client of a local S3 with these buckets."""
    pytest.importorskip("s3fs", reason="s3fs (sentinode[remote]) is not installed here")
    moto_server = pytest.importorskip("moto.server", reason="moto is not installed here")
    import boto3

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        yield client
    server.stop()
