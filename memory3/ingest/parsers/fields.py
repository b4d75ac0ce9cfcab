"""Turns a record of named fields into a text: its own text field, or all fields as lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from memory3.ingest.files import FileOptions
from memory3.ingest.records import BadRecord, Parsed

_TEXT_FIELDS: Final = ("text", "content", "body", "contents")
_TITLE_FIELDS: Final = ("title", "name", "headline")

# The retriever keeps at most 64 pairs and 16 KiB of metadata.
_MAX_PAIRS: Final = 60
_MAX_METADATA_BYTES: Final = 12 * 2**10
_MAX_VALUE_BYTES: Final = 1024


def record(fields: Mapping[str, Any], name: str, options: FileOptions) -> Parsed | BadRecord:
    """The text of one record.

    Args:
        fields: Field name to value; values may nest.
        name: What names the record inside its file.
        options: Which fields hold text and title, if the user said.

    Returns:
        The text; with a text field the other fields become metadata, without one all fields become
        lines ``field: value``.
    """
    text_field = options.text_field or _first(fields, _TEXT_FIELDS)
    title_field = options.title_field or _first(fields, _TITLE_FIELDS)
    if options.text_field is not None and options.text_field not in fields:
        return BadRecord(name, f"no field {options.text_field!r}")
    title = _as_text(fields.get(title_field, "")) if title_field else ""
    if text_field is None:
        return _checked(Parsed(_lines(fields), title, name))
    others = {key: value for key, value in fields.items() if key not in (text_field, title_field)}
    return _checked(Parsed(_as_text(fields[text_field]), title, name, metadata(others)))


def metadata(fields: Mapping[str, Any]) -> dict[str, str]:
    """The short fields of a record as text, as many as a reference may carry."""
    pairs: dict[str, str] = {}
    size = 0
    for key, value in _flat(fields, ""):
        num_bytes = len(key.encode()) + len(value.encode())
        fits = num_bytes <= _MAX_VALUE_BYTES and size + num_bytes <= _MAX_METADATA_BYTES
        if key and value and fits and len(pairs) < _MAX_PAIRS:
            pairs[key] = value
            size += num_bytes
    return pairs


def _checked(parsed: Parsed) -> Parsed | BadRecord:
    return parsed if parsed.text.strip() else BadRecord(parsed.record, "no text in it", "EMPTY")


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    by_lower = {str(key).lower(): key for key in reversed(list(fields))}
    for name in names:
        key = by_lower.get(name)
        if key is not None and isinstance(fields[key], str) and fields[key].strip():
            return key
    return None


def _lines(fields: Mapping[str, Any]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in _flat(fields, "") if value)


def _flat(value: Any, prefix: str) -> list[tuple[str, str]]:
    # A stack instead of recursion: JSON may nest deeper than Python calls.
    flat: list[tuple[str, str]] = []
    stack: list[tuple[str, Any]] = [(prefix, value)]
    while stack:
        key, item = stack.pop()
        if isinstance(item, Mapping):
            stack.extend((_joined(key, str(k)), v) for k, v in reversed(list(item.items())))
        elif isinstance(item, list) and any(isinstance(part, Mapping | list) for part in item):
            stack.extend((_joined(key, str(n)), v) for n, v in reversed(list(enumerate(item, 1))))
        else:
            flat.append((key, _as_text(item)))
    return flat


def _joined(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(_as_text(item) for item in value)
    if isinstance(value, Mapping):
        return _lines(value)
    # JSON can spell half of a surrogate pair, which no UTF-8 text can hold.
    return str(value).encode("utf-8", "replace").decode("utf-8").strip()
