"""``memory3 bank export`` and ``import``: references as lines of JSON, without their memories.

For another checkpoint, another program or a look; a snapshot is the faster copy for the same one.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from memory3.cli.options import Output, OutputOption, RetrieverOption, TimeoutOption

if TYPE_CHECKING:
    from memory3.errors import Memory3Error
    from memory3.sdk.references import Reference

NameArgument = Annotated[str, typer.Argument(metavar="BANK", help="The name of the bank.")]
_PAGE = 500


def export(
    name: NameArgument,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Where to; .zst compresses. Left out: to stdout."),
    ] = None,
    source: Annotated[str, typer.Option(help="Only this source and what is inside it.")] = "",
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Write a bank's references as lines of JSON, in the order of their ids."""
    from memory3.cli.output import jsonable
    from memory3.client import Client

    count = 0
    with Client(retriever=retriever, timeout=timeout) as client, _writer(file) as out:
        for each in client.list_references(name, source=source, page_size=_PAGE):
            out.write(json.dumps(jsonable(each), ensure_ascii=False) + "\n")
            count += 1
    print(f"{count} references exported", file=sys.stderr)


def import_(
    name: NameArgument,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="What bank export wrote. Left out: from stdin."),
    ] = None,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Add references from lines of JSON; with the same content they have the same ids.

    Repeating an import that was broken off adds only what is missing. References that had expired
    already are passed over.
    """
    from memory3.cli.output import emit
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client, _reader(file) as lines:
        results = client.add_references(name, _references(lines))
    failed = [each for each in results if each.error is not None]
    for each in failed[:20]:
        print(each.error.message if each.error is not None else "", file=sys.stderr)
    facts = {
        "added": sum(each.added for each in results),
        "there already": sum(not each.added and each.error is None for each in results),
        "refused": len(failed),
    }
    emit(output, facts, facts)
    if failed:
        raise typer.Exit(1)


def _references(lines: Iterator[str] | TextIO) -> Iterator[Reference]:
    from memory3.errors import InvalidArgumentError

    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            reference = _reference(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidArgumentError(
                f"line {number} is no reference",
                field="FILE",
                remedy="give what memory3 bank export wrote; lines before this one may be added",
            ) from error
        expires = reference.expire_time
        if expires is None or expires > datetime.now(expires.tzinfo):
            yield reference


def _reference(told: dict[str, Any]) -> Reference:
    from memory3.sdk.references import Reference, Span

    span, expires = told.get("span"), told.get("expire_time")
    return Reference(
        text=told["text"],
        source=told.get("source", ""),
        title=told.get("title", ""),
        heading=told.get("heading", ""),
        span=Span(span["start"], span["end"]) if span else None,
        metadata=dict(told.get("metadata") or {}),
        expire_time=datetime.fromisoformat(expires) if expires else None,
    )


@contextmanager
def _writer(file: Path | None) -> Iterator[TextIO]:
    """The file gets its name once all of it is written."""
    if file is None:
        yield sys.stdout
        return
    part = file.with_name(f".{file.name}.part")
    try:
        if file.suffix == ".zst":
            with part.open("wb") as raw, _zstandard().ZstdCompressor().stream_writer(raw) as packed:
                text = io.TextIOWrapper(packed, encoding="utf-8", write_through=True)
                yield text
                text.detach()
        else:
            with part.open("w", encoding="utf-8") as text:
                yield text
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _reader(file: Path | None) -> Iterator[TextIO]:
    """The lines of a file; what is no text is refused where it is read."""
    try:
        if file is None:
            yield sys.stdin
        elif file.suffix == ".zst":
            with _unpacked(file) as text:
                yield text
        else:
            with file.open(encoding="utf-8") as text:
                yield text
    except UnicodeDecodeError as error:
        raise _unreadable("it is not UTF-8") from error


@contextmanager
def _unpacked(file: Path) -> Iterator[TextIO]:
    zstandard = _zstandard()
    try:
        with file.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as packed:
            yield io.TextIOWrapper(packed, encoding="utf-8")
    except zstandard.ZstdError as error:
        raise _unreadable("it is not packed by zstd") from error


def _unreadable(problem: str) -> Memory3Error:
    from memory3.errors import InvalidArgumentError

    return InvalidArgumentError(
        problem,
        field="FILE",
        remedy="give what memory3 bank export wrote; lines before the damage may be added",
    )


def _zstandard() -> Any:
    from memory3.errors import InvalidArgumentError

    try:
        import zstandard
    except ImportError as error:
        raise InvalidArgumentError(
            "a .zst file needs the package zstandard",
            field="FILE",
            remedy="install it, or name a file without .zst",
        ) from error
    return zstandard
