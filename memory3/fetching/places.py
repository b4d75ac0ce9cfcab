"""Where a checkpoint is fetched from: a folder, a web server, an object store. Bytes by name.

It must not know what a checkpoint is. Nothing here trusts what it reads; whoever asks verifies it.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from memory3.errors import (
    BackendUnavailableError,
    CheckpointMissingFileError,
    InvalidArgumentError,
    PluginNotFoundError,
)

_PIECE_BYTES = 1 << 20
# For connecting and between two pieces, in seconds; a large file may take as long as it takes.
_TIMEOUT_S = 30.0
_OBJECT_STORES = ("s3", "gs", "az")


class Place(Protocol):
    """Something that hands out files by name."""

    def pieces(self, name: str) -> Iterator[bytes]:
        """A file's bytes, in order, a bounded piece at a time.

        Raises:
            CheckpointMissingFileError: There is no such file.
            BackendUnavailableError: The place does not answer, or broke off.
        """
        ...


def place_of(url: str) -> Place:
    """The place that a URL means.

    Raises:
        InvalidArgumentError: The URL is of no kind that is known.
        PluginNotFoundError: It is of an object store, and the library for these is not installed.
    """
    scheme = urllib.parse.urlsplit(url).scheme if "://" in url else ""
    if scheme in ("", "file"):
        path = urllib.request.url2pathname(urllib.parse.urlsplit(url).path) if scheme else url
        return Folder(Path(path))
    if scheme in ("http", "https"):
        return WebServer(url)
    if scheme in _OBJECT_STORES:
        return ObjectStore(url)
    raise InvalidArgumentError(
        f"nothing is fetched by {scheme[:20]}://",
        field="url",
        remedy="give a path, or file://, http://, https://, s3://, gs:// or az://",
    )


class Folder:
    """A folder of this machine, or a share."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pieces(self, name: str) -> Iterator[bytes]:
        """See `Place`."""
        try:
            with (self._path / name).open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    yield piece
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise _missing(name) from error
        except OSError as error:
            raise _away(name, error) from error


class _NoFurtherThanTheWeb(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        # From https nothing leads back to where others can read along.
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise urllib.error.HTTPError(newurl, code, "leads away from https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class WebServer:
    """A folder on a web server; a query (a signature, say) goes with every file."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if not parts.hostname:
            raise InvalidArgumentError(
                "the URL names no host", field="url", remedy="give https://HOST/FOLDER"
            )
        self._parts = parts
        self._opener = urllib.request.build_opener(_NoFurtherThanTheWeb)

    def pieces(self, name: str) -> Iterator[bytes]:
        """See `Place`."""
        path = f"{self._parts.path.rstrip('/')}/{urllib.parse.quote(name)}"
        url = urllib.parse.urlunsplit(self._parts._replace(path=path, fragment=""))
        try:
            with self._opener.open(url, timeout=_TIMEOUT_S) as answer:
                announced = answer.headers.get("Content-Length")
                received = 0
                while piece := answer.read(_PIECE_BYTES):
                    received += len(piece)
                    yield piece
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                raise _missing(name) from error
            raise _away(name, error) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _away(name, error) from error
        # Reading in pieces does not notice that a connection ended too soon.
        if announced is not None and announced.isdigit() and int(announced) != received:
            raise _away(name, None)


class ObjectStore:
    """A prefix in a bucket; credentials come from the usual variables of each cloud."""

    def __init__(self, url: str) -> None:
        try:
            from obstore.store import from_url
        except ImportError as error:
            raise PluginNotFoundError(
                "object stores need obstore, which is not installed",
                field="url",
                remedy="pip install 'memory3[storage]'",
            ) from error
        try:
            self._store = from_url(url)
        except Exception as error:  # the library raises several that share no base
            raise InvalidArgumentError(
                "the object store cannot be opened",
                field="url",
                remedy="give s3://BUCKET/PREFIX, gs://… or az://…",
            ) from error

    def pieces(self, name: str) -> Iterator[bytes]:
        """See `Place`."""
        import obstore

        with _store_faults(name):
            for piece in obstore.get(self._store, name).stream(min_chunk_size=_PIECE_BYTES):
                yield bytes(piece)


@contextmanager
def _store_faults(name: str) -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        raise _missing(name) from error
    except (BaseError, OSError) as error:
        raise _away(name, error) from error


def _missing(name: str) -> CheckpointMissingFileError:
    return CheckpointMissingFileError(
        f"there is no {name} where the checkpoint is to come from",
        field=name,
        remedy="give the URL of the folder that holds manifest.json and all that it names",
    )


def _away(name: str, error: Exception | None) -> BackendUnavailableError:
    # Kinds only: a message may repeat a URL with a signature in it.
    kind = "IncompleteRead" if error is None else type(error).__name__
    code = getattr(error, "code", None)
    return BackendUnavailableError(
        f"{name} could not be read: {f'status {code}' if code else kind}",
        field="url",
        remedy="see whether the storage is there and may be read from here, then try again",
        metadata={"kind": kind},
        retry_after_s=5.0,
    )
