"""JSON lines: one record a line. A bad line is skipped alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

from memory3.ingest.files import FileOptions
from memory3.ingest.parsers.json_records import value
from memory3.ingest.records import BadRecord, Parsed


def parse(data: bytes, options: FileOptions) -> Iterator[Parsed | BadRecord]:
    """One text for each line that is not blank, named ``line/N`` from 1."""
    for number, line in enumerate(options.decode(data).split("\n"), 1):
        if not line.strip():
            continue
        name = f"line/{number}"
        try:
            content = json.loads(line)
        except json.JSONDecodeError as error:
            yield BadRecord(name, f"bad JSON line {number}: {error.msg} at column {error.colno}")
        except (RecursionError, ValueError) as error:
            yield BadRecord(name, f"bad JSON line {number}: {error}")
        else:
            yield value(content, name, options)
