"""CSV and TSV: one record a row, fields named by the first row, by Python's csv."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain
from typing import Final

from memory3.ingest.files import FileOptions
from memory3.ingest.parsers.fields import record
from memory3.ingest.records import BadRecord, Parsed, SkipError

# The first is taken where none occurs.
_DELIMITERS: Final = ",;\t|"
_QUOTED: Final = re.compile(r'"[^"]*"')
_MAX_FIELD_CHARACTERS: Final = 3 * 2**20
# A line behind the last, which decoded text cannot have: csv says nothing of a quote that is still
# open at the end, but this then comes as the end of a field instead of as a row.
_END: Final = "\0"


def parse(data: bytes, options: FileOptions) -> Iterator[Parsed | BadRecord]:
    """One text for each row after the header, named ``row/N`` from 1."""
    text = options.decode(data)
    delimiter = "\t" if options.path.suffix.lower() == ".tsv" else _delimiter(text)
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    rows = csv.reader(
        chain(io.StringIO(text, newline=""), [_END]), delimiter=delimiter, strict=False
    )
    header: list[str] | None = None
    number = 0
    while True:
        first_line = rows.line_num + 1
        try:
            row = next(rows)
        except csv.Error as error:
            if header is None:
                raise SkipError("MALFORMED", f"bad CSV at line {rows.line_num}: {error}") from error
            number += 1
            yield BadRecord(f"row/{number}", f"bad CSV at line {rows.line_num}: {error}")
            continue
        if row == [_END]:
            return
        if row and row[-1].endswith(_END):
            message = (
                f"a quote of the row at line {first_line} is never closed and takes in "
                f"everything after it, to line {rows.line_num - 1}"
            )
            if header is None:
                raise SkipError("MALFORMED", message)
            yield BadRecord(f"row/{number + 1}", message)
            return
        if not any(cell.strip() for cell in row):
            continue
        if header is None:
            header = _names(row)
            continue
        number += 1
        yield _record(row, header, number, options)


def _record(
    row: list[str], header: list[str], number: int, options: FileOptions
) -> Parsed | BadRecord:
    name = f"row/{number}"
    if len(row) > len(header):
        return BadRecord(name, f"row {number} has {len(row)} fields, the header {len(header)}")
    return record(dict(zip(header, row, strict=False)), name, options)


def _delimiter(text: str) -> str:
    """The sign that parts the most fields of the header, those inside quotes not counted."""
    header = _QUOTED.sub("", text.lstrip().partition("\n")[0])
    return max(_DELIMITERS, key=header.count)


def _names(row: list[str]) -> list[str]:
    names: list[str] = []
    for number, cell in enumerate(row, 1):
        name = cell.strip() or f"column {number}"
        names.append(name if name not in names else f"{name} {number}")
    return names
