"""Records of text files one after the other: JSON lines, Parquet, folders of text.

Plain or compressed with xz, zstd or gzip. Nothing is read whole; every complaint names file and
line. It must not know what the records mean.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from memory3.errors import InvalidArgumentError

TEXT_ENDINGS = (".txt", ".md")
_COMPRESSED = (".xz", ".zst", ".gz")


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a file, with where it stands."""

    file: Path
    line: int
    values: Mapping[str, Any]

    def text(self, field: str, *, default: str | None = None) -> str:
        """A field that is a text; numbers are taken as their digits, null as missing.

        Raises:
            InvalidArgumentError: It is missing, or something else, or no whole Unicode.
        """
        value = self.values.get(field)
        if value is None:
            value = default
        if value is None:
            raise self.error(field, "is missing", "give a text")
        return self._text(field, value, "is no text", "give a text")

    def texts(self, field: str) -> tuple[str, ...]:
        """A field that is a list of texts.

        Raises:
            InvalidArgumentError: It is missing, or something else.
        """
        value = self.values.get(field)
        problem = ("is no list of texts", 'give a list such as ["an answer"]')
        if not isinstance(value, list):
            raise self.error(field, *problem)
        return tuple(self._text(field, item, *problem) for item in value)

    def numbers(self, field: str) -> tuple[int, ...]:
        """A field that is a whole number, or a list of them.

        Raises:
            InvalidArgumentError: It is missing, or something else.
        """
        value = self.values.get(field)
        listed = value if isinstance(value, list) else [value]
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in listed):
            raise self.error(field, "is no whole number and no list of them", "give such as [0, 2]")
        return tuple(listed)

    def _text(self, field: str, value: object, problem: str, remedy: str) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self.error(field, problem, remedy)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise self.error(
                field, "holds half of a character", "mend its \\ud8.. or \\udc.. escapes"
            ) from error
        return value

    def error(self, field: str, problem: str, remedy: str) -> InvalidArgumentError:
        """An error about a field of this record."""
        return InvalidArgumentError(
            f"{self.file.name}, line {self.line}: {field!r} {problem}",
            field=field,
            remedy=remedy,
            metadata={"file": self.file.name, "line": str(self.line)},
        )


def records(path: Path) -> Iterator[Record]:
    """The records of one file or folder, in order.

    Args:
        path: ``.jsonl`` (also ``.xz``, ``.zst``, ``.gz``), ``.parquet``, a text file, or a folder
            of text files, each of which is one record with ``id``, ``title`` and ``text``.

    Raises:
        InvalidArgumentError: It is not there, is empty, or cannot be read; file and line are named.
    """
    if not path.exists():
        raise _bad(path, "there is no such file", "check the path")
    if path.is_dir():
        found = _of_folder(path)
    elif path.suffix == ".parquet":
        found = _of_parquet(path)
    elif path.suffix in TEXT_ENDINGS:
        found = iter([_of_text(path, path.name)])
    elif (path.suffixes[-2:-1] == [".jsonl"] and path.suffix in _COMPRESSED) or (
        path.suffix in (".jsonl", ".ndjson")
    ):
        found = _of_json_lines(path)
    else:
        raise _bad(
            path,
            "is of no kind that is read",
            "give .jsonl (also .xz, .zst, .gz), .parquet, .txt, .md or a folder of texts",
        )
    number = 0
    for number, record in enumerate(found, 1):  # noqa: B007 -- counts
        yield record
    if not number:
        raise _bad(path, "holds no record", "leave it out, or give the file that was meant")


def _of_json_lines(path: Path) -> Iterator[Record]:
    line = 0
    damaged: tuple[type[Exception], ...] = (EOFError, OSError, lzma.LZMAError, zlib.error)
    damaged += _zstd_errors(path)
    try:
        with _opened(path) as stream:
            for line, data in enumerate(stream, 1):
                if not data.strip():
                    continue
                values = json.loads(data.decode("utf-8"))
                if not isinstance(values, dict):
                    raise _bad(path, "is no JSON object", "give one object a line", line)
                yield Record(path, line, values)
    except UnicodeDecodeError as error:
        raise _bad(path, "is no UTF-8", "convert the file to UTF-8", line) from error
    except json.JSONDecodeError as error:
        raise _bad(path, f"is no JSON ({error.msg})", "mend or remove the line", line) from error
    except ValueError as error:  # a number with more digits than Python reads
        raise _bad(path, f"cannot be read ({error})", "mend or remove the line", line) from error
    except RecursionError as error:
        raise _bad(path, "is nested too deeply", "mend or remove the line", line) from error
    except damaged as error:
        raise _bad(path, f"cannot be read on ({error})", "copy the file again", line + 1) from error


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[bytes]]:
    with path.open("rb") as raw:
        if path.suffix == ".xz":
            with lzma.open(raw) as stream:
                yield stream
        elif path.suffix == ".gz":
            with gzip.open(raw) as stream:
                yield stream
        elif path.suffix == ".zst":
            yield io.BufferedReader(_ZstdReader(raw), 1 << 20)
        else:
            yield cast(BinaryIO, raw)


class _ZstdReader(io.RawIOBase):
    """Decompresses frames one after the other; unlike the library's reader, it tells truncation."""

    def __init__(self, raw: BinaryIO) -> None:
        import zstandard

        super().__init__()
        self._raw = raw
        self._new_frame: Callable[[], Any] = zstandard.ZstdDecompressor().decompressobj
        self._frame: Any = None
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            rest = self._frame.unused_data if self._frame is not None and self._frame.eof else b""
            data = rest or self._raw.read(1 << 17)
            if not data:
                if self._frame is not None and not self._frame.eof:
                    raise EOFError("the file ends inside of a frame")
                return 0
            if self._frame is None or self._frame.eof:
                self._frame = self._new_frame()
            self._ready = self._frame.decompress(data)
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def _zstd_errors(path: Path) -> tuple[type[Exception], ...]:
    if path.suffix != ".zst":
        return ()  # the library is needed for files of its own only
    import zstandard

    return (cast("type[Exception]", zstandard.ZstdError),)


def _of_parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield Record(path, number, values)
    except (pyarrow.ArrowException, OSError) as error:
        raise _bad(path, f"is no Parquet file ({error})", "copy the file again") from error


def _of_folder(path: Path) -> Iterator[Record]:
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.suffix in TEXT_ENDINGS:
            yield _of_text(file, file.relative_to(path).as_posix())


def _of_text(path: Path, name: str) -> Record:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _bad(path, "is no UTF-8", "convert the file to UTF-8") from error
    return Record(path, 1, {"id": name, "title": path.stem, "text": text})


def _bad(path: Path, problem: str, remedy: str, line: int | None = None) -> InvalidArgumentError:
    where = path.name if line is None else f"{path.name}, line {line}"
    return InvalidArgumentError(
        f"{where}: {problem}",
        field=path.name,
        remedy=remedy,
        metadata={"file": path.name, **({} if line is None else {"line": str(line)})},
    )
