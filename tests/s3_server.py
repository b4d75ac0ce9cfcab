"""A real server of the S3 protocol for tests: moto's, as a process that keeps all in memory."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from obstore.store import S3Store

from tests.waiting import eventually

_BUCKET = "memory3"


class S3Server:
    """One server with one bucket.

    Args:
        folder: For its log.

    Attributes:
        url: The bucket, ``s3://...``.
        environment: The variables by which a process finds the server.
    """

    def __init__(self, folder: Path) -> None:
        self.url = f"s3://{_BUCKET}"
        log = folder / "s3.log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        assert eventually(lambda: "Running on" in log.read_text()), log.read_text()
        found = re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text())
        assert found is not None
        self.environment = {
            "AWS_ENDPOINT_URL": found[1],
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }
        request = urllib.request.Request(f"{found[1]}/{_BUCKET}", method="PUT")
        urllib.request.urlopen(request).close()

    def store(self) -> S3Store:
        """The bucket, for the test itself."""
        return S3Store(
            _BUCKET,
            endpoint=self.environment["AWS_ENDPOINT_URL"],
            access_key_id="test",
            secret_access_key="test",
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def objects(self) -> dict[str, bytes]:
        """Everything in the bucket."""
        store = self.store()
        names = [each["path"] for block in store.list() for each in block]
        return {name: bytes(store.get(name).bytes()) for name in names}

    def stop(self) -> None:
        """End it, and everything in it with it."""
        self._process.kill()
        self._process.wait()
