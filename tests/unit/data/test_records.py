"""Reading files of records in every form, and every way in which they are broken."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from memory3.data.documents import Document, iter_documents
from memory3.data.records import records
from memory3.errors import InvalidArgumentError

ROWS = [{"id": f"{number}", "title": f"T{number}", "text": f"text {number}"} for number in range(5)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
EXPECTED = [Document(row["id"], row["title"], row["text"]) for row in ROWS]

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".xz": lzma.compress,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_json_lines_are_read_in_every_compression(tmp_path: Path, ending: str) -> None:
    """The documents come in the order of the lines."""
    path = _write(tmp_path / f"a.jsonl{ending}", COMPRESSIONS[ending](LINES))
    assert list(iter_documents([path])) == EXPECTED


def test_parquet_is_read(tmp_path: Path) -> None:
    """Columns are fields."""
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert list(iter_documents([tmp_path / "a.parquet"])) == EXPECTED


def test_folders_are_read_by_path(tmp_path: Path) -> None:
    """Every text file of a folder is a document named by its path, in the order of the paths."""
    (tmp_path / "b").mkdir()
    _write(tmp_path / "b" / "one.txt", b"first")
    _write(tmp_path / "c.md", b"# second")
    _write(tmp_path / "d.bin", b"\xff")
    expected = [Document("b/one.txt", "one", "first"), Document("c.md", "c", "# second")]
    assert list(iter_documents([tmp_path])) == expected


def test_concatenated_frames_are_read_on(tmp_path: Path) -> None:
    """A file of several zstd frames is all of them."""
    frame = zstandard.ZstdCompressor().compress(LINES)
    path = _write(tmp_path / "a.jsonl.zst", frame + frame)
    assert list(iter_documents([path])) == EXPECTED * 2


def test_the_text_field_can_be_chosen(tmp_path: Path) -> None:
    """Without id and title, the place in the file names a document."""
    path = _write(tmp_path / "a.jsonl", b'{"body": "x"}\n\n{"body": "y"}\n')
    expected = [Document("a.jsonl:1", "", "x"), Document("a.jsonl:3", "", "y")]
    assert list(iter_documents([path], text_field="body")) == expected


@pytest.mark.parametrize("number", [1, 2, 3])
def test_shards_hold_every_document_once(tmp_path: Path, number: int) -> None:
    """The parts together are the whole, and no two share a document."""
    path = _write(tmp_path / "a.jsonl", LINES)
    parts = [list(iter_documents([path], shard=(part, number))) for part in range(number)]
    together = [document.id for part in parts for document in part]
    assert sorted(together) == [document.id for document in EXPECTED]


BROKEN = {
    "empty.jsonl": (b"", "empty.jsonl"),
    "blank.jsonl": (b"\n\n", "blank.jsonl"),
    "json.jsonl": (LINES + b"{oops\n", "line 6"),
    "list.jsonl": (LINES + b"[1]\n", "line 6"),
    "utf8.jsonl": (LINES + b'{"text": "\xff"}\n', "line 6"),
    "missing.jsonl": (LINES + b'{"title": "no text"}\n', "line 6"),
    "number.jsonl": (b'{"text": 1.5}\n', "line 1"),
    "short.jsonl.xz": (lzma.compress(LINES * 999)[:-40], "short.jsonl.xz"),
    "short.jsonl.gz": (gzip.compress(LINES * 999)[:-20], "short.jsonl.gz"),
    "short.jsonl.zst": (zstandard.ZstdCompressor().compress(LINES * 999)[:-4], "short.jsonl.zst"),
    "not.jsonl.zst": (LINES, "not.jsonl.zst"),
    "not.jsonl.xz": (LINES, "not.jsonl.xz"),
    "not.jsonl.gz": (LINES, "not.jsonl.gz"),
    "not.parquet": (LINES, "not.parquet"),
    "utf8.txt": (b"\xff\xfe", "utf8.txt"),
    "kind.csv": (b"a,b", "kind.csv"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_the_place(tmp_path: Path, name: str) -> None:
    """Nothing is passed over in silence: file, and line where there is one, are told."""
    data, place = BROKEN[name]
    path = _write(tmp_path / name, data)
    with pytest.raises(InvalidArgumentError, match=place) as caught:
        list(iter_documents([path]))
    assert caught.value.metadata["file"] == name


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """The error's field is the column."""
    parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidArgumentError, match=r"a\.parquet") as caught:
        list(iter_documents([tmp_path / "a.parquet"]))
    assert caught.value.field == "text"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """There is nothing to read."""
    with pytest.raises(InvalidArgumentError, match="no such file"):
        list(records(tmp_path / "absent.jsonl"))
