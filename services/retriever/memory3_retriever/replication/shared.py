"""Shared storage by URL: a folder, or an object store. Files go in and out in bounded memory.

It must not know what is stored.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from memory3.errors import BackendUnavailableError, InvalidArgumentError

_PIECE_BYTES = 8 << 20


class SharedStorage:
    """Named objects behind a URL.

    Args:
        url: ``s3://bucket/prefix``, ``gs://…``, ``az://…`` (credentials from their usual
            variables), ``file:///folder`` or a folder's path.
        field: The setting that the URL comes from, for errors.

    Raises:
        InvalidArgumentError: The URL is not one that can be used.
    """

    def __init__(self, url: str, field: str) -> None:
        self._url, self._field = url, field
        self._opened: ObjectStore | None = None
        self._is_folder = "://" not in url or url.startswith("file://")
        if not self._is_folder:
            try:
                self._opened = from_url(url)
            except (BaseError, ValueError) as error:
                raise InvalidArgumentError(
                    "the shared storage cannot be opened",
                    field=field,
                    remedy="give a folder, or s3://BUCKET/PREFIX, gs://… or az://…",
                ) from error

    def make(self) -> None:
        """Make the folder, where it is one and is missing.

        Raises:
            BackendUnavailableError: It cannot be made.
        """
        if self._is_folder:
            with self._faults():
                self._folder().mkdir(mode=0o700, parents=True, exist_ok=True)

    def put_file(self, name: str, path: Path) -> None:
        """Store a file, whole or not at all.

        Raises:
            BackendUnavailableError: The storage did not take it.
        """
        with self._faults():
            obstore.put(self._store(), name, path)

    def put(self, name: str, data: bytes) -> None:
        """Store bytes, whole or not at all, in place of what was there.

        Raises:
            BackendUnavailableError: The storage did not take it.
        """
        with self._faults():
            obstore.put(self._store(), name, data)

    def get(self, name: str) -> bytes | None:
        """The bytes of an object; None if there is none.

        Raises:
            BackendUnavailableError: The storage did not answer.
        """
        with self._faults():
            try:
                return bytes(obstore.get(self._store(), name).bytes())
            except FileNotFoundError:
                return None

    def get_file(self, name: str, path: Path) -> tuple[str, int]:
        """Bring an object into a new file.

        Returns:
            The sha256 and the size of the very bytes that were written.

        Raises:
            FileNotFoundError: There is none.
            BackendUnavailableError: The storage did not answer.
        """
        digest, size = hashlib.sha256(), 0
        with self._faults(), path.open("xb") as file:
            for piece in obstore.get(self._store(), name).stream(min_chunk_size=_PIECE_BYTES):
                digest.update(piece)
                size += file.write(piece)
        return digest.hexdigest(), size

    def folders(self, prefix: str) -> list[str]:
        """The names of what stands directly inside a folder and holds something, in order.

        Raises:
            BackendUnavailableError: The storage did not answer.
        """
        with self._faults():
            found = obstore.list_with_delimiter(self._store(), prefix)["common_prefixes"]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def delete(self, prefix: str) -> None:
        """Remove everything inside a folder.

        Raises:
            BackendUnavailableError: The storage did not answer.
        """
        with self._faults():
            for batch in obstore.list(self._store(), prefix):
                obstore.delete(self._store(), [each["path"] for each in batch])
        if self._is_folder:  # objects have no folders, files leave theirs behind
            shutil.rmtree(self._folder() / prefix, ignore_errors=True)

    def _folder(self) -> Path:
        return Path(self._url.removeprefix("file://")).absolute()

    def _store(self) -> ObjectStore:
        # A folder on a share may come and go; it is opened when it is there.
        if self._opened is None:
            if not self._folder().is_dir():
                raise NotADirectoryError("the shared folder is not there")
            self._opened = LocalStore(self._folder())
        elif self._is_folder and not self._folder().is_dir():
            raise NotADirectoryError("the shared folder is not there")
        return self._opened

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise BackendUnavailableError(
                "the shared storage does not answer, or refuses",
                field=self._field,
                remedy="see whether it is there, and whether this service may read and write it",
                metadata={"kind": type(error).__name__},
                retry_after_s=5.0,
            ) from error
