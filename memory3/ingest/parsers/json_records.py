"""JSON: an array of records, an object whose one list holds them, or a single record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from memory3.ingest.files import FileOptions
from memory3.ingest.parsers.fields import record
from memory3.ingest.records import BadRecord, Parsed, SkipError


def parse(data: bytes, options: FileOptions) -> Iterator[Parsed | BadRecord]:
    """One text for each record, named ``item/N`` from 1; a single record is the whole file."""
    text = options.decode(data)
    if not text.strip():
        return
    content = _loaded(text)
    if isinstance(content, dict):
        yield _named(record(content, "", options), options)
    elif isinstance(content, list):
        for number, item in enumerate(content, 1):
            yield value(item, f"item/{number}", options)
    else:
        yield _named(value(content, "", options), options)


def value(content: Any, name: str, options: FileOptions) -> Parsed | BadRecord:
    """One record, whatever JSON it is: an object, a list, or a bare text or number."""
    if isinstance(content, list):
        content = {str(number): part for number, part in enumerate(content, 1)}
    if isinstance(content, dict):
        return record(content, name, options)
    return record({"text": "" if content is None else str(content)}, name, options)


def _named(parsed: Parsed | BadRecord, options: FileOptions) -> Parsed | BadRecord:
    if isinstance(parsed, BadRecord) or parsed.title:
        return parsed
    return Parsed(parsed.text, options.fallback_title, parsed.record, parsed.metadata)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise SkipError(
            "MALFORMED", f"bad JSON at line {error.lineno} column {error.colno}: {error.msg}"
        ) from error
    except (RecursionError, ValueError) as error:
        raise SkipError("MALFORMED", f"JSON that cannot be read: {error}") from error
